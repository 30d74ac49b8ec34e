// Fit a line to noisy points, then differentiate a derivative: the whole of autograd on one page.
#include <fmt/core.h>
#include <unroll/unroll.h>

#include <CLI/CLI.hpp>
#include <cstdio>

using namespace unroll;

int main(int argc, char** argv) {
  CLI::App app("Fit a line by gradient descent; then take first, second and third derivatives of tanh.");
  std::uint64_t seed = 0;
  bool quick = false;
  app.add_option("--seed", seed, "seed of the noise")->capture_default_str();
  app.add_flag("--quick", quick, "fewer steps");
  CLI11_PARSE(app, argc, argv);
  manual_seed(seed);

  // Points on y = 3x − 1, with noise.
  Tensor x = uniform_(empty({64}), -1, 1);
  Tensor y = 3 * x - 1 + 0.1 * randn({64});

  Tensor slope = zeros({}).requires_grad_();
  Tensor offset = zeros({}).requires_grad_();
  int steps = quick ? 100 : 200;
  for (int step = 0; step <= steps; ++step) {
    Tensor loss = mse_loss(slope * x + offset, y);
    if (step % 50 == 0)
      fmt::print("step {:3}  loss {:.5f}  y = {:.3f} x {:+.3f}\n", step, loss.item(), slope.item(), offset.item());
    loss.backward();  // adds d(loss)/d(slope) to slope.grad(), and so on
    NoGrad guard;     // an update is not part of what is differentiated
    for (const Tensor& parameter : {slope, offset}) {
      parameter.add_(parameter.grad(), -0.1);
      parameter.set_grad({});
    }
  }

  // A gradient is computed by ops too: recorded, it can be differentiated again, any number of times.
  Tensor at = scalar(0.5, DType::Float64).requires_grad_();
  Tensor f = tanh(at);
  for (int order = 0; order <= 3; ++order) {
    fmt::print("tanh{:<3} (0.5) = {:+.12f}\n", std::string(static_cast<std::size_t>(order), '\''), f.item());
    f = grad({f}, {at}, {.create_graph = true})[0];
  }
  double error = std::abs(slope.item() - 3) + std::abs(offset.item() + 1);
  return error < 0.2 && std::fflush(stdout) == 0 ? 0 : 1;
}
