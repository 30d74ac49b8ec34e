#include "support/gradients.h"
#include "support/memory.h"

#include <doctest/doctest.h>
#include <unroll/autograd/engine.h>
#include <unroll/autograd/grad_mode.h>
#include <unroll/autograd/hooks.h>
#include <unroll/autograd/ops/activation.h>
#include <unroll/autograd/ops/arithmetic.h>
#include <unroll/autograd/ops/reduce.h>
#include <unroll/autograd/ops/shape.h>

#include <cmath>
#include <functional>
#include <memory>
#include <stdexcept>

using namespace unroll;
using doctest::Contains;

TEST_CASE("register_hook: sees the gradient and may replace it") {
  Tensor x = leaf({1, 2});
  Tensor h = x * 3;
  std::vector<Values> seen;
  h.register_hook([&](const Tensor& g) { seen.push_back(of(g)); });  // returns nothing
  h.register_hook([&](const Tensor& g) { return g * 10; });
  h.register_hook([&](const Tensor& g) {
    seen.push_back(of(g));
    return Tensor();
  });
  sum(h * h).backward();
  CHECK(seen == std::vector<Values>{{6, 12}, {60, 120}});  // in the order of registration
  CHECK(of(x.grad()) == Values{180, 360});
}

TEST_CASE("register_hook: on a leaf once a backward, on the sum of what arrives") {
  Tensor x = leaf({1, 2});
  std::vector<Values> seen;
  x.register_hook([&](const Tensor& g) {
    seen.push_back(of(g));
    return g * 2;
  });
  Tensor loss = sum(x * x) + sum(x * 3) + sum(x);
  loss.backward({.retain_graph = true});
  CHECK(seen == std::vector<Values>{{6, 8}});
  CHECK(of(x.grad()) == Values{12, 16});
  loss.backward({.retain_graph = true});  // grad() itself does not pass through the hook
  CHECK(seen.size() == 2);
  CHECK(of(x.grad()) == Values{24, 32});
  CHECK(of(grad({loss}, {x})[0]) == Values{12, 16});
  SUBCASE("a leaf that is the output") {
    x.set_grad({});
    x.backward({.gradient = ones(2, DType::Float64)});
    CHECK(of(x.grad()) == Values{2, 2});
  }
}

TEST_CASE("register_hook: runs where a gradient is computed, and nowhere else") {
  Tensor x = leaf({1}), w = leaf({2}), other = leaf({3});
  int on_h = 0, on_w = 0, on_unused = 0;
  Tensor h = x * w, unused = x * 5, loss = h * 2;
  h.register_hook([&](const Tensor&) { ++on_h; });
  w.register_hook([&](const Tensor&) { ++on_w; });
  unused.register_hook([&](const Tensor&) { ++on_unused; });
  grad({loss}, {x}, {.retain_graph = true});
  CHECK(on_h == 1);
  CHECK(on_w == 0);
  grad({loss}, {other}, {.retain_graph = true, .allow_unused = true});
  CHECK(on_h == 1);
  grad({loss}, {h}, {.retain_graph = true});
  CHECK(on_h == 2);
  backward({loss}, {}, {.inputs = std::vector{w}});
  CHECK(on_h == 3);
  CHECK(on_w == 1);
  CHECK(on_unused == 0);
}

TEST_CASE("register_hook: grad() that is retained or returned is the final value") {
  Tensor x = leaf({1, 2});
  Tensor before = x * 3, after = x * 3;
  before.retain_grad();
  for (const Tensor& h : {before, after}) h.register_hook([](const Tensor& g) { return g * 10; });
  after.retain_grad();
  Tensor loss = sum(before + after);
  CHECK(of(grad({loss}, {before}, {.retain_graph = true})[0]) == Values{10, 10});
  loss.backward();
  CHECK(of(before.grad()) == Values{10, 10});
  CHECK(of(after.grad()) == Values{10, 10});
  CHECK_FALSE(before.grad().shares_memory(after.grad()));
}

