// What is right must pass, torch's procedure is there as a mode, and a check leaves no trace. The faults that must be
// found stand in gradcheck_faults_test.cpp.
#include <doctest/doctest.h>
#include <unroll/autograd/engine.h>
#include <unroll/autograd/grad_mode.h>
#include <unroll/autograd/gradcheck.h>
#include <unroll/autograd/ops/activation.h>
#include <unroll/autograd/ops/arithmetic.h>
#include <unroll/autograd/ops/dropout.h>
#include <unroll/autograd/ops/matmul.h>
#include <unroll/autograd/ops/normalize.h>
#include <unroll/autograd/ops/reduce.h>
#include <unroll/autograd/ops/shape.h>
#include <unroll/autograd/record.h>
#include <unroll/core/random.h>
#include <unroll/core/view.h>

#include "support/memory.h"
#include "support/raises.h"

using namespace unroll;

namespace {

using Tensors = std::vector<Tensor>;

Tensor input(const Shape& shape, DType dtype = DType::Float64) {
  Generator generator(7);
  return (rand(shape, dtype, generator) + 0.5).requires_grad_();
}

Tensor sin_times(const Tensor& x, double factor) {
  Tensor y = [&] {
    NoGrad guard;
    return sin(x);
  }();
  return record("planted", {x}, y, save(x),
                [factor](const Tensor& g, const Saved& s) { return g * cos(s[0]) * factor; });
}

bool contains(const std::string& text, const char* part) { return text.find(part) != std::string::npos; }

const GradcheckOptions kTorch = GradcheckOptions::torch();

}  // namespace

TEST_CASE("gradcheck: what is right passes, by our procedure and by torch's") {
  for (GradcheckOptions options : {GradcheckOptions{}, GradcheckOptions{.fast_mode = true}, kTorch}) {
    CAPTURE(options.torch_procedure);
    auto passes = [&](auto f, const Tensors& inputs) {
      return gradcheck(f, inputs, options) && gradgradcheck(f, inputs, {}, options);
    };
    CHECK(passes([](const Tensors& in) { return tanh(in[0]) * in[1]; }, {input({2, 3}), input({3})}));
    // A function of a span, with several outputs, one of them without a gradient, one undefined.
    auto several = [](std::span<const Tensor> in) {
      return Tensors{exp(in[0]), in[1].detach(), in[0] * in[1], Tensor()};
    };
    CHECK(passes(several, {input(2), input(2)}));
    // Linear, the input itself, no elements, a scalar.
    CHECK(passes([](const Tensors& in) { return in[0] * 3; }, {input(3)}));
    CHECK(passes([](const Tensors& in) { return in[0]; }, {input(3)}));
    CHECK(passes([](const Tensors& in) { return exp(in[0]); }, {input({0, 3})}));
    CHECK(passes([](const Tensors& in) { return exp(in[0]); }, {input({})}));
    CHECK(gradcheck([](const Tensors& in) { return zeros_like(in[0]); }, {input(3)}, options));
    // A parameter that the function reaches by itself, and one that is passed twice.
    Tensor w = input(3);
    CHECK(passes([&](const Tensors&) { return tanh(w); }, {w}));
    CHECK(passes([&](const Tensors& in) { return tanh(in[0]) * in[1]; }, {w, w}));
    // A computed input.
    CHECK(passes([&](const Tensors& in) { return tanh(in[0]) * in[1]; }, {w, exp(w)}));
    // A function that takes derivatives itself.
    CHECK(passes([&](const Tensors& in) { return grad({sum(tanh(in[0]) * in[1])}, {in[0]}, {.create_graph = true}); },
                 {input(2), input(2)}));
    {
      NoGrad guard;
      CHECK(gradcheck([](const Tensors& in) { return tanh(in[0]); }, {input(3)}, options));
      CHECK_FALSE(GradMode::enabled());
    }
  }
}

