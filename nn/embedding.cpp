#include <fmt/format.h>
#include <unroll/autograd/grad_mode.h>
#include <unroll/autograd/ops/index.h>
#include <unroll/core/view.h>
#include <unroll/nn/embedding.h>
#include <unroll/nn/init.h>

namespace unroll::nn {

namespace {
std::optional<std::int64_t> from_front(std::optional<std::int64_t> row, std::int64_t rows) {
  check<ValueError>(rows >= 0, "embedding: num_embeddings must not be negative, got {}", rows);
  if (!row) return row;
  check<IndexError>(-rows <= *row && *row < rows, "embedding: padding_idx {} is outside the {} rows", *row, rows);
  return *row < 0 ? *row + rows : *row;
}
}  // namespace

Embedding::Embedding(std::int64_t num_embeddings_, std::int64_t embedding_dim_, const EmbeddingOptions& options)
    : num_embeddings(num_embeddings_), embedding_dim(embedding_dim_),
      padding_idx(from_front(options.padding_idx, num_embeddings)) {
  check<ValueError>(embedding_dim >= 0, "embedding: embedding_dim must not be negative, got {}", embedding_dim);
  weight = empty({num_embeddings, embedding_dim}, options.dtype);
  add("weight", weight);
  reset_parameters();
}

void Embedding::reset_parameters() {
  init::normal_(weight);
  NoGrad guard;
  if (padding_idx) views::select(weight, 0, *padding_idx).zero_();
}

Tensor Embedding::operator()(const Tensor& indices) const {
  return hooked([this](const Tensor& rows) { return embedding(rows, weight, padding_idx); }, indices);
}

std::string Embedding::extra_repr() const {
  std::string text = fmt::format("{}, {}", num_embeddings, embedding_dim);
  return padding_idx ? text + fmt::format(", padding_idx={}", *padding_idx) : text;
}

}  // namespace unroll::nn
