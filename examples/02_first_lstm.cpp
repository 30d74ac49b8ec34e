// Teach an LSTM to add: it reads random numbers and a marker one step at a time and is to name the sum of the two that
// were marked.
#include <fmt/core.h>
#include <unroll/unroll.h>

#include <CLI/CLI.hpp>
#include <cstdio>

using namespace unroll;

struct Adder : nn::Module {
  nn::LSTM rnn;
  nn::Linear head;
  explicit Adder(std::int64_t hidden) : rnn(2, hidden), head(hidden, 1) {
    add("rnn", rnn);
    add("head", head);
  }
  Tensor operator()(const Tensor& x) const {         // (T, N, 2)
    auto [output, state] = rnn(x);                   // (T, N, H)
    return squeeze(head(select(output, 0, -1)), 1);  // (N)
  }
};

int main(int argc, char** argv) {
  CLI::App app("The adding problem: always answering 1 has a mean squared error of 1/6.");
  std::uint64_t seed = 0;
  bool quick = false;
  app.add_option("--seed", seed, "seed of weights and data")->capture_default_str();
  app.add_flag("--quick", quick, "a short sequence and fewer steps");
  CLI11_PARSE(app, argc, argv);
  manual_seed(seed);
  const std::int64_t T = quick ? 6 : 20, N = 64, steps = quick ? 400 : 2000;

  Adder model(32);
  optim::Adam optimizer(model.parameters(), {.lr = 5e-3});
  double average = 1. / 6;
  for (std::int64_t step = 1; step <= steps; ++step) {
    // One mark in each half of the sequence.
    Tensor numbers = rand({T, N}), marks = zeros({T, N});
    for (std::int64_t half = 0; half < 2; ++half) {
      Tensor at = randint(half * T / 2, (half + 1) * T / 2, {1, N});
      marks.add_(eq(unsqueeze(arange(T), 1), at).to(DType::Float32));
    }
    Tensor loss = mse_loss(model(stack({numbers, marks}, 2)), sum(numbers * marks, 0));
    optimizer.zero_grad();
    loss.backward();
    nn::clip_grad_norm_(model.parameters(), 1.0);
    optimizer.step();
    average += 0.02 * (loss.item() - average);
    if (step % (steps / 10) == 0)
      fmt::print("step {:4}  mean squared error {:.5f}  (always 1: {:.5f})\n", step, average, 1. / 6);
  }
  return average < (quick ? 0.1 : 0.02) && std::fflush(stdout) == 0 ? 0 : 1;
}