TEST_CASE("gradcheck: gradients of all sizes, from functions whose values are large, small, steep and flat") {
  Tensor x = input({2, 3});
  for (double factor : {1e-9, 1e-6, 1.0, 1e6})
    CHECK(gradcheck([=](const Tensors& in) { return sum(tanh(in[0])) * factor; }, {x}));
  CHECK(gradcheck([](const Tensors& in) { return tanh(in[0]) + 1e6; }, {x}));  // rounding of the value swamps it
  CHECK(gradcheck([](const Tensors& in) { return (in[0] + 1e8) * 1e-3; }, {x}));
  CHECK(gradcheck([](const Tensors& in) { return sigmoid((in[0] - 1) * 300); }, {x}));
  CHECK(gradcheck([](const Tensors& in) { return log(in[0] * 1e-3); }, {x}));
  CHECK(gradcheck([](const Tensors& in) { return log(in[0]); }, {full(3, 1e-4, DType::Float64).requires_grad_()}));
  CHECK(gradcheck([](const Tensors& in) { return exp(in[0]); }, {full(3, 30, DType::Float64).requires_grad_()}));
  CHECK(gradcheck([](const Tensors& in) { return sin(in[0]); }, {full(3, 1e5, DType::Float64).requires_grad_()}));
}

TEST_CASE("gradcheck: torch's defaults, as a mode") {
  CHECK(kTorch.torch_procedure);
  CHECK(kTorch.eps == 1e-6);
  CHECK(kTorch.atol == 1e-5);
  CHECK(kTorch.rtol == 1e-3);
  CHECK(kTorch.nondet_tol == 0);
  CHECK(kTorch.raise_exception);
  CHECK_FALSE(kTorch.fast_mode);
  CHECK(kTorch.check_undefined_grad);

  GradcheckOptions tolerant = kTorch;
  tolerant.rtol = 0.02;
  auto wrong = [](const Tensors& in) { return sin_times(in[0], 1.01); };
  CHECK(gradcheck(wrong, {input(3)}, tolerant));
  CHECK_THROWS_AS(gradcheck(wrong, {input(3)}, kTorch), GradcheckError);
  GradcheckOptions fast = kTorch;
  fast.fast_mode = true;
  CHECK_THROWS_AS(gradcheck(wrong, {input(3)}, fast), GradcheckError);
  fast.raise_exception = false;
  CHECK_FALSE(gradcheck(wrong, {input(3)}, fast));
}

TEST_CASE("gradcheck: torch's mode names output, input and the worst element") {
  auto f = [](const Tensors& in) {
    Tensor factor = tensor({{1.0, 1.0, 1.0}, {1.0, 1.0, 1.5}}, DType::Float64);
    Tensor y = record("planted", {in[1]}, in[1].detach().clone(), [=](const Tensor& g) { return g * factor; });
    return Tensors{in[0] * 2, y};
  };
  GradcheckReport report = gradcheck_report(f, {input(1), zeros({2, 3}, DType::Float64).requires_grad_()}, kTorch);
  std::string text = to_string(report);
  CHECK(report.has(GradcheckFault::Value));
  for (const char* part : {"output 1 by input 1", "1 of 36 elements", "d output(1, 2) / d input(1, 2)",
                           "analytic is 1.5", "numeric is", "absolute difference 0.5", "relative 0.5"})
    CHECK_MESSAGE(contains(text, part), part, " in: ", text);
  CHECK_FALSE(contains(text, "float32"));
  text = to_string(gradcheck_report([](const Tensors& in) { return sin(in[0]); }, {input(3, DType::Float32)}, kTorch));
  CHECK(contains(text, "use float64"));
}

