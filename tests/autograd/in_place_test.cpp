#include "support/gradients.h"

#include <doctest/doctest.h>
#include <unroll/autograd/engine.h>
#include <unroll/autograd/grad_mode.h>
#include <unroll/autograd/gradcheck.h>
#include <unroll/autograd/ops/activation.h>
#include <unroll/autograd/ops/arithmetic.h>
#include <unroll/autograd/ops/reduce.h>
#include <unroll/core/random.h>
#include <unroll/core/view.h>

#include <functional>

using namespace unroll;
using doctest::Contains;

namespace {

using Tensors = std::vector<Tensor>;
bool close(const Tensor& a, const Tensor& b) { return allclose(a, b, 1e-13, 0); }

}  // namespace

TEST_CASE("in place equals out of place: values, gradients, second derivatives") {
  struct Row {
    std::string name;
    std::function<void(const Tensor& h, const Tensor& b)> in_place;
    std::function<Tensor(const Tensor& h, const Tensor& b)> plain;
  };
  const Row rows[] = {
      {"fill_", [](auto& h, auto&) { h.fill_(2); }, [](auto& h, auto&) { return full_like(h, 2); }},
      {"zero_", [](auto& h, auto&) { h.zero_(); }, [](auto& h, auto&) { return zeros_like(h); }},
      {"copy_", [](auto& h, auto& b) { h.copy_(b); }, [](auto& h, auto& b) { return b + zeros_like(h); }},
      {"add_", [](auto& h, auto& b) { h.add_(b); }, [](auto& h, auto& b) { return h + b; }},
      {"add_ alpha", [](auto& h, auto& b) { h.add_(b, -3); }, [](auto& h, auto& b) { return h - 3 * b; }},
      {"add_ number", [](auto& h, auto&) { h.add_(3); }, [](auto& h, auto&) { return h + 3; }},
      {"mul_", [](auto& h, auto& b) { h.mul_(b); }, [](auto& h, auto& b) { return h * b; }},
      {"mul_ number", [](auto& h, auto&) { h.mul_(3); }, [](auto& h, auto&) { return h * 3; }},
      {"add_ itself", [](auto& h, auto&) { h.add_(h); }, [](auto& h, auto&) { return h + h; }},
      {"add_ itself, alpha", [](auto& h, auto&) { h.add_(h, 2); }, [](auto& h, auto&) { return 3 * h; }},
      {"mul_ itself", [](auto& h, auto&) { h.mul_(h); }, [](auto& h, auto&) { return h * h; }},
      {"copy_ itself", [](auto& h, auto&) { h.copy_(h); }, [](auto& h, auto&) { return h * 1; }},
      {"several", [](auto& h, auto& b) { h.mul_(b).add_(b).mul_(b); },
       [](auto& h, auto& b) { return (h * b + b) * b; }},
  };
  Generator generator(3);
  Tensor a = rand({2, 3}, DType::Float64, generator).requires_grad_();
  for (const Row& row : rows)
    for (const Tensor& b : {rand({2, 3}, DType::Float64, generator), rand({1, 3}, DType::Float64, generator),
                            scalar(2, DType::Float64)}) {
      CAPTURE(row.name);
      CAPTURE(b.shape().size());
      b.requires_grad_();
      auto changed = [&](const Tensors& in) {
        Tensor h = in[0] + 0.5;
        row.in_place(h, in[1]);
        return h * tanh(h);
      };
      auto plain = [&](const Tensors& in) {
        Tensor h = row.plain(in[0] + 0.5, in[1]);
        return h * tanh(h);
      };
      Tensor y = changed({a, b}), z = plain({a, b});
      CHECK(close(y, z));
      CHECK(gradcheck(changed, {a, b}));
      CHECK(gradgradcheck(changed, {a, b}));
      if (!z.requires_grad()) continue;
      for (const Tensor& x : {a, b}) {
        Tensor dy = grad({sum(y)}, {x}, {.retain_graph = true, .allow_unused = true})[0];
        Tensor dz = grad({sum(z)}, {x}, {.retain_graph = true, .allow_unused = true})[0];
        CHECK(close(dy.defined() ? dy : zeros_like(x), dz.defined() ? dz : zeros_like(x)));
      }
    }
}

