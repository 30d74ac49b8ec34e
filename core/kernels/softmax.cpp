#include <unroll/core/kernels/scratch.h>
#include <unroll/core/kernels/softmax.h>
#include <unroll/core/kernels/target_table.h>

#include <algorithm>
#include <cmath>
#include <limits>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "unroll/core/kernels/softmax.cpp"
#include <hwy/foreach_target.h>  // must come before the others
#include <unroll/core/kernels/vector_math-inl.h>

#ifndef UNROLL_SOFTMAX_ROWS
#define UNROLL_SOFTMAX_ROWS
namespace unroll::kernels {
// What one target does with a row of neighbouring elements.
template <class T>
struct SoftmaxRow {
  T (*max)(const T* x, std::int64_t n);
  // Σ exp(x − max), and the terms to y unless that is null
  double (*exp_sum)(T* y, const T* x, T max, std::int64_t n);
  // y = x / divisor
  void (*divide)(T* y, const T* x, T divisor, std::int64_t n);
  // y = x − max − log_sum
  void (*subtract)(T* y, const T* x, T max, T log_sum, std::int64_t n);
  // y = g · exp(x − max − log_sum)
  void (*scaled_softmax)(T* y, const T* x, T max, T log_sum, T g, std::int64_t n);
};
}  // namespace unroll::kernels
#endif

HWY_BEFORE_NAMESPACE();
namespace unroll::kernels::HWY_NAMESPACE {

template <class T>
constexpr T kMinusInfinity = -std::numeric_limits<T>::infinity();

template <class T>
std::int64_t lanes() {
  return static_cast<std::int64_t>(hn::Lanes(Full<T>()));
}

// Passes over NaNs on x86; they come through exp then.
template <class T>
T row_max(const T* x, std::int64_t n) {
  const Full<T> d;
  const std::int64_t step = lanes<T>();
  auto a = hn::Set(d, kMinusInfinity<T>), b = a;
  for (; n > 2 * step; x += 2 * step, n -= 2 * step) {
    a = hn::Max(hn::LoadU(d, x), a);
    b = hn::Max(hn::LoadU(d, x + step), b);
  }
  for (; n > 0; x += step, n -= step) a = hn::Max(load_part(d, x, n, kMinusInfinity<T>), a);
  return hn::GetLane(hn::MaxOfLanes(d, hn::Max(a, b)));
}

// Sums of a few vectors are added in double, so that the error does not grow with the length of a row.
template <class T>
double exp_sum(T* y, const T* x, T max, std::int64_t n) {
  const Full<T> d;
  const std::int64_t step = lanes<T>(), block = 16 * step;
  const auto shift = hn::Set(d, max);
  double total = 0;
  for (std::int64_t first = 0; first < n; first += block) {
    auto sum = hn::Zero(d);
    for (std::int64_t i = first, end = std::min(n, first + block); i < end; i += step) {
      const auto e = ExpOfNegative(d, hn::Sub(load_part(d, x + i, end - i, kMinusInfinity<T>), shift));
      if (y != nullptr) store_part(e, d, y + i, end - i);
      sum = hn::Add(sum, e);
    }
    total += hn::GetLane(hn::SumOfLanes(d, sum));
  }
  return total;
}

template <class T>
void divide(T* y, const T* x, T divisor, std::int64_t n) {
  const auto by = hn::Set(Full<T>(), divisor);
  map_row(y, x, n, [=](auto v) HWY_ATTR { return hn::Div(v, by); });
}
template <class T>
void subtract(T* y, const T* x, T max, T log_sum, std::int64_t n) {
  const auto first = hn::Set(Full<T>(), max), second = hn::Set(Full<T>(), log_sum);
  map_row(y, x, n, [=](auto v) HWY_ATTR { return hn::Sub(hn::Sub(v, first), second); });
}
template <class T>
void scaled_softmax(T* y, const T* x, T max, T log_sum, T g, std::int64_t n) {
  const Full<T> d;
  const auto first = hn::Set(d, max), second = hn::Set(d, log_sum), factor = hn::Set(d, g);
  map_row(y, x, n,
          [=](auto v) HWY_ATTR { return hn::Mul(factor, ExpOfNegative(d, hn::Sub(hn::Sub(v, first), second))); });
}

template <class T>
constexpr SoftmaxRow<T> kSoftmaxRow = {row_max<T>, exp_sum<T>, divide<T>, subtract<T>, scaled_softmax<T>};

}  // namespace unroll::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace unroll::kernels {