TEST_CASE("gradcheck: leaves no trace") {
  for (GradcheckOptions options : {GradcheckOptions{}, GradcheckOptions{.fast_mode = true}, kTorch})
    for (DType dtype : {DType::Float64, DType::Float32}) {
      if (dtype == DType::Float32 && options.torch_procedure) continue;
      Tensor x = views::transpose(input({2, 3}, dtype).detach(), 0, 1).requires_grad_(), w = input({3, 2}, dtype);
      Tensor computed = tanh(w);  // its history is kept as well
      x.set_grad(ones({3, 2}, dtype));
      auto f = [](const Tensors& in) { return exp(in[0]) * in[1] * in[2]; };
      Shape strides = x.strides();
      const void* memory = x.body().storage->data();
      std::vector<double> before = x.to(DType::Float64).to_vector<double>();
      Generator generator = default_generator();
      Live live;
      CHECK(gradcheck(f, {x, w, computed}, options));
      CHECK(gradgradcheck(f, {x, w, computed}, {}, options));
      CHECK(Live() == live);
      CHECK(default_generator().get_state() == generator.get_state());
      CHECK(x.dtype() == dtype);
      CHECK(x.strides() == strides);
      CHECK(x.body().storage->data() == memory);
      CHECK(x.to(DType::Float64).to_vector<double>() == before);
      CHECK(x.version() == 0);
      CHECK(x.is_leaf());
      CHECK(sum(x.grad()).item() == 6);
      CHECK_FALSE(w.grad().defined());
      CHECK_FALSE(computed.is_leaf());
      CHECK(grad({sum(computed)}, {w})[0].defined());

      // When the function raises, too.
      int calls = 0;
      auto raising = [&](const Tensors& in) {
        if (++calls == 9) throw std::runtime_error("mine");
        return exp(in[0]);
      };
      CHECK_THROWS_WITH_AS(gradcheck(raising, {x}, options), "mine", std::runtime_error);
      CHECK(x.dtype() == dtype);
      CHECK(x.to(DType::Float64).to_vector<double>() == before);
      CHECK(sum(x.grad()).item() == 6);
    }
}

TEST_CASE("gradcheck: float32 is measured in float64, where it is") {
  Tensor w = input({3, 2}, DType::Float32);
  auto f = [&](const Tensors& in) { return tanh(matmul(in[0], w)); };  // w by itself: it is converted where it is
  GradcheckReport report = gradcheck_report(f, {input({2, 3}, DType::Float32), w});
  CHECK(report.ok());
  CHECK(report.row("input 1").max_rel_error < 1e-5);
  CHECK(w.dtype() == DType::Float32);

  // A constant that stays float32 does not go together with that.
  Tensor constant = input({3, 2}, DType::Float32).detach();
  auto fixed = [&](const Tensors& in) { return matmul(in[0], constant); };
  CHECK_RAISES(ValueError, "does not take its inputs in float64", gradcheck(fixed, {input({2, 3}, DType::Float32)}));
  CHECK(w.dtype() == DType::Float32);

  // Right in float64 and wrong in float32.
  auto coarse = [](const Tensors& in) {
    Tensor y = in[0].detach() * 2;
    return record("planted", {in[0]}, y,
                  [](const Tensor& g) { return g * (g.dtype() == DType::Float32 ? 2.001 : 2.0); });
  };
  CHECK(gradcheck(coarse, {input(3)}));
  report = gradcheck_report(coarse, {input(3, DType::Float32)});
  CHECK(report.has(GradcheckFault::Float32));
  CHECK_FALSE(report.has(GradcheckFault::Value));
}

TEST_CASE("gradcheck: random functions, with the same numbers each time") {
  auto f = [](const Tensors& in) { return dropout(in[0], 0.5) * 2; };
  GradcheckReport report = gradcheck_report(f, {input(20)});
  REQUIRE(report.has(GradcheckFault::Nondeterministic));
  CHECK(report.rows.empty());  // there is nothing to compare with
  CHECK(contains(to_string(report), "fix_random"));
  CHECK(gradcheck(f, {input(20)}, {.fix_random = true}));
  CHECK(gradgradcheck(f, {input(20)}, {}, {.fix_random = true}));
}

