#include "support/gradients.h"
#include "support/memory.h"
#include "support/raises.h"

#include <doctest/doctest.h>
#include <unroll/autograd/engine.h>
#include <unroll/autograd/functional.h>
#include <unroll/autograd/grad_mode.h>
#include <unroll/autograd/hooks.h>
#include <unroll/autograd/ops/activation.h>
#include <unroll/autograd/ops/arithmetic.h>
#include <unroll/autograd/ops/matmul.h>
#include <unroll/autograd/ops/normalize.h>
#include <unroll/autograd/ops/reduce.h>
#include <unroll/nn/linear.h>
#include <unroll/nn/lstm.h>

using namespace unroll;

namespace {

using T = const Tensor&;
using Tensors = std::vector<Tensor>;

Tensor values(std::initializer_list<double> list) { return tensor(list, DType::Float64); }

// Two inputs (2) and (2, 3), two outputs: a·w (3) and |a|² ().
Tensors two(const Tensors& in) { return {matmul(in[0], in[1]), sum(in[0] * in[0])}; }

Tensor cubic(T x) { return sum(x * x * x); }

Tensor bilinear(const Tensors& in) { return sum(in[0] * in[0] * in[1]); }

// An LSTM's output at all steps, a function of x (T, N, I).
struct Sequence {
  nn::LSTM lstm{2, 3, {.num_layers = 2, .bidirectional = true, .dtype = DType::Float64}};
  Tensor operator()(T x) const { return lstm(x).output; }
};

}  // namespace

TEST_CASE("jacobian: its shape is the output's and then the input's") {
  Tensor x = values({1, 2, 3});
  Tensor J = jacobian([](T a) { return unsqueeze(a * a, 0); }, x);
  CHECK(J.shape() == Shape{1, 3, 3});
  CHECK(near(J, {2, 0, 0, 0, 4, 0, 0, 0, 6}));
  CHECK(near(jacobian([](T a) { return sum(a * a); }, x), {2, 4, 6}));
  CHECK(near(jacobian([](T a) { return exp(a); }, scalar(0, DType::Float64)), {1}));
  CHECK(jacobian([](T a) { return exp(a); }, scalar(0, DType::Float64)).shape() == Shape{});
}

TEST_CASE("jacobian: of several outputs by several inputs") {
  Tensor a = values({1, 2}), w = reshape(values({1, 2, 3, 4, 5, 6}), {2, 3});
  std::vector<Tensors> J = jacobian(two, {a, w});
  REQUIRE(J.size() == 2);
  REQUIRE(J[0].size() == 2);
  CHECK(J[0][0].shape() == Shape{3, 2});
  CHECK(near(J[0][0], {1, 4, 2, 5, 3, 6}));
  CHECK(J[0][1].shape() == Shape{3, 2, 3});
  CHECK(near(J[0][1], {1, 0, 0, 2, 0, 0, 0, 1, 0, 0, 2, 0, 0, 0, 1, 0, 0, 2}));
  CHECK(near(J[1][0], {2, 4}));
  CHECK(J[1][1].shape() == Shape{2, 3});
  CHECK(near(J[1][1], {0, 0, 0, 0, 0, 0}));

  Tensors by_input = jacobian([](const Tensors& in) { return in[0] * in[1]; }, {a, a});
  CHECK(near(by_input[0], {1, 0, 0, 2}));
  Tensors by_output = jacobian([](T x) { return Tensors{x, x * 2}; }, a);
  CHECK(near(by_output[1], {2, 0, 0, 2}));
  Tensors of_span = jacobian([](std::span<const Tensor> in) { return in[0]; }, {a});
  CHECK(near(of_span[0], {1, 0, 0, 1}));
}

