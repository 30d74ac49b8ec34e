// The nonlinearities of the gates, forward alone.
#include <benchmark/benchmark.h>
#include <unroll/unroll.h>

namespace {

using namespace unroll;

template <Tensor (*F)(const Tensor&), DType D>
void activation(benchmark::State& state) {
  NoGrad unrecorded;
  const Tensor x = randn({state.range(0)}, D);
  for (auto _ : state) benchmark::DoNotOptimize(F(x));
  state.SetItemsProcessed(state.iterations() * state.range(0));
}
BENCHMARK(activation<tanh, DType::Float32>)->Name("tanh/float32")->Arg(64)->Arg(4096)->Arg(1 << 20);
BENCHMARK(activation<sigmoid, DType::Float32>)->Name("sigmoid/float32")->Arg(64)->Arg(4096)->Arg(1 << 20);
BENCHMARK(activation<exp, DType::Float32>)->Name("exp/float32")->Arg(64)->Arg(4096)->Arg(1 << 20);
BENCHMARK(activation<tanh, DType::Float64>)->Name("tanh/float64")->Arg(4096);
BENCHMARK(activation<sigmoid, DType::Float64>)->Name("sigmoid/float64")->Arg(4096);

}  // namespace