TEST_CASE("gradcheck: the report") {
  Tensor x = input({2, 2}), w = input({2, 2});
  auto f = [](const Tensors& in) { return Tensors{exp(in[0]), sin_times(in[1], -1) + in[0] * 0}; };
  GradcheckLabels labels{.inputs = {{"x"}, {"weight", {"a", "b"}}}};
  GradcheckReport report = gradcheck_report(f, {x, w}, {}, labels);
  CHECK(report.verdict == GradcheckVerdict::Failed);
  CHECK(report.findings.size() == 1);
  REQUIRE(report.rows.size() == 4);  // x, weight, and its two blocks
  const GradcheckRow &right = report.row("x"), &wrong = report.row("weight"), &block = report.row("weight", "b");
  CHECK(right.wrong == 0);
  CHECK(right.ratio == doctest::Approx(1).epsilon(1e-7));
  CHECK(wrong.wrong == 4);
  CHECK(wrong.ratio == doctest::Approx(-1));
  CHECK(wrong.cosine == doctest::Approx(-1));
  CHECK(wrong.max_rel_error == doctest::Approx(2));
  CHECK(wrong.worst.analytic == doctest::Approx(-wrong.worst.numeric));
  CHECK(wrong.worst.uncertainty < 1e-10);
  CHECK(wrong.worst.uncertainty > 0);
  CHECK(block.shape == Shape{1, 2});
  CHECK(block.wrong == 2);
  CHECK(block.worst.index[0] == 1);
  CHECK_RAISES(ValueError, "no row \"bias\"", report.row("bias"));
  REQUIRE(report.pair);
  CHECK(report.pair->input == "weight");
  CHECK(report.pair->output == 1);
  CHECK(report.pair->output_index == report.pair->input_index);
  CHECK(report.pair->numeric == doctest::Approx(-report.pair->analytic));
  REQUIRE(report.hints.size() == 1);
  CHECK(contains(report.hints[0], "weight: off by a factor of -1 everywhere: the sign"));
  std::string text = to_string(report);
  for (const char* part :
       {"gradcheck: FAILED\n", "- wrong derivative: weight: the gradient does not match in 4 of 4",
        "the worst is d output 1(", "\n  weight  (2, 2)    4/4", "\n    b     (1, 2)    2/2", "hint: "})
    CHECK_MESSAGE(contains(text, part), part, " in: ", text);

  report = gradcheck_report([](const Tensors& in) { return exp(in[0]); }, {x});
  CHECK(report.verdict == GradcheckVerdict::Passed);
  CHECK(to_string(report).starts_with("gradcheck: passed\n"));
}

TEST_CASE("gradcheck: nothing was tested") {
  auto constant = [](const Tensors& in) { return softmax(in[0], -1) * 0 + sum(softmax(in[0], -1)); };
  GradcheckReport report = gradcheck_report(constant, {input({2, 3})});
  CHECK(report.ok());
  CHECK(report.verdict == GradcheckVerdict::NothingTested);
  CHECK(contains(to_string(report), "input 0: nothing was tested"));
  // One of two inputs.
  report = gradcheck_report([](const Tensors& in) { return exp(in[0]) + in[1] * 0; }, {input(2), input(2)});
  CHECK(report.verdict == GradcheckVerdict::Passed);
  CHECK(report.row("input 1").untested);
  CHECK_FALSE(report.row("input 0").untested);
  // Zeros hide what multiplies by them.
  report = gradcheck_report([](const Tensors& in) { return in[0] * in[1]; },
                            {zeros(2, DType::Float64).requires_grad_(), input(2)});
  CHECK(contains(to_string(report), "input 0: all its elements are 0"));
}

TEST_CASE("gradcheck: an infinite difference hides no other element") {
  // log at 1e-5 minus the step; the gradient of the second element is half of what it should be.
  auto half = [](const Tensors& in) {
    const Tensor x = select(in[0], 0, 0), y = select(in[0], 0, 1);
    return stack({log(x), y * y.detach()});
  };
  for (double place : {1e-5, 2e-5}) {
    GradcheckReport report = gradcheck_report(half, {tensor({place, 1.5}, DType::Float64).requires_grad_()});
    CHECK(report.row("input 0").wrong == 1);
  }
  auto right = [](const Tensors& in) { return log(in[0]); };
  CHECK(gradcheck(right, {tensor({1e-5, 1.5}, DType::Float64).requires_grad_()}));
}

