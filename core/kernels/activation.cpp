#include <unroll/core/kernels/activation.h>

#include <type_traits>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "unroll/core/kernels/activation.cpp"
#include <hwy/foreach_target.h>  // must come before the others
#include <unroll/core/kernels/simd-inl.h>
#include <unroll/core/kernels/vector_math-inl.h>

#ifndef UNROLL_ACTIVATION_TABLE
#define UNROLL_ACTIVATION_TABLE
namespace unroll::kernels {
// The loops of one target.
template <class T>
struct Activations {
  using Loop = void (*)(T*, const T*, std::int64_t);
  Loop exp, sigmoid, tanh;
};
}  // namespace unroll::kernels
#endif

HWY_BEFORE_NAMESPACE();
namespace unroll::kernels::HWY_NAMESPACE {

struct ExpOf {
  template <class D>
  static HWY_INLINE hn::Vec<D> of(D d, hn::Vec<D> x) {
    return Exp(d, x);
  }
};
struct SigmoidOf {
  template <class D>
  static HWY_INLINE hn::Vec<D> of(D d, hn::Vec<D> x) {
    return Sigmoid(d, x);
  }
};
struct TanhOf {
  template <class D>
  static HWY_INLINE hn::Vec<D> of(D d, hn::Vec<D> x) {
    return Tanh(d, x);
  }
};

template <class F, class T>
void map(T* y, const T* x, std::int64_t n) {
  const Full<T> d;
  const auto lanes = static_cast<std::int64_t>(hn::Lanes(d));
  for (std::int64_t i = 0; i < n; i += lanes) store_part(F::of(d, load_part(d, x + i, n - i)), d, y + i, n - i);
}

template <class T>
constexpr Activations<T> kActivations = {map<ExpOf, T>, map<SigmoidOf, T>, map<TanhOf, T>};

const Activations<float>* activations_f32() { return &kActivations<float>; }
const Activations<double>* activations_f64() { return &kActivations<double>; }

}  // namespace unroll::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace unroll::kernels {
namespace {

HWY_EXPORT(activations_f32);
HWY_EXPORT(activations_f64);

template <class T>
const Activations<T>& activations() {
  if constexpr (std::is_same_v<T, float>)
    return *HWY_DYNAMIC_DISPATCH(activations_f32)();
  else
    return *HWY_DYNAMIC_DISPATCH(activations_f64)();
}

}  // namespace

template <class T>
void exp(T* y, const T* x, std::int64_t n) {
  activations<T>().exp(y, x, n);
}
template <class T>
void sigmoid(T* y, const T* x, std::int64_t n) {
  activations<T>().sigmoid(y, x, n);
}
template <class T>
void tanh(T* y, const T* x, std::int64_t n) {
  activations<T>().tanh(y, x, n);
}

template void exp(float*, const float*, std::int64_t);
template void exp(double*, const double*, std::int64_t);
template void sigmoid(float*, const float*, std::int64_t);
template void sigmoid(double*, const double*, std::int64_t);
template void tanh(float*, const float*, std::int64_t);
template void tanh(double*, const double*, std::int64_t);

}  // namespace unroll::kernels
#endif
