#include "support/gradients.h"
#include "support/memory.h"

#include <doctest/doctest.h>
#include <unroll/autograd/engine.h>
#include <unroll/autograd/grad_mode.h>
#include <unroll/autograd/ops/activation.h>
#include <unroll/autograd/ops/arithmetic.h>
#include <unroll/autograd/ops/reduce.h>
#include <unroll/autograd/ops/shape.h>
#include <unroll/nn/cell.h>
#include <unroll/nn/gru.h>
#include <unroll/nn/linear.h>
#include <unroll/nn/rnn_cell.h>
#include <unroll/nn/sequential.h>
#include <unroll/nn/stack.h>

#include <stdexcept>

using namespace unroll;
using doctest::Contains;

namespace {

using Tensors = std::vector<Tensor>;

struct Pair {
  Tensor h, c;
  static constexpr auto fields = std::tuple{&Pair::h, &Pair::c};
};

// A cell of a user's own: h' = x·h, c' = x + c.
struct Cell : nn::Module {
  Pair operator()(const Tensor& x, const Pair& state) const {
    return hooked([](const Tensor& in, const Pair& s) { return Pair{in * s.h, in + s.c}; }, x, state);
  }
};

struct Net : nn::Module {
  Net() {
    inner.append<nn::Linear>(2, 2, nn::LinearOptions{.dtype = DType::Float64}).append("Tanh", tanh);
    add("inner", inner);
    add_members_of(cell, "_l0");
  }
  nn::Sequential inner;
  Cell cell;
};

}  // namespace

TEST_CASE("module hooks: before and after a call, in the order of registration") {
  nn::Linear linear(2, 1, {.dtype = DType::Float64});
  Tensor x = leaf({1, 2});
  Tensor plain = linear(x);
  std::vector<std::string> calls;
  auto note = [&](std::string text) { return [&calls, text](const auto&...) { calls.push_back(text); }; };
  linear.register_forward_hook(note("after"));
  linear.register_forward_pre_hook(note("before 1"));
  HookHandle second = linear.register_forward_pre_hook(note("before 2"));
  CHECK(of(linear(x)) == of(plain));
  CHECK(calls == std::vector<std::string>{"before 1", "before 2", "after"});
  second.remove();
  linear(x);
  CHECK(calls.size() == 5);
}

TEST_CASE("module hooks: see the tensors of a call and may replace them") {
  Cell cell;
  cell.register_forward_pre_hook([&](const nn::Module& module, Tensors& inputs) {
    CHECK(&module == &cell);
    REQUIRE(inputs.size() == 3);  // x, h, c
    inputs[0] = inputs[0] * 10;
  });
  cell.register_forward_hook([&](const nn::Module&, const Tensors& inputs, Tensors& outputs) {
    CHECK(of(inputs[0]) == Values{20});
    REQUIRE(outputs.size() == 2);
    outputs[1] = outputs[1] * 100;
  });
  Tensor x = leaf({2}), h = leaf({3}), c = leaf({4});
  auto [h1, c1] = cell(x, {h, c});
  CHECK(of(h1) == Values{60});
  CHECK(of(c1) == Values{2400});
  auto d = grad({h1 + c1}, {x, h, c});
  CHECK(of(d[0]) == Values{30 + 1000});
  CHECK(of(d[1]) == Values{20});
  CHECK(of(d[2]) == Values{100});
}

