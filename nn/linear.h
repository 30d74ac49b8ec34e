#pragma once
#include <unroll/nn/module.h>

#pragma GCC visibility push(default)
namespace unroll::nn {

struct LinearOptions {
  bool bias = true;
  DType dtype = DType::Float32;
};

/// y = x·weightᵀ + bias: (…, in_features) → (…, out_features). weight (out, in) and bias (out) start as U(−k, k), k =
/// 1/√in_features.
class Linear : public Module {
 public:
  /// Raises ValueError for a negative size.
  Linear(std::int64_t in_features, std::int64_t out_features, const LinearOptions& options = {});

  Tensor operator()(const Tensor& x) const;
  void reset_parameters();
  std::string extra_repr() const override;

  const std::int64_t in_features, out_features;
  Tensor weight, bias;
};

}  // namespace unroll::nn
#pragma GCC visibility pop