TEST_CASE("jacobian: strided and empty inputs, an output that is the input, one that is no floating tensor") {
  Tensor x = transpose(reshape(values({1, 2, 3, 4}), {2, 2}), 0, 1);
  CHECK(near(jacobian([](T a) { return sum(a * a, 1); }, x), {2, 6, 0, 0, 0, 0, 4, 8}));
  CHECK(jacobian([](T a) { return a * a; }, zeros({0, 2}, DType::Float64)).shape() == Shape{0, 2, 0, 2});
  CHECK(jacobian([](T a) { return sum(a); }, zeros({0, 2}, DType::Float64)).shape() == Shape{0, 2});
  CHECK(near(jacobian([](T a) { return a; }, values({5, 6})), {1, 0, 0, 1}));
  Tensors J = jacobian([](T a) { return Tensors{a, argmax(a)}; }, values({5, 6}));
  CHECK(J[1].dtype() == DType::Float64);
  CHECK(near(J[1], {0, 0}));
  CHECK(jacobian([](T a) { return a * 2; }, ones(2)).dtype() == DType::Float32);
}

TEST_CASE("jacobian: a module is a function, too") {
  nn::Linear layer(3, 2, {.dtype = DType::Float64});
  CHECK(equal(jacobian(layer, ones(3, DType::Float64)), layer.weight));
}

TEST_CASE("functional: what a function reaches in other ways is constant, and no grad() is touched") {
  Tensor x = leaf({1, 2, 3});
  x.set_grad(ones_like(x));
  CHECK(near(jacobian([&](T a) { return sum(a * x); }, x), {1, 2, 3}));
  CHECK(near(vjp([&](T a) { return sum(a * x); }, x).product, {1, 2, 3}));
  CHECK(near(x.grad(), {1, 1, 1}));
}

TEST_CASE("jacobian of what has been computed: gradients of single samples") {
  Generator generator(3);
  nn::Linear layer(3, 2, {.dtype = DType::Float64});
  Tensor x = randn({4, 3}, DType::Float64, generator);
  auto loss = [&](T rows) { return sum(square(layer(rows)), -1); };
  Tensors g = jacobian(loss(x), layer.parameters());
  REQUIRE(g.size() == 2);
  CHECK(g[0].shape() == Shape{4, 2, 3});
  CHECK(g[1].shape() == Shape{4, 2});
  for (std::int64_t n = 0; n < 4; ++n) {
    Tensors one = grad({loss(select(x, 0, n))}, layer.parameters());
    CHECK(allclose(select(g[0], 0, n), one[0], 1e-13, 1e-14));
    CHECK(allclose(select(g[1], 0, n), one[1], 1e-13, 1e-14));
  }
  CHECK_FALSE(g[0].requires_grad());
  CHECK_FALSE(layer.weight.grad().defined());

  Tensor y = loss(x);
  jacobian(y, {layer.weight});
  CHECK(allclose(jacobian(y, {layer.weight})[0], g[0]));  // the graph is still there
  CHECK(near(jacobian(y, {leaf({1})})[0], Values(4, 0)));
  CHECK_RAISES(GradError, "jacobian: the output does not require a gradient", jacobian(x, {layer.weight}));
  CHECK_RAISES(GradError, "jacobian: input 1 does not require a gradient", jacobian(y, {layer.weight, x}));
  CHECK_RAISES(GradError, "jacobian: no inputs", jacobian(y, Tensors()));
  CHECK_RAISES(GradError, "output 0 of the function does not depend on input 1",
               jacobian(y, {layer.weight, leaf({1})}, {.strict = true}));
}

TEST_CASE("jacobian_batched: a block a row is the Jacobian of the row") {
  Generator generator(4);
  Tensor x = randn({5, 2, 3}, DType::Float64, generator), w = randn({3, 4}, DType::Float64, generator);
  auto f = [&](T rows) { return softmax(matmul(rows * rows, w), -1); };
  Tensor J = jacobian_batched(f, x);
  CHECK(J.shape() == Shape{5, 2, 4, 2, 3});
  for (std::int64_t n = 0; n < 5; ++n) CHECK(allclose(select(J, 0, n), jacobian(f, select(x, 0, n)), 1e-12, 1e-14));

  auto g = [](const Tensors& in) { return Tensors{in[0] * in[1], sum(in[0], -1)}; };
  Tensor a = randn({3, 2}, DType::Float64, generator), b = randn({3, 2}, DType::Float64, generator);
  std::vector<Tensors> B = jacobian_batched(g, {a, b});
  CHECK(B[0][1].shape() == Shape{3, 2, 2});
  CHECK(B[1][0].shape() == Shape{3, 2});
  for (std::int64_t n = 0; n < 3; ++n) {
    std::vector<Tensors> one = jacobian(g, {select(a, 0, n), select(b, 0, n)});
    for (std::size_t i = 0; i < 2; ++i)
      for (std::size_t j = 0; j < 2; ++j) CHECK(allclose(select(B[i][j], 0, n), one[i][j]));
  }
  CHECK(near(B[1][1], Values(6, 0)));
  CHECK(jacobian_batched(f, zeros({0, 2, 3}, DType::Float64)).shape() == Shape{0, 2, 4, 2, 3});
}

