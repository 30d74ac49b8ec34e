// Eager ops on few elements: what it costs to check, to allocate, to record and to run backward.
#include <benchmark/benchmark.h>
#include <unroll/unroll.h>

namespace {

using namespace unroll;

Tensor leaf(const Shape& shape) {
  Tensor x = rand(shape);
  x.requires_grad_();
  return x;
}

void unrecorded_mul(benchmark::State& state) {
  NoGrad unrecorded;
  const Tensor a = rand({4, 4}), b = rand({4, 4});
  for (auto _ : state) benchmark::DoNotOptimize(a * b);
}
BENCHMARK(unrecorded_mul);

void recorded_mul(benchmark::State& state) {
  const Tensor a = leaf({4, 4}), b = leaf({4, 4});
  for (auto _ : state) benchmark::DoNotOptimize(a * b);
}
BENCHMARK(recorded_mul);

/// Chains of 100, so that what one backward costs by itself does not count.
template <class F>
void differentiate_chain(benchmark::State& state, const Tensor& x, const F& op) {
  constexpr int kOps = 100;
  const Tensor ones = ones_like(x);
  for (auto _ : state) {
    Tensor y = x;
    for (int i = 0; i < kOps; ++i) y = op(y);
    y.backward({.gradient = ones});
    x.set_grad({});
  }
  state.SetItemsProcessed(state.iterations() * kOps);
}

void differentiated_mul(benchmark::State& state) {
  const Tensor b = ones({4, 4});
  differentiate_chain(state, leaf({4, 4}), [&](const Tensor& y) { return y * b; });
}
BENCHMARK(differentiated_mul);

void differentiated_tanh(benchmark::State& state) {
  differentiate_chain(state, leaf({8, 8}), [](const Tensor& y) { return tanh(y); });
}
BENCHMARK(differentiated_tanh);

void broadcast_add(benchmark::State& state) {
  NoGrad unrecorded;
  const Tensor rows = rand({state.range(0), 128}), bias = rand({128});
  for (auto _ : state) benchmark::DoNotOptimize(rows + bias);
}
BENCHMARK(broadcast_add)->Arg(1)->Arg(32)->Arg(1024);

void sum_of_all(benchmark::State& state) {
  NoGrad unrecorded;
  const Tensor x = rand({state.range(0)});
  for (auto _ : state) benchmark::DoNotOptimize(sum(x));
  state.SetItemsProcessed(state.iterations() * state.range(0));
}
BENCHMARK(sum_of_all)->Arg(64)->Arg(1 << 20);

}  // namespace
