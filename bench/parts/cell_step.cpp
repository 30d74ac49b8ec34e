// One step of each cell at N rows and H = I features, forward alone, and recorded and differentiated.
#include <benchmark/benchmark.h>
#include <unroll/unroll.h>

namespace {

using namespace unroll;

template <class Cell>
void forward_step(benchmark::State& state) {
  NoGrad unrecorded;
  const std::int64_t n = state.range(0), h = state.range(1);
  const Cell cell(h, h);
  const Tensor x = randn({n, h});
  typename Cell::State s = cell(x);
  for (auto _ : state) benchmark::DoNotOptimize(cell(x, s));
}

template <class Cell>
void differentiated_step(benchmark::State& state) {
  const std::int64_t n = state.range(0), h = state.range(1);
  Cell cell(h, h);
  const Tensor x = randn({n, h}), weight = randn({n, h});
  for (auto _ : state) {
    nn::output_of(cell(x)).backward({.gradient = weight});
    cell.zero_grad();
  }
}

void sizes(benchmark::internal::Benchmark* b) {
  b->ArgNames({"N", "H"})->Args({1, 8})->Args({16, 32})->Args({32, 128})->Args({32, 256});
}
BENCHMARK(forward_step<nn::RNNCell>)->Apply(sizes);
BENCHMARK(forward_step<nn::LSTMCell>)->Apply(sizes);
BENCHMARK(forward_step<nn::GRUCell>)->Apply(sizes);
BENCHMARK(differentiated_step<nn::RNNCell>)->Apply(sizes);
BENCHMARK(differentiated_step<nn::LSTMCell>)->Apply(sizes);
BENCHMARK(differentiated_step<nn::GRUCell>)->Apply(sizes);

}  // namespace
