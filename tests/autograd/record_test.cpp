// record, record_all, save: what is kept for backward, how it is checked, and how graphs go away.
#include "support/gradients.h"
#include "support/memory.h"

#include <doctest/doctest.h>
#include <unroll/autograd/engine.h>
#include <unroll/autograd/hooks.h>
#include <unroll/autograd/ops/activation.h>
#include <unroll/autograd/ops/arithmetic.h>
#include <unroll/autograd/ops/matmul.h>
#include <unroll/autograd/ops/reduce.h>
#include <unroll/autograd/record.h>
#include <unroll/core/alloc.h>
#include <unroll/core/view.h>

#include <functional>

using namespace unroll;
using doctest::Contains;

namespace {

using Program = std::function<Tensor(const Tensor&)>;

// Runs y = op(h) for a computed h, changes h or y in place, and returns what backward says: "" when it has no
// objection.
std::string objection(const Program& op, bool change_input) {
  Tensor x = leaf({0.3, 0.6});
  Tensor h = x * 1.5, y = op(h);
  (change_input ? h : y).add_(1);
  try {
    sum(y).backward();
  } catch (const GradError& error) {
    CHECK_FALSE(x.grad().defined());
    return error.what();
  }
  Values changed = of(x.grad());
  x.set_grad({});
  sum(op(x * 1.5)).backward();
  CHECK(of(x.grad()) == changed);
  return "";
}

}  // namespace

TEST_CASE("a matrix product's factor may be modified if only the other one's gradient reads it") {
  const Tensor m = tensor({{1.0, 2.0}, {3.0, 4.0}}, DType::Float64), v = tensor({1.0, 2.0}, DType::Float64);
  auto product = [](const Tensor& a, const Tensor& b) { return matmul(a, b); };
  auto by_weight = [](const Tensor& a, const Tensor& b) { return linear(a, b); };
  const std::function<Tensor(const Tensor&, const Tensor&)> ops[] = {product, by_weight};
  for (const auto& op : ops)
    for (const auto& [a, b] : {std::pair(m, m), std::pair(v, m), std::pair(m, v)}) {
      if (&op != &ops[0] && b.dim() < 2) continue;
      for (bool first : {true, false}) {
        const Tensor x = a.clone(), y = b.clone();
        const Tensor& wanted = first ? x : y;
        wanted.requires_grad_();
        Tensor out = sum(op(x, y) * 2);
        out.backward({.retain_graph = true});
        const std::vector<double> grad = wanted.grad().to_vector<double>();
        NoGrad no_grad;
        wanted.add_(1);
        wanted.set_grad({});
        out.backward({.retain_graph = true});
        CHECK(wanted.grad().to_vector<double>() == grad);
        (first ? y : x).add_(1);  // which that gradient does read
        CHECK_THROWS_AS(out.backward(), GradError);
      }
    }
}

TEST_CASE("what an op saves may not be modified, everything else may") {
  struct Row {
    const char* name;
    Program op;
    bool saves_input, saves_output;
  };
  Tensor p = tensor({2.0, 3.0}, DType::Float64);
  const Row rows[] = {
      {"exp", exp, false, true},
      {"tanh", tanh, false, true},
      {"sigmoid", sigmoid, false, true},
      {"sqrt", sqrt, false, true},
      {"relu", relu, false, true},
      {"mul", [](const Tensor& x) { return x * x; }, true, false},
      {"pow", [](const Tensor& x) { return pow(x, 3); }, true, false},
      {"sin", sin, true, false},
      {"cos", cos, true, false},
      {"log", log, true, false},
      {"square", square, true, false},
      {"div", [p](const Tensor& x) { return p / x; }, true, false},
      {"add", [p](const Tensor& x) { return x + p; }, false, false},
      {"sub", [p](const Tensor& x) { return 1 - (p - x); }, false, false},
      {"mul", [](const Tensor& x) { return x * 3; }, false, false},
      {"div", [](const Tensor& x) { return x / 3; }, false, false},
      {"neg", neg, false, false},
      {"sum", [](const Tensor& x) { return sum(x); }, false, false},
  };
  for (const Row& row : rows) {
    CAPTURE(row.name);
    for (bool input : {false, true}) {
      std::string text = objection(row.op, input);
      if (input ? row.saves_input : row.saves_output)
        for (const std::string& part :
             {std::string(row.name) + ": ", std::string("shape (2,)"), std::string("modified in place by add_"),
              std::string("at version 1, version 0 was saved")})
          CHECK_MESSAGE(text.find(part) != std::string::npos, part, " in: ", text);
      else
        CHECK(text == "");
    }
  }
}