TEST_CASE("register_hook: remove") {
  Tensor x = leaf({1});
  auto scaled = [&](double factor) { return x.register_hook([factor](const Tensor& g) { return g * factor; }); };
  HookHandle two = scaled(2), three = scaled(3), five = scaled(5), copy = three;
  auto gradient = [&] { return grad({x * 1}, {x})[0].item(); };
  CHECK(gradient() == 30);
  copy.remove();
  CHECK(gradient() == 10);
  three.remove();  // gone already
  CHECK(gradient() == 10);
  two.remove();
  five.remove();
  CHECK(gradient() == 1);
  scaled(7);
  three.remove();
  CHECK(gradient() == 7);
  HookHandle late;
  late.remove();
  {
    Tensor y = leaf({1});
    late = y.register_hook([](const Tensor&) {});
  }
  late.remove();  // what it was on is gone
  SUBCASE("by a hook, of itself, and adding another") {
    Tensor y = leaf({1});
    int calls = 0;
    HookHandle self;
    self = y.register_hook([&](const Tensor& g) {
      ++calls;
      self.remove();
      y.register_hook([](const Tensor& d) { return d * 100; });
      return g * 10;
    });
    CHECK(grad({y * 1}, {y})[0].item() == 10);
    CHECK(grad({y * 1}, {y})[0].item() == 100);
    CHECK(calls == 1);
    Tensor h = y * 1;
    self = h.register_hook([&](const Tensor& g) {
      self.remove();
      h.register_hook([](const Tensor& d) { return d * 1000; });
      return g * 10;
    });
    CHECK(grad({h}, {y}, {.retain_graph = true})[0].item() == 1000);
    CHECK(grad({h}, {y})[0].item() == 100000);
  }
}

TEST_CASE("register_hook: wrong use") {
  CHECK_THROWS_WITH_AS(tensor({1.0}).register_hook([](const Tensor&) {}), Contains("does not require a gradient"),
                       GradError);
  CHECK_THROWS_AS(Tensor().register_hook([](const Tensor&) {}), GradError);
  Tensor x = leaf({1, 2}), w = leaf({1, 1});
  sum(x * w).backward();
  Values dx = of(x.grad()), dw = of(w.grad());
  auto check_unchanged = [&] {
    CHECK(of(x.grad()) == dx);
    CHECK(of(w.grad()) == dw);
    CHECK(GradMode::enabled());
  };
  for (bool on_leaf : {false, true}) {
    CAPTURE(on_leaf);
    Tensor h = x * w, loss = sum(h * 1);
    const Tensor& on = on_leaf ? x : h;
    HookHandle handle = on.register_hook([](const Tensor&) { return zeros(3, DType::Float64); });
    CHECK_THROWS_WITH_AS(loss.backward({.retain_graph = true}), Contains("shape (3,), expected (2,)"), ShapeError);
    check_unchanged();
    handle.remove();
    handle = on.register_hook([](const Tensor& g) { g.mul_(2); });
    CHECK_THROWS_WITH_AS(loss.backward({.retain_graph = true}), Contains("wrote the gradient in place"), GradError);
    check_unchanged();
    handle.remove();
    handle = on.register_hook([](const Tensor& g) -> Tensor { return g.defined() ? throw 7 : g; });
    CHECK_THROWS_AS(loss.backward({.retain_graph = true}), int);
    check_unchanged();
    handle.remove();
    handle = on.register_hook([](const Tensor& g) { return g.to(DType::Float32); });
    CHECK_THROWS_WITH_AS(loss.backward({.retain_graph = true}), Contains("float32, expected float64"), DTypeError);
    check_unchanged();
    handle.remove();
  }
}

TEST_CASE("register_hook: an empty hook is refused, and a result without create_graph has no history") {
  Tensor x = leaf({1, 2}), other = leaf({3, 4});
  CHECK_THROWS_WITH_AS(x.register_hook(std::function<void(const Tensor&)>()), "register_hook: the hook is empty",
                       ValueError);
  CHECK_THROWS_AS(x.register_hook(std::function<Tensor(const Tensor&)>()), ValueError);
  CHECK_THROWS_AS(x.register_hook(static_cast<Tensor (*)(const Tensor&)>(nullptr)), ValueError);
  x.register_hook([&](const Tensor&) { return other; });
  Tensor y = sum(x * x);
  Tensor plain = grad({y}, {x}, {.retain_graph = true})[0];
  CHECK(of(plain) == Values{3, 4});
  CHECK_FALSE(plain.requires_grad());
  CHECK(grad({y}, {x}, {.create_graph = true})[0].requires_grad());
}