TEST_CASE("jacobian_batched: as many backward passes as a row has elements") {
  int passes = 0;
  Tensor x = values({1, 2, 3, 4, 5, 6});
  auto f = [&](T rows) {
    Tensor y = rows * rows;
    y.register_hook([&](T) { ++passes; });
    return stack({y, y * 2}, 1);
  };
  CHECK(near(jacobian_batched(f, x), {2, 4, 4, 8, 6, 12, 8, 16, 10, 20, 12, 24}));
  CHECK(passes == 2);
  jacobian(f, x);
  CHECK(passes == 2 + 12);
}

TEST_CASE("jacobian_batched: rows must be there") {
  auto f = [](T x) { return x; };
  CHECK_RAISES(ShapeError, "jacobian_batched: input 0 has shape ()", jacobian_batched(f, scalar(1)));
  CHECK_RAISES(ShapeError, "jacobian_batched: input 1 has shape (3,), that of input 0 is (2,)",
               jacobian_batched([](const Tensors& in) { return in[0]; }, {ones(2), ones(3)}));
  CHECK_RAISES(ShapeError, "jacobian_batched: output 0 has shape (), expected 2 rows",
               jacobian_batched([](T x) { return sum(x); }, ones(2)));
}

TEST_CASE("vjp, jvp: products of the very Jacobian") {
  Generator generator(5);
  Tensor a = randn({2}, DType::Float64, generator), w = randn({2, 3}, DType::Float64, generator);
  Tensor v = randn({3}, DType::Float64, generator), s = randn({}, DType::Float64, generator);
  Tensor da = randn({2}, DType::Float64, generator), dw = randn({2, 3}, DType::Float64, generator);
  std::vector<Tensors> J = jacobian(two, {a, w});

  auto [y, g] = vjp(two, {a, w}, {v, s});
  CHECK(allclose(y[0], matmul(a, w)));
  CHECK(allclose(g[0], matmul(v, J[0][0]) + s * J[1][0], 1e-13));
  CHECK(allclose(g[1], reshape(matmul(v, reshape(J[0][1], {3, 6})), {2, 3}), 1e-13));

  auto [y2, d] = jvp(two, {a, w}, {da, dw});
  CHECK(allclose(y2[1], sum(a * a)));
  CHECK(allclose(d[0], matmul(J[0][0], da) + matmul(reshape(J[0][1], {3, 6}), reshape(dw, {6})), 1e-13));
  CHECK(allclose(d[1], sum(J[1][0] * da), 1e-13));
  for (T x : {y[0], g[0], y2[0], d[0]}) CHECK_FALSE(x.requires_grad());

  // Cotangents and tangents stay with their outputs and inputs where others are constants.
  auto some = [](const Tensors& in) { return Tensors{values({7, 8}), in[1] * 3}; };
  CHECK(near(vjp(some, {values({1, 1}), values({1, 1})}, {values({5, 5}), values({1, 2})}).product[1], {3, 6}));
  const Tensors along = jvp(some, {values({1, 1}), values({1, 1})}, {values({5, 5}), values({1, 2})}).product;
  CHECK(near(along[0], {0, 0}));
  CHECK(near(along[1], {3, 6}));
  CHECK_RAISES(ShapeError, "v has shape (3, 2), expected (2, 3)",
               vjp([](T x) { return x * 2; }, zeros({2, 3}, DType::Float64), zeros({3, 2}, DType::Float64)));

  CHECK(near(vjp([](T x) { return sum(x * x); }, values({1, 2})).product, {2, 4}));
  CHECK(near(jvp([](T x) { return x * values({1, 2}); }, values({3})).product, {1, 2}));
  CHECK(near(jvp([](T x) { return x; }, values({3, 4}), values({5, 6})).product, {5, 6}));
}

