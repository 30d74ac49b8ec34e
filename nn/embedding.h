#pragma once
#include <unroll/nn/module.h>

#pragma GCC visibility push(default)
namespace unroll::nn {

struct EmbeddingOptions {
  /// A row that starts as zeros and receives no gradient; negative ones count from the end.
  std::optional<std::int64_t> padding_idx = {};
  DType dtype = DType::Float32;
};

/// A table of vectors: Int64 indices (…) → (…, embedding_dim). weight (num_embeddings, embedding_dim) starts as N(0,
/// 1).
class Embedding : public Module {
 public:
  /// Raises ValueError for a negative size, IndexError for a padding_idx out of range.
  Embedding(std::int64_t num_embeddings, std::int64_t embedding_dim, const EmbeddingOptions& options = {});

  /// Raises IndexError for an index outside [0, num_embeddings).
  Tensor operator()(const Tensor& indices) const;
  void reset_parameters();
  std::string extra_repr() const override;

  const std::int64_t num_embeddings, embedding_dim;
  const std::optional<std::int64_t> padding_idx;  // counted from the front
  Tensor weight;
};

}  // namespace unroll::nn
#pragma GCC visibility pop
