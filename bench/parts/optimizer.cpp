// A step of each optimizer over the parameters of an LSTM, whose gradients are there.
#include <benchmark/benchmark.h>
#include <unroll/unroll.h>

namespace {

using namespace unroll;

template <class O>
void optimizer_step(benchmark::State& state, const O& make) {
  nn::LSTM rnn(state.range(0), state.range(0));
  std::int64_t elements = 0;
  for (const Tensor& p : rnn.parameters()) {
    p.set_grad(randn_like(p.detach()));
    elements += p.numel();
  }
  auto optimizer = make(rnn.parameters());
  for (auto _ : state) optimizer.step();
  state.SetItemsProcessed(state.iterations() * elements);
}

// Steps of almost nothing: many of them must not lead to infinities.
BENCHMARK_CAPTURE(optimizer_step, sgd, [](std::vector<Tensor> p) { return optim::SGD(std::move(p), {.lr = 1e-9}); })
    ->Arg(8)
    ->Arg(128);
BENCHMARK_CAPTURE(optimizer_step, momentum,
                  [](std::vector<Tensor> p) { return optim::SGD(std::move(p), {.lr = 1e-9, .momentum = 0.9}); })
    ->Arg(8)
    ->Arg(128);
BENCHMARK_CAPTURE(optimizer_step, adam, [](std::vector<Tensor> p) { return optim::Adam(std::move(p), {.lr = 1e-9}); })
    ->Arg(8)
    ->Arg(128);

void clip_norm(benchmark::State& state) {
  nn::LSTM rnn(state.range(0), state.range(0));
  for (const Tensor& p : rnn.parameters()) p.set_grad(randn_like(p.detach()));
  for (auto _ : state) nn::clip_grad_norm_(rnn.parameters(), 1e9);
}
BENCHMARK(clip_norm)->Arg(8)->Arg(128);

}  // namespace
