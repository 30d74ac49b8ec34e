#include <doctest/doctest.h>
#include <unroll/autograd/engine.h>
#include <unroll/autograd/fused.h>
#include <unroll/autograd/gradcheck.h>
#include <unroll/autograd/ops/activation.h>
#include <unroll/autograd/ops/arithmetic.h>
#include <unroll/autograd/ops/compare.h>
#include <unroll/autograd/ops/reduce.h>
#include <unroll/core/random.h>

#include <functional>

using namespace unroll;

namespace {

using Tensors = std::vector<Tensor>;

int definitions_run = 0, kernels_run = 0;

// A toy recurrent step: a = tanh(w·x + u·h), y = a·h. Two outputs {y, a}, and h may be left out (zero).
Tensors step_by_ops(std::span<const Tensor> in) {
  ++definitions_run;
  const Tensor &x = in[0], &h = in[1], &w = in[2], &u = in[3];
  Tensor a = tanh(h.defined() ? w * x + u * h : w * x);
  return {h.defined() ? a * h : a * 0, a};
}

Tensors step(const Tensors& inputs) {
  if (!FusedMode::enabled()) return step_by_ops(inputs);
  Tensors outputs;
  {
    NoGrad guard;
    outputs = step_by_ops(inputs);
    --definitions_run;
  }
  record_fused(
      "step", inputs, outputs, {outputs[1]},
      [](Gradients g, const Saved& s, std::span<Tensor> dx) {
        ++kernels_run;
        const Tensor &x = s[0], &h = s[1], &w = s[2], &u = s[3], &a = s[4];
        CHECK_FALSE(a.requires_grad());
        Tensor da = g[1].defined() ? g[1] : zeros_like(a);
        if (g[0].defined() && h.defined()) da = da + g[0] * h;
        Tensor dz = da * (1 - a * a);
        dx[0] = dz * w;
        if (s.needs(1)) dx[1] = g[0].defined() ? dz * u + g[0] * a : dz * u;
        dx[2] = dz * x;
        if (h.defined()) dx[3] = dz * h;
      },
      step_by_ops);
  return outputs;
}

Tensors some_inputs() {
  Generator generator(5);
  Tensors in;
  for (int i = 0; i < 4; ++i) in.push_back(rand(3, DType::Float64, generator).requires_grad_());
  return in;
}

bool close(const Tensors& a, const Tensors& b) {
  return std::equal(a.begin(), a.end(), b.begin(), b.end(),
                    [](const Tensor& p, const Tensor& q) { return allclose(p, q, 1e-12, 1e-12); });
}

// Programs in which the inputs of a step depend on each other.
const std::function<Tensors(const Tensors&)> kPrograms[] = {
    [](const Tensors& in) { return step(in); },
    [](const Tensors& in) {
      return step({in[0], tanh(in[0]), in[2], in[3]});
    },  // h computed from x
    [](const Tensors& in) {
      return step({in[0], in[1], in[2], in[2]});
    },  // tied weights
    [](const Tensors& in) {
      return step({in[0], in[0], in[2], in[2] * in[0]});
    },  // both
    [](const Tensors& in) {
      return step({in[0], step(in)[0], in[2], in[3]});
    },  // unrolled
    [](const Tensors& in) {
      return step({in[0], Tensor(), in[2], in[3]});
    },
    [](const Tensors& in) { return Tensors{step(in)[1]}; },  // the first output is not used
};

}  // namespace

TEST_CASE("record_fused: fused and composed give the same values and gradients of order one to three") {
  for (auto& program : kPrograms) {
    CAPTURE(&program - kPrograms);
    Tensors in = some_inputs();
    auto derivatives = [&](bool fused) {
      FusedMode mode(fused);
      Tensors all = program(in);
      Tensor loss = sum(all[0] * all.back());
      for (int order = 1; order <= 3; ++order) {
        Tensors d = grad({loss}, in, {.create_graph = true, .allow_unused = true});
        loss = scalar(0, DType::Float64);
        for (std::size_t i = 0; i < d.size(); ++i) {
          all.push_back(d[i].defined() ? d[i] : zeros_like(in[i]));
          loss = loss + sum(all.back() * all.back() * static_cast<double>(i + 1));
        }
      }
      return all;
    };
    CHECK(close(derivatives(true), derivatives(false)));
    auto first = [&](bool fused) {
      FusedMode mode(fused);
      return grad({sum(program(in)[0])}, {in[0], in[2]});
    };
    CHECK(close(first(true), first(false)));
  }
}

TEST_CASE("record_fused: gradcheck to order two") {
  for (auto& program : kPrograms) {
    CAPTURE(&program - kPrograms);
    CHECK(gradcheck(program, some_inputs()));
    CHECK(gradgradcheck(program, some_inputs()));
  }
}

TEST_CASE("record_fused: the kernel runs without create_graph, the definition with it") {
  Tensors in = some_inputs();
  definitions_run = kernels_run = 0;
  Tensor loss = sum(step(in)[0]);
  CHECK(definitions_run == 0);
  grad({loss}, in, {.retain_graph = true});
  CHECK(definitions_run == 0);
  CHECK(kernels_run == 1);
  grad({loss}, in, {.create_graph = true});
  CHECK(definitions_run == 1);
  CHECK(kernels_run == 1);
  FusedMode composed(false);
  grad({sum(step(in)[0])}, in);
  CHECK(definitions_run == 2);
  CHECK(kernels_run == 1);
}

TEST_CASE("record_fused: inputs and workspace are version checked, and only what is needed is computed") {
  Tensors in = some_inputs();
  auto out = step(in);
  out[1].detach().add_(1);
  CHECK_THROWS_WITH_AS(sum(out[0]).backward(), doctest::Contains("step: "), GradError);
  out = step(in);
  {
    NoGrad guard;
    in[2].add_(1);
  }
  CHECK_THROWS_AS(grad({sum(out[0])}, in, {.create_graph = true}), GradError);
  for (const Tensor& x : in) CHECK_FALSE(x.grad().defined());
  SUBCASE("nothing is recorded when no input needs a gradient") {
    NoGrad guard;
    CHECK_FALSE(step(in)[0].requires_grad());
  }
}
