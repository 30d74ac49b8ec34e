#pragma once

namespace unroll::kernels {

/// a·b + c rounded once, as PyTorch's kernels for AVX2 compute it. The product of two float32 is exact in float64, and
/// this, unlike std::fma, becomes vector instructions on every machine. In float64 it is rounded twice: the difference
/// is below what is compared.
inline float mul_add(float a, float b, float c) {
  return static_cast<float>(static_cast<double>(a) * static_cast<double>(b) + static_cast<double>(c));
}
inline double mul_add(double a, double b, double c) { return a * b + c; }

}  // namespace unroll::kernels
