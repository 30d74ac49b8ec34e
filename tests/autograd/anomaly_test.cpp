#include "support/gradients.h"
#include "support/raises.h"

#include <doctest/doctest.h>
#include <unroll/autograd/anomaly.h>
#include <unroll/autograd/engine.h>
#include <unroll/autograd/function.h>
#include <unroll/autograd/functional.h>
#include <unroll/autograd/hooks.h>
#include <unroll/autograd/ops/activation.h>
#include <unroll/autograd/ops/arithmetic.h>
#include <unroll/autograd/ops/matmul.h>
#include <unroll/autograd/ops/normalize.h>
#include <unroll/autograd/ops/reduce.h>
#include <unroll/autograd/ops/shape.h>
#include <unroll/nn/gru.h>
#include <unroll/nn/linear.h>
#include <unroll/nn/lstm_cell.h>
#include <unroll/nn/sequential.h>

#include <cmath>
#include <functional>
#include <limits>
#include <thread>

using namespace unroll;
using doctest::Contains;

namespace {

using Tensors = std::vector<Tensor>;
constexpr double kNaN = std::numeric_limits<double>::quiet_NaN(), kInf = std::numeric_limits<double>::infinity();

bool starts(const std::string& text, const std::string& begin) { return text.rfind(begin, 0) == 0; }
bool contains(const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; }

struct Op {
  std::string name;
  std::vector<Shape> shapes;
  std::function<Tensor(const Tensors&)> f;
};

const std::vector<Op> kOps = {
    {"add", {{2, 3}, {3}}, [](const Tensors& x) { return x[0] + x[1]; }},
    {"sub", {{2, 3}, {2, 3}}, [](const Tensors& x) { return x[0] - x[1]; }},
    {"mul", {{2, 3}, {3}}, [](const Tensors& x) { return x[0] * x[1]; }},
    {"div", {{2, 3}, {2, 1}}, [](const Tensors& x) { return x[0] / x[1]; }},
    {"neg", {{2, 3}}, [](const Tensors& x) { return -x[0]; }},
    {"exp", {{2, 3}}, [](const Tensors& x) { return exp(x[0]); }},
    {"log", {{2, 3}}, [](const Tensors& x) { return log(x[0]); }},
    {"sqrt", {{2, 3}}, [](const Tensors& x) { return sqrt(x[0]); }},
    {"tanh", {{2, 3}}, [](const Tensors& x) { return tanh(x[0]); }},
    {"sigmoid", {{2, 3}}, [](const Tensors& x) { return sigmoid(x[0]); }},
    {"sum", {{2, 3}}, [](const Tensors& x) { return sum(x[0]); }},
    {"matmul", {{2, 3}, {3, 2}}, [](const Tensors& x) { return matmul(x[0], x[1]); }},
    {"linear", {{2, 3}, {4, 3}, {4}}, [](const Tensors& x) { return linear(x[0], x[1], x[2]); }},
    {"cat", {{2, 3}, {1, 3}, {2, 3}}, [](const Tensors& x) { return cat(x, 0); }},
    {"stack", {{2, 3}, {2, 3}}, [](const Tensors& x) { return stack(x); }},
    {"softmax", {{2, 3}}, [](const Tensors& x) { return softmax(x[0], 1); }},
    {"mean", {{2, 3}}, [](const Tensors& x) { return mean(x[0]); }},
    {"logsumexp", {{2, 3}}, [](const Tensors& x) { return logsumexp(x[0], 1); }},
};

Tensors positive(const Op& op, Generator& generator) {
  Tensors x;
  for (const Shape& shape : op.shapes) x.push_back(rand(shape, DType::Float64, generator).requires_grad_());
  return x;
}

// The identity whose gradient has a NaN in it, for input `bad` of as many as came.
Tensors poisoned(const Tensors& x, std::size_t bad) {
  Tensors y;
  for (const Tensor& t : x) y.push_back(t.detach() * 1);
  record_all("poisoned", x, y, {}, [bad](Gradients g, const Saved&, std::span<Tensor> dx) {
    for (std::size_t i = 0; i < dx.size(); ++i) dx[i] = i == bad ? g[i] * kNaN : g[i];
  });
  return y;
}

}  // namespace