TEST_CASE("jvp agrees with differences, through an LSTM") {
  Generator generator(6);
  manual_seed(6);
  Sequence f;
  Tensor x = randn({3, 2, 2}, DType::Float64, generator), v = randn({3, 2, 2}, DType::Float64, generator);
  const double h = 1e-5;
  Tensor differences = (f(x + h * v) - f(x - h * v)) / (2 * h);
  CHECK(allclose(jvp(f, x, v).product, differences.detach(), 1e-7, 1e-9));
}

TEST_CASE("jvp: an infinite derivative makes no NaN beside it") {
  Tensor d = jvp([](T x) { return sqrt(x); }, values({0, 4}), values({1, 1})).product;
  CHECK(of(d) == Values{std::numeric_limits<double>::infinity(), 0.25});
}

TEST_CASE("hessian: second derivatives, in blocks for several inputs") {
  Tensor x = values({1, 2});
  Tensor H = hessian(cubic, x);
  CHECK(H.shape() == Shape{2, 2});
  CHECK(near(H, {6, 0, 0, 12}));
  CHECK(hessian([](T m) { return sum(m * m); }, ones({2, 3}, DType::Float64)).shape() == Shape{2, 3, 2, 3});
  CHECK(near(hessian([](T a) { return reshape(cubic(a), {1, 1}); }, x), {6, 0, 0, 12}));

  Tensor a = values({1, 2}), b = values({3, 4});
  std::vector<Tensors> B = hessian(bilinear, {a, b});
  CHECK(near(B[0][0], {6, 0, 0, 8}));
  CHECK(near(B[0][1], {2, 0, 0, 4}));
  CHECK(near(B[1][0], {2, 0, 0, 4}));
  CHECK(near(B[1][1], {0, 0, 0, 0}));
  CHECK(near(hessian([](T m) { return sum(m); }, a), {0, 0, 0, 0}));                   // linear
  CHECK(near(hessian([](T) { return scalar(1, DType::Float64); }, a), {0, 0, 0, 0}));  // constant
}

TEST_CASE("vhp, hvp: products of the very Hessian") {
  Generator generator(7);
  Tensor x = randn({2, 2}, DType::Float64, generator), v = randn({2, 2}, DType::Float64, generator);
  auto f = [](T a) { return sum(tanh(matmul(a, a)) * a); };
  Tensor expected = reshape(matmul(reshape(hessian(f, x), {4, 4}), reshape(v, {4})), {2, 2});
  CHECK(allclose(hvp(f, x, v).product, expected, 1e-12, 1e-14));
  CHECK(allclose(vhp(f, x, v).product, expected, 1e-12, 1e-14));
  CHECK(allclose(hvp(f, x, v).output, f(x)));

  Tensor a = values({1, 2}), b = values({3, 4}), u = values({5, 6}), w = values({7, 8});
  auto [y, p] = hvp(bilinear, {a, b}, {u, w});
  CHECK(y.item() == 19);
  CHECK(near(p[0], {6 * 5 + 2 * 7, 8 * 6 + 4 * 8}));
  CHECK(near(p[1], {2 * 5, 4 * 6}));
  CHECK(equal(vhp(bilinear, {a, b}, {u, w}).product[0], p[0]));
  CHECK(near(hvp([](T s) { return s * s * s; }, scalar(2, DType::Float64)).product, {12}));
  CHECK(near(hvp([](T s) { return sum(s); }, a, u).product, {0, 0}));
}

TEST_CASE("hessian and hvp through a fused kernel and an LSTM agree with differences of the gradient") {
  Generator generator(8);
  manual_seed(8);
  Sequence lstm;
  Tensor x = randn({2, 1, 2}, DType::Float64, generator), v = randn({2, 1, 2}, DType::Float64, generator);
  auto f = [&](T a) { return sum(square(layer_norm(lstm(a), {6}) + lstm(a))); };
  auto gradient = [&](T a) { return jacobian(f, a); };
  const double h = 1e-5;
  Tensor differences = (gradient(x + h * v) - gradient(x - h * v)) / (2 * h);
  CHECK(allclose(hvp(f, x, v).product, differences, 1e-6, 1e-8));
  CHECK(allclose(vhp(f, x, v).product, differences, 1e-6, 1e-8));
  CHECK(allclose(reshape(matmul(reshape(hessian(f, x), {4, 4}), reshape(v, {4})), {2, 1, 2}), differences, 1e-6, 1e-8));
}

