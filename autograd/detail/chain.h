#pragma once
#include <unroll/autograd/detail/sole_owner.h>
#include <unroll/autograd/ops/arithmetic.h>
#include <unroll/autograd/record.h>
#include <unroll/core/kernels/elementwise.h>

namespace unroll::detail {

/// The chain rule of an elementwise op, g·f(x), for an f that is arithmetic: `[](const auto& y) { return 1 - y * y; }`.
/// It is one loop over numbers; where the gradient is to be differentiated itself, the same f is applied to the tensor.
/// For the last function of an op that reads g: what nobody else sees of it is overwritten.
template <class F>
Tensor chain(const Tensor& g, const Tensor& x, F f) {
  if (GradMode::enabled()) return g * f(x);
  auto product = [f](auto dy, auto v) { return dy * f(v); };
  if (!sole_owner(g) || g.shape() != x.shape() || g.dtype() != x.dtype())
    return kernels::zip("backward", g, x, product);
  dispatch_float("backward", g.dtype(), [&]<class T>() { kernels::update<T>(g, x, product); });
  return g;
}

}  // namespace unroll::detail
