#pragma once
#include <unroll/core/kernels/reduce.h>

/// x and y are (outer, n, inner), row-major; each row of n, one (outer, inner), is normalized by itself. T is float or
/// double.
namespace unroll::kernels {

/// y = exp(x − max) / Σ exp(x − max)
template <class T>
void softmax(T* y, const T* x, Extent e);

/// y = x − max − ln Σ exp(x − max)
template <class T>
void log_softmax(T* y, const T* x, Extent e);

}  // namespace unroll::kernels