TEST_CASE("functional: results have no history, unless create_graph") {
  Tensor x = leaf({1, 2});
  CHECK_FALSE(jacobian(cubic, x).requires_grad());
  CHECK_FALSE(hessian(cubic, x).requires_grad());
  for (T y : {vjp(cubic, x).output, hvp(cubic, x, x).output, hvp(cubic, x, x).product}) CHECK_FALSE(y.requires_grad());

  const FunctionalOptions record{.create_graph = true};
  CHECK(near(grad({sum(jacobian(cubic, x, record))}, {x})[0], {6, 12}));
  CHECK(near(grad({sum(hessian(cubic, x, record))}, {x})[0], {6, 6}));
  CHECK(near(grad({sum(jacobian_batched([](T a) { return a * a * a; }, x, record))}, {x})[0], {6, 12}));
  Tensor v = leaf({3, 4});
  auto [y, d] = jvp([](T a) { return a * a; }, x, v, record);  // 2 x v
  CHECK(near(grad({sum(d)}, {x, v}, {.retain_graph = true})[0], {6, 8}));
  CHECK(near(grad({sum(d)}, {x, v}, {.retain_graph = true})[1], {2, 4}));
  CHECK(near(grad({sum(y)}, {x})[0], {2, 4}));
  CHECK(near(grad({sum(vjp([](T a) { return a * a; }, x, v, record).product)}, {v})[0], {2, 4}));
  CHECK(near(grad({sum(vhp(cubic, x, v, record).product)}, {x})[0], {18, 24}));  // 6 x v
  CHECK(near(grad({sum(hvp(cubic, x, v, record).product)}, {v})[0], {6, 12}));
  // By what the function reaches, too.
  CHECK(near(grad({sum(jacobian([&](T a) { return sum(a * a * v); }, values({1, 2}), record))}, {v})[0], {2, 4}));
  CHECK_FALSE(jacobian(cubic, values({1, 2}), record).grad_slot() == nullptr);

  Tensor third = jacobian([](T a) { return hessian(cubic, a, {.create_graph = true}); }, x);
  CHECK(near(third, {6, 0, 0, 0, 0, 0, 0, 6}));
}

TEST_CASE("functional: NoGrad around it changes nothing, and it changes nothing of NoGrad") {
  NoGrad guard;
  CHECK(near(jacobian(cubic, values({1, 2})), {3, 12}));
  CHECK(near(hvp(cubic, values({1, 2}), values({1, 1})).product, {6, 12}));
  CHECK(near(jvp(cubic, values({1, 2}), values({1, 1})).product, {15}));
  CHECK_FALSE(GradMode::enabled());
  CHECK_THROWS(jacobian([](T) -> Tensor { throw ValueError("mine"); }, ones(2)));
  CHECK_FALSE(GradMode::enabled());
}

