#include <unroll/core/kernels/activation.h>
#include <unroll/core/kernels/target_table.h>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "unroll/core/kernels/activation.cpp"
#include <hwy/foreach_target.h>  // must come before the others
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

template <class T>
void exp_row(T* y, const T* x, std::int64_t n) {
  map_row(y, x, n, [](auto v) HWY_ATTR { return Exp(Full<T>(), v); });
}
template <class T>
void sigmoid_row(T* y, const T* x, std::int64_t n) {
  map_row(y, x, n, [](auto v) HWY_ATTR { return Sigmoid(Full<T>(), v); });
}
template <class T>
void tanh_row(T* y, const T* x, std::int64_t n) {
  map_row(y, x, n, [](auto v) HWY_ATTR { return Tanh(Full<T>(), v); });
}

template <class T>
constexpr Activations<T> kActivations = {exp_row<T>, sigmoid_row<T>, tanh_row<T>};

}  // namespace unroll::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace unroll::kernels {
UNROLL_CHOOSE_TABLE(Activations)

template <class T>
void exp(T* y, const T* x, std::int64_t n) {
  chosen_Activations<T>().exp(y, x, n);
}
template <class T>
void sigmoid(T* y, const T* x, std::int64_t n) {
  chosen_Activations<T>().sigmoid(y, x, n);
}
template <class T>
void tanh(T* y, const T* x, std::int64_t n) {
  chosen_Activations<T>().tanh(y, x, n);
}

template void exp(float*, const float*, std::int64_t);
template void exp(double*, const double*, std::int64_t);
template void sigmoid(float*, const float*, std::int64_t);
template void sigmoid(double*, const double*, std::int64_t);
template void tanh(float*, const float*, std::int64_t);
template void tanh(double*, const double*, std::int64_t);

}  // namespace unroll::kernels
#endif
