#pragma once
#include <unroll/core/tensor.h>

#pragma GCC visibility push(default)
/// Elementwise nonlinearities of float32 and float64 tensors.
namespace unroll {

Tensor tanh(const Tensor& x);
/// 1 / (1 + e⁻ˣ)
Tensor sigmoid(const Tensor& x);
/// max(x, 0); its derivative at 0 is 0.
Tensor relu(const Tensor& x);
/// ln(1 + e^(βx)) / β; x itself where βx > threshold, as torch cuts it off.
Tensor softplus(const Tensor& x, double beta = 1, double threshold = 20);

}  // namespace unroll
#pragma GCC visibility pop
