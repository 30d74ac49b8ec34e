#pragma once
#include <cstdint>

/// x, y and their gradients are (rows, n), row-major; weight, bias and theirs (n); mean and rstd (rows). T is float or
/// double.
namespace unroll::kernels {

/// rstd = 1 / √(variance + eps), y = (x − mean)·rstd·weight + bias. weight and bias may be null.
template <class T>
void layer_norm(T* y, T* mean, T* rstd, const T* x, const T* weight, const T* bias, std::int64_t rows, std::int64_t n,
                double eps);

/// Writes dx, adds to dweight and dbias; each of them, and weight, may be null.
template <class T>
void layer_norm_backward(T* dx, T* dweight, T* dbias, const T* dy, const T* x, const T* mean, const T* rstd,
                         const T* weight, std::int64_t rows, std::int64_t n);

}  // namespace unroll::kernels
