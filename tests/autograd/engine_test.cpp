#include "support/gradients.h"

#include <doctest/doctest.h>
#include <unroll/autograd/engine.h>
#include <unroll/autograd/grad_mode.h>
#include <unroll/autograd/ops/activation.h>
#include <unroll/autograd/ops/arithmetic.h>
#include <unroll/autograd/ops/reduce.h>
#include <unroll/autograd/ops/shape.h>
#include <unroll/autograd/record.h>
#include <unroll/core/view.h>

#include <thread>

using namespace unroll;
using doctest::Contains;

namespace {

// x.t() with its gradient.
Tensor transposed(const Tensor& x) {
  return record("t", {x}, views::transpose(x, 0, 1), [](const Tensor& g) { return transposed(g); });
}

// {2x, 3x, an Int64 tensor} by one node.
std::vector<Tensor> doubled_and_tripled(const Tensor& x) {
  std::vector<Tensor> y;
  {
    NoGrad guard;
    y = {x * 2, x * 3, arange(3)};
  }
  record_all("pair", {x}, y, {}, [](Gradients g, const Saved&, std::span<Tensor> dx) {
    if (g[0].defined()) dx[0] = g[0] * 2;
    if (g[1].defined()) dx[0] = dx[0].defined() ? dx[0] + g[1] * 3 : g[1] * 3;
    CHECK_FALSE(g[2].defined());
  });
  return y;
}

}  // namespace

TEST_CASE("leaves and what is computed from them") {
  Tensor x = leaf({1, 2});
  CHECK(x.is_leaf());
  CHECK(x.requires_grad());
  Tensor y = x * 2;
  CHECK_FALSE(y.is_leaf());
  CHECK(y.requires_grad());
  Tensor plain = tensor({1.0, 2.0}) * 2;
  CHECK(plain.is_leaf());
  CHECK_FALSE(plain.requires_grad());
  CHECK_THROWS_WITH_AS(arange(3).requires_grad_(), Contains("int64"), DTypeError);
  CHECK_THROWS_AS(tensor({true}).requires_grad_(), DTypeError);
  CHECK_NOTHROW(arange(3).requires_grad_(false));
  y.requires_grad_();  // says nothing new
  CHECK_FALSE(y.is_leaf());
  CHECK_THROWS_WITH_AS(y.requires_grad_(false), Contains("detach()"), GradError);
  CHECK_FALSE(unroll::gt(x, 1).requires_grad());
}

TEST_CASE("backward: the first gradient is stored fresh") {
  for (bool create_graph : {false, true}) {
    CAPTURE(create_graph);
    Tensor a = leaf({1, 2}), b = leaf({3, 4}), g = tensor({5.0, 6.0}, DType::Float64);
    (a + b).backward({.gradient = g, .create_graph = create_graph});
    CHECK(of(a.grad()) == Values{5, 6});
    CHECK(of(b.grad()) == Values{5, 6});
    CHECK_FALSE(a.grad().shares_memory(g));
    CHECK_FALSE(b.grad().shares_memory(g));
    CHECK_FALSE(a.grad().shares_memory(b.grad()));
    CHECK(g.version() == 0);
    for (const Tensor& x : {a, b}) x.set_grad({});
  }
}

TEST_CASE("backward: later gradients are added to the same tensor") {
  Tensor x = leaf({1, 2});
  sum(x * 3).backward();
  Tensor first = x.grad();
  sum(x * x).backward();
  CHECK(x.grad().is_same(first));
  CHECK(of(first) == Values{5, 7});
  CHECK(first.version() == 1);
  SUBCASE("but under create_graph to a new one") {
    sum(x * x).backward({.create_graph = true});
    CHECK_FALSE(x.grad().is_same(first));
    CHECK(of(x.grad()) == Values{7, 11});
    CHECK(of(first) == Values{5, 7});
    x.set_grad({});
  }
  SUBCASE("which may itself be what is passed on, in whatever geometry") {
    (x * 1).backward({.gradient = x.grad()});
    CHECK(of(first) == Values{10, 14});
    Tensor m = tensor({{1.0, 2.0}, {3.0, 4.0}}, DType::Float64).requires_grad_();
    m.set_grad(m.detach().clone());
    transposed(m).backward({.gradient = m.grad()});
    CHECK(of(m.grad()) == Values{2, 5, 5, 8});
  }
  SUBCASE("unless its elements share memory") {
    Tensor y = leaf({1, 1});
    x.set_grad(views::expand(ones(1, DType::Float64), 2));
    CHECK_THROWS_WITH_AS(sum(x * y).backward(), Contains("expanded"), ValueError);
    CHECK(of(x.grad()) == Values{1, 1});
    CHECK_FALSE(y.grad().defined());
  }
}

