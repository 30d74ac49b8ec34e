#include "support/gradients.h"
#include "support/memory.h"
#include "support/raises.h"

#include <doctest/doctest.h>
#include <unroll/autograd/engine.h>
#include <unroll/autograd/grad_mode.h>
#include <unroll/autograd/gradcheck.h>
#include <unroll/autograd/ops/activation.h>
#include <unroll/autograd/ops/arithmetic.h>
#include <unroll/autograd/ops/reduce.h>
#include <unroll/autograd/record.h>
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
      {"sub_", [](auto& h, auto& b) { h.sub_(b); }, [](auto& h, auto& b) { return h - b; }},
      {"sub_ number", [](auto& h, auto&) { h.sub_(3); }, [](auto& h, auto&) { return h - 3; }},
      {"mul_", [](auto& h, auto& b) { h.mul_(b); }, [](auto& h, auto& b) { return h * b; }},
      {"mul_ number", [](auto& h, auto&) { h.mul_(3); }, [](auto& h, auto&) { return h * 3; }},
      {"div_", [](auto& h, auto& b) { h.div_(b); }, [](auto& h, auto& b) { return h / b; }},
      {"div_ number", [](auto& h, auto&) { h.div_(3); }, [](auto& h, auto&) { return h / 3; }},
      {"clamp_", [](auto& h, auto&) { h.clamp_(0.6, 1.2); }, [](auto& h, auto&) { return clamp(h, 0.6, 1.2); }},
      {"exp_", [](auto& h, auto&) { h.exp_(); }, [](auto& h, auto&) { return exp(h); }},
      {"relu_", [](auto& h, auto&) { h.sub_(1).relu_(); }, [](auto& h, auto&) { return relu(h - 1); }},
      {"sigmoid_", [](auto& h, auto&) { h.sigmoid_(); }, [](auto& h, auto&) { return sigmoid(h); }},
      {"tanh_", [](auto& h, auto&) { h.tanh_(); }, [](auto& h, auto&) { return tanh(h); }},
      {"add_ itself", [](auto& h, auto&) { h.add_(h); }, [](auto& h, auto&) { return h + h; }},
      {"add_ itself, alpha", [](auto& h, auto&) { h.add_(h, 2); }, [](auto& h, auto&) { return 3 * h; }},
      {"mul_ itself", [](auto& h, auto&) { h.mul_(h); }, [](auto& h, auto&) { return h * h; }},
      {"div_ itself", [](auto& h, auto&) { h.div_(h); }, [](auto& h, auto&) { return h / h; }},
      {"copy_ itself", [](auto& h, auto&) { h.copy_(h); }, [](auto& h, auto&) { return h * 1; }},
      {"mul_ a part of itself", [](auto& h, auto&) { h.mul_(narrow(h, 1, 0, 1)); },
       [](auto& h, auto&) { return h * narrow(h, 1, 0, 1); }},
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
  SUBCASE("a view of a leaf that requires a gradient, when recorded") {
    Tensor v = select(narrow(x, 0, 0, 1), 0, 0);
    CHECK_THROWS_WITH_AS(v.mul_(3), Contains("mul_: a leaf that requires a gradient, or a view of one"), GradError);
    Tensor plain = zeros(2, DType::Float64), w = narrow(plain, 0, 0, 1);
    plain.requires_grad_();
    CHECK_THROWS_AS(w.add_(1), GradError);
    NoGrad guard;
    v.mul_(3);
    CHECK(of(x) == Values{3, 2});
    CHECK(x.version() == 1);
    CHECK(v.version() == 1);
  }
  SUBCASE("pieces, when recorded") {
    Tensor h = x * 2, plain = zeros({2, 2}, DType::Float64);
    for (const std::vector<Tensor>& pieces : {unbind(h), split(h, 1), split(h, {1, 1}), chunk(h, 2)}) {
      CHECK_THROWS_WITH_AS(pieces[0].add_(1), Contains("add_: a piece that split, chunk or unbind"), GradError);
      CHECK_THROWS_AS(unsqueeze(pieces[0], 0).zero_(), GradError);
    }
    Tensor row = unbind(plain)[1];
    CHECK_THROWS_AS(row.add_(x), GradError);
    row.add_(1);  // without history nothing speaks against it
    CHECK(of(plain) == Values{0, 0, 1, 1});
    NoGrad guard;
    unbind(h)[0].add_(1);
    CHECK(of(h) == Values{3, 4});
  }
  SUBCASE("a view that was made where nothing is recorded") {
    Tensor h = x * 2, plain = zeros(2, DType::Float64), of_leaf, of_computed, of_plain;
    {
      NoGrad guard;
      of_leaf = narrow(x, 0, 0, 1), of_computed = narrow(h, 0, 0, 1), of_plain = narrow(plain, 0, 0, 1);
    }
    CHECK_FALSE(of_computed.requires_grad());
    for (const Tensor& v : {of_leaf, of_computed, view(of_computed, 1)})
      CHECK_THROWS_WITH_AS(v.add_(1), Contains("add_: this view was made under NoGrad"), GradError);
    of_plain.add_(1);
    CHECK(of(plain) == Values{1, 0});
    CHECK_THROWS_WITH_AS(of_plain.add_(narrow(x, 0, 0, 1)), Contains("no record of what it is a view of"), GradError);
    CHECK_THROWS_AS(views::narrow(h, 0, 0, 1).copy_(narrow(x, 0, 0, 1)), GradError);
    CHECK(of(h) == Values{2, 4});
  }
  SUBCASE("memory shared with a view that was recorded as something else") {
    Tensor h = x * 2, v = record("reversed", {h}, views::alias(views::narrow(h, 0, 0, 2)), [](auto&g) { return -g; });
    CHECK_THROWS_WITH_AS(h.add_(1), Contains("add_: this memory is shared with a view"), GradError);
    CHECK_THROWS_AS(v.add_(1), GradError);
    CHECK(of(v) == Values{2, 4});
    v = Tensor();
    h.add_(1);
    CHECK(of(h) == Values{3, 5});
  }
  SUBCASE("a view that was made a leaf, once its base is written") {
    Tensor plain = zeros(2, DType::Float64), v = narrow(plain, 0, 0, 1).requires_grad_();
    plain.add_(1);
    CHECK(v.is_leaf());
    plain.add_(x);
    CHECK_THROWS_WITH_AS(v.requires_grad(), Contains("is no leaf any more"), GradError);
  }
  SUBCASE("expanded memory") {
    Tensor e = expand(zeros(1), 3);
    CHECK_THROWS_WITH_AS(e.add_(1), Contains("expanded"), ValueError);
    Tensor inside = select(expand(x * 2, {2, 2}).detach(), 0, 0);  // no stride of 0 is left, but the base has one
    CHECK_THROWS_AS(inside.add_(x), ValueError);
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
    CHECK_THROWS_AS(arange(3).sub_(0.5), DTypeError);
    CHECK_THROWS_AS(arange(3).div_(2), DTypeError);
    CHECK_THROWS_AS(arange(3).tanh_(), DTypeError);
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

TEST_CASE("in place: integers") {
  Tensor n = arange(4);
  slice(n, 0, 0, 4, 2).add_(10).sub_(3).mul_(2).mul_(narrow(n, 0, 1, 1));
  n.sub_(tensor({1}));
  CHECK(n.to_vector<std::int64_t>() == std::vector<std::int64_t>{13, 0, 17, 2});
}

TEST_CASE("in place: what is overwritten has a gradient of zero, as in torch") {
  Tensor x = leaf({1, 2, 3});
  SUBCASE("all of it") {
    Tensor h = x * 2;
    h.zero_();
    CHECK(h.requires_grad());
    sum(h).backward();
    CHECK(of(x.grad()) == Values{0, 0, 0});
  }
  SUBCASE("a part") {
    Tensor h = x * 2;
    select(h, 0, 1).fill_(7);
    CHECK(of(h) == Values{2, 7, 6});
    sum(h).backward();
    CHECK(of(x.grad()) == Values{2, 0, 2});
  }
}

TEST_CASE("in place: no graph stays behind, whether backward ran, raised or never came") {
  Tensor x = leaf({1, 2, 3}), w = leaf({4, 5, 6});
  auto leaves_nothing = [](auto f) {
    const Live before;
    f();
    CHECK(Live() == before);
  };
  leaves_nothing([&] {
    Tensor h = x * 1;
    h.add_(h * w);
  });
  leaves_nothing([&] {
    Tensor h = x * 1;
    h.add_(h * w);
    CHECK_THROWS_AS(sum(h).backward(), GradError);
  });
  leaves_nothing([&] {
    Tensor h = x * 1, v = narrow(h, 0, 1, 2);
    v.mul_(narrow(h, 0, 0, 2)).tanh_();
    h.mul_(sum(exp(v)));
  });
  leaves_nothing([&] {  // outputs of time steps, written into a tensor made beforehand and read from there
    Tensor out = zeros({4, 3}, DType::Float64);
    for (int t = 1; t < 4; ++t) select(out, 0, t).copy_(tanh(select(out, 0, t - 1) * w + x));
  });
  leaves_nothing([&] {
    Tensor h = x * 1, y = sin(h);
    y.exp_().retain_grad();
    grad({sum(y)}, {x}, {.create_graph = true});
  });
}

TEST_CASE("in place: memory that runs out leaves everything as it was") {
  Tensor x = leaf({1, 2, 3, 4}), w = leaf({3, 4});
  std::int64_t failures = 0;
  for (bool done = false; !done; ++failures) {
    Tensor h = x * 2, v = narrow(h, 0, 1, 2);
    h.add_(1);
    const detail::GradSlot* history = h.grad_slot();
    const std::uint32_t version = h.version();
    try {
      FailAfter limit(failures);
      v.mul_(w);
      done = true;
    } catch (const std::bad_alloc&) {
      CHECK(h.version() == version);
      CHECK(h.grad_slot() == history);
      CHECK(of(h) == Values{3, 5, 7, 9});
    }
    v = {};
    sum(h * 2).backward();
    CHECK(of(x.grad()) == (done ? Values{4, 12, 16, 4} : Values{4, 4, 4, 4}));
    x.set_grad({});
  }
  CHECK(failures > 5);
}
