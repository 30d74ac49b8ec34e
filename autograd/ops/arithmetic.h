#pragma once
#include <unroll/core/tensor.h>

#pragma GCC visibility push(default)
/// Elementwise arithmetic. Two tensors broadcast by numpy's rule and must have one dtype; a number takes the tensor's.
/// Integers add, subtract, multiply, negate and have abs and sign; where() takes any dtype; everything else
/// wants float32 or float64.
namespace unroll {

Tensor add(const Tensor& a, const Tensor& b);
Tensor sub(const Tensor& a, const Tensor& b);
Tensor mul(const Tensor& a, const Tensor& b);
Tensor div(const Tensor& a, const Tensor& b);
Tensor add(const Tensor& a, double b);
inline Tensor sub(const Tensor& a, double b) { return add(a, -b); }
Tensor sub(double a, const Tensor& b);
Tensor mul(const Tensor& a, double b);
/// Divided, not multiplied by a rounded 1 / b.
Tensor div(const Tensor& a, double b);
Tensor div(double a, const Tensor& b);

inline Tensor operator+(const Tensor& a, const Tensor& b) { return add(a, b); }
inline Tensor operator-(const Tensor& a, const Tensor& b) { return sub(a, b); }
inline Tensor operator*(const Tensor& a, const Tensor& b) { return mul(a, b); }
inline Tensor operator/(const Tensor& a, const Tensor& b) { return div(a, b); }
inline Tensor operator+(const Tensor& a, double b) { return add(a, b); }
inline Tensor operator+(double a, const Tensor& b) { return add(b, a); }
inline Tensor operator-(const Tensor& a, double b) { return sub(a, b); }
inline Tensor operator-(double a, const Tensor& b) { return sub(a, b); }
inline Tensor operator*(const Tensor& a, double b) { return mul(a, b); }
inline Tensor operator*(double a, const Tensor& b) { return mul(b, a); }
inline Tensor operator/(const Tensor& a, double b) { return div(a, b); }
inline Tensor operator/(double a, const Tensor& b) { return div(a, b); }

Tensor neg(const Tensor& x);
inline Tensor operator-(const Tensor& x) { return neg(x); }
/// xᵖ. At x = 0 the derivative is 0 for p = 0, and ∞ for 0 < p < 1.
Tensor pow(const Tensor& x, double exponent);
/// xᵖ, each x with its own p; the two broadcast.
Tensor pow(const Tensor& x, const Tensor& exponent);
Tensor square(const Tensor& x);
/// √x; its derivative at 0 is ∞.
Tensor sqrt(const Tensor& x);
Tensor exp(const Tensor& x);
/// The natural logarithm.
Tensor log(const Tensor& x);
Tensor sin(const Tensor& x);
Tensor cos(const Tensor& x);
/// |x|; its derivative at 0 is 0.
Tensor abs(const Tensor& x);
/// −1, 0 or 1, of NaN 0; its derivative is 0.
Tensor sign(const Tensor& x);
/// The larger of a and b; equal ones share the gradient. NaN wins; then each has the whole gradient.
Tensor maximum(const Tensor& a, const Tensor& b);
/// The smaller of a and b; equal ones share the gradient. NaN wins; then each has the whole gradient.
Tensor minimum(const Tensor& a, const Tensor& b);
/// min(max(x, lowest), highest); the gradient passes at both bounds. NaN where any of the three is.
Tensor clamp(const Tensor& x, double lowest, double highest);
/// a where `condition` (Bool) is true, else b; all three broadcast.
Tensor where(const Tensor& condition, const Tensor& a, const Tensor& b);
Tensor where(const Tensor& condition, const Tensor& a, double b);
Tensor where(const Tensor& condition, double a, const Tensor& b);

}  // namespace unroll
#pragma GCC visibility pop