TEST_CASE("anomaly mode: a NaN at any input of any op is named with the op and the input") {
  Generator generator(5);
  for (const Op& op : kOps)
    for (std::size_t i = 0; i < op.shapes.size(); ++i) {
      CAPTURE(op.name);
      CAPTURE(i);
      Tensors x = positive(op, generator);
      x[i].data<double>()[x[i].numel() - 1] = kNaN;
      CHECK(error_of<GradError>([&] { sum(op.f(x)).backward(); }) == "");  // off: NaN flows
      for (const Tensor& t : x) t.set_grad({});
      AnomalyMode anomaly;
      AnomalyScope scope("here", 7);
      const std::string error = error_of<GradError>([&] { op.f(x); });
      const std::string input = fmt::format("input {} at ", i);
      bool named = starts(error, op.name + ": output 0 has a NaN") && contains(error, "it came in by " + input) &&
                   contains(error, "; in here 7 (anomaly_test.cpp:");
      CHECK_MESSAGE(named, error);
    }
}

TEST_CASE("anomaly mode: a gradient that is NaN is named with its function and the input") {
  Generator generator(6);
  for (std::size_t count : {std::size_t{1}, std::size_t{2}, std::size_t{5}})
    for (std::size_t bad = 0; bad < count; ++bad) {
      Tensors x;
      for (std::size_t i = 0; i < count; ++i) x.push_back(leaf(Shape{2, 2}, generator));
      auto loss = [&] {
        Tensors y = poisoned(x, bad);
        Tensor total = sum(tanh(y[0]));
        for (std::size_t i = 1; i < count; ++i) total = total + sum(tanh(y[i]));
        return total;
      };
      AnomalyMode anomaly;
      AnomalyScope scope("made here");
      Tensor total = loss();
      const std::string error = error_of<GradError>([&] { total.backward(); });
      CHECK_MESSAGE(starts(error, fmt::format("poisoned: its gradient function gave input {} a NaN at (0, 0); recorded "
                                              "in made here (anomaly_test.cpp:",
                                              bad)),
                    error);
      for (const Tensor& t : x) CHECK_FALSE(t.grad().defined());
      AnomalyMode off(false);
      loss().backward();
      CHECK(std::isnan(of(x[bad].grad())[0]));
    }
}

TEST_CASE("anomaly mode: real functions, whose gradient makes the NaN") {
  Tensor x = leaf({0, 1});
  AnomalyMode anomaly;
  CHECK_THROWS_WITH_AS(sum(sqrt(x) * 0).backward(), Contains("sqrt: its gradient function gave input 0 a NaN at (0,)"),
                       GradError);
  CHECK_THROWS_WITH_AS(sum(log(x - 2)), Contains("log: output 0 has a NaN at (0,); no input has one; in no module"),
                       GradError);
  CHECK_THROWS_WITH_AS(sum(x * kInf), Contains("mul"), GradError);
  SUBCASE("under create_graph it is the function, too, that is named") {
    Tensor y = sum(sqrt(x) * 0);
    CHECK_THROWS_WITH_AS(grad({y}, {x}, {.create_graph = true}), Contains("sqrt: its gradient function gave input 0"),
                         GradError);
  }
  SUBCASE("and its gradient says whose it is") {
    Tensor z = leaf({0});
    Tensor d = grad({z * sqrt(z * z + 1)}, {z}, {.create_graph = true})[0];
    Tensor e = d + record("bad", {d}, d.detach() * 1, [](const Tensor& g) { return g * kNaN; });
    CHECK_THROWS_WITH_AS(e.backward(), Contains("bad: its gradient function gave input 0"), GradError);
  }
}

