#pragma once
#include <unroll/core/shape.h>

#include <algorithm>
#include <cstdint>

/// Reductions on raw pointers. x is row-major (outer, n, inner), the middle dimension is reduced, y is (outer, inner).
namespace unroll::kernels {

struct Extent {
  std::int64_t outer, n, inner;
};

/// `shape` around its dimension `dim`; a scalar's is (1, 1, 1).
inline Extent extent_around(const Shape& shape, std::size_t dim) {
  Extent e{1, 1, 1};
  for (std::size_t d = 0; d < shape.size(); ++d) (d < dim ? e.outer : d == dim ? e.n : e.inner) *= shape[d];
  return e;
}

constexpr std::int64_t kLanes = 32;  // columns that are summed at a time
constexpr std::int64_t kRows = 64;   // rows that are summed one after the other

/// out[j] = Σᵢ f(x[i · stride + j]) for j < width ≤ kLanes, i < n. Rows are added in pairs of halves, of halves, …,
/// down to blocks of kRows: the error grows with log n, not with n, and the order depends on n alone.
template <bool kAllLanes, class R, class T, class F>
void sum_rows(const T* x, std::int64_t n, std::int64_t stride, std::int64_t width, R* out, F f) {
  const std::int64_t lanes = kAllLanes ? kLanes : width;
  R sums[kLanes] = {};
  if (n <= kRows) {
    for (std::int64_t i = 0; i < n; ++i)
      for (std::int64_t j = 0; j < lanes; ++j) sums[j] += f(x[i * stride + j]);
    std::copy_n(sums, lanes, out);
    return;
  }
  std::int64_t half = n / 2;
  sum_rows<kAllLanes>(x, half, stride, width, out, f);
  sum_rows<kAllLanes>(x + half * stride, n - half, stride, width, sums, f);
  for (std::int64_t j = 0; j < lanes; ++j) out[j] += sums[j];
}

/// y = Σ f(x), added as R.
template <class T, class R, class F>
void sum(const T* x, R* y, Extent e, F f) {
  if (e.inner == 0) return;
  for (std::int64_t o = 0; o < e.outer; ++o, x += e.n * e.inner, y += e.inner) {
    if (e.inner > 1) {
      std::int64_t j = 0;
      for (; j + kLanes <= e.inner; j += kLanes) sum_rows<true>(x + j, e.n, e.inner, kLanes, y + j, f);
      if (j < e.inner) sum_rows<false>(x + j, e.n, e.inner, e.inner - j, y + j, f);
      continue;
    }
    // A row of n numbers is n / kLanes rows of kLanes numbers, and what is left.
    R lanes[kLanes];
    std::int64_t rows = e.n / kLanes;
    sum_rows<true>(x, rows, kLanes, kLanes, lanes, f);
    for (std::int64_t i = rows * kLanes; i < e.n; ++i) lanes[i - rows * kLanes] += f(x[i]);
    for (std::int64_t half = kLanes / 2; half > 0; half /= 2)
      for (std::int64_t j = 0; j < half; ++j) lanes[j] += lanes[j + half];
    *y = lanes[0];
  }
}

/// y = x₀ ∘ x₁ ∘ … for an associative and commutative pick(a, b) that returns one of the two. n ≥ 1.
template <class T, class F>
void fold(const T* x, T* y, Extent e, F pick) {
  if (e.inner == 1 && e.n > kLanes) {
    // A row as rows of kLanes, the last one overlapping the one before: picking twice does no harm.
    for (std::int64_t o = 0; o < e.outer; ++o, x += e.n) {
      T lanes[kLanes];
      std::copy_n(x + e.n - kLanes, kLanes, lanes);
      for (std::int64_t i = 0; i + kLanes <= e.n; i += kLanes)
        for (std::int64_t j = 0; j < kLanes; ++j) lanes[j] = pick(lanes[j], x[i + j]);
      fold(lanes, y + o, {1, kLanes, 1}, pick);
    }
    return;
  }
  for (std::int64_t o = 0; o < e.outer; ++o, x += e.n * e.inner, y += e.inner) {
    std::copy_n(x, e.inner, y);
    for (std::int64_t i = 1; i < e.n; ++i)
      for (std::int64_t j = 0; j < e.inner; ++j) y[j] = pick(y[j], x[i * e.inner + j]);
  }
}

/// The larger and the smaller of two; NaN wins.
inline constexpr auto larger = [](auto a, auto b) { return ((b > a) | (b != b)) ? b : a; };
inline constexpr auto smaller = [](auto a, auto b) { return ((b < a) | (b != b)) ? b : a; };

/// y = where in the middle dimension the x stands that no other one beats, the first of equal ones. n ≥ 1.
template <class T, class F>
void index_of_best(const T* x, std::int64_t* y, Extent e, F beats) {
  for (std::int64_t o = 0; o < e.outer; ++o, x += e.n * e.inner, y += e.inner) {
    for (std::int64_t j = 0; j < e.inner; ++j) {
      y[j] = 0;
      for (std::int64_t i = 1; i < e.n; ++i)
        if (beats(x[i * e.inner + j], x[y[j] * e.inner + j])) y[j] = i;
    }
  }
}

/// Orders for it: NaN beats everything, and nothing beats NaN.
inline constexpr auto greater = [](auto v, auto best) { return v > best || (v != v && best == best); };
inline constexpr auto less = [](auto v, auto best) { return v < best || (v != v && best == best); };

}  // namespace unroll::kernels
