#include <unroll/core/kernels/random.h>
#include <unroll/core/kernels/random_math.h>

#include <bit>
#include <cmath>
#include <numbers>
#include <utility>

namespace unroll::kernels {
namespace {

// c[0] x^(N-1) + … + c[N-1]
template <std::size_t N>
[[gnu::always_inline]] inline float polynomial(const float (&c)[N], float x) {
  float y = c[0];
  for (std::size_t i = 1; i < N; ++i) y = std::fma(y, x, c[i]);
  return y;
}

// The next two are logf and sincosf of Cephes (S. Moshier) as PyTorch evaluates them eight at a time, in avx_mathfun.h
// by J. Pommier and G. Garberoglio (zlib licence), for the arguments that occur here: no zero, infinity, NaN or
// negative number.

// ln u for u in [2^-24, 1]. With u = 2^e (1 + x) and 1 + x in [sqrt 1/2, sqrt 2): x - x^2/2 + x^3 P(x) + e ln 2.
[[gnu::always_inline]] inline float log_of_unit(float u) {
  static constexpr float kP[] = {7.0376836292e-2f,  -1.1514610310e-1f, 1.1676998740e-1f,
                                 -1.2420140846e-1f, 1.4249322787e-1f,  -1.6668057665e-1f,
                                 2.0000714765e-1f,  -2.4999993993e-1f, 3.3333331174e-1f};
  static constexpr float kLn2High = 0.693359375f, kLn2Low = -2.12194440e-4f;  // their sum is ln 2; e kLn2High is exact
  auto bits = std::bit_cast<std::int32_t>(u);
  float x = std::bit_cast<float>((bits & 0x007fffff) | 0x3f000000);  // in [1/2, 1)
  auto e = static_cast<float>((bits >> 23) - 126);
  bool small = x < 0.707106781186547524f;
  e -= small ? 1.0f : 0.0f;
  x = x - 1.0f + (small ? x : 0.0f);
  float xx = x * x;
  float y = polynomial(kP, x) * x;
  y = std::fma(y, xx, e * kLn2Low);
  y = std::fma(-xx, 0.5f, y);
  return std::fma(e, kLn2High, x + y);
}

struct SinCos {
  float sin, cos;
};

// For a in [0, 2 pi]. The nearest even multiple j of pi/4 is taken off in three parts of pi/4, each short enough for an
// exact product.
[[gnu::always_inline]] inline SinCos sincos(float a) {
  static constexpr float kSin[] = {-1.9515295891e-4f, 8.3321608736e-3f, -1.6666654611e-1f};
  static constexpr float kCos[] = {2.443315711809948e-5f, -1.388731625493765e-3f, 4.166664568298827e-2f};
  std::int32_t j = (static_cast<std::int32_t>(a * 1.27323954473516f) + 1) & ~1;  // 4 / pi
  auto turns = static_cast<float>(j);
  float x = std::fma(turns, -0.78515625f, a);
  x = std::fma(turns, -2.4187564849853515625e-4f, x);
  x = std::fma(turns, -3.77489497744594108e-8f, x);
  float xx = x * x;
  float c = polynomial(kCos, xx) * xx;
  c = std::fma(c, xx, -(xx * 0.5f)) + 1.0f;
  float s = polynomial(kSin, xx) * xx;
  s = std::fma(s, x, x);
  bool swapped = j & 2;  // an odd number of quarter turns
  float sine = swapped ? c : s, cosine = swapped ? s : c;
  return {j & 4 ? -sine : sine, (j + 2) & 4 ? -cosine : cosine};
}

// Box–Muller on blocks of 16: for j < 8, with r = sqrt(-2 ln(1 - x[j])) and a = 2 pi x[j + 8], x[j] becomes r cos a and
// x[j + 8] becomes r sin a, scaled and shifted. What is left of n after whole blocks is not touched.
[[gnu::always_inline]] inline void box_muller_blocks(float* x, std::int64_t n, float mean, float std) {
  for (float* end = x + n / 16 * 16; x != end; x += 16) {
    float r[8];
    for (int j = 0; j < 8; ++j) r[j] = std::sqrt(-2.0f * log_of_unit(1.0f - x[j]));
    for (int j = 0; j < 8; ++j) {
      SinCos t = sincos(2 * std::numbers::pi_v<float> * x[j + 8]);
      x[j] = std::fma(r[j] * t.cos, std, mean);
      x[j + 8] = std::fma(r[j] * t.sin, std, mean);
    }
  }
}

// r cos(2 pi u) and r sin(2 pi u) with r = sqrt(-2 ln(1 - v)).
[[gnu::always_inline]] inline Normals box_muller_pair(double v, double u, const math::Tables& tables) {
  double r = std::sqrt(-2 * math::log(1 - v, tables));
  math::SinCos t = math::sincos(2 * std::numbers::pi * u, tables);
  return {r * t.cos, r * t.sin};
}

[[gnu::always_inline]] inline void box_muller_blocks(double* x, std::int64_t n, double mean, double std) {
  const math::Tables& tables = math::Tables::get();
  for (double* end = x + n / 16 * 16; x != end; x += 16)
    for (int j = 0; j < 8; ++j) {
      auto [first, second] = box_muller_pair(x[j], x[j + 8], tables);
      x[j] = std::fma(first, std, mean);
      x[j + 8] = std::fma(second, std, mean);
    }
}

// The same numbers twice: an fma is exact to the last bit in hardware as in software, but there it is a call into the C
// library.
#ifdef __x86_64__
template <class T>
[[gnu::target("avx2,fma")]] void box_muller_avx2(T* x, std::int64_t n, T mean, T std) {
  box_muller_blocks(x, n, mean, std);
}
[[gnu::target("avx2,fma")]] Normals normals_avx2(double u1, double u2) {
  return box_muller_pair(u2, u1, math::Tables::get());
}
bool has_fma() { return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"); }
#endif

template <class T>
void box_muller(T* x, std::int64_t n, T mean, T std) {
#ifdef __x86_64__
  if (has_fma()) return box_muller_avx2(x, n, mean, std);
#endif
  box_muller_blocks(x, n, mean, std);
}

}  // namespace

Normals normals(double u1, double u2) {
#ifdef __x86_64__
  if (has_fma()) return normals_avx2(u1, u2);
#endif
  return box_muller_pair(u2, u1, math::Tables::get());
}

template <class T>
void uniform(T* x, std::int64_t n, std::int64_t step, T from, T to, Generator& g) {
  T width = to - from;
  for (std::int64_t i = 0; i < n; ++i) {
    T v = std::fma(unit<T>(g), width, from);
    x[i * step] = v == to ? from : v;  // rounded up to the end, which does not belong to the range
  }
}

template <class T>
void normal(T* x, std::int64_t n, std::int64_t step, double mean, double std, Generator& g) {
  for (std::int64_t i = 0; i < n; ++i) x[i * step] = static_cast<T>(std::fma(g.random_normal(), std, mean));
}

template <class T>
void normal_blocks(T* x, std::int64_t n, T mean, T std, Generator& g) {
  for (std::int64_t i = 0; i < n; ++i) x[i] = unit<T>(g);
  box_muller(x, n, mean, std);
  if (n % 16 == 0) return;
  T* last = x + n - 16;  // overlaps the block before it, whose upper numbers are drawn anew
  for (int i = 0; i < 16; ++i) last[i] = unit<T>(g);
  box_muller(last, 16, mean, std);
}

void integers(std::int64_t* x, std::int64_t n, std::int64_t low, std::uint64_t range, Generator& g) {
  auto from = static_cast<std::uint64_t>(low);  // unsigned, as low + r may pass 2^63 on the way
  if (range < std::uint64_t{1} << 28) {
    for (std::int64_t i = 0; i < n; ++i) x[i] = static_cast<std::int64_t>(from + g.random32() % range);
  } else {
    for (std::int64_t i = 0; i < n; ++i) x[i] = static_cast<std::int64_t>(from + g.random64() % range);
  }
}

void permutation(std::int64_t* x, std::int64_t n, Generator& g) {
  auto size = static_cast<std::uint64_t>(n);
  if (n < std::int64_t{0xffffffff} / 20) {  // Fisher–Yates
    for (std::int64_t i = 0; i < n; ++i) x[i] = i;
    for (std::uint64_t i = 0; i + 1 < size; ++i) std::swap(x[i], x[i + g.random32() % (size - i)]);
    return;
  }
  // From here on the remainder of 32 bits would be visibly uneven. The same shuffle inside out, as PyTorch 2.6
  // introduced it.
  for (std::uint64_t i = 0; i < size; ++i) {
    std::uint64_t j = g.random64() % (i + 1);
    x[i] = x[j];
    x[j] = static_cast<std::int64_t>(i);
  }
}

template <class T>
void bernoulli(T* x, std::int64_t n, std::int64_t step, double p, Generator& g) {
  for (std::int64_t i = 0; i < n; ++i) x[i * step] = static_cast<T>(unit<double>(g) < p);
}

template <class T>
void bernoulli(T* x, const T* p, std::int64_t n, Generator& g) {
  for (std::int64_t i = 0; i < n; ++i) x[i] = static_cast<T>(unit<T>(g) < p[i]);
}

template <class T>
void exponential(T* x, std::int64_t n, std::int64_t step, Generator& g) {
  for (std::int64_t i = 0; i < n; ++i) x[i * step] = static_cast<T>(-std::log1p(-unit<double>(g)));
}

template void uniform(float*, std::int64_t, std::int64_t, float, float, Generator&);
template void uniform(double*, std::int64_t, std::int64_t, double, double, Generator&);
template void normal(float*, std::int64_t, std::int64_t, double, double, Generator&);
template void normal(double*, std::int64_t, std::int64_t, double, double, Generator&);
template void normal_blocks(float*, std::int64_t, float, float, Generator&);
template void normal_blocks(double*, std::int64_t, double, double, Generator&);
template void bernoulli(float*, std::int64_t, std::int64_t, double, Generator&);
template void bernoulli(double*, std::int64_t, std::int64_t, double, Generator&);
template void bernoulli(std::int64_t*, std::int64_t, std::int64_t, double, Generator&);
template void bernoulli(bool*, std::int64_t, std::int64_t, double, Generator&);
template void bernoulli(float*, const float*, std::int64_t, Generator&);
template void bernoulli(double*, const double*, std::int64_t, Generator&);
template void exponential(float*, std::int64_t, std::int64_t, Generator&);
template void exponential(double*, std::int64_t, std::int64_t, Generator&);

}  // namespace unroll::kernels
