#include "support/gradients.h"

#include <doctest/doctest.h>
#include <unroll/autograd/engine.h>
#include <unroll/autograd/function.h>
#include <unroll/autograd/grad_mode.h>
#include <unroll/autograd/ops/activation.h>
#include <unroll/autograd/ops/arithmetic.h>
#include <unroll/autograd/ops/reduce.h>
#include <unroll/autograd/record.h>

#include <cmath>
#include <functional>
#include <stdexcept>

using namespace unroll;
using doctest::Contains;

// grad(), derivatives of derivatives, and what a gradient function may do.

TEST_CASE("grad: values, shapes, and nothing else") {
  Tensor x = leaf({1, 2}), w = leaf({3, 4});
  Tensor h = x * w, loss = sum(h * h);
  auto d = grad({loss}, {w, h, x, w}, {.retain_graph = true});
  CHECK(of(d[0]) == Values{6, 32});
  CHECK(of(d[1]) == Values{6, 16});
  CHECK(of(d[2]) == Values{18, 64});
  CHECK(of(d[3]) == Values{6, 32});
  for (const Tensor& t : {x, w, h}) CHECK_FALSE(t.grad().defined());
  CHECK_FALSE(d[0].requires_grad());
  CHECK_THROWS_AS(grad({sum(d[0])}, {x}), GradError);
  SUBCASE("sums over the outputs") {
    auto sums = grad({loss, sum(h)}, {x}, {.grad_outputs = {Tensor(), scalar(10, DType::Float64)}});
    CHECK(of(sums[0]) == Values{18 + 30, 64 + 40});
  }
  SUBCASE("of an output by itself") {
    CHECK(of(grad({h}, {h}, {.grad_outputs = {x.detach()}})[0]) == Values{1, 2});
    CHECK(grad({loss}, {loss})[0].item() == 1);
  }
  SUBCASE("what retains its gradient does not get it from here") {
    h.retain_grad();
    grad({loss}, {x});
    CHECK_FALSE(h.grad().defined());
  }
}

TEST_CASE("grad: wrong use") {
  Tensor x = leaf({1, 2}), other = leaf({3});
  Tensor loss = sum(x * x);
  CHECK_THROWS_WITH_AS(grad({loss}, {x, other}, {.retain_graph = true}),
                       Contains("do not depend on input 1; pass allow_unused"), GradError);
  auto d = grad({loss}, {other, x, other * 2}, {.retain_graph = true, .allow_unused = true});
  CHECK_FALSE(d[0].defined());
  CHECK(of(d[1]) == Values{2, 4});
  CHECK_FALSE(d[2].defined());
  CHECK_THROWS_WITH_AS(grad({loss}, {x, x.detach()}), Contains("input 1 does not require a gradient"), GradError);
  CHECK_THROWS_AS(grad({loss}, {Tensor()}), GradError);
  CHECK_THROWS_AS(grad({loss}, {}), GradError);
  CHECK_THROWS_AS(grad({}, {x}), GradError);
  CHECK_THROWS_WITH_AS(grad({loss, loss}, {x}, {.grad_outputs = {scalar(1)}}),
                       Contains("1 gradients came for 2 outputs"), GradError);
  CHECK_THROWS_AS(grad({loss}, {x}, {.grad_outputs = {ones(2)}}), ShapeError);
  CHECK_THROWS_AS(grad({x * 2}, {x}), GradError);
  CHECK_NOTHROW(grad({loss}, {x}));  // none of the above has used the graph up
}

TEST_CASE("create_graph: derivatives of any order") {
  Tensor x = leaf({2});
  Tensor y = x * x * x * x;
  for (double value : {32, 48, 48, 24}) {
    CHECK(y.requires_grad());
    y = grad({y}, {x}, {.create_graph = true})[0];
    CHECK(of(y) == Values{value});
  }
  CHECK_FALSE(y.requires_grad());  // 24, whatever x is
  SUBCASE("a gradient is a tensor like any other") {
    Tensor z = leaf({3}), dz = grad({z * z}, {z}, {.create_graph = true})[0];
    (dz * dz).backward();  // 4z², by z
    CHECK(of(z.grad()) == Values{24});
  }
  SUBCASE("an op that saved its own output") {
    Tensor z = leaf({0.5}), d1 = grad({tanh(z)}, {z}, {.create_graph = true})[0], d2 = grad({d1}, {z})[0];
    double t = std::tanh(0.5);
    CHECK(d2.item() == doctest::Approx(-2 * t * (1 - t * t)));
  }
}

TEST_CASE("backward is recorded under create_graph only") {
  Tensor x = leaf({1});
  std::vector<bool> recorded;
  Tensor y = record("op", {x}, x.detach() * 1, [&](const Tensor& g) {
    recorded.push_back(GradMode::enabled());
    return g;
  });
  NoGrad guard;  // says nothing about backward
  for (bool create_graph : {false, true}) {
    y.backward({.retain_graph = true, .create_graph = create_graph});
    grad({y}, {x}, {.retain_graph = true, .create_graph = create_graph});
  }
  CHECK(recorded == std::vector{false, false, true, true});
  x.set_grad({});
}

TEST_CASE("detach shares memory and version, not history") {
  Tensor x = leaf({1, 2});
  Tensor y = exp(x), d = y.detach();
  CHECK(d.is_leaf());
  CHECK_FALSE(d.requires_grad());
  CHECK(d.shares_memory(y));
  CHECK_FALSE(d.is_same(y));
  d.zero_();
  CHECK(y.version() == 1);
  CHECK(of(y) == Values{0, 0});
  CHECK_THROWS_WITH_AS(sum(y).backward(), Contains("modified in place by zero_"), GradError);
}

