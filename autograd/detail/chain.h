#pragma once
#include <unroll/autograd/detail/sole_owner.h>
#include <unroll/autograd/ops/arithmetic.h>
#include <unroll/autograd/record.h>
#include <unroll/core/kernels/elementwise.h>

namespace unroll::detail {

/// The chain rule of an elementwise op, g·f(x), for an f that is arithmetic, `[](const auto& y) { return 1 - y * y; }`:
/// the gradient of that input, where x was saved. Where it is to be differentiated itself, f is applied to the tensor;
/// else to the numbers, in one loop that adds to what there is of the gradient, or overwrites g if nobody else sees it
/// and no function `after` this one reads it, and needs a new tensor only if neither can be.
template <class F>
Tensor chain(const Tensor& g, const Saved& s, std::size_t saved, std::size_t input, F f, bool after = false) {
  if (GradMode::enabled()) return g * f(s[saved]);
  const Elements &dy = g.body(), &x = *s.elements(saved);
  if (dy.dtype != x.dtype || !dy.contiguous || !x.contiguous || dy.shape != x.shape) [[unlikely]]
    return kernels::zip("backward", g, s[saved], [f](auto a, auto v) { return a * f(v); });
  return dispatch_float("backward", dy.dtype, [&]<class T>() {
    const T *from = dy.data<T>(), *at = x.data<T>();
    auto into = [&](const Tensor& dx, auto row) {
      T* to = dx.body().data<T>();
      kernels::in_parts(dy.numel,
                        [=](std::int64_t first, std::int64_t n) { row(to + first, from + first, at + first, n); });
      return dx;
    };
    if (Tensor sum = s.take_sum(input, dy.shape); sum.defined())
      return into(sum, [f](T* __restrict y, const T* a, const T* v, std::int64_t n) {
        for (std::int64_t i = 0; i < n; ++i) y[i] += a[i] * f(v[i]);
      });
    if (!after && sole_owner(g))
      return into(g, [f](T* __restrict y, const T*, const T* v, std::int64_t n) {
        for (std::int64_t i = 0; i < n; ++i) y[i] *= f(v[i]);
      });
    return into(new_like(dy, dy.dtype), [f](T* __restrict y, const T* a, const T* v, std::int64_t n) {
      for (std::int64_t i = 0; i < n; ++i) y[i] = a[i] * f(v[i]);
    });
  });
}

}  // namespace unroll::detail
