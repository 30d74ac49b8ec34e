// e^x, σ(x) and tanh x of vectors, on every target of Highway. Compiled once a target by its foreach_target, so there
// is no #pragma once; the guard is Highway's own, and toggles.
#if defined(UNROLL_VECTOR_MATH_INL_H) == defined(HWY_TARGET_TOGGLE)
#ifdef UNROLL_VECTOR_MATH_INL_H
#undef UNROLL_VECTOR_MATH_INL_H
#else
#define UNROLL_VECTOR_MATH_INL_H
#endif

#include <unroll/core/kernels/simd-inl.h>

HWY_BEFORE_NAMESPACE();
namespace unroll::kernels::HWY_NAMESPACE {

template <class D>
HWY_INLINE hn::Vec<D> Number(D d, double x) {
  return hn::Set(d, static_cast<hn::TFromD<D>>(x));
}

// A coefficient: a number, or a polynomial itself.
template <class D>
HWY_INLINE hn::Vec<D> Coefficient(D d, hn::TFromD<D> c) {
  return hn::Set(d, c);
}
template <class D>
HWY_INLINE hn::Vec<D> Coefficient(D, hn::Vec<D> c) {
  return c;
}

// c₀ + c₁x + c₂x² + …
template <class D, class V = hn::Vec<D>, class C, class... More>
HWY_INLINE V Polynomial(D d, V x, C first, More... more) {
  if constexpr (sizeof...(more) == 0)
    return Coefficient(d, first);
  else
    return hn::MulAdd(Polynomial(d, x, more...), x, Coefficient(d, first));
}

// x cut off at a bound; a NaN stays. Of Min and Max, x86 defines that a NaN gives the second operand. Elsewhere it may
// be the other one.
#if HWY_ARCH_X86 && HWY_TARGET != HWY_SCALAR && HWY_TARGET != HWY_EMU128
template <class D, class V = hn::Vec<D>>
HWY_INLINE V AtMost(D d, V x, double bound) {
  return hn::Min(Number(d, bound), x);
}
template <class D, class V = hn::Vec<D>>
HWY_INLINE V AtLeast(D d, V x, double bound) {
  return hn::Max(Number(d, bound), x);
}
#else
template <class D, class V = hn::Vec<D>>
HWY_INLINE V AtMost(D d, V x, double bound) {
  return hn::IfThenElse(hn::Gt(x, Number(d, bound)), Number(d, bound), x);
}
template <class D, class V = hn::Vec<D>>
HWY_INLINE V AtLeast(D d, V x, double bound) {
  return hn::IfThenElse(hn::Lt(x, Number(d, bound)), Number(d, bound), x);
}
#endif

// Beyond these, e^−x is 0 and e^x infinite.
template <class T>
constexpr double kExpLowest = sizeof(T) == 4 ? -104 : -746;
template <class T>
constexpr double kExpHighest = sizeof(T) == 4 ? 89 : 710;

// e^x 2^shift = (1 + rest) scale, where that is a normal number, for a whole number `shift`.
//
// x = n ln 2 + r with |r| ≤ ln 2 / 2, and e^r = 1 + r + r² q(r) with q of least relative error. ln 2 is the sum of two
// constants, the first short enough for an exact product with n, with or without fused multiply-add. What rounds to n
// is the addition of 1.5 · 2^mantissa. As that brings the exponent's bias along, the lowest bits of the sum are the
// exponent of 2^(n + shift); they only have to be moved to its place. q is a polynomial of r² whose coefficients are
// polynomials of r: half as many multiply-adds one after the other, and not one more.
template <class V>
struct Power {
  V rest, scale;
};
template <class D, class V = hn::Vec<D>>
HWY_INLINE Power<V> PowerOf(D d, V x, V shift) {
  constexpr bool kFloat = sizeof(hn::TFromD<D>) == 4;
  constexpr int kMantissa = kFloat ? 23 : 52;
  const hn::RebindToUnsigned<D> bits;
  const V round = hn::Add(shift, Number(d, kFloat ? 0x1.8p23 + 127 : 0x1.8p52 + 1023));
  const V rounded = hn::MulAdd(x, Number(d, 0x1.71547652b82fep0), round), n = hn::Sub(rounded, round);
  V r = hn::NegMulAdd(n, Number(d, kFloat ? 0x1.62e4p-1 : 0x1.62e42feep-1), x), q;
  r = hn::NegMulAdd(n, Number(d, kFloat ? 0x1.7f7d1cf79abcap-20 : 0x1.a39ef35793c76p-33), r);
  const V square = hn::Mul(r, r);
  if constexpr (kFloat)
    q = Polynomial(d, square, Polynomial(d, r, 0x1.fffffcp-2f, 0x1.55548cp-3f),
                   Polynomial(d, r, 0x1.555858p-5f, 0x1.123dc6p-7f), 0x1.6ac4a2p-10f);
  else
    q = Polynomial(d, square, Polynomial(d, r, 0x1.000000000000ap-1, 0x1.55555555554fap-3),
                   Polynomial(d, r, 0x1.555555555087cp-5, 0x1.1111111127beap-7),
                   Polynomial(d, r, 0x1.6c16c1842a18fp-10, 0x1.a01a012a559b1p-13),
                   Polynomial(d, r, 0x1.a0199a0c5affdp-16, 0x1.71df255761396p-19),
                   Polynomial(d, r, 0x1.28ad72d3fa16fp-22, 0x1.ad7f6655530e7p-26));
  return {hn::MulAdd(square, q, r), hn::BitCast(d, hn::ShiftLeft<kMantissa>(hn::BitCast(bits, rounded)))};
}
template <class D, class V = hn::Vec<D>>
HWY_INLINE V ScaledExp(D d, V x, V shift) {
  const Power<V> e = PowerOf(d, x, shift);
  return hn::MulAdd(e.rest, e.scale, e.scale);
}

/// e^x for x ≤ 0, down to the smallest denormal number.
template <class D, class V = hn::Vec<D>>
HWY_INLINE V ExpOfNegative(D d, V x) {
  constexpr double kLowest = kExpLowest<hn::TFromD<D>>;
  const V e = ScaledExp(d, AtLeast(d, x, kLowest), Number(d, 64));
  // Where nothing is left, as of −∞, the factor is 0: a product that underflows costs an x86 a hundred cycles.
  return hn::Mul(e, hn::IfThenZeroElse(hn::Lt(x, Number(d, kLowest)), Number(d, 0x1p-64)));
}

/// e^x. Like the others here it is within 2 units in the last place, keeps a NaN and sets no flag that the result does
/// not call for.
template <class D, class V = hn::Vec<D>>
HWY_INLINE V Exp(D d, V x) {
  using T = hn::TFromD<D>;
  const auto negative = hn::Lt(x, hn::Zero(d));
  const V e = ScaledExp(d, AtMost(d, AtLeast(d, x, kExpLowest<T>), kExpHighest<T>),
                        hn::IfThenElse(negative, Number(d, 64), Number(d, -64)));
  return hn::Mul(e, hn::IfThenElse(negative, Number(d, 0x1p-64), Number(d, 0x1p64)));
}

/// σ(x) = 1 / (1 + e^−x), both sides of the fraction times 2⁻⁶⁴, so that nothing overflows where σ is a denormal
/// number; where −x is at its lower bound, σ is 1. The sum 1 + 2^n + 2^n (e^r − 1) is rounded once: what the first two
/// lose goes to the third.
template <class D, class V = hn::Vec<D>>
HWY_INLINE V Sigmoid(D d, V x) {
  using T = hn::TFromD<D>;
  const V one = Number(d, 0x1p-64);
  const V minus_x = AtMost(d, AtLeast(d, hn::Neg(x), sizeof(T) == 4 ? -20 : -40), -kExpLowest<T>);
  const Power<V> e = PowerOf(d, minus_x, Number(d, -64));
  const V sum = hn::Add(e.scale, one), lost = hn::Sub(one, hn::Sub(sum, e.scale));
  return hn::Div(one, hn::Add(sum, hn::MulAdd(e.rest, e.scale, lost)));
}

/// tanh x = u / (u + 2) with u = e^2x − 1, odd to the bit. Of u, 2^n − 1 is exact as long as it matters, and
/// 2^n (e^r − 1) not nearly its opposite. Below tanh⁻¹ ¼, where the errors of u and u + 2 weigh most, x + x³ p(x²) with
/// p of least relative error; from the upper bound on, ±1.
template <class D, class V = hn::Vec<D>>
HWY_INLINE V Tanh(D d, V x) {
  constexpr bool kFloat = sizeof(hn::TFromD<D>) == 4;
  const V size = AtMost(d, hn::Abs(x), kFloat ? 10 : 20);
  const Power<V> e = PowerOf(d, hn::Add(size, size), hn::Zero(d));
  const V u = hn::MulAdd(e.rest, e.scale, hn::Sub(e.scale, Number(d, 1)));
  const V far = hn::Div(u, hn::Add(u, Number(d, 2)));
  const V square = hn::Mul(size, size);
  V p;
  if constexpr (kFloat)
    p = Polynomial(d, square, -0x1.55550ep-2f, 0x1.10dd34p-3f, -0x1.a46f66p-5f);
  else
    p = Polynomial(d, square, -0x1.55555555554d4p-2, 0x1.11111110f86bcp-3, -0x1.ba1ba18709112p-5, 0x1.664f2f63bc15ap-6,
                   -0x1.226795f7d8e9fp-7, 0x1.d4e679382309bp-9, -0x1.580c1c4f4a5dp-10);
  const V near = hn::MulAdd(hn::Mul(size, square), p, size);
  return hn::CopySign(hn::IfThenElse(hn::Gt(size, Number(d, 0x1.058aefa811452p-2)), far, near), x);
}

}  // namespace unroll::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();
#endif