TEST_CASE("in place: what was computed from the old elements keeps their gradient") {
  Tensor x = leaf({1, 2});
  Tensor h = x * 2, before = h + 0.0;
  h.mul_(5);
  sum(h + before).backward();
  CHECK(of(x.grad()) == Values{12, 12});
  CHECK(of(before) == Values{2, 4});
}

TEST_CASE("in place: a plain tensor takes part in the graph from then on") {
  Tensor x = leaf({1, 2}), h = zeros(2, DType::Float64);
  h.add_(x, 3);
  CHECK(h.requires_grad());
  CHECK_FALSE(h.is_leaf());
  sum(h).backward();
  CHECK(of(x.grad()) == Values{3, 3});
  CHECK_FALSE(h.grad().defined());
  SUBCASE("unless it holds integers") {
    Tensor n = zeros(2, DType::Int64);
    n.copy_(x);
    CHECK_FALSE(n.requires_grad());
    CHECK(n.to_vector<std::int64_t>() == std::vector<std::int64_t>{1, 2});
  }
}

TEST_CASE("in place: retain_grad stays with the tensor") {
  Tensor x = leaf({1, 2}), h = x * 2;
  h.retain_grad();
  h.mul_(3);
  sum(h * h).backward();
  CHECK(of(h.grad()) == Values{12, 24});
  CHECK(of(x.grad()) == Values{72, 144});
}

TEST_CASE("in place: refused where history would no longer be true") {
  Tensor x = leaf({1, 2});
  SUBCASE("a leaf that requires a gradient, and views of it") {
    CHECK_THROWS_WITH_AS(x.add_(1), Contains("add_: a leaf that requires a gradient"), GradError);
    CHECK_THROWS_AS(x.zero_(), GradError);
    CHECK_THROWS_AS(x.copy_(x.detach()), GradError);
    CHECK(x.version() == 0);
    CHECK(of(x) == Values{1, 2});
    NoGrad guard;
    x.add_(1);
    CHECK(of(x) == Values{2, 3});
    CHECK(x.version() == 1);
    CHECK(x.is_leaf());
  }
  SUBCASE("a base with views, a view of a base") {
    Tensor h = x * 2, view = views::narrow(h, 0, 0, 1);
    CHECK_THROWS_WITH_AS(h.add_(1), Contains("shared with a view"), GradError);
    CHECK_THROWS_WITH_AS(view.copy_(leaf({1})), Contains("shared with a view"), GradError);
    CHECK(of(h) == Values{2, 4});
    CHECK_FALSE(view.requires_grad());
    view = Tensor();
    h.add_(1);
    sum(h).backward();
    CHECK(of(x.grad()) == Values{2, 2});
  }
  SUBCASE("expanded memory") {
    Tensor e = views::expand(zeros(1), 3);
    CHECK_THROWS_WITH_AS(e.add_(1), Contains("expanded"), ValueError);
    NoGrad guard;
    CHECK_THROWS_AS(e.zero_(), ValueError);
  }
  SUBCASE("a result that is larger") {
    Tensor h = x * 2;
    CHECK_THROWS_WITH_AS(h.add_(ones({3, 2}, DType::Float64)),
                         Contains("shape (2,) cannot hold the result of shape (3, 2)"), ShapeError);
    CHECK_THROWS_AS(h.mul_(ones(3, DType::Float64)), ShapeError);
    CHECK_THROWS_AS(scalar(1, DType::Float64).copy_(x), ShapeError);
  }
  SUBCASE("another dtype") {
    CHECK_THROWS_WITH_AS((x * 2).add_(ones(2)), Contains("float64 and float32"), DTypeError);
    CHECK_THROWS_AS(arange(3).add_(0.5), DTypeError);
    CHECK_THROWS_AS(arange(3).mul_(0.5), DTypeError);
    CHECK_THROWS_AS(tensor({true}).add_(tensor({true})), DTypeError);
  }
}

TEST_CASE("in place: of operands that overlap") {
  Tensor x = arange(4).to(DType::Float64);
  views::narrow(x, 0, 1, 3).copy_(views::narrow(x, 0, 0, 3));
  CHECK(of(x) == Values{0, 0, 1, 2});
  Tensor m = from_data(Values{1, 2, 3, 4}, {2, 2});
  m.add_(views::transpose(m, 0, 1));
  CHECK(of(m) == Values{2, 5, 5, 8});
}
