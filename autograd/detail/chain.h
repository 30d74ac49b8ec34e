#pragma once
#include <unroll/autograd/ops/arithmetic.h>
#include <unroll/autograd/record.h>
#include <unroll/core/kernels/elementwise.h>

namespace unroll::detail {

/// The chain rule of an elementwise op: the gradient g·f(x) of input number `input`, where x is s[saved] and f is
/// arithmetic, `[](const auto& y) { return 1 - y * y; }`.
///
/// If the gradient is to be differentiated itself, f is applied to the tensor; else to the numbers, in one loop. It
/// adds to what there is of the input's gradient; if there is nothing, it overwrites g, unless somebody else sees it or
/// the gradient function of another input is yet to read it; and if it cannot, it makes a tensor.
template <class F>
Tensor chain(const Tensor& g, const Saved& s, std::size_t saved, std::size_t input, F f) {
  if (GradMode::enabled()) return g * f(s[saved]);
  const auto product = [f](auto a, auto v) { return a * f(v); };
  const Elements &dy = g.body(), &x = *s.elements(saved);
  if (dy.dtype != x.dtype || !dy.contiguous || !x.contiguous || dy.shape != x.shape) [[unlikely]]
    return kernels::zip("backward", g, s[saved], product);
  return dispatch_float("backward", dy.dtype, [&]<class T>() {
    const T *from = dy.data<T>(), *at = x.data<T>();
    auto into = [&](Tensor dx, auto row) {
      T* to = dx.body().data<T>();
      kernels::in_parts(dy.numel,
                        [=](std::int64_t first, std::int64_t n) { row(to + first, from + first, at + first, n); });
      return dx;
    };
    if (Tensor sum = s.take_sum(input, dy.shape, dy.dtype); sum.defined())
      return into(std::move(sum), [product](T* __restrict y, const T* a, const T* v, std::int64_t n) {
        for (std::int64_t i = 0; i < n; ++i) y[i] += product(a[i], v[i]);
      });
    if (Tensor own = s.take_grad(g, input); own.defined())
      return into(std::move(own),
                  [product](T* y, const T*, const T* v, std::int64_t n) { kernels::update_row(y, v, n, product); });
    return into(new_like(dy, dy.dtype),
                [product](T* y, const T* a, const T* v, std::int64_t n) { kernels::zip_row(y, a, v, n, product); });
  });
}

}  // namespace unroll::detail
