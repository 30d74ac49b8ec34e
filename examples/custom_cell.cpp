// A cell of one's own with a gradient written by hand, wrong at first: what the gradient checker says of it, and the
// cell set right.
#include <fmt/core.h>
#include <unroll/unroll.h>

#include <CLI/CLI.hpp>
#include <cstdio>

using namespace unroll;

namespace {

/// One step of the minimal gated unit (Zhou et al. 2016) as a single op, from the sums a = W x + b (N, 2H), the weights
/// u (2H, H) and the state h (N, H):
///
///     f = σ(a_f + u_f h)    n = tanh(a_n + u_n (f·h))    h' = (1 − f)·h + f·n
struct MGUStep : Function<MGUStep> {
  // f and n are saved, and are neither arguments nor results: a second derivative would take them for constants.
  static constexpr bool once_differentiable = true;
  struct Context : FunctionContext {
    bool right;
  };

  static Tensor forward(Context& ctx, const Tensor& a, const Tensor& u, const Tensor& h, bool right) {
    std::vector<Tensor> sums = chunk(a, 2, 1), weights = chunk(u, 2);
    Tensor f = sigmoid(sums[0] + linear(h, weights[0]));
    Tensor n = tanh(sums[1] + linear(f * h, weights[1]));
    ctx.right = right;
    ctx.save_for_backward({u, h, f, n});
    return h + f * (n - h);
  }

  static std::vector<Tensor> backward(Context& ctx, const Tensor& g) {
    const Tensor &u = ctx.saved(0), &h = ctx.saved(1), &f = ctx.saved(2), &n = ctx.saved(3);
    std::vector<Tensor> weights = chunk(u, 2);
    Tensor da_n = g * f * (1 - n * n);      // forward was n = tanh a_n, h' = … + f·n
    Tensor dfh = matmul(da_n, weights[1]);  // … a_n = … + u_n (f·h)
    Tensor df = g * (n - h);                // … h' = h + f·(n − h)
    if (ctx.right) df = df + dfh * h;       // f meets h a second time, inside the tanh: easily forgotten
    Tensor da_f = df * f * (1 - f);         // … f = σ(a_f)
    Tensor dh = g * (1 - f) + dfh * f + matmul(da_f, weights[0]);
    Tensor du = cat({matmul(t(da_f), h), matmul(t(da_n), f * h)});
    return {cat({da_f, da_n}, 1), du, dh, {}};
  }
};

struct MGUCell : nn::Module {
  using State = Tensor;
  static constexpr const char* kLayer = "mgu";
  static constexpr std::array kGates = {"f", "n"};  // the blocks of rows of the parameters

  MGUCell(std::int64_t in, std::int64_t hidden, bool right_)
      : right(right_), weight_ih(empty({2 * hidden, in})), weight_hh(empty({2 * hidden, hidden})),
        bias(empty(2 * hidden)) {
    add("weight_ih", weight_ih);
    add("weight_hh", weight_hh);
    add("bias", bias);
    for (const Tensor& p : parameters()) uniform_(p.detach(), -0.5, 0.5);
  }
  Tensor operator()(const Tensor& x, const Tensor& h) const {
    return MGUStep::apply(linear(x, weight_ih, bias), weight_hh, h, right);
  }

  bool right;
  Tensor weight_ih, weight_hh, bias;
};

/// Checks the cell by itself, then layers of it in time. Whether nothing is found.
bool report(bool right) {
  const MGUCell cell(3, 4, right);
  GradcheckReport found = nn::gradcheck_report(cell, randn({3, 3}), randn({3, 4}));
  fmt::print("{}\n", to_string(found));
  const nn::Recurrent<MGUCell> rnn(3, 4, {.num_layers = 2, .bidirectional = true}, right);
  GradcheckTimeProfile profile = nn::gradcheck_time(rnn, randn({4, 3, 3}));
  fmt::print("{}\n", to_string(profile));
  return found.ok() && profile.ok() && nn::gradcheck(rnn, randn({4, 3, 3}), {}, {.raise_exception = false});
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app("A cell with a hand-written gradient, wrong and right, before the gradient checker.");
  std::uint64_t seed = 0;
  bool quick = false;
  app.add_option("--seed", seed, "of weights and data")->capture_default_str();
  app.add_flag("--quick", quick, "the same: there is nothing to shorten");
  CLI11_PARSE(app, argc, argv);
  manual_seed(seed);

  fmt::print("--- the cell as first written\n\n");
  const bool wrong_passes = report(false);
  fmt::print("--- with f's second path\n\n");
  const bool right_passes = report(true);
  return !wrong_passes && right_passes && std::fflush(stdout) == 0 ? 0 : 1;
}
