// Exceptions from anywhere in a step, passes inside each other, and modes and parameters that threads share.
#include "support/digest.h"
#include "support/gradients.h"
#include "support/memory.h"
#include "support/sanitized.h"

#include <doctest/doctest.h>
#include <unroll/autograd/anomaly.h>
#include <unroll/autograd/engine.h>
#include <unroll/autograd/function.h>
#include <unroll/autograd/grad_mode.h>
#include <unroll/autograd/ops/activation.h>
#include <unroll/autograd/ops/arithmetic.h>
#include <unroll/autograd/ops/reduce.h>
#include <unroll/core/random.h>

#include <atomic>
#include <functional>
#include <thread>

using namespace unroll;
using doctest::Contains;

namespace {

struct Mine : std::exception {
  explicit Mine(int at) : node(at) {}
  int node;
};

// When the next one is to raise: at which node, in forward, in backward, or in a hook.
enum class Phase { Forward, Backward, Hook, Never };
struct Fault {
  Phase phase = Phase::Never;
  int node = -1;
};
thread_local Fault fault;

void reach(Phase phase, int node) {
  if (fault.phase == phase && fault.node == node) throw Mine(node);
}

// tanh(h · w), which may raise.
struct Step : Function<Step> {
  struct Context : FunctionContext {
    int node = 0;
  };
  static Tensor forward(Context& ctx, const Tensor& h, const Tensor& w, int node) {
    reach(Phase::Forward, node);
    ctx.node = node;
    Tensor y = tanh(h * w);
    ctx.save_for_backward({h, w, y});
    return y;
  }
  static std::vector<Tensor> backward(Context& ctx, const Tensor& g) {
    reach(Phase::Backward, ctx.node);
    Tensor d = g * (1 - ctx.saved(2) * ctx.saved(2));
    return {d * ctx.saved(1), d * ctx.saved(0), {}};
  }
};

constexpr int kNodes = 200;

struct Model {
  Model() {
    Generator generator(1);
    for (int i = 0; i < 3; ++i) w.push_back((rand(4, DType::Float64, generator) + 0.5).requires_grad_());
  }
  Tensor loss() const {
    Tensor h = ones(4, DType::Float64);
    for (int node = 0; node < kNodes; ++node) {
      h = Step::apply(h, w[static_cast<std::size_t>(node) % 3], node);
      h.register_hook([node](const Tensor&) { reach(Phase::Hook, node); });
    }
    return sum(h * h);
  }
  void step() {
    for (const Tensor& x : w) x.set_grad({});
    loss().backward();
    NoGrad guard;
    for (const Tensor& x : w) x.add_(x.grad(), -0.1);
  }
  std::uint64_t state() const {
    Digest digest;
    for (const Tensor& x : w) digest << x << (x.grad().defined() ? x.grad() : zeros(1));
    return digest.value();
  }
  std::vector<Tensor> w;
};

}  // namespace

TEST_CASE("an exception at any of 200 nodes, in forward, backward or a hook: training goes on as if it had not been") {
  auto ten_steps = [](Model& model) {
    std::vector<std::uint64_t> states;
    for (int i = 0; i < 10; ++i) {
      model.step();
      states.push_back(model.state());
    }
    return states;
  };
  Model undisturbed;
  undisturbed.step();
  const std::uint64_t start = undisturbed.state();
  const auto expected = ten_steps(undisturbed);
  for (Phase phase : {Phase::Forward, Phase::Backward, Phase::Hook})
    for (int node = 0; node < kNodes; node += kSanitized ? 9 : 1) {
      Model model;
      model.step();
      Live before;
      fault = {phase, node};
      int raised_at = -1;
      bool again = false;
      try {
        if (node % 2 == 0) {
          model.loss().backward();
        } else {  // a graph that is retained can be used afterwards
          Tensor loss = model.loss();
          try {
            loss.backward({.retain_graph = true});
          } catch (const Mine& mine) {
            raised_at = mine.node;
          }
          fault = {};
          auto d = grad({loss}, model.w);
          again = digest(d[0]) == digest(grad({model.loss()}, model.w)[0]);
        }
      } catch (const Mine& mine) {
        raised_at = mine.node;
      }
      fault = {};
      bool usable = node % 2 == 0 || again || phase == Phase::Forward;
      bool same = raised_at == node && usable && model.state() == start && Live() == before && GradMode::enabled() &&
                  ten_steps(model) == expected;
      if (!same) FAIL("phase ", static_cast<int>(phase), ", node ", node);
    }
}