TEST_CASE("gradcheck: kinks and jumps are skipped, and too many of them fail") {
  auto at = [](double place, std::int64_t n) {
    Tensor x = input(n).detach();
    x.data<double>()[2] = place;
    return x.requires_grad_();
  };
  auto corner = [](const Tensors& in) { return relu(in[0]) + abs(in[0]); };
  auto jump = [](const Tensors& in) { return sign(in[0]) + in[0]; };
  for (std::int64_t n : {40, 10}) {
    for (double near : {0.0, 1e-12, -1e-7}) {
      CAPTURE(near);
      GradcheckReport report = gradcheck_report(corner, {at(near, n)});
      CHECK(report.row("input 0").skipped == 1);
      CHECK(report.row("input 0").wrong == 0);
      CHECK(report.ok() == (n == 40));
      CHECK(report.has(GradcheckFault::Skipped) == (n == 10));
    }
    CHECK(gradcheck_report(jump, {at(0, n)}).row("input 0").skipped == 1);
    CHECK(gradcheck_report(jump, {at(0, n)}).row("input 0").wrong == 0);
  }
  // A little further off, the derivative is there again; a wrong one is found there, and next to kinks.
  for (double near : {5e-5, 1e-3, 1e-2}) {
    CAPTURE(near);
    GradcheckReport report = gradcheck_report(corner, {at(near, 40)});
    CHECK(report.ok());
    CHECK(report.row("input 0").skipped == 0);
    auto wrong = [](const Tensors& in) {
      return record("planted", {in[0]}, relu(in[0].detach()), save(in[0]),
                    [](const Tensor& g, const Saved& s) { return g * sign(relu(s[0])) * 1.001; });
    };
    report = gradcheck_report(wrong, {at(near, 40)});
    CHECK(report.row("input 0").wrong == 40);
  }
  // Much curvature is no kink.
  Tensor zero = zeros(3, DType::Float64).requires_grad_();
  CHECK(gradcheck_report([](const Tensors& in) { return square(in[0]) * 1e4; }, {zero}).row("input 0").skipped == 0);
  CHECK(gradcheck([](const Tensors& in) { return square(in[0]) * 1e4 + in[0]; }, {zero}));
}

TEST_CASE("gradcheck: wrong use") {
  auto f = [](const Tensors& in) { return exp(in[0]); };
  for (GradcheckOptions options : {GradcheckOptions{}, kTorch}) {
    CHECK_RAISES(ValueError, "none of the 1 inputs", gradcheck(f, {zeros(2, DType::Float64)}, options));
    Tensor expanded = views::expand(zeros(1, DType::Float64), 3).requires_grad_();
    CHECK_RAISES(ValueError, "expanded", gradcheck(f, {expanded}, options));
    options.raise_exception = false;
    CHECK_THROWS_AS(gradcheck(f, {zeros(2, DType::Float64)}, options), ValueError);
  }
  CHECK_THROWS_AS(gradgradcheck(f, {input(2)}, {ones(3, DType::Float64).requires_grad_()}), ShapeError);
  CHECK_RAISES(ValueError, "2 grad_outputs for the 1 outputs", gradgradcheck(f, {input(2)}, {input(2), input(2)}));
  CHECK_RAISES(ValueError, "none of the outputs",
               gradgradcheck([](const Tensors& in) { return zeros_like(in[0]); }, {input(2)}));
}

TEST_CASE("gradcheck: an input that comes twice, or begins within its memory, is left as it was") {
  const Tensor x = ones(2, DType::Float64).requires_grad_();
  x.set_grad(full(2, 3, DType::Float64));
  CHECK(gradcheck([](const Tensors& in) { return in[0] * in[1]; }, {x, x}));
  CHECK(x.grad().to_vector<double>() == std::vector<double>{3, 3});
  const Tensor half = narrow(tensor({1., 2., 3., 4.}), 0, 2, 2).detach().requires_grad_();
  CHECK(gradcheck([](const Tensors& in) { return in[0] * in[0]; }, {half}));
  CHECK(half.to_vector<float>() == std::vector<float>{3, 4});
  // Two that share memory are moved one over the other, here by float32's rounding too, and put back in turn.
  const Tensor whole = tensor({0.7, 0.9}, DType::Float64), first = whole.detach().requires_grad_(),
               second = whole.detach().requires_grad_(), narrow32 = tensor({0.5, 0.25}).requires_grad_();
  auto cancelling = [](const Tensors& in) { return exp(20 * in[0].to(DType::Float64)) * in[1] * in[2]; };
  gradcheck_report(cancelling, {narrow32, first, second});
  CHECK(whole.to_vector<double>() == std::vector<double>{0.7, 0.9});
  CHECK_FALSE(whole.body().storage->is_given_out);
}
