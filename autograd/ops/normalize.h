#pragma once
#include <unroll/core/tensor.h>

#pragma GCC visibility push(default)
/// What makes slices of a tensor comparable. float32 and float64.
namespace unroll {

/// eˣ / Σ eˣ along `dim`, computed without overflow. A slice of nothing but −∞ becomes NaN.
Tensor softmax(const Tensor& x, std::int64_t dim);
/// ln softmax(x, dim) = x − ln Σ eˣ, which stays exact where softmax underflows to 0.
Tensor log_softmax(const Tensor& x, std::int64_t dim);

/// (x − mean) / √(variance + eps) · weight + bias, the mean and the (biased) variance being those of each slice over
/// the last dimensions. normalized_shape names these; weight and bias, where given, have that shape. Raises ShapeError
/// otherwise.
///
/// Fused (autograd/fused.h): derivatives of second and higher order run it again by plain ops.
Tensor layer_norm(const Tensor& x, const Shape& normalized_shape, const Tensor& weight = {}, const Tensor& bias = {},
                  double eps = 1e-5);

}  // namespace unroll
#pragma GCC visibility pop
