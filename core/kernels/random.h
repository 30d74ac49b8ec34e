#pragma once
#include <unroll/core/generator.h>

/// The algorithms of PyTorch's CPU kernels on raw pointers; x holds n elements, `step` apart.
///
/// Every number depends on each rounding, and the compiler that built PyTorch fused some multiplications and additions:
/// exactly those are std::fma here. The rest must stay unfused, so this is to be compiled with -ffp-contract=off.
namespace unroll::kernels {

/// Uniform in [0, 1) with as many random bits as T has digits.
template <class T>
T unit(Generator& g);
template <>
inline float unit<float>(Generator& g) {
  return static_cast<float>(g.random32() & 0xffffff) * 0x1p-24f;
}
template <>
inline double unit<double>(Generator& g) {
  return static_cast<double>(g.random64() & 0x1fffffffffffff) * 0x1p-53;
}

/// Two normal numbers by Box–Muller from two uniform ones: r cos θ and r sin θ, r = √(−2 ln(1 − u2)), θ = 2π u1.
struct Normals {
  double first, second;
};
Normals normals(double u1, double u2);

/// x ← u (to − from) + from, and `from` where that is rounded to `to`, as PyTorch 2.15 does.
template <class T>
void uniform(T* x, std::int64_t n, std::int64_t step, T from, T to, Generator& g);

/// x ← z std + mean, each z by Box–Muller in double whatever T is. For fewer than 16 elements, or strided ones.
template <class T>
void normal(T* x, std::int64_t n, std::int64_t step, double mean, double std, Generator& g);

/// The same for n ≥ 16 contiguous elements, by Box–Muller in T on blocks of 16 uniform numbers: other draws, so other
/// values.
template <class T>
void normal_blocks(T* x, std::int64_t n, T mean, T std, Generator& g);

/// x ← low + r mod range, where r has 32 bits, or 64 where the range is 2²⁸ or more.
void integers(std::int64_t* x, std::int64_t n, std::int64_t low, std::uint64_t range, Generator& g);

/// x ← a random order of 0, …, n − 1.
void permutation(std::int64_t* x, std::int64_t n, Generator& g);

/// x ← [u < p], u in double whatever T is.
template <class T>
void bernoulli(T* x, std::int64_t n, std::int64_t step, double p, Generator& g);

/// x[i] ← [u < p[i]], u in T; both contiguous, p in [0, 1].
template <class T>
void bernoulli(T* x, const T* p, std::int64_t n, Generator& g);

/// x ← −ln(1 − u), exponential with mean 1, u in double whatever T is.
template <class T>
void exponential(T* x, std::int64_t n, std::int64_t step, Generator& g);

/// MKL's VSL_BRNG_MCG31, a multiplicative congruential generator: x[i+1] = 1132489760 x[i] mod (2³¹ − 1).
class Mcg31 {
 public:
  explicit Mcg31(std::uint32_t seed) : x_(seed % kModulus ? seed % kModulus : 1) {}
  /// Uniform in (0, 1).
  double unit() {
    double u = static_cast<double>(x_) / static_cast<double>(kModulus);
    x_ = x_ * 1132489760 % kModulus;
    return u;
  }

 private:
  static constexpr std::uint64_t kModulus = 0x7fffffff;
  std::uint64_t x_;
};

}  // namespace unroll::kernels