TEST_CASE("backward: whose gradient may be left out") {
  for (Shape shape : {Shape{}, Shape{1}, Shape{1, 1, 1}}) {
    Tensor x = full(shape, 2, DType::Float64).requires_grad_();
    (x * x).backward();
    CHECK(x.grad().shape() == shape);
    CHECK(x.grad().item() == 4);
  }
  Tensor x = leaf({1, 2});
  CHECK_THROWS_WITH_AS((x * 2).backward(), Contains("shape (2,)"), GradError);
  CHECK_FALSE(x.grad().defined());
  Tensor none = zeros(0, DType::Float64).requires_grad_();
  CHECK_THROWS_AS((none * 2).backward(), GradError);
}

TEST_CASE("backward: the gradient has the output's shape") {
  Tensor x = leaf({1});
  CHECK_THROWS_WITH_AS((x * 2).backward({.gradient = scalar(1, DType::Float64)}), Contains("shape (), expected (1,)"),
                       ShapeError);
  CHECK_THROWS_AS(sum(x * 2).backward({.gradient = ones(1, DType::Float64)}), ShapeError);
  SUBCASE("and is converted to its dtype") {
    (x * 2).backward({.gradient = tensor({1.5})});
    CHECK(x.grad().dtype() == DType::Float64);
    CHECK(of(x.grad()) == Values{3});
  }
}

TEST_CASE("backward: wrong use") {
  Tensor x = leaf({1, 2});
  CHECK_THROWS_WITH_AS(sum(x.detach()).backward(), Contains("does not require a gradient"), GradError);
  CHECK_THROWS_AS(Tensor().backward(), GradError);
  CHECK_THROWS_AS(backward({}), GradError);
  CHECK_THROWS_WITH_AS(backward({sum(x)}, {scalar(1), scalar(1)}), Contains("2 gradients came for 1 outputs"),
                       GradError);
  CHECK_THROWS_AS(backward({sum(x)}, {scalar(1)}, {.gradient = scalar(1)}), GradError);
  CHECK_THROWS_WITH_AS(sum(x).backward({.inputs = std::vector<Tensor>{}}), Contains("empty"), GradError);
  CHECK_THROWS_AS(sum(x).backward({.inputs = std::vector{tensor({1.0})}}), GradError);
  CHECK_FALSE(x.grad().defined());
  CHECK_THROWS_AS(x.set_grad(zeros(3, DType::Float64)), ShapeError);
  CHECK_THROWS_AS(x.set_grad(zeros(2)), DTypeError);
  CHECK_THROWS_AS(x.set_grad(x), GradError);
}

TEST_CASE("backward: of a leaf, and of several outputs") {
  Tensor x = leaf({3});
  x.backward();
  CHECK(of(x.grad()) == Values{1});
  Tensor y = x * 2;
  backward({y, y * y, x}, {Tensor(), tensor({10.0}, DType::Float64), tensor({0.5}, DType::Float64)});
  CHECK(of(x.grad()) == Values{1 + 2 + 10 * 2 * 6 * 2 + 0.5});
}

TEST_CASE("backward: a second time") {
  Tensor x = leaf({1, 2});
  auto programs = {+[](const Tensor& a) { return sum(a * a); }, +[](const Tensor& a) { return sum(a * 2); },
                   +[](const Tensor& a) { return sum(exp(a)); }};
  for (auto program : programs) {
    Tensor loss = program(x);
    loss.backward();
    Values once = of(x.grad());
    CHECK_THROWS_WITH_AS(loss.backward(), Contains("second time"), GradError);
    CHECK_THROWS_WITH_AS(loss.backward(), Contains("retain_graph = true"), GradError);
    CHECK_THROWS_AS(grad({loss}, {x}), GradError);
    CHECK(of(x.grad()) == once);
    x.set_grad({});
  }
  SUBCASE("adds, if the graph was retained") {
    Tensor loss = sum(x * x);
    loss.backward({.retain_graph = true});
    loss.backward({.retain_graph = true});
    loss.backward();
    CHECK(of(x.grad()) == Values{6, 12});
    CHECK_THROWS_AS(loss.backward(), GradError);
  }
  SUBCASE("create_graph retains it, unless told otherwise") {
    Tensor loss = sum(x * x);
    grad({loss}, {x}, {.create_graph = true});
    grad({loss}, {x}, {.retain_graph = false, .create_graph = true});
    CHECK_THROWS_AS(grad({loss}, {x}), GradError);
  }
  SUBCASE("a part of the graph that was not walked is still there") {
    Tensor h = x * x, y = sum(h * 3);
    grad({y}, {h});
    sum(h).backward();
    CHECK(of(x.grad()) == Values{2, 4});
  }
}

