#pragma once
#include <unroll/autograd/ops/arithmetic.h>
#include <unroll/autograd/record.h>
#include <unroll/core/kernels/elementwise.h>

namespace unroll::detail {

/// The chain rule of an elementwise op, g·f(x), for an f that is arithmetic: `[](const auto& y) { return 1 - y * y; }`.
/// It is one loop over numbers; where the gradient is to be differentiated itself, the same f is applied to the tensor.
template <class F>
Tensor chain(const Tensor& g, const Tensor& x, F f) {
  if (GradMode::enabled()) return g * f(x);
  return kernels::zip("backward", g, x, [f](auto dy, auto v) { return dy * f(v); });
}

}  // namespace unroll::detail