TEST_CASE("anomaly mode: what arrives from outside, by hooks and as a sum") {
  Tensor x = leaf({1, 2}), w = leaf({3, 4});
  AnomalyMode anomaly;
  Tensor y = x * w;
  CHECK_THROWS_WITH_AS(y.backward({.gradient = tensor({1.0, kNaN}, DType::Float64)}),
                       Contains("the gradient given for output 0 has a NaN at (1,)"), GradError);
  HookHandle handle = y.register_hook([](const Tensor& g) {
    Tensor bad = g.clone();
    bad.data<double>()[1] = kNaN;
    return bad;
  });
  CHECK_THROWS_WITH_AS(sum(y).backward(), Contains("the hook on output 0 of mul returned a NaN at (1,)"), GradError);
  auto times = [](const Tensor& t, double factor) {
    return record("times", {t}, t.detach() * 1, [factor](const Tensor& g) { return g * factor; });
  };
  CHECK_THROWS_WITH_AS(sum(times(x, kInf) + times(x, -kInf)).backward(),
                       Contains("the gradients that arrive at a leaf of shape (2,) add up to a NaN at (0,)"),
                       GradError);
  Tensor h = x * 2;
  CHECK_THROWS_WITH_AS(sum(times(h, kInf) + times(h, -kInf)).backward(),
                       Contains("that arrive at output 0 of mul, recorded in no module add up to a NaN"), GradError);
  CHECK_FALSE(x.grad().defined());
}

TEST_CASE("anomaly mode: the step of a loop over 20 of an LSTM cell") {
  constexpr std::int64_t T = 20;
  struct Model : nn::Module {
    Model() : cell(3, 4) { add("cell", cell); }
    nn::LSTMCell cell;
  };
  Model model;
  Generator generator(9);
  for (std::int64_t bad = 0; bad < T; ++bad) {
    CAPTURE(bad);
    Tensor x = randn({T, 2, 3}, DType::Float32, generator);
    auto run = [&](const Tensor& input, bool in_backward) {
      nn::LSTMState state;
      for (std::int64_t t = 0; t < T; ++t) {
        AnomalyScope step("step", t);
        state = model.cell(select(input, 0, t), state);
        if (in_backward && t == bad)
          state.h = record("planted", {state.h}, state.h.detach() * 1, [](const Tensor& g) { return g * kNaN; });
      }
      sum(state.h * state.h).backward();
    };
    const std::string where = fmt::format("step {} (anomaly_test.cpp:", bad);
    Tensor planted = x.clone();
    planted.data<float>()[bad * 6 + 4] = std::numeric_limits<float>::quiet_NaN();
    model.zero_grad();
    CHECK(error_of<GradError>([&] { run(planted, false); }) == "");
    model.zero_grad();
    AnomalyMode anomaly;
    std::string error = error_of<GradError>([&] { run(planted, false); });
    CHECK_MESSAGE((contains(error, "output 0 has a NaN") && contains(error, "in " + where)), error);
    error = error_of<GradError>([&] { run(x, true); });
    CHECK_MESSAGE(starts(error, "planted: its gradient function gave input 0 a NaN at (0, 0); recorded in " + where),
                  error);
    for (const Tensor& p : model.parameters()) CHECK_FALSE(p.grad().defined());
  }
}

TEST_CASE("anomaly mode: a step is not taken for the begin of another's number") {
  AnomalyMode anomaly;
  AnomalyScope outer("step", 1, nullptr), inner("step", 12, nullptr);
  const std::string error = error_of<GradError>([] { sqrt(tensor({-1.0}).requires_grad_()); });
  CHECK_MESSAGE(contains(error, "in step 1, step 12"), error);
}

TEST_CASE("anomaly mode: modules name themselves") {
  struct Model : nn::Module {
    Model() {
      body.append<nn::Linear>(2, 2).append("Log", log);
      add("body", body);
    }
    Tensor operator()(const Tensor& x) const {
      return hooked([this](const Tensor& in) { return body(in) * 1; }, x);
    }
    nn::Sequential body;
  };
  Model model;
  NoGrad guard;  // forward is looked at whether it is recorded or not
  model.parameters()[0].fill_(-1);
  model.parameters()[1].fill_(0);
  AnomalyMode anomaly;
  CHECK_THROWS_WITH_AS(model(ones({1, 2})),
                       Contains("log: output 0 has a NaN at (0, 0); no input has one; in Model, body.1"), GradError);
  CHECK_THROWS_WITH_AS(model.body(full({1, 2}, kNaN)),
                       Contains("linear: output 0 has a NaN at (0, 0); it came in by input 0 at (0, 0); in body.0"),
                       GradError);
}