TEST_CASE("gradients are summed to what broadcasting spread") {
  Tensor x = from_data(Values{1, 2}, {2, 1}).requires_grad_(), y = leaf({3, 4, 5}),
         z = scalar(2, DType::Float64).requires_grad_();
  sum(x * y * z).backward();
  CHECK(x.grad().shape() == Shape{2, 1});
  CHECK(of(x.grad()) == Values{24, 24});
  CHECK(of(y.grad()) == Values{6, 6, 6});
  CHECK(z.grad().shape() == Shape{});
  CHECK(z.grad().item() == 36);
}

TEST_CASE("the two classic mistakes with recurrent nets are named") {
  Tensor w = leaf({0.5}), x = tensor({1.0}, DType::Float64);
  auto step = [&](const Tensor& h) { return tanh(h * w + x); };
  SUBCASE("a state carried over without detach") {
    Tensor h = step(zeros(1, DType::Float64));
    sum(h).backward();
    CHECK_THROWS_WITH_AS(sum(step(h)).backward(), Contains("or detach() what is carried over"), GradError);
    w.set_grad({});
    sum(step(h.detach())).backward();
    CHECK(w.grad().defined());
  }
  SUBCASE("parameters written while their graph is still needed") {
    Tensor loss = sum(step(step(zeros(1, DType::Float64))));
    loss.backward({.retain_graph = true});
    Values before = of(w.grad());
    {
      NoGrad guard;
      w.add_(w.grad(), -0.1);
    }
    CHECK_THROWS_WITH_AS(loss.backward(), Contains("modified in place by add_"), GradError);
    CHECK(of(w.grad()) == before);
  }
}

TEST_CASE("what a gradient function raises arrives, and nothing has changed") {
  struct Mine : std::runtime_error {
    using runtime_error::runtime_error;
  };
  Tensor x = leaf({1, 2}), w = leaf({3, 4});
  sum(x * w).backward();
  Values dx = of(x.grad()), dw = of(w.grad());
  auto faulty = [](const Tensor& a) {
    return record("faulty", {a}, a.detach() * 1, [](const Tensor&) -> Tensor { throw Mine("mine"); });
  };
  Tensor loss = sum(faulty(x * x) * w);  // w's share is computed before
  for (bool create_graph : {false, true}) {
    CHECK_THROWS_WITH_AS(loss.backward({.retain_graph = true, .create_graph = create_graph}), "mine", Mine);
    CHECK(GradMode::enabled());
    CHECK(of(x.grad()) == dx);
    CHECK(of(w.grad()) == dw);
  }
  sum(x * w).backward();
  CHECK(of(x.grad()) == Values{6, 8});
}

TEST_CASE("backward inside a gradient function") {
  Tensor x = leaf({2}), counter = leaf({1});
  SUBCASE("recomputes a part of the graph") {
    auto checkpointed = [](const Tensor& a) {
      return record("checkpoint", {a}, tanh(a.detach()) * 3, save(a), [](const Tensor& g, const Saved& s) {
        GradMode mode(true);
        Tensor again = s[0].detach().requires_grad_();
        return grad({tanh(again) * 3}, {again}, {.grad_outputs = {g}})[0];
      });
    };
    sum(checkpointed(x * x)).backward();
    Tensor y = leaf({2});
    sum(tanh(y * y) * 3).backward();
    CHECK(x.grad().item() == y.grad().item());
  }
  SUBCASE("nests") {
    std::function<Tensor(const Tensor&, int)> nested = [&](const Tensor& a, int depth) {
      return record("nested", {a}, a.detach() * 1, [&, depth](const Tensor& g) {
        GradMode mode(true);
        sum(counter * 1).backward();
        if (depth > 1) sum(nested(leaf({1}), depth - 1)).backward();
        return g;
      });
    };
    nested(x, 100).backward();
    CHECK(of(counter.grad()) == Values{100});
    CHECK(of(x.grad()) == Values{1});
  }
  SUBCASE("through its own graph must retain it: it would free what is being read") {
    bool inside = false, retain = false;
    Tensor y = record("again", {x}, x.detach() * 3, save(x), [&](const Tensor& g, const Saved& s) {
      const Tensor& saved = s[0];
      if (!std::exchange(inside, true)) y.backward({.retain_graph = retain});
      return g + saved;
    });
    for (bool outer : {false, true}) {
      inside = false;
      CHECK_THROWS_WITH_AS(y.backward({.retain_graph = outer}),
                           Contains("again: its gradient function runs backward through its own graph"), GradError);
      CHECK_FALSE(x.grad().defined());
    }
    inside = false;
    retain = true;
    y.backward();
    CHECK(of(x.grad()) == Values{6});  // 1 + x, twice
  }
}

TEST_CASE("retain_grad: of a leaf it says nothing of what that is later") {
  Tensor w = ones(2).requires_grad_(), x = ones(2).requires_grad_();
  x.retain_grad();
  x.requires_grad_(false);
  x.mul_(w);
  sum(x).backward();
  CHECK_FALSE(x.grad().defined());
}

namespace {
struct Counted : Function<Counted> {
  static Tensor forward(FunctionContext&, const Tensor& x) { return x * 2; }
  static std::vector<Tensor> backward(FunctionContext&, const Tensor& g) {
    ++calls;
    return {g * 2};
  }
  static inline int calls = 0;
};
}  // namespace

TEST_CASE("backward: what leads to leaves that need no gradient any more is not run") {
  const Tensor x = ones(2).requires_grad_(), w = ones(2).requires_grad_(), y = sum(Counted::apply(x) + w);
  x.requires_grad_(false);
  y.backward();
  CHECK(Counted::calls == 0);
}
