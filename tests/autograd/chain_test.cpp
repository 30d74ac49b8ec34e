// The chain rule of elementwise ops (autograd/detail/chain.h): it adds to what there is of a gradient, overwrites what
// arrives, or makes a new tensor. Whichever it does, values are those of create_graph, where it does neither, but for
// the order of sums.
#include "support/gradients.h"

#include <doctest/doctest.h>
#include <unroll/autograd/anomaly.h>
#include <unroll/autograd/engine.h>
#include <unroll/autograd/ops/activation.h>
#include <unroll/autograd/ops/arithmetic.h>
#include <unroll/autograd/ops/reduce.h>
#include <unroll/autograd/ops/shape.h>
#include <unroll/core/alloc.h>
#include <unroll/core/generator.h>

#include <functional>
#include <utility>

using namespace unroll;

namespace {

// Of leaves a (2, 3), b (2, 3) and row (3).
using Program = std::function<Tensor(const Tensor& a, const Tensor& b, const Tensor& row)>;
const std::vector<std::pair<std::string, Program>> programs = {
    {"once", [](auto& a, auto& b, auto&) { return a * b; }},
    {"both sides the same", [](auto& a, auto&, auto&) { return a * a; }},
    {"both sides the same, met before", [](auto& a, auto& b, auto&) { return a * a + a * b; }},
    {"one factor at every step, left and right",
     [](auto& a, auto& b, auto&) {
       Tensor h = a;
       for (int t = 0; t < 3; ++t) h = tanh(b * (h * b));
       return h;
     }},
    {"a row at every step",
     [](auto& a, auto&, auto& row) {
       Tensor h = a;
       for (int t = 0; t < 3; ++t) h = sigmoid(row * (h * row));
       return h;
     }},
    {"one input of five functions",
     [](auto& a, auto&, auto&) { return tanh(a) * sigmoid(a) + exp(a) * square(a) + a * 3; }},
    {"a computed input of several functions",
     [](auto& a, auto& b, auto&) {
       Tensor h = a + b;
       return square(tanh(h) * exp(h)) * h;
     }},
    {"transposed",
     [](auto& a, auto& b, auto&) { return transpose(a, 0, 1) * transpose(b, 0, 1) * transpose(a, 0, 1); }},
    {"of more dimensions than a shape holds itself",
     [](auto& a, auto& b, auto&) {
       const Tensor p = reshape(a, {1, 2, 1, 3, 1, 1}), q = reshape(b, {1, 2, 1, 3, 1, 1});
       return p * q * p * tanh(q);
     }},
    {"of no elements",
     [](auto& a, auto& b, auto&) { return narrow(a, 0, 0, 0) * narrow(b, 0, 0, 0) * tanh(narrow(a, 0, 0, 0)); }},
    {"an expanded factor",
     [](auto& a, auto&, auto& row) {
       return a * expand(row, {2, 3}) * a;
     }},
};

long allocations = 0;
bool count_allocation(std::size_t) noexcept { return ++allocations, true; }

}  // namespace

TEST_CASE("chain: the same gradients whether tensors are overwritten or not") {
  Generator generator(1);
  const Tensor a = leaf({2, 3}, generator), b = leaf({2, 3}, generator), row = leaf(Shape{3}, generator);
  for (const auto& named : programs) {
    CAPTURE(named.first);
    const Tensor y = named.second(a, b, row), given = randn(y.shape(), DType::Float64, generator);
    const Values before = of(given);
    const std::vector<Tensor> leaves = {a, b, row};
    const auto gradients = [&](const GradOptions& options) { return grad({y}, leaves, options); };
    const auto truth =
        gradients({.grad_outputs = {given}, .retain_graph = true, .create_graph = true, .allow_unused = true});
    for (bool anomaly : {true, false})
      for (bool retain : {true, false}) {
        AnomalyMode mode(anomaly);
        const auto got = gradients({.grad_outputs = {given}, .retain_graph = anomaly || retain, .allow_unused = true});
        CHECK(of(given) == before);
        for (std::size_t i = 0; i < leaves.size(); ++i) {
          CAPTURE(i);
          REQUIRE(got[i].defined() == truth[i].defined());
          if (got[i].defined()) CHECK(near(got[i], of(truth[i].detach())));
        }
      }
  }
}

TEST_CASE("chain: a factor that is read at every step makes no tensor a step") {
  const Tensor x = leaf({0.5, -1}), w = leaf({0.9, 1.1});
  const auto count = [&](int steps) {
    Tensor h = x;
    for (int t = 0; t < steps; ++t) h = tanh(h * w);
    const Tensor loss = sum(h);
    x.set_grad({}), w.set_grad({});
    allocations = 0;
    alloc::set_hook(count_allocation);
    loss.backward();
    alloc::set_hook(nullptr);
    return allocations;
  };
  CHECK(count(8) == count(5));
  CHECK(count(2) > 0);  // it counts
}