TEST_CASE("a version error is raised however the memory was written") {
  Tensor x = leaf({1, 2});
  Tensor y = exp(x);
  SUBCASE("through detach") { y.detach().mul_(2); }
  SUBCASE("through a view") { views::narrow(y, 0, 1, 1).fill_(0); }
  SUBCASE("under NoGrad") {
    NoGrad guard;
    y.copy_(x);
  }
  CHECK_THROWS_WITH_AS(sum(y).backward(), Contains("exp"), GradError);
}

TEST_CASE("gradient functions run only for inputs that need it") {
  int runs = 0;
  auto count = [&](const Tensor& g) { return ++runs, g; };
  Tensor a = leaf({1}), b = leaf({2}), c = tensor({3.0}, DType::Float64);
  auto op = [&] {
    return record("op", {a, b, c}, a.detach() * 1, count, count, [](const Tensor&) -> Tensor { throw 1; });
  };
  op().backward();
  CHECK(runs == 2);
  grad({op()}, {a});
  CHECK(runs == 3);
  Tensor y = op(), z = op();
  grad({y + z}, {y});
  CHECK(runs == 3);
}

TEST_CASE("Saved tells what is needed; undefined inputs and saves are allowed") {
  Tensor a = leaf({1}), none, y = a.detach() * 2;
  record_all("op", {a, none, y.detach()}, std::span(&y, 1), std::vector<const Tensor*>{&none, &a},
             [&](Gradients g, const Saved& s, std::span<Tensor> dx) {
               CHECK(s.size() == 2);
               CHECK_FALSE(s[0].defined());
               CHECK(s[1].is_same(a));
               CHECK(s.needs(0));
               CHECK_FALSE(s.needs(1));
               CHECK_FALSE(s.needs(2));
               dx[0] = g[0] * 2;
               dx[2] = g[0];  // of no interest
             });
  y.backward();
  CHECK(of(a.grad()) == Values{2});
}

TEST_CASE("one gradient for several inputs, one tensor among them twice") {
  const Tensor x = leaf({1, 2}), z = leaf({3, 4}), given = tensor({1.0, 2.0}, DType::Float64);
  const Tensor y = record("op", {x, z, x}, x.detach() * 2 + z.detach(), unchanged, unchanged, unchanged);
  for (bool retain : {true, false}) {
    x.set_grad({}), z.set_grad({});
    y.backward({.gradient = given, .retain_graph = retain});
    CHECK(of(x.grad()) == Values{2, 4});
    CHECK(of(z.grad()) == Values{1, 2});
    CHECK(of(given) == Values{1, 2});
  }
}

TEST_CASE("record saves what is no tensor, an input that needs no gradient, and neither input nor output") {
  const Tensor x = leaf({3}), constant = tensor({5.0}, DType::Float64), elsewhere = leaf({7}), none;
  const Tensor y = record(
      "op", {x, constant, none}, x.detach() * 35, save(none, constant, elsewhere),
      [](const Tensor& g, const Saved& s) {
        CHECK_FALSE(s[0].defined());
        CHECK_FALSE(s[1].requires_grad());
        return g * s[1] * s[2];
      },
      [](const Tensor& g, const Saved&) { return g; }, [](const Tensor& g, const Saved&) { return g; });
  const Tensor slope = grad({y}, {x}, {.create_graph = true}).at(0);
  CHECK(of(slope.detach()) == Values{35});
  CHECK(of(grad({slope}, {elsewhere}).at(0)) == Values{5});
  // Of a tensor that only the node has by then, the history was kept.
  const Tensor z =
      record("op", {x}, x.detach() * 14, save(elsewhere * 2), [](const Tensor& g, const Saved& s) { return g * s[0]; });
  CHECK(of(grad({grad({z}, {x}, {.create_graph = true}).at(0)}, {elsewhere}).at(0)) == Values{2});
}

TEST_CASE("Saved::take_grad gives away what came in, once nobody else reads it") {
  const Tensor x = leaf({1}), z = leaf({2}), factor = tensor({2.0}, DType::Float64);
  std::vector<bool> taken;
  const auto take = [&](std::size_t input) {
    return [&taken, input](const Tensor& g, const Saved& s) {
      const Tensor copy = g.clone();
      taken.push_back(s.take_grad(copy, input).defined());
      const Tensor own = s.take_grad(g, input);
      taken.push_back(own.defined());
      CHECK(g.defined() == !own.defined());
      return copy;
    };
  };
  const auto run = [&](const Tensor& a, const Tensor& b, bool create_graph) {
    taken.clear();
    const Tensor y = record("op", {a, b}, x.detach() + z.detach(), save(), take(0), take(1));
    std::vector<Tensor> to;
    for (const Tensor& t : {a, b})
      if (t.requires_grad()) to.push_back(t);
    grad({y * factor}, to, {.create_graph = create_graph});
    return taken;
  };
  CHECK(run(x, z, false) == std::vector{false, false, false, true});  // the second input's function comes first
  CHECK(run(x.detach(), z, false) == std::vector{false, true});
  CHECK(run(x, z, true) == std::vector{false, false, false, false});
}

