// Matrix products of the shapes that recurrent layers multiply, by the library's matmul and linear.
#include <benchmark/benchmark.h>
#include <unroll/unroll.h>

namespace {

using namespace unroll;

void count_flops(benchmark::State& state, std::int64_t n, std::int64_t m, std::int64_t k) {
  state.counters["flops"] =
      benchmark::Counter(2.0 * static_cast<double>(n * m * k), benchmark::Counter::kIsIterationInvariantRate);
}

template <DType D>
void square(benchmark::State& state) {
  NoGrad unrecorded;
  const std::int64_t n = state.range(0);
  const Tensor a = rand({n, n}, D), b = rand({n, n}, D);
  for (auto _ : state) benchmark::DoNotOptimize(matmul(a, b));
  count_flops(state, n, n, n);
}
BENCHMARK(square<DType::Float32>)->Name("square/float32")->Arg(8)->Arg(64)->Arg(256)->Arg(1024);
BENCHMARK(square<DType::Float64>)->Name("square/float64")->Arg(64)->Arg(256);

/// h W_hhᵀ: (N, H)·(H, 4H), the product of every step.
void recurrent(benchmark::State& state) {
  NoGrad unrecorded;
  const std::int64_t n = state.range(0), h = state.range(1);
  const Tensor x = rand({n, h}), weight = rand({4 * h, h});
  for (auto _ : state) benchmark::DoNotOptimize(linear(x, weight));
  count_flops(state, n, 4 * h, h);
}
BENCHMARK(recurrent)
    ->ArgNames({"N", "H"})
    ->Args({1, 8})
    ->Args({16, 32})
    ->Args({32, 128})
    ->Args({32, 256})
    ->Args({64, 512});

/// dGᵀ h: (4H, TN)·(TN, H), the gradient of the weights over all steps at once.
void weight_gradient(benchmark::State& state) {
  NoGrad unrecorded;
  const std::int64_t rows = state.range(0), h = state.range(1);
  const Tensor gates = rand({rows, 4 * h}), x = rand({rows, h});
  for (auto _ : state) benchmark::DoNotOptimize(matmul(t(gates), x));
  count_flops(state, rows, 4 * h, h);
}
BENCHMARK(weight_gradient)->ArgNames({"TN", "H"})->Args({800, 32})->Args({3200, 128})->Args({3200, 256});

}  // namespace