TEST_CASE("module hooks: full backward") {
  Cell cell;
  std::vector<Values> inputs, outputs;
  HookHandle handle =
      cell.register_full_backward_hook([&](const nn::Module& module, Tensors& grad_input, const Tensors& grad_output) {
        CHECK(&module == &cell);
        for (const Tensor& g : grad_input) inputs.push_back(g.defined() ? of(g) : Values{});
        for (const Tensor& g : grad_output) outputs.push_back(g.defined() ? of(g) : Values{});
        grad_input[0] = grad_input[0] * 2;
      });
  Tensor x = leaf({2}), h = leaf({3}), c = tensor({4.0}, DType::Float64);
  auto [h1, c1] = cell(x, {h, c});
  Tensor loss = h1 * 5 + c1;
  loss.backward({.retain_graph = true});
  CHECK(inputs == std::vector<Values>{{16}, {10}, {}});  // c needs none
  CHECK(outputs == std::vector<Values>{{5}, {1}});
  CHECK(of(x.grad()) == Values{32});
  CHECK(of(h.grad()) == Values{10});
  SUBCASE("again, and of one output only") {
    inputs.clear();
    outputs.clear();
    sum(h1).backward();
    CHECK(inputs == std::vector<Values>{{3}, {2}, {}});
    CHECK(outputs == std::vector<Values>{{1}, {}});
  }
  SUBCASE("removed") {
    handle.remove();
    auto [h2, c2] = cell(x, {h, c});
    CHECK(of(grad({h2 * 5 + c2}, {x})[0]) == Values{16});
  }
  SUBCASE("where the first input needs no gradient, and one that is taken away") {
    inputs.clear();
    handle.remove();
    cell.register_full_backward_hook([&](const nn::Module&, Tensors& grad_input, const Tensors&) {
      for (const Tensor& g : grad_input) inputs.push_back(g.defined() ? of(g) : Values{});
      grad_input[1] = {};
    });
    Tensor c2 = leaf({4}), h2 = leaf({3});
    auto [h3, c3] = cell(tensor({2.0}, DType::Float64), {h2, c2});
    (h3 * 5 + c3 * 7).backward();
    CHECK(inputs == std::vector<Values>{{}, {10}, {7}});
    CHECK_FALSE(h2.grad().defined());
    CHECK(of(c2.grad()) == Values{7});
  }
  SUBCASE("twice differentiated") {
    auto [h2, c2] = cell(x, {h, c});
    Tensor d = grad({h2 * h2}, {x}, {.create_graph = true})[0];  // 2 · 2 x h²
    CHECK(of(d) == Values{72});
    CHECK(of(grad({d}, {h})[0]) == Values{48});
  }
}

TEST_CASE("module hooks: full backward of a module whose inputs need no gradient, and under NoGrad") {
  nn::Linear linear(2, 1, {.dtype = DType::Float64});
  int calls = 0;
  linear.register_full_backward_hook([&](const nn::Module&, Tensors& grad_input, const Tensors& grad_output) {
    ++calls;
    CHECK(grad_input.size() == 1);
    CHECK_FALSE(grad_input[0].defined());
    CHECK(of(grad_output[0]) == Values{1});
  });
  Tensor x = tensor({1.0, 2.0}, DType::Float64);
  linear(x).backward();
  CHECK(calls == 1);
  CHECK(of(linear.bias.grad()) == Values{1});
  NoGrad guard;
  CHECK_FALSE(linear(x).requires_grad());
}

TEST_CASE("module hooks: what they raise, and wrong use") {
  struct Mine : std::exception {};
  nn::Linear linear(2, 1, {.dtype = DType::Float64});
  Tensor x = leaf({1, 2});
  auto with = [&](auto add, auto check_it) {
    HookHandle handle = add();
    check_it();
    handle.remove();
    Live before;
    linear(x);
    CHECK(Live() == before);
  };
  with([&] { return linear.register_forward_pre_hook([](const nn::Module&, Tensors&) { throw Mine(); }); },
       [&] { CHECK_THROWS_AS(linear(x), Mine); });
  with([&] { return linear.register_forward_pre_hook([](const nn::Module&, Tensors& in) { in.clear(); }); },
       [&] { CHECK_THROWS_WITH_AS(linear(x), Contains("Linear: a forward-pre hook left 0 inputs of 1"), ShapeError); });
  with([&] { return linear.register_forward_hook([](const nn::Module&, const Tensors&, Tensors& y) { y.clear(); }); },
       [&] { CHECK_THROWS_WITH_AS(linear(x), Contains("left 0 outputs of 1"), ShapeError); });
  auto throwing = [](const nn::Module&, Tensors&, const Tensors&) { throw Mine(); };
  with([&] { return linear.register_full_backward_hook(throwing); },
       [&] { CHECK_THROWS_AS(linear(x).backward(), Mine); });
  with(
      [&] {
        return linear.register_full_backward_hook(
            [](const nn::Module&, Tensors& g, const Tensors&) { g[0] = zeros(3, DType::Float64); });
      },
      [&] { CHECK_THROWS_WITH_AS(linear(x).backward(), Contains("shape (3,), expected (2,)"), ShapeError); });
  with(
      [&] {
        return linear.register_full_backward_hook(
            [](const nn::Module&, Tensors& g, const Tensors&) { g.push_back(zeros(2, DType::Float64)); });
      },
      [&] { CHECK_THROWS_WITH_AS(linear(x).backward(), Contains("left 2 gradients of 1 inputs"), ShapeError); });
  with(
      [&] {
        return linear.register_full_backward_hook(
            [](const nn::Module&, Tensors&, const Tensors& dy) { dy[0].mul_(2.0); });
      },
      [&] { CHECK_THROWS_WITH_AS(linear(x).backward(), Contains("wrote a gradient in place"), GradError); });
  CHECK_FALSE(x.grad().defined());
  CHECK_FALSE(linear.weight.grad().defined());
}

