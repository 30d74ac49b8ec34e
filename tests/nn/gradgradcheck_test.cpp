#include <doctest/doctest.h>
#include <unroll/autograd/function.h>
#include <unroll/autograd/ops/activation.h>
#include <unroll/nn/gradcheck.h>
#include <unroll/nn/layer_norm.h>
#include <unroll/nn/linear.h>
#include <unroll/nn/lstm.h>

using namespace unroll;

namespace {
// σ(x)², whose backward takes σ(x) for a constant: the first derivative is right, the second is not.
struct SquaredSigmoid : Function<SquaredSigmoid> {
  static Tensor forward(FunctionContext& ctx, const Tensor& x) {
    const Tensor s = sigmoid(x);
    ctx.save_for_backward({s});
    return s * s;
  }
  static std::vector<Tensor> backward(FunctionContext& ctx, const Tensor& g) {
    const Tensor& s = ctx.saved(0);
    return {g * 2 * s * s * (1 - s)};
  }
};

struct Gated : nn::Module {
  nn::Linear linear;
  bool right;
  explicit Gated(bool right_) : linear(3, 2), right(right_) { add("linear", linear); }
  Tensor operator()(const Tensor& x) const {
    const Tensor y = linear(x);
    return right ? square(sigmoid(y)) : SquaredSigmoid::apply(y);
  }
};
}  // namespace

TEST_CASE("gradgradcheck of modules: right ones, with states, without, and what one computes with a module") {
  manual_seed(0);
  const nn::LSTM lstm(2, 3, {.num_layers = 2, .bidirectional = true});
  CHECK(nn::gradgradcheck(lstm, randn({2, 2, 2})));
  CHECK(nn::gradgradcheck(nn::LSTMCell(2, 3), randn({2, 2}), {randn({2, 3}), randn({2, 3})}));
  CHECK(nn::gradgradcheck(Gated(true), randn({2, 3})));
  const nn::LayerNorm norm(4);
  CHECK(nn::gradgradcheck(norm, [&](const std::vector<Tensor>& in) { return norm(in[0] * in[1]); },
                          {randn({3, 4}), randn({4})}));
}

TEST_CASE("gradgradcheck of modules: finds a second derivative that is wrong where the first is right") {
  manual_seed(0);
  const Gated wrong(false);
  const Tensor x = randn({2, 3});
  CHECK(nn::gradcheck(wrong, x));
  CHECK_FALSE(nn::gradgradcheck(wrong, x, {.raise_exception = false}));
  CHECK_THROWS_WITH_AS(nn::gradgradcheck(wrong, x), doctest::Contains("linear.weight"), GradcheckError);
}
