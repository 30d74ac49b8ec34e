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

/// loss[i] = −log_softmax(x[i])[target[i]] for i < rows, x being (rows, n). max and log_sum are those of each row.
template <class T>
void cross_entropy(T* loss, T* max, T* log_sum, const T* x, const std::int64_t* target, std::int64_t rows,
                   std::int64_t n);
/// dx[i] = g[i] · (softmax(x[i]) − 1 at target[i])
template <class T>
void cross_entropy_backward(T* dx, const T* g, const T* x, const T* max, const T* log_sum, const std::int64_t* target,
                            std::int64_t rows, std::int64_t n);

}  // namespace unroll::kernels