UNROLL_CHOOSE_TABLE(SoftmaxRow)

namespace {

// Calls row(y, x) for each row. One whose elements are `inner` apart is brought together and spread again.
template <class T, class Row>
void for_softmax_rows(T* y, const T* x, Extent e, Row row) {
  if (e.inner == 1) {
    for (std::int64_t o = 0; o < e.outer; ++o) row(y + o * e.n, x + o * e.n);
    return;
  }
  const Scratch<T> together(e.n);
  for (std::int64_t o = 0; o < e.outer; ++o)
    for (std::int64_t k = 0; k < e.inner; ++k) {
      const std::int64_t first = o * e.n * e.inner + k;
      for (std::int64_t i = 0; i < e.n; ++i) together.data()[i] = x[first + i * e.inner];
      row(together.data(), together.data());
      for (std::int64_t i = 0; i < e.n; ++i) y[first + i * e.inner] = together.data()[i];
    }
}

}  // namespace

// The exponents x − max are ≤ 0, and one of them is 0: nothing overflows and the sum is at least 1. A row of −∞ has
// −∞ − (−∞), so it becomes NaN as a whole.
template <class T>
void softmax(T* y, const T* x, Extent e) {
  const SoftmaxRow<T>& row = chosen_SoftmaxRow<T>();
  for_softmax_rows(y, x, e, [&](T* out, const T* in) {
    double sum = row.exp_sum(out, in, row.max(in, e.n), e.n);
    row.divide(out, out, static_cast<T>(sum), e.n);
  });
}

template <class T>
void log_softmax(T* y, const T* x, Extent e) {
  const SoftmaxRow<T>& row = chosen_SoftmaxRow<T>();
  for_softmax_rows(y, x, e, [&](T* out, const T* in) {
    T max = row.max(in, e.n);
    row.subtract(out, in, max, static_cast<T>(std::log(row.exp_sum(nullptr, in, max, e.n))), e.n);
  });
}

template <class T>
void cross_entropy(T* loss, T* max, T* log_sum, const T* x, const std::int64_t* target, std::int64_t rows,
                   std::int64_t n) {
  const SoftmaxRow<T>& row = chosen_SoftmaxRow<T>();
  for (std::int64_t i = 0; i < rows; ++i, x += n) {
    max[i] = row.max(x, n);
    log_sum[i] = static_cast<T>(std::log(row.exp_sum(nullptr, x, max[i], n)));
    loss[i] = -(x[target[i]] - max[i] - log_sum[i]);
  }
}

template <class T>
void cross_entropy_backward(T* dx, const T* g, const T* x, const T* max, const T* log_sum, const std::int64_t* target,
                            std::int64_t rows, std::int64_t n) {
  const SoftmaxRow<T>& row = chosen_SoftmaxRow<T>();
  for (std::int64_t i = 0; i < rows; ++i, x += n, dx += n) {
    row.scaled_softmax(dx, x, max[i], log_sum[i], g[i], n);
    dx[target[i]] -= g[i];
  }
}

template void softmax(float*, const float*, Extent);
template void softmax(double*, const double*, Extent);
template void log_softmax(float*, const float*, Extent);
template void log_softmax(double*, const double*, Extent);
template void cross_entropy(float*, float*, float*, const float*, const std::int64_t*, std::int64_t, std::int64_t);
template void cross_entropy(double*, double*, double*, const double*, const std::int64_t*, std::int64_t, std::int64_t);
template void cross_entropy_backward(float*, const float*, const float*, const float*, const float*,
                                     const std::int64_t*, std::int64_t, std::int64_t);
template void cross_entropy_backward(double*, const double*, const double*, const double*, const double*,
                                     const std::int64_t*, std::int64_t, std::int64_t);

}  // namespace unroll::kernels
#endif