TEST_CASE("backward: inputs restricts what accumulates") {
  Tensor x = leaf({1, 2}), w = leaf({3, 4});
  Tensor h = x * w, loss = sum(h * h);
  loss.backward({.retain_graph = true, .inputs = std::vector{w}});
  CHECK_FALSE(x.grad().defined());
  CHECK_FALSE(h.grad().defined());
  CHECK(of(w.grad()) == Values{6, 32});
  loss.backward({.retain_graph = true, .inputs = std::vector{h, x, h}});
  CHECK(of(h.grad()) == Values{6, 16});
  CHECK(of(x.grad()) == Values{18, 64});
  CHECK(of(w.grad()) == Values{6, 32});
  loss.backward({.inputs = std::vector{leaf({1})}});  // nothing depends on it
  CHECK(of(w.grad()) == Values{6, 32});
}

TEST_CASE("backward: a leaf that was frozen meanwhile gets nothing") {
  Tensor x = leaf({1, 2}), w = leaf({3, 4});
  Tensor loss = sum(x * w);
  w.requires_grad_(false);
  loss.backward();
  CHECK_FALSE(w.grad().defined());
  CHECK(of(x.grad()) == Values{3, 4});
}

TEST_CASE("retain_grad") {
  Tensor x = leaf({1, 2});
  Tensor h = x * 2, loss = sum(h * h);
  h.retain_grad();
  x.retain_grad();
  loss.backward({.retain_graph = true});
  CHECK(of(h.grad()) == Values{4, 8});
  CHECK(of(x.grad()) == Values{8, 16});
  loss.backward();
  CHECK(of(h.grad()) == Values{8, 16});
  CHECK_FALSE(loss.grad().defined());
  CHECK_THROWS_WITH_AS(x.detach().retain_grad(), Contains("does not require"), GradError);
  SUBCASE("of an op's second output") {
    const std::vector<Tensor> parts = split(x, 1);
    parts[1].retain_grad();
    sum(parts[1] * 3).backward();
    CHECK(of(parts[1].grad()) == Values{3});
  }
  SUBCASE("of the output itself, and of aliased gradients") {
    Tensor a = x + 0.0, b = a + 0.0;
    a.retain_grad();
    b.retain_grad();
    b.backward({.gradient = ones(2, DType::Float64)});
    CHECK(of(a.grad()) == Values{1, 1});
    CHECK(of(b.grad()) == Values{1, 1});
    CHECK_FALSE(a.grad().shares_memory(b.grad()));
  }
}

TEST_CASE("backward: a gradient is overwritten only where nobody sees it") {
  Tensor x = leaf({0.5, -1}), h = tanh(x), middle = tanh(h), y = tanh(middle);
  h.retain_grad();
  Tensor seen;
  HookHandle handle = middle.register_hook([&](const Tensor& g) { seen = g; });
  const Tensor given = tensor({1.0, 2.0}, DType::Float64);
  auto slope = [](const Tensor& t) { return 1 - t * t; };
  NoGrad guard;
  const Tensor at_middle = given * slope(y), at_h = at_middle * slope(middle), at_x = at_h * slope(h);
  for (bool retain : {true, true, false}) {
    x.set_grad({}), h.set_grad({});
    y.backward({.gradient = given, .retain_graph = retain});
    CHECK(of(given) == Values{1, 2});
    CHECK(near(seen, of(at_middle)));
    CHECK(near(h.grad(), of(at_h)));
    CHECK(near(x.grad(), of(at_x)));
  }
}

TEST_CASE("backward: a gradient that is handed on is overwritten only where nobody sees it") {
  Tensor x = leaf({0.5, -1}), t = tanh(x), handed = t + 1, twice = handed + handed, y = tanh(twice);
  t.retain_grad(), handed.retain_grad();
  Tensor seen;
  HookHandle handle = twice.register_hook([&](const Tensor& g) { seen = g; });
  const Tensor given = tensor({1.0, 2.0}, DType::Float64);
  auto slope = [](const Tensor& s) { return 1 - s * s; };
  NoGrad guard;
  const Tensor at_twice = given * slope(y), at_handed = at_twice * 2, at_x = at_handed * slope(t);
  for (bool retain : {true, true, false}) {
    x.set_grad({}), t.set_grad({}), handed.set_grad({});
    y.backward({.gradient = given, .retain_graph = retain});
    CHECK(of(given) == Values{1, 2});
    CHECK(near(seen, of(at_twice)));
    CHECK(near(handed.grad(), of(at_handed)));
    CHECK(near(t.grad(), of(at_handed)));
    CHECK(near(x.grad(), of(at_x)));
  }
}

