#include "support/gradients.h"

#include <unroll/autograd/engine.h>
#include <unroll/autograd/function.h>
#include <unroll/autograd/grad_mode.h>
#include <unroll/autograd/ops/arithmetic.h>
#include <unroll/autograd/ops/reduce.h>

#include <cmath>

// What a Function returns, forward and backward, and whose tensors it may touch.

using namespace unroll;

using Tensors = std::vector<Tensor>;

namespace {
// Its second argument, as it came.
struct Second : Function<Second> {
  static Tensor forward(FunctionContext&, const Tensor&, const Tensor& b) { return b; }
  static Tensors backward(FunctionContext&, const Tensor& g) { return {g * 2, g}; }
};
}  // namespace

TEST_CASE("function: a constant argument that is returned gets no history itself") {
  Tensor x = leaf({1, 2}), constant = tensor({3, 4}, DType::Float64);
  Tensor y = Second::apply(x, constant);
  CHECK(y.requires_grad());
  CHECK_FALSE(y.is_same(constant));
  CHECK_FALSE(constant.requires_grad());
  CHECK(of(grad({sum(y)}, {x})[0]) == Values{2, 2});
}

namespace {
// eˣ, whose backward looks at its output without a record first.
struct Peeking : Function<Peeking> {
  static Tensor forward(FunctionContext& ctx, const Tensor& x) {
    Tensor y = exp(x);
    ctx.save_for_backward({y});
    return y;
  }
  static Tensors backward(FunctionContext& ctx, const Tensor& g) {
    {
      NoGrad guard;
      CHECK(ctx.saved(0).numel() == 2);
    }
    return {g * ctx.saved(0)};
  }
};

// A tensor and its place in order, which is no number to differentiate.
struct WithIndex : Function<WithIndex> {
  static Tensors forward(FunctionContext&, const Tensor& x) { return {x * 2, arange(2)}; }
  static Tensors backward(FunctionContext&, Gradients g) { return {g[0] * 2}; }
};
}  // namespace

TEST_CASE("function: an output that backward has read under NoGrad is differentiated all the same") {
  Tensor x = leaf({0, 1}), y = Peeking::apply(x);
  Tensor dx = grad({sum(y)}, {x}, {.create_graph = true})[0];
  CHECK(near(grad({sum(dx)}, {x})[0], {1, std::exp(1.0)}));
}

TEST_CASE("function: a result of integers has no history") {
  Tensors y = WithIndex::apply(leaf({1, 2}));
  CHECK(y[0].requires_grad());
  CHECK_FALSE(y[1].requires_grad());
  CHECK(y[1].is_leaf());
}

namespace {
struct OnceUnchanged : Function<OnceUnchanged> {
  static constexpr bool once_differentiable = true;
  static Tensor forward(FunctionContext&, const Tensor& x) { return x * 1; }
  static Tensors backward(FunctionContext&, const Tensor& g) { return {g}; }
};
}  // namespace

TEST_CASE("function: once_differentiable marks the gradient that it returns, not the caller's that it is") {
  Tensor x = leaf({1, 2}), v = ones(2, DType::Float64);
  Tensor dx = grad({OnceUnchanged::apply(x)}, {x}, {.grad_outputs = {v}, .create_graph = true})[0];
  CHECK(dx.requires_grad());
  CHECK_FALSE(v.requires_grad());
}