TEST_CASE("module hooks: a full backward that ends inside the module calls them, and leaves nothing behind") {
  Live before;
  {
    nn::Linear linear(2, 1, {.dtype = DType::Float64});
    std::vector<bool> seen;
    linear.register_full_backward_hook([&](const nn::Module&, Tensors& grad_input, const Tensors& grad_output) {
      CHECK(of(grad_output[0]).size() == 1);
      seen.push_back(grad_input[0].defined());
    });
    Tensor x = leaf({1, 2});
    Tensor y = linear(x);
    // Recorded gradients have the graph as their history: one that the graph kept would own it.
    grad({sum(y * y)}, {linear.weight}, {.create_graph = true});
    CHECK(seen == std::vector<bool>{false});
    grad({sum(y * y)}, {x}, {.create_graph = true});
    CHECK(seen == std::vector<bool>{false, true});
    HookHandle handle = linear.register_full_backward_hook(
        [](const nn::Module&, Tensors&, const Tensors&) { throw std::runtime_error("no"); });
    CHECK_THROWS_AS(grad({sum(y * y)}, {x}, {.create_graph = true}), std::runtime_error);
    handle.remove();
    // What fails between the outputs and the inputs: a hook on the weight's gradient.
    linear.register_forward_hook([](const nn::Module&, const Tensors&, Tensors& outputs) {
      outputs[0].register_hook([](const Tensor&) { throw std::runtime_error("no"); });
    });
    CHECK_THROWS_AS(grad({sum(linear(x))}, {x}, {.create_graph = true}), std::runtime_error);
  }
  CHECK(Live() == before);
}

TEST_CASE("module hooks: a full backward that does not come through the outputs calls none") {
  nn::Linear linear(2, 1, {.dtype = DType::Float64});
  Tensor x = leaf({1, 2}), inside;
  linear.register_forward_hook([&](const nn::Module&, const Tensors&, Tensors& outputs) { inside = outputs[0]; });
  int calls = 0;
  linear.register_full_backward_hook([&](const nn::Module&, Tensors& grad_input, const Tensors&) {
    ++calls;
    grad_input[0] = grad_input[0] * 3;
  });
  linear(x);
  sum(inside).backward();
  CHECK(calls == 0);

  // A second derivative reaches the input by the gradient that the first pass has computed. Numbers from torch.
  nn::RNNCell cell(1, 1, {.dtype = DType::Float64});
  {
    NoGrad guard;
    for (const Tensor& p : cell.parameters()) p.fill_(0);
    cell.weight_ih.fill_(0.5);
  }
  cell.register_full_backward_hook([&](const nn::Module&, Tensors& grad_input, const Tensors&) {
    ++calls;
    grad_input[0] = grad_input[0] * 3;
  });
  x = view(leaf({1}).detach(), {1, 1}).requires_grad_();
  Tensor g = grad({sum(cell(x))}, {x}, {.create_graph = true})[0];
  CHECK(calls == 1);
  sum(g).backward();
  CHECK(calls == 1);
  CHECK(x.grad().item() == doctest::Approx(-0.545).epsilon(1e-3));
}

