#include <unroll/core/kernels/loops.h>
#include <unroll/core/kernels/optimizer.h>
#include <unroll/core/kernels/target_table.h>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "unroll/core/kernels/optimizer.cpp"
#include <hwy/foreach_target.h>  // must come before the others
#include <unroll/core/kernels/simd-inl.h>

#ifndef UNROLL_OPTIMIZER_STEPS
#define UNROLL_OPTIMIZER_STEPS
namespace unroll::kernels {
// The steps of one target.
template <class T>
struct OptimizerSteps {
  void (*sgd)(T* p, T* buffer, const T* grad, std::int64_t n, const SGDStep<T>& step, bool first);
  void (*adam)(T* p, T* m, T* v, T* greatest, const T* grad, std::int64_t n, const AdamStep<T>& step);
};
}  // namespace unroll::kernels
#endif

HWY_BEFORE_NAMESPACE();
namespace unroll::kernels::HWY_NAMESPACE {

// a·b + c. In float it is rounded once, as PyTorch's kernels for AVX2 round it, or where no instruction does that, by
// way of double, in which a·b is exact: the second rounding makes another float of one sum in 2·10⁷, and costs far less
// than std::fma does there. In double it is rounded twice: the difference is below what is compared.
template <class D, class V = hn::Vec<D>, class T = hn::TFromD<D>>
HWY_INLINE V MulAddOnce([[maybe_unused]] D d, V a, V b, V c) {
  if constexpr (sizeof(T) == 8) return hn::Add(hn::Mul(a, b), c);
#if HWY_NATIVE_FMA
  return hn::MulAdd(a, b, c);
#else
  HWY_ALIGN T x[hn::MaxLanes(d)], y[hn::MaxLanes(d)], z[hn::MaxLanes(d)];
  hn::Store(a, d, x);
  hn::Store(b, d, y);
  hn::Store(c, d, z);
  for (std::size_t i = 0; i < hn::Lanes(d); ++i) z[i] = static_cast<T>(double{x[i]} * double{y[i]} + double{z[i]});
  return hn::Load(d, z);
#endif
}

template <class D>
struct Gradient {
  D d;
  hn::Vec<D> sign, decay;
  bool decays;

  template <class Step>
  explicit Gradient(const Step& s) : sign(hn::Set(d, s.sign)), decay(hn::Set(d, s.decay)), decays(s.decay != 0) {}
  HWY_INLINE hn::Vec<D> of(hn::Vec<D> p, hn::Vec<D> grad) const {
    const auto g = hn::Mul(sign, grad);
    return decays ? MulAddOnce(d, decay, p, g) : g;
  }
};

template <class T>
void sgd_step(T* p, T* buffer, const T* grad, std::int64_t n, const SGDStep<T>& s, bool first) {
  const Full<T> d;
  const auto down = hn::Set(d, -s.lr), momentum = hn::Set(d, s.momentum), kept = hn::Set(d, s.kept);
  const Gradient<Full<T>> gradient(s);
  for_parts(d, n, [&](std::int64_t i, std::int64_t rest) HWY_ATTR {
    const auto at = load_part(d, p + i, rest), g = gradient.of(at, load_part(d, grad + i, rest));
    auto direction = g;
    if (buffer != nullptr) {
      if (!first) direction = MulAddOnce(d, kept, g, hn::Mul(momentum, load_part(d, buffer + i, rest)));
      store_part(direction, d, buffer + i, rest);
      if (s.nesterov) direction = MulAddOnce(d, momentum, direction, g);
    }
    store_part(MulAddOnce(d, down, direction, at), d, p + i, rest);
  });
}

template <class T>
void adam_step(T* p, T* m, T* v, T* greatest, const T* grad, std::int64_t n, const AdamStep<T>& s) {
  const Full<T> d;
  const auto beta1 = hn::Set(d, s.beta1), kept1 = hn::Set(d, s.kept1), beta2 = hn::Set(d, s.beta2),
             kept2 = hn::Set(d, s.kept2), rate = hn::Set(d, s.rate), root = hn::Set(d, s.root), eps = hn::Set(d, s.eps),
             shrink = hn::Set(d, s.shrink);
  const Gradient<Full<T>> gradient(s);
  for_parts(d, n, [&](std::int64_t i, std::int64_t rest) HWY_ATTR {
    const auto at = load_part(d, p + i, rest), g = gradient.of(at, load_part(d, grad + i, rest));
    const auto mean = MulAddOnce(d, kept1, g, hn::Mul(beta1, load_part(d, m + i, rest)));
    auto square = MulAddOnce(d, hn::Mul(kept2, g), g, hn::Mul(beta2, load_part(d, v + i, rest)));
    store_part(mean, d, m + i, rest);
    store_part(square, d, v + i, rest);
    if (greatest != nullptr) {
      const auto before = load_part(d, greatest + i, rest);
      square = hn::IfThenElse(hn::Lt(square, before), before, square);
      store_part(square, d, greatest + i, rest);
    }
    const auto size = hn::Add(hn::Div(hn::Sqrt(square), root), eps);
    store_part(hn::Sub(hn::Mul(shrink, at), hn::Div(hn::Mul(rate, mean), size)), d, p + i, rest);
  });
}

template <class T>
constexpr OptimizerSteps<T> kOptimizerSteps = {sgd_step<T>, adam_step<T>};

}  // namespace unroll::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace unroll::kernels {

UNROLL_CHOOSE_TABLE(OptimizerSteps)

template <class T>
void sgd(T* p, T* buffer, const T* grad, std::int64_t n, const SGDStep<T>& step, bool first) {
  in_parts(n, [&](std::int64_t i, std::int64_t count) {
    chosen_OptimizerSteps<T>().sgd(p + i, buffer != nullptr ? buffer + i : nullptr, grad + i, count, step, first);
  });
}
template <class T>
void adam(T* p, T* m, T* v, T* greatest, const T* grad, std::int64_t n, const AdamStep<T>& step) {
  in_parts(n, [&](std::int64_t i, std::int64_t count) {
    chosen_OptimizerSteps<T>().adam(p + i, m + i, v + i, greatest != nullptr ? greatest + i : nullptr, grad + i, count,
                                    step);
  });
}

template void sgd(float*, float*, const float*, std::int64_t, const SGDStep<float>&, bool);
template void sgd(double*, double*, const double*, std::int64_t, const SGDStep<double>&, bool);
template void adam(float*, float*, float*, float*, const float*, std::int64_t, const AdamStep<float>&);
template void adam(double*, double*, double*, double*, const double*, std::int64_t, const AdamStep<double>&);

}  // namespace unroll::kernels
#endif