TEST_CASE("functional: strict names what no path leads to") {
  const FunctionalOptions strict{.strict = true}, both{.create_graph = true, .strict = true};
  auto first = [](const Tensors& in) { return sum(in[0] * in[0] * in[0]); };
  Tensor x = values({1, 2});
  auto constant = [](T) { return scalar(1, DType::Float64); };
  auto linear = [](T a) { return sum(a); };

  CHECK(near(jacobian(first, {x, x})[1], {0, 0}));
  CHECK(near(hvp(first, {x, x}, {x, x}).product[1], {0, 0}));
  CHECK(near(jvp(constant, x, x).product, {0}));
  CHECK_RAISES(GradError, "jacobian: output 0 of the function does not depend on its inputs",
               jacobian(constant, x, strict));
  CHECK_RAISES(GradError, "jacobian: output 0 of the function does not depend on input 1",
               jacobian(first, {x, x}, strict));
  CHECK_RAISES(GradError, "vjp: no derivative reaches input 1", vjp(first, {x, x}, {}, strict));
  CHECK_RAISES(GradError, "jvp: the function does not depend on input 1", jvp(first, {x, x}, {x, x}, strict));
  CHECK_RAISES(GradError, "hvp: the function does not depend on input 1", hvp(first, {x, x}, {x, x}, strict));
  CHECK_RAISES(GradError, "hessian: the function does not depend on input 1", hessian(first, {x, x}, strict));
  CHECK_RAISES(GradError, "the gradient with respect to input 0 does not depend on the inputs",
               hessian(linear, x, strict));
  CHECK_RAISES(GradError, "vhp: the gradient with respect to input 0", vhp(linear, x, x, strict));
  Tensor live = leaf({1, 2});
  CHECK_RAISES(GradError, "cannot be differentiated again", jacobian(linear, live, both));
  CHECK(near(jacobian(cubic, live, both), {3, 12}));
  CHECK(near(hessian(cubic, live, both), {6, 0, 0, 12}));
}

TEST_CASE("functional: arguments that do not fit") {
  Tensor x = values({1, 2});
  auto square_of = [](T a) { return a * a; };
  CHECK_RAISES(GradError, "jacobian: no inputs", jacobian(two, {}));
  CHECK_RAISES(ValueError, "hessian: input 0 is undefined", hessian(cubic, Tensor()));
  CHECK_RAISES(DTypeError, "jvp: input 0 is int64", jvp(square_of, tensor({1, 2})));
  CHECK_RAISES(ValueError, "vjp: the function returned no tensors", vjp([](T) { return Tensors(); }, x));
  CHECK_RAISES(ValueError, "jacobian: output 0 of the function is undefined", jacobian([](T) { return Tensor(); }, x));
  CHECK_RAISES(ShapeError, "hessian: the function returned shape (2,), expected one element", hessian(square_of, x));
  CHECK_RAISES(ShapeError, "hvp: the function returned shape (2,)", hvp(square_of, x, x));
  CHECK_RAISES(GradError, "vjp: v may be left out for a single tensor of one element only", vjp(square_of, x));
  CHECK_RAISES(GradError, "vhp: v may be left out", vhp(cubic, x));
  CHECK_RAISES(GradError, "vjp: v has 1 tensors, expected 2", vjp(two, {x, ones({2, 3}, DType::Float64)}, {x}));
  CHECK_RAISES(ValueError, "jvp: tensor 1 of v is undefined",
               jvp([](const Tensors& in) { return in[0] * in[1]; }, {x, x}, {x, Tensor()}));
  CHECK_RAISES(ShapeError, "jvp: tensor 0 of v has shape (3,), expected (2,)", jvp(square_of, x, values({1, 2, 3})));
  CHECK_RAISES(DTypeError, "vjp: tensor 0 of v is float32, expected float64", vjp(square_of, x, ones(2)));
}

TEST_CASE("functional: nothing is left behind, neither after success nor after failure") {
  Tensor x = leaf({1, 2});
  Live before;
  for (bool create : {false, true}) {
    const FunctionalOptions options{.create_graph = create};
    jacobian(cubic, x, options);
    hessian(cubic, x, options);
    vjp(cubic, x, {}, options);
    jvp(cubic, x, x, options);
    vhp(cubic, x, x, options);
    hvp(cubic, x, x, options);
    jacobian_batched([](T a) { return a * a; }, x, options);
  }
  CHECK_THROWS_AS(jacobian([](T a) -> Tensor { throw IndexError(to_string((a * a).shape())); }, x), IndexError);
  CHECK(Live() == before);
  {
    Tensor J = hessian(cubic, x);
    CHECK(Live().nodes == before.nodes);
    CHECK(Live().tensors == before.tensors + 1);
  }
  for (int n = 0;; n += 3) {  // memory that runs out anywhere
    try {
      FailAfter failing(n);
      hvp(cubic, x, x);
      break;
    } catch (const std::bad_alloc&) {
      CHECK(Live() == before);
    }
  }
  CHECK(Live() == before);
}