TEST_CASE("module hooks: a gradient that others hold may not be written in place") {
  struct Same : nn::Module {
    Tensor operator()(const Tensor& x) const {
      return hooked([](const Tensor& in) { return in + 0; }, x);
    }
  } same;
  Tensor a = leaf({1, 2}), b = leaf({1, 2});
  same.register_full_backward_hook([](const nn::Module&, Tensors& g, const Tensors&) { g[0].mul_(10); });
  Tensor h = a * 1, y = sum((same(h) + b) * b.detach());  // one gradient for both
  CHECK_THROWS_WITH_AS(y.backward(), Contains("Same: a backward hook wrote a gradient in place"), GradError);
  CHECK_FALSE(a.grad().defined());
  CHECK_FALSE(b.grad().defined());
}

TEST_CASE("module hooks: of layers and stacks, packed too") {
  const auto lengths = std::vector<std::int64_t>{2, 3};
  Tensor x = leaf({1, 2, 3, 4, 5, 6}).detach().requires_grad_();
  auto packed = nn::pack_padded_sequence(view(x, {3, 2, 1}), lengths, {.enforce_sorted = false});
  nn::GRU gru(1, 2, {.dtype = DType::Float64});
  nn::Stack<nn::GRU> stack(1, {2, 3}, {}, nn::GRUOptions{.dtype = DType::Float64});
  int calls = 0;
  auto check = [&](nn::Module& module, auto call, std::int64_t width, std::size_t results) {
    const Tensor plain = call().output.data();
    HookHandle before = module.register_forward_pre_hook([&](const nn::Module&, Tensors& inputs) {
      ++calls;
      REQUIRE(inputs.size() >= 1);
      CHECK(inputs[0].shape() == Shape{5, 1});
      inputs[0] = inputs[0] * 1;
    });
    module.register_forward_hook([&](const nn::Module&, const Tensors&, Tensors& outputs) {
      ++calls;
      REQUIRE(outputs.size() == results);
      CHECK(outputs[0].shape() == Shape{5, width});
      outputs[0] = outputs[0] * 2;
    });
    module.register_full_backward_hook([&](const nn::Module&, Tensors& grad_input, const Tensors&) {
      ++calls;
      grad_input[0] = grad_input[0] * 100;
    });
    auto result = call();
    CHECK(of(result.output.data()) == of(plain * 2));
    CHECK(result.output.lengths() == lengths);
    const Values expected = of(grad({sum(plain)}, {x}, {.retain_graph = true})[0] * 200);
    const Values got = of(grad({sum(result.output.data())}, {x}, {.retain_graph = true})[0]);
    for (std::size_t i = 0; i < got.size(); ++i) CHECK(got[i] == doctest::Approx(expected[i]));
    before.remove();
    auto wrong = module.register_forward_pre_hook([](const nn::Module&, Tensors& inputs) {
      inputs[0] = zeros({4, 1}, DType::Float64);
    });
    CHECK_THROWS_WITH_AS(call(), Contains("expected 5 rows of data"), ShapeError);
  };
  check(
      gru, [&] { return gru(packed); }, 2, 2);
  check(
      stack, [&] { return stack(packed); }, 3, 3);
  CHECK(calls == 6);
}

TEST_CASE("module hooks: an empty one is refused") {
  nn::Linear linear(2, 1);
  CHECK_THROWS_WITH_AS(linear.register_forward_pre_hook(nullptr), "register_forward_pre_hook: the hook is empty",
                       ValueError);
  CHECK_THROWS_WITH_AS(linear.register_forward_hook({}), "register_forward_hook: the hook is empty", ValueError);
  CHECK_THROWS_WITH_AS(linear.register_full_backward_hook({}), "register_full_backward_hook: the hook is empty",
                       ValueError);
}

TEST_CASE("Module::path") {
  struct Model : nn::Module {
    Model() { add("net", net); }
    Net net;
  };
  Net net;
  CHECK(net.path() == "Net");
  CHECK(net.inner.path() == "inner");
  CHECK(net.inner[0].path() == "inner.0");
  CHECK(net.cell.path() == "l0");
  Model model;
  CHECK(model.net.inner[1].path() == "net.inner.1");
  CHECK(model.net.cell.path() == "net_l0");
  model.net.inner.append<nn::Linear>(2, 2);
  CHECK(model.net.inner[2].path() == "net.inner.2");
}