TEST_CASE("backward: ops that were met early and ones that were met late run in order") {
  // Inputs by rising, by falling and by mixed numbers; the last op reads all of them.
  for (const std::vector<std::size_t>& order :
       {std::vector<std::size_t>{0, 1, 2, 3, 4}, {4, 3, 2, 1, 0}, {2, 4, 0, 3, 1}}) {
    Tensor x = leaf({2});
    std::vector<Tensor> powers{x};
    for (int i = 0; i < 4; ++i) powers.push_back(powers.back() * x);
    std::vector<Tensor> read;
    for (std::size_t i : order) read.push_back(powers[i]);
    backward({sum(stack(read))});
    CHECK(of(x.grad()) == Values{1 + 4 + 12 + 32 + 80});
  }
}

TEST_CASE("nodes with several outputs") {
  Tensor x = leaf({1, 2});
  SUBCASE("get undefined gradients where none arrived") {
    auto y = doubled_and_tripled(x);
    CHECK_FALSE(y[2].requires_grad());
    sum(y[1]).backward();
    CHECK(of(x.grad()) == Values{3, 3});
  }
  SUBCASE("wait for all that arrive") {
    auto y = doubled_and_tripled(x);
    sum(y[0] * 10 + y[1] + exp(y[0] * 0)).backward();
    CHECK(of(x.grad()) == Values{23, 23});
  }
  SUBCASE("are not run when nothing arrives") {
    auto y = doubled_and_tripled(x);
    Tensor stopped = record("stop", {y[0]}, y[0].detach() * 1, [](const Tensor&) { return Tensor(); });
    sum(stopped + x).backward();
    CHECK(of(x.grad()) == Values{1, 1});
  }
  SUBCASE("each output can be asked for") {
    auto y = doubled_and_tripled(x);
    auto d = grad({sum(y[0] * y[1])}, {y[1], y[0]});
    CHECK(of(d[0]) == Values{2, 4});
    CHECK(of(d[1]) == Values{3, 6});
  }
}

TEST_CASE("backward: a gradient of another dtype is converted to its output's") {
  Tensor x = leaf({1, 2});
  backward({x}, {tensor({3, 4}, DType::Float32)});
  CHECK(x.grad().dtype() == DType::Float64);
  CHECK(of(x.grad()) == Values{3, 4});
  CHECK(of(grad({x * x}, {x}, {.grad_outputs = {tensor({3, 4}, DType::Float32)}})[0]) == Values{6, 16});
}

TEST_CASE("backward: create_graph retains the graph unless retain_graph says otherwise") {
  Tensor x = leaf({2, 3}), loss = sum(x * x);
  loss.backward({.create_graph = true});
  CHECK_NOTHROW(loss.backward({.retain_graph = false, .create_graph = true}));
  CHECK_THROWS_AS(loss.backward(), GradError);
  x.set_grad({});  // which holds the graph
}

TEST_CASE("backward: with a list of inputs, what retains its gradient gets none") {
  Tensor x = leaf({1, 2}), h = x * 2;
  h.retain_grad();
  sum(h * h).backward({.inputs = {{x}}});
  CHECK(of(x.grad()) == Values{8, 16});
  CHECK_FALSE(h.grad().defined());
}

TEST_CASE("backward: ops of a new thread come after what they read, however young its clock is") {
  auto in_a_thread = [](auto other) {
    Tensor x = leaf({1, 2}), h = x * x;
    for (int i = 0; i < 10; ++i) h = h * 1;
    Values dx;
    std::thread([&] {
      try {
        dx = of(grad({sum(other(h) * h)}, {x}, {.allow_unused = true})[0]);
      } catch (const Error&) {  // dx stays empty
      }
    }).join();
    return dx;
  };
  CHECK(in_a_thread([](const Tensor& y) { return y * 2; }) == Values{8, 64});
  CHECK(in_a_thread([](const Tensor& y) { return select(stack({y}), 0, 0); }) == Values{4, 32});
}
