// Measures one training step of a recurrent module and prints one line of JSON.
#include <fmt/core.h>
#include <unroll/core/alloc.h>
#include <unroll/core/parallel.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <atomic>
#include <cstdio>
#include <limits>
#include <stdexcept>

#include "train_step/config.h"
#include "train_step/peak.h"
#include "train_step/timer.h"
#include "train_step/workload.h"

namespace {

using namespace bench;

/// The most bytes that tensors and graphs held at any moment of a step, weights and data included.
std::int64_t peak_bytes(Workload& workload) {
  static std::atomic<std::int64_t> peak;
  peak = 0;
  unroll::alloc::set_hook([](std::size_t bytes) noexcept {
    const std::int64_t live = unroll::alloc::counters().live_bytes + static_cast<std::int64_t>(bytes);
    std::int64_t before = peak.load();
    while (before < live && !peak.compare_exchange_weak(before, live)) {}
    return true;
  });
  workload.step();
  unroll::alloc::set_hook(nullptr);
  return peak;
}

/// Each repetition's time: for `seconds`, and at least five of them.
std::vector<double> repeat(Workload& workload, double seconds) {
  std::vector<double> times;
  const Timer whole;
  do {
    const Timer timer;
    workload.step();
    times.push_back(timer.seconds());
  } while (times.size() < 5 || whole.seconds() < seconds);
  return times;
}

void run(const Config& config) {
  unroll::set_num_threads(config.threads);
  Workload workload(config);
  workload.step();  // warms up: memory, caches, threads
  const std::int64_t bytes = peak_bytes(workload);

  std::vector<double> times = repeat(workload, config.seconds);

  // Afterwards: what small nets do not ask for, a second thread, would make all that is counted atomic. And twice,
  // since others may use the machine.
  const double peak_time = std::min(0.1, config.seconds);
  double fma_peak = 0, gemm_peak = 0;
  for (int again = 0; again < 2; ++again) {
    fma_peak = std::max(fma_peak, fma_peak_gflops(config.dtype, config.threads, peak_time));
    gemm_peak = std::max(gemm_peak, gemm_peak_gflops(config.dtype, peak_time));
  }

  std::ranges::sort(times);
  fmt::print(
      "{{\"module\": \"{}\", \"threads\": {}, \"repetitions\": {}, \"min_seconds\": {:.9f}, \"median_seconds\": "
      "{:.9f}, "
      "\"gflops\": {:.3f}, \"fma_peak_gflops\": {:.2f}, \"gemm_peak_gflops\": {:.2f}, \"peak_bytes\": {}}}\n",
      config.module, config.threads, times.size(), times.front(), times[times.size() / 2],
      needed_flops(config) / times.front() * 1e-9, fma_peak, gemm_peak, bytes);
}

const CLI::Range kSize(1, std::numeric_limits<int>::max());

}  // namespace

int main(int argc, char** argv) {
  Config config;
  std::string dtype = "float32", memory = "keep";
  CLI::App app("Measures a training step: forward, a weighted sum of outputs as the loss, backward, and SGD.");
  app.add_option("--module", config.module, "the layer, or the cell that is stepped in a loop, or a chain of ops")
      ->check(CLI::IsMember({"RNN", "LSTM", "GRU", "RNNCell", "LSTMCell", "GRUCell", "MGU", "Tanh", "Mul"}))
      ->capture_default_str();
  for (auto [name, size, what] : {std::tuple{"--seq-len", &config.seq_len, "T, or how many ops"},
                                  std::tuple{"--batch", &config.batch, "N, or the rows of what an op reads"},
                                  std::tuple{"--input-size", &config.input_size, "I"},
                                  std::tuple{"--hidden-size", &config.hidden_size, "H, or the columns"},
                                  std::tuple{"--num-layers", &config.num_layers, "L"}})
    app.add_option(name, *size, what)->check(kSize)->capture_default_str();
  app.add_option("--proj-size", config.proj_size, "P, of an LSTM")->check(CLI::NonNegativeNumber);
  app.add_flag("--bidirectional", config.bidirectional);
  app.add_flag("--packed", config.packed, "lengths that fall evenly from T to T/4");
  app.add_flag("--input-grad", config.input_grad, "x needs a gradient");
  app.add_flag("--forward-only", config.forward_only, "no gradient, no loss, no SGD");
  app.add_option("--threads", config.threads)->check(kSize)->capture_default_str();
  app.add_option("--dtype", dtype)->check(CLI::IsMember({"float32", "float64"}))->capture_default_str();
  app.add_option("--memory", memory, "what a layer keeps for backward")
      ->check(CLI::IsMember({"keep", "recompute", "checkpoint"}))
      ->capture_default_str();
  app.add_option("--seconds", config.seconds, "how long to repeat; at least five times")
      ->check(CLI::NonNegativeNumber)
      ->capture_default_str();
  CLI11_PARSE(app, argc, argv);
  if (dtype == "float64") config.dtype = unroll::DType::Float64;
  if (memory == "recompute") config.memory = unroll::nn::Memory::RecomputeGates;
  if (memory == "checkpoint") config.memory = unroll::nn::Memory::Checkpoint;
  try {
    run(config);
    if (std::fflush(stdout) != 0) throw std::runtime_error("cannot write what was measured");
  } catch (const std::exception& error) {
    std::fprintf(stderr, "train_step: %s\n", error.what());
    return 1;
  }
}