TEST_CASE("an own output that was read under NoGrad has its history when it is read again") {
  const Tensor x = leaf({0.5});
  const Tensor y = exp(x.detach());
  const Tensor z = record("op", {x}, y, save(y), [](const Tensor& g, const Saved& s) {
    {
      NoGrad guard;
      CHECK_FALSE(s[0].requires_grad());
    }
    return g * s[0];
  });
  const Tensor first = grad({z}, {x}, {.create_graph = true})[0];
  CHECK(of(grad({first}, {x})[0]) == of(first));  // exp is all its derivatives
}

TEST_CASE("without a recording, record only hands the result through") {
  Tensor x = leaf({1}), plain = x.detach();
  auto before = alloc::counters().live_nodes;
  Tensor y = plain * 2;
  CHECK(record("op", {plain}, y, [](const Tensor& g) { return g; }).is_same(y));
  {
    NoGrad guard;
    CHECK(record("op", {x}, y, [](const Tensor& g) { return g; }).is_same(y));
  }
  CHECK_FALSE(y.requires_grad());
  CHECK(alloc::counters().live_nodes == before);
}

TEST_CASE("a gradient takes the dtype and shape of its input") {
  Tensor x = tensor({1.0, 2.0}).requires_grad_();
  Tensor y = record("op", {x}, ones(2), [](const Tensor&) { return full({4, 2}, 0.5, DType::Float64); });
  sum(y).backward();
  CHECK(x.grad().dtype() == DType::Float32);
  CHECK(x.grad().to_vector<float>() == std::vector<float>{2, 2});
  Tensor h = x * 3, arrived;  // on the way as well
  h.register_hook([&](const Tensor& g) { return arrived = g; });
  sum(record("op", {h}, ones(2), [](const Tensor&) { return full(2, 0.5, DType::Float64); })).backward();
  CHECK(arrived.dtype() == DType::Float32);
  Tensor wrong = record("op", {x}, ones(2), [](const Tensor&) { return ones({2, 3}); });
  CHECK_THROWS_WITH_AS(sum(wrong).backward(),
                       Contains("op: backward gave input 0 a gradient of shape (2, 3), expected (2,)"), ShapeError);
}

TEST_CASE("graphs go away with their last tensor, or in backward") {
  Live before;
  {
    Tensor x = leaf({1, 2});
    Tensor y = sum(exp(x * x) * tanh(x));
    CHECK(alloc::counters().live_nodes == before.nodes + 5);
    y.backward();
    Tensor d = grad({sum(exp(x))}, {x}, {.create_graph = true})[0];
    sum(d).backward();
    Tensor dropped = exp(d) * y;
  }
  CHECK(Live() == before);
}

TEST_CASE("a saved tensor that nobody else has needs no second body") {
  Tensor x = leaf({1, 2}), other;
  std::int64_t tensors = 0;
  auto count = [&](const Tensor& g, const Saved& s) {
    const std::int64_t before = alloc::counters().live_tensors;
    CHECK(of(s[0]) == Values{2, 4});
    CHECK_FALSE(s[0].requires_grad());
    tensors = alloc::counters().live_tensors - before;
    return g;
  };
  auto build = [&](bool share) {
    Tensor saved = x.detach() * 2;
    Tensor y = record("count", {x}, ones(2, DType::Float64), save(saved), count);
    if (share) other = record("count", {x}, ones(2, DType::Float64), save(saved), count);
    return y;
  };
  sum(build(false)).backward();
  CHECK(tensors == 0);
  sum(build(false)).backward({.retain_graph = true});  // another thread may be in the same node
  CHECK(tensors == 1);
  sum(build(true)).backward();
  CHECK(tensors == 1);
}

TEST_CASE("backward frees what was saved, though the output lives on") {
  Tensor x = leaf({1, 2});
  auto before = alloc::counters().live_bytes;
  Tensor h = zeros(1 << 16, DType::Float64) + sum(x);
  Tensor loss = sum(h * h);
  h = Tensor();
  CHECK(alloc::counters().live_bytes - before > 1 << 19);
  loss.backward();
  CHECK(alloc::counters().live_bytes - before < 1 << 14);
}
