#include "train_step/peak.h"

#include <algorithm>
#include <barrier>
#include <cstdint>
#include <thread>
#include <vector>

#include "train_step/timer.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "train_step/peak.cpp"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

HWY_BEFORE_NAMESPACE();
namespace bench {
namespace HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;

constexpr int kChains = 12;  // more than 4 cycles of latency times 2 units, fewer than 16 registers

/// Runs `rounds` times kChains multiply-adds that depend on nothing but their own last one, and returns how many
/// operations that were. `sink` takes the sum, for otherwise there would be nothing to compute.
template <class T>
double multiply_add(std::int64_t rounds, T& sink) {
  const hn::ScalableTag<T> d;
  const auto a = hn::Set(d, sink), b = hn::Set(d, T(0.5));
  // Each starts elsewhere: equal chains would be one to the compiler.
  auto start = [&](int chain) { return hn::Set(d, sink + static_cast<T>(chain)); };
  auto c0 = start(0), c1 = start(1), c2 = start(2), c3 = start(3), c4 = start(4), c5 = start(5);
  auto c6 = start(6), c7 = start(7), c8 = start(8), c9 = start(9), c10 = start(10), c11 = start(11);
  for (std::int64_t i = 0; i < rounds; ++i) {
    c0 = hn::MulAdd(c0, b, a), c1 = hn::MulAdd(c1, b, a), c2 = hn::MulAdd(c2, b, a), c3 = hn::MulAdd(c3, b, a);
    c4 = hn::MulAdd(c4, b, a), c5 = hn::MulAdd(c5, b, a), c6 = hn::MulAdd(c6, b, a), c7 = hn::MulAdd(c7, b, a);
    c8 = hn::MulAdd(c8, b, a), c9 = hn::MulAdd(c9, b, a), c10 = hn::MulAdd(c10, b, a), c11 = hn::MulAdd(c11, b, a);
  }
  const auto low = hn::Add(hn::Add(hn::Add(c0, c1), hn::Add(c2, c3)), hn::Add(c4, c5));
  const auto high = hn::Add(hn::Add(hn::Add(c6, c7), hn::Add(c8, c9)), hn::Add(c10, c11));
  sink = hn::GetLane(hn::Add(low, high));
  return 2.0 * kChains * static_cast<double>(rounds) * static_cast<double>(hn::Lanes(d));
}

double multiply_add_f32(std::int64_t rounds, float& sink) { return multiply_add(rounds, sink); }
double multiply_add_f64(std::int64_t rounds, double& sink) { return multiply_add(rounds, sink); }

}  // namespace HWY_NAMESPACE
}  // namespace bench
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
#include <unroll/autograd/grad_mode.h>
#include <unroll/autograd/ops/matmul.h>
#include <unroll/core/random.h>

namespace bench {

HWY_EXPORT(multiply_add_f32);
HWY_EXPORT(multiply_add_f64);

namespace {

double multiply_add(std::int64_t rounds, float& sink) { return HWY_DYNAMIC_DISPATCH(multiply_add_f32)(rounds, sink); }
double multiply_add(std::int64_t rounds, double& sink) { return HWY_DYNAMIC_DISPATCH(multiply_add_f64)(rounds, sink); }

/// The best speed of one thread while all of them run.
template <class T>
double best_rate(std::barrier<>& together, int tries) {
  constexpr std::int64_t kRounds = 100'000;  // 0.2 ms
  double best = 0;
  T sink = 1;
  for (int i = 0; i < tries; ++i) {
    together.arrive_and_wait();
    Timer timer;
    const double flops = multiply_add(kRounds, sink);
    best = std::max(best, flops / timer.seconds());
    sink = 1;
  }
  return best;
}

}  // namespace

double fma_peak_gflops(unroll::DType dtype, int threads, double seconds) {
  const int tries = std::max(3, static_cast<int>(seconds / 2e-4));
  std::barrier together(threads);
  std::vector<double> rates(static_cast<std::size_t>(threads));
  std::vector<std::jthread> others;
  auto measure = [&](double& rate) {
    rate = dtype == unroll::DType::Float32 ? best_rate<float>(together, tries) : best_rate<double>(together, tries);
  };
  for (std::size_t i = 1; i < rates.size(); ++i) others.emplace_back(measure, std::ref(rates[i]));
  measure(rates[0]);
  others.clear();  // joins
  double sum = 0;
  for (double rate : rates) sum += rate;
  return sum * 1e-9;
}

double gemm_peak_gflops(unroll::DType dtype, double seconds) {
  unroll::NoGrad unrecorded;
  double best = 0;
  const Timer all;
  for (std::int64_t n : {256, 512, 1024}) {
    if (best > 0 && all.seconds() > seconds) break;
    const unroll::Tensor a = unroll::rand({n, n}, dtype), b = unroll::rand({n, n}, dtype);
    const double flops = 2.0 * static_cast<double>(n) * static_cast<double>(n) * static_cast<double>(n);
    const Timer whole;
    do {
      Timer timer;
      unroll::matmul(a, b);
      best = std::max(best, flops / timer.seconds());
    } while (whole.seconds() < seconds / 3);
  }
  return best * 1e-9;
}

}  // namespace bench
#endif