TEST_CASE("passes inside each other: a hundred deep, and no deeper than the stack allows") {
  Tensor x = leaf({2});
  std::function<void(int)> nest;
  bool by_hook = false;
  auto again = [&](int depth) {
    GradMode mode(true);
    if (depth > 1) nest(depth - 1);
  };
  nest = [&](int depth) {
    if (by_hook) {
      Tensor y = x * 1;
      y.register_hook([&, depth](const Tensor&) { again(depth); });
      y.backward();
    } else {
      record("nested", {x}, x.detach() * 1, [&, depth](const Tensor& g) {
        again(depth);
        return g;
      }).backward();
    }
  };
  for (bool hook : {false, true}) {
    by_hook = hook;
    for (int depth : {1, 2, 50, 100, 128}) {
      nest(depth);
      CHECK(of(x.grad()) == Values{static_cast<double>(depth)});
      x.set_grad({});
    }
    for (int depth : {129, 1'000'000}) {
      Live before;
      CHECK_THROWS_WITH_AS(nest(depth), Contains("more than 128 passes run inside each other"), GradError);
      CHECK(Live() == before);
      CHECK_FALSE(x.grad().defined());
    }
    nest(128);  // the count is back at none
    x.set_grad({});
  }
}

TEST_CASE("grad: materialize_grads") {
  Tensor x = leaf({1, 2}), other = leaf({3, 4, 5});
  auto d = grad({sum(x * x)}, {other, x}, {.materialize_grads = true});
  CHECK(grad({sum(x * x)}, {other}, {.create_graph = true, .materialize_grads = true})[0].requires_grad());
  CHECK(of(d[0]) == Values{0, 0, 0});
  CHECK(of(d[1]) == Values{2, 4});
}

TEST_CASE("threads: modes and generator are each thread's own") {
  NoGrad guard;
  AnomalyMode anomaly;
  manual_seed(1);
  const auto first = digest(rand(4));
  std::atomic<int> wrong = 0;
  std::vector<std::thread> threads;
  for (int i = 0; i < 8; ++i)
    threads.emplace_back([&, i] {
      wrong += !GradMode::enabled() || AnomalyMode::enabled() || !FusedMode::enabled();
      manual_seed(i);
      GradMode mode(i % 2 == 0);
      AnomalyMode other(i % 3 == 0);
      for (int step = 0; step < 100; ++step) {
        Tensor x = rand(4, DType::Float64).requires_grad_();
        wrong += (x * 2).requires_grad() != (i % 2 == 0);
        bool raised = false;
        try {
          log(-1 - x);
        } catch (const GradError&) {
          raised = true;
        }
        wrong += raised != (i % 3 == 0);
      }
      manual_seed(1);
      wrong += digest(rand(4)) != first;
    });
  for (std::thread& thread : threads) thread.join();
  CHECK(wrong == 0);
  CHECK_FALSE(GradMode::enabled());
}

TEST_CASE("threads: eight share parameters, custom functions and hooks, and each takes the gradient of one alone") {
  Model model;
  std::atomic<int> calls = 0;
  for (const Tensor& w : model.w)
    w.register_hook([&](const Tensor& g) {
      ++calls;
      return g * 2;
    });
  auto gradients = [&](int data) {
    Tensor loss = model.loss() * (data + 1);
    Digest digest;
    for (const Tensor& d : grad({loss}, model.w, {.create_graph = data % 2 == 1})) digest << d;
    return digest.value();
  };
  std::vector<std::uint64_t> expected;
  for (int data = 0; data < 8; ++data) expected.push_back(gradients(data));
  Live before;
  std::atomic<int> wrong = 0;
  std::vector<std::thread> threads;
  for (int i = 0; i < 8; ++i)
    threads.emplace_back([&, i] {
      for (int step = 0; step < 20; ++step)
        wrong += gradients((i + step) % 8) != expected[static_cast<std::size_t>((i + step) % 8)];
    });
  for (std::thread& thread : threads) thread.join();
  CHECK(wrong == 0);
  CHECK(calls == 3 * (8 + 160));
  CHECK(Live() == before);
}

TEST_CASE("backward: a graph that is freed cannot be kept any more") {
  Tensor x = ones(2).requires_grad_(), y = sum(x * x);
  y.backward();
  CHECK_THROWS_WITH_AS(y.backward({.retain_graph = true}), Contains("a second time"), GradError);
}
