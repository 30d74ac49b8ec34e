#pragma once
#include <cstdint>

/// y[i] = f(x[i]) for i < n, of float or double; y may be x. Vector code for what the CPU offers, within 2 units in the
/// last place, exact at 0 and the infinities; NaN gives NaN.
namespace unroll::kernels {

template <class T>
void exp(T* y, const T* x, std::int64_t n);
template <class T>
void sigmoid(T* y, const T* x, std::int64_t n);
template <class T>
void tanh(T* y, const T* x, std::int64_t n);

}  // namespace unroll::kernels
