#pragma once
#include <unroll/core/kernels/activation.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <type_traits>
#include <vector>

/// The vector functions beside the C library's in the next wider type.
namespace vector_math {

template <class T>
using Wider = std::conditional_t<std::is_same_v<T, float>, double, long double>;

/// How far y is from `exact`, in units of the last place that a T of that size has; infinite where only one of them is
/// a NaN, or infinite once rounded.
template <class T>
double ulps(T y, Wider<T> exact) {
  using Limits = std::numeric_limits<T>;
  constexpr double kInfinity = std::numeric_limits<double>::infinity();
  if (std::isnan(y) || std::isnan(exact)) return std::isnan(y) && std::isnan(exact) ? 0 : kInfinity;
  T rounded = static_cast<T>(exact);
  if (std::isinf(y) || std::isinf(rounded)) return y == rounded ? 0 : kInfinity;
  int exponent = Limits::min_exponent;
  if (exact != 0) std::frexp(exact, &exponent);
  int unit = std::max(exponent, Limits::min_exponent) - Limits::digits;
  return static_cast<double>(std::abs(std::ldexp(Wider<T>(y) - exact, -unit)));
}

template <class T>
struct Function {
  const char* name;
  void (*vector)(T* y, const T* x, std::int64_t n);
  Wider<T> (*exact)(Wider<T> x);
};

template <class T>
std::vector<Function<T>> functions() {
  using W = Wider<T>;
  namespace kernels = unroll::kernels;
  return {{"exp", kernels::exp<T>, [](W x) { return std::exp(x); }},
          {"sigmoid", kernels::sigmoid<T>,
           [](W x) { return x < 0 ? std::exp(x) / (1 + std::exp(x)) : 1 / (1 + std::exp(-x)); }},
          {"tanh", kernels::tanh<T>, [](W x) { return std::tanh(x); }}};
}

template <class T>
struct Worst {
  double ulps = 0;
  T x = 0;
};

/// Where f is farthest from exact, among the elements where it is not the nearest T.
template <class T>
Worst<T> worst(const Function<T>& f, const std::vector<T>& x, Worst<T> so_far = {}) {
  std::vector<T> y(x.size());
  f.vector(y.data(), x.data(), static_cast<std::int64_t>(x.size()));
  for (std::size_t i = 0; i < x.size(); ++i) {
    const Wider<T> exact = f.exact(x[i]);
    if (y[i] == static_cast<T>(exact)) continue;  // the nearest there is, and that is most of them
    if (double error = ulps(y[i], exact); error > so_far.ulps) so_far = {error, x[i]};
  }
  return so_far;
}

}  // namespace vector_math