TEST_CASE("register_hook: is recorded under create_graph, and runs whichever way a tensor is reached") {
  Tensor x = leaf({3});
  Tensor y = x * x;
  std::vector<bool> recorded;
  y.register_hook([&](const Tensor& g) {
    recorded.push_back(GradMode::enabled());
    return g * x;
  });
  Tensor d = grad({y}, {x}, {.create_graph = true})[0];  // x · 2x
  CHECK(d.item() == 18);
  CHECK(grad({d}, {x})[0].item() == 12);
  grad({y}, {x});
  CHECK(recorded == std::vector{true, false});
  SUBCASE("through an output that its own op saved") {
    Tensor z = tanh(x), unhooked = tanh(x);
    int calls = 0;
    z.register_hook([&](const Tensor&) { ++calls; });
    Tensor dz = grad({z}, {x}, {.create_graph = true})[0];
    CHECK(calls == 1);
    grad({dz}, {x});  // reads tanh x, whose gradient is that of z
    CHECK(calls == 2);
  }
}

TEST_CASE("register_hook: a tensor that was written in place keeps its hooks where it was") {
  Tensor x = leaf({1, 2});
  Tensor h = x * 3;
  std::vector<Values> seen;
  h.register_hook([&](const Tensor& g) { seen.push_back(of(g)); });
  h.mul_(10);
  h.register_hook([&](const Tensor& g) { seen.push_back(of(g)); });
  sum(h).backward();
  CHECK(seen == std::vector<Values>{{1, 1}, {10, 10}});
}

TEST_CASE("register_hook: backward inside, of another graph and of its own") {
  Tensor x = leaf({2}), counter = leaf({1});
  Tensor h = x * x;
  h.register_hook([&](const Tensor&) {
    GradMode mode(true);
    sum(counter * 1).backward();
  });
  h.backward();
  CHECK(of(counter.grad()) == Values{1});
  CHECK(of(x.grad()) == Values{4});
  Tensor y = x * x;
  y.register_hook([&](const Tensor&) { y.backward(); });
  CHECK_THROWS_WITH_AS(y.backward(), Contains("mul: a hook on its output runs backward through its own graph"),
                       GradError);
  CHECK(of(x.grad()) == Values{4});
}

TEST_CASE("hooks: nothing is left behind, and a hundred thousand that own each other's tensors are freed") {
  Live before;
  {
    Tensor x = leaf({1});
    Tensor y = x;
    for (int i = 0; i < 100'000; ++i) {
      Tensor z = x * 1;
      z.register_hook([y](const Tensor&) {});
      y = z;
    }
    CHECK(grad({y}, {x})[0].item() == 1);
  }
  CHECK(Live() == before);
}

TEST_CASE("register_hook: a hook that drops the last handles of the graph it is called in") {
  Tensor x = leaf({1, 2}), y = tanh(x);
  auto outputs = std::make_unique<std::vector<Tensor>>(), gradients = std::make_unique<std::vector<Tensor>>();
  {
    Tensor z = y * 3;
    z.register_hook([&](const Tensor& g) {
      outputs.reset(), gradients.reset();
      y = Tensor();
      return g;
    });
    *outputs = {z * 2};
    *gradients = {ones(2, DType::Float64)};
  }
  backward(*outputs, *gradients);
  const double t = std::tanh(1);
  CHECK(of(x.grad())[0] == doctest::Approx(6 * (1 - t * t)));
}

TEST_CASE("register_hook: what a hook adds runs from the next backward on") {
  Tensor x = ones(1).requires_grad_(), y = 2 * x;
  int calls = 0;
  y.register_hook([&](const Tensor&) {
    if (calls == 0) y.register_hook([&](const Tensor&) { calls += 10; });
    ++calls;
  });
  y.backward({.retain_graph = true});
  CHECK(calls == 1);
  y.backward();
  CHECK(calls == 12);
}

TEST_CASE("register_hook: on any output of an op with several") {
  const Tensor x = ones(3).requires_grad_();
  const std::vector<Tensor> pieces = unbind(x);
  int calls = 0;
  for (const Tensor& piece : pieces)
    piece.register_hook([&](const Tensor& g) {
      ++calls;
      return g * 2;
    });
  (pieces[0] + pieces[1] + pieces[2]).backward();
  CHECK(calls == 3);
  CHECK(x.grad().to_vector<float>() == std::vector<float>{2, 2, 2});
}

TEST_CASE("register_hook: a leaf's hook may run backward through the graph, which is read no more") {
  const Tensor x = ones(2).requires_grad_(), y = sum(x * x);
  int calls = 0;
  x.register_hook([&](const Tensor&) {
    if (++calls == 1) grad({y}, {x});
  });
  CHECK_NOTHROW(y.backward({.retain_graph = true}));
  CHECK(calls == 2);
}
