#pragma once
#include <unroll/nn/module.h>

#pragma GCC visibility push(default)
namespace unroll::nn {

struct LayerNormOptions {
  double eps = 1e-5;
  /// Whether there is a weight, and a bias unless that is switched off.
  bool elementwise_affine = true;
  bool bias = true;
  DType dtype = DType::Float32;
};

/// (x − mean)/√(variance + eps)·weight + bias, mean and variance taken over the last dimensions, which have
/// normalized_shape. weight starts as ones, bias as zeros.
class LayerNorm : public Module {
 public:
  /// Raises ValueError for an empty shape or a negative size.
  explicit LayerNorm(Shape normalized_shape, const LayerNormOptions& options = {});
  explicit LayerNorm(std::initializer_list<std::int64_t> sizes, const LayerNormOptions& options = {})
      : LayerNorm(Shape(sizes), options) {}

  Tensor operator()(const Tensor& x) const;
  void reset_parameters();
  std::string extra_repr() const override;

  const Shape normalized_shape;
  const double eps;
  const bool elementwise_affine;
  Tensor weight, bias;
};

}  // namespace unroll::nn
#pragma GCC visibility pop
