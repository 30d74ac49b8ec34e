// What every file of vector code begins with. Compiled once a target by Highway's foreach_target, so there is no
// #pragma once; the guard is Highway's own, and toggles.
#if defined(UNROLL_SIMD_INL_H) == defined(HWY_TARGET_TOGGLE)
#ifdef UNROLL_SIMD_INL_H
#undef UNROLL_SIMD_INL_H
#else
#define UNROLL_SIMD_INL_H
#endif

#include <hwy/cache_control.h>
#include <hwy/highway.h>

#include <cstdint>
#include <cstring>

HWY_BEFORE_NAMESPACE();
namespace unroll::kernels::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

/// The widest vector of T.
template <class T>
using Full = hn::ScalableTag<T>;

// Highway's masked loads and stores touch the masked elements on targets without such instructions.
#if HWY_ARCH_X86 && HWY_TARGET <= HWY_AVX2

/// The first n of a vector's elements, the others `fill`. Reads nothing else.
template <class D, class T = hn::TFromD<D>>
HWY_INLINE hn::Vec<D> load_part(D d, const T* p, std::int64_t n, T fill = 0) {
  if (n >= static_cast<std::int64_t>(hn::Lanes(d))) return hn::LoadU(d, p);
  const auto first = hn::FirstN(d, static_cast<std::size_t>(n));
  return hn::IfThenElse(first, hn::MaskedLoad(first, d, p), hn::Set(d, fill));
}

/// Writes the first n elements and nothing else.
template <class D, class T = hn::TFromD<D>>
HWY_INLINE void store_part(hn::Vec<D> v, D d, T* p, std::int64_t n) {
  if (n >= static_cast<std::int64_t>(hn::Lanes(d))) return hn::StoreU(v, d, p);
  hn::BlendedStore(v, hn::FirstN(d, static_cast<std::size_t>(n)), d, p);
}

#else

template <class D, class T = hn::TFromD<D>>
HWY_INLINE hn::Vec<D> load_part(D d, const T* p, std::int64_t n, T fill = 0) {
  if (n >= static_cast<std::int64_t>(hn::Lanes(d))) return hn::LoadU(d, p);
  HWY_ALIGN T part[hn::MaxLanes(d)];
  hn::Store(hn::Set(d, fill), d, part);
  std::memcpy(part, p, static_cast<std::size_t>(n) * sizeof(T));
  return hn::Load(d, part);
}

template <class D, class T = hn::TFromD<D>>
HWY_INLINE void store_part(hn::Vec<D> v, D d, T* p, std::int64_t n) {
  if (n >= static_cast<std::int64_t>(hn::Lanes(d))) return hn::StoreU(v, d, p);
  HWY_ALIGN T part[hn::MaxLanes(d)];
  hn::Store(v, d, part);
  std::memcpy(p, part, static_cast<std::size_t>(n) * sizeof(T));
}

#endif

/// Calls f(d, i) for the vectors of n elements, the i-th its first: whole ones, and for what is left ever narrower
/// ones. It writes without masks: after a masked store, a load from behind its last element would wait.
template <class D, class F>
HWY_INLINE void for_vectors(D d, std::int64_t n, F f, std::int64_t i = 0) {
  const auto lanes = static_cast<std::int64_t>(hn::Lanes(d));
  for (; i + lanes <= n; i += lanes) f(d, i);
  if constexpr (hn::MaxLanes(D()) > 1)
    if (i < n) for_vectors(hn::Half<D>(), n, f, i);
}

/// Calls f(i, count) for the vectors of n elements, the i-th its first, of which `count` are left for load_part and
/// store_part: of all but the last a constant, so that these have nothing to ask.
template <class D, class F>
HWY_INLINE void for_parts(D d, std::int64_t n, F f) {
  const auto lanes = static_cast<std::int64_t>(hn::Lanes(d));
  std::int64_t i = 0;
  for (; i + lanes <= n; i += lanes) f(i, lanes);
  if (i < n) f(i, n - i);
}

/// y[i] = f(x[i]) for i < n, a vector at a time; y may be x.
template <class T, class F>
HWY_INLINE void map_row(T* y, const T* x, std::int64_t n, F f) {
  const Full<T> d;
  for_parts(d, n, [=](std::int64_t i, std::int64_t count) HWY_ATTR {
    store_part(f(load_part(d, x + i, count)), d, y + i, count);
  });
}

}  // namespace unroll::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();
#endif