TEST_CASE("anomaly mode: scopes, threads and custom functions") {
  CHECK_FALSE(AnomalyMode::enabled());
  {
    AnomalyMode on;
    CHECK(AnomalyMode::enabled());
    CHECK_FALSE(FusedMode::enabled());
    {
      AnomalyMode off(false);
      CHECK_FALSE(AnomalyMode::enabled());
    }
    CHECK(AnomalyMode::enabled());
    std::thread([] {
      CHECK_FALSE(AnomalyMode::enabled());
      CHECK(FusedMode::enabled());
    }).join();
    try {
      AnomalyScope scope("left by an exception");
      throw 1;
    } catch (int) {}
    CHECK(detail::Where::path() == "no module");
  }
  CHECK_FALSE(AnomalyMode::enabled());
  CHECK(FusedMode::enabled());

  struct Mine : Function<Mine> {
    static Tensor forward(FunctionContext&, const Tensor& x) { return log(x); }
    static Tensor backward(FunctionContext&, const Tensor& g) { return g * kNaN; }
  };
  Tensor x = leaf({-1}), z = leaf({1});
  Tensor outside = Mine::apply(z);
  AnomalyMode anomaly;
  CHECK_THROWS_WITH_AS(Mine::apply(x), Contains("log: output 0 has a NaN at (0,); no input has one; in Mine"),
                       GradError);
  CHECK_THROWS_WITH_AS(Mine::apply(z).backward(),
                       Contains("Mine: its gradient function gave input 0 a NaN at (0,); recorded in no module"),
                       GradError);
  CHECK_THROWS_WITH_AS(outside.backward(), Contains("recorded outside of AnomalyMode"), GradError);
}

TEST_CASE("anomaly: a NaN that only a sum of gradients has is no gradient function's") {
  AnomalyMode anomaly;
  const Tensor x = ones(2).requires_grad_(), p = x * ones(2), q = x * ones(2);
  CHECK_THROWS_WITH_AS(backward({p, q}, {full(2, kInf), full(2, -kInf)}), Contains("add up to a NaN"), GradError);
}

namespace {
// Whose gradient function runs a pass of its own and then makes a NaN.
struct PassInside : Function<PassInside> {
  static Tensor forward(FunctionContext&, const Tensor& x) { return x * 1; }
  static std::vector<Tensor> backward(FunctionContext&, const Tensor& g) {
    GradMode on(true);
    Tensor y = ones_like(g).requires_grad_();
    sum(y * y).backward();
    return {log(-ones_like(g))};
  }
};
}  // namespace

TEST_CASE("anomaly: a gradient function that runs a pass inside is named itself") {
  AnomalyMode anomaly;
  const Tensor x = ones(2).requires_grad_();
  CHECK_THROWS_WITH_AS(sum(PassInside::apply(x)).backward(), Contains("its gradient function gave input 0 a NaN"),
                       GradError);
}

TEST_CASE("anomaly: an infinite derivative by jvp is no NaN") {
  AnomalyMode anomaly;
  const Tensor d = jvp([](const Tensor& x) { return sqrt(x); }, zeros(2), ones(2)).product;
  CHECK(std::isinf(d.to_vector<float>()[0]));
}

TEST_CASE("anomaly mode: a step of the reverse direction is called one") {
  AnomalyMode on(true);
  FusedMode by_ops(false);
  nn::GRU rnn(1, 2, {.bidirectional = true});
  {
    NoGrad guard;
    rnn.cell(0, 1).weight_ih.fill_(NAN);
  }
  CHECK_THROWS_WITH_AS(rnn(ones({3, 1, 1})), Contains("reverse step 2"), GradError);
}
