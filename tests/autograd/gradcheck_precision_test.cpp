#include "support/gradients.h"

#include <unroll/autograd/ops/activation.h>
#include <unroll/autograd/ops/arithmetic.h>
#include <unroll/autograd/ops/normalize.h>
#include <unroll/autograd/ops/reduce.h>
#include <unroll/autograd/record.h>

#include <cmath>

// How small an error gradcheck calls one, and what it counts.

using namespace unroll;
using doctest::Contains;

using Tensors = std::vector<Tensor>;

namespace {
// Σ c·x, whose gradient is taken for `claimed`.
auto dot_with(Tensor c, Tensor claimed, double offset = 0) {
  return [=](const Tensors& in) {
    Tensor y;
    {
      NoGrad guard;
      y = sum(in[0] * c) + offset;
    }
    return record("planted", {in[0]}, y, [=](const Tensor& g) { return g * claimed; });
  };
}
Tensor somewhere(const Shape& shape) {
  Generator generator(7);
  return (rand(shape, DType::Float64, generator) + 0.5).requires_grad_();
}
}  // namespace

TEST_CASE("gradcheck: of a small element, scale_tol excuses a billionth of the greatest and no more") {
  Tensor c = tensor({1.0, 1e-3}, DType::Float64);
  CHECK(gradcheck(dot_with(c, c + tensor({0.0, 5e-10}, DType::Float64)), {somewhere(2)}));
  CHECK_FALSE(
      gradcheck(dot_with(c, c + tensor({0.0, 2e-8}, DType::Float64)), {somewhere(2)}, {.raise_exception = false}));
  CHECK_FALSE(
      gradcheck(dot_with(c, c + tensor({0.0, 4e-9}, DType::Float64)), {somewhere(2)}, {.raise_exception = false}));
  CHECK(gradcheck(dot_with(c, c + tensor({0.0, 2e-8}, DType::Float64)), {somewhere(2)}, {.scale_tol = 1e-7}));
  for (double sign : {1., -1.}) {  // a derivative's size is that of a negative one as well
    const Tensor s = c * sign;
    CHECK(gradcheck(dot_with(s, s + tensor({0.0, 5e-10}, DType::Float64)), {somewhere(2)}));
  }
  // So does each of the others what its name says.
  CHECK(gradcheck(dot_with(c, c + 1e-3), {somewhere(2)}, {.atol = 2e-3}));
  CHECK(gradcheck(dot_with(c, c + 1e-3), {somewhere(2)}, {.nondet_tol = 2e-3}));
}

TEST_CASE("gradcheck: where rounding hides digits, what lies beyond ten times of it is still wrong") {
  Tensor c = ones(2, DType::Float64);
  CHECK(gradcheck(dot_with(c, c, 1e6), {somewhere(2)}));
  CHECK_FALSE(gradcheck(dot_with(c, c * (1 + 5e-6), 1e6), {somewhere(2)}, {.raise_exception = false}));
}

TEST_CASE("gradcheck: a kink is skipped even if the gradient there is the mean of its slopes") {
  Tensor x = somewhere(40);
  x.raw<double>()[7] = 0;
  GradcheckReport report = gradcheck_report([](const Tensors& in) { return abs(in[0]); }, {x});
  CHECK(report.ok());
  CHECK(report.rows[0].skipped == 1);
}

TEST_CASE("gradcheck: a gradient that is wrong everywhere is counted to the end, with small errors after great ones") {
  const std::int64_t n = 100;
  Tensor c = ones(n, DType::Float64), claimed = c * 1.1;
  CHECK(gradcheck_report(dot_with(c, claimed), {somewhere(n)}).rows[0].wrong == n);
  claimed.raw<double>()[n - 1] = 1 + 1e-5;
  CHECK(gradcheck_report(dot_with(c, claimed), {somewhere(n)}).rows[0].wrong == n);
}

TEST_CASE("gradcheck: what one output cannot measure and another finds wrong is wrong, not skipped") {
  Tensor x = somewhere(40), c = ones(40, DType::Float64), claimed = ones(40, DType::Float64);
  x.raw<double>()[7] = 0;
  claimed.raw<double>()[7] = 2;
  auto f = [planted = dot_with(c, claimed)](const Tensors& in) { return Tensors{sum(relu(in[0])), planted(in)}; };
  GradcheckReport report = gradcheck_report(f, {x});
  CHECK(report.rows[0].wrong == 1);
  CHECK(report.rows[0].skipped == 0);
}

TEST_CASE("gradcheck: torch's fast mode allows atol for each output, as its slow mode does") {
  auto f = [](const Tensors& in) {
    Tensor y = expand(in[0].detach(), 100).clone();
    return record("planted", {in[0]}, y, [](const Tensor& g) { return reshape(sum(g), {1}) * (1 + 5e-6); });
  };
  auto g = [](const Tensors& in) {
    return record("planted", {in[0]}, sum(in[0].detach()), [](const Tensor& d) { return expand(d, 100) * (1 + 5e-6); });
  };
  for (bool fast : {false, true}) {
    const GradcheckOptions options{.eps = 1e-6, .atol = 1e-5, .rtol = 0, .fast_mode = fast, .torch_procedure = true};
    CHECK(gradcheck(f, {leaf({1})}, options));
    CHECK(gradcheck(g, {ones(100, DType::Float64).requires_grad_()}, options));  // and for each input
  }
}

TEST_CASE("gradcheck: outputs without a gradient must not depend on the inputs, in torch's mode too") {
  auto f = [](const Tensors& in) { return in[0].detach() * 2; };
  CHECK_THROWS_AS(gradcheck(f, {leaf({1, 2})}, GradcheckOptions::torch()), GradcheckError);
  auto slightly = [](const Tensors& in) { return in[0].detach() * 1e-6; };  // less than atol, but not zero
  GradcheckOptions options = GradcheckOptions::torch();
  for (bool fast : {false, true}) {
    options.fast_mode = fast;
    CHECK_THROWS_AS(gradcheck(slightly, {leaf({1, 2})}, options), GradcheckError);
  }
  auto constant = [](const Tensors& in) { return zeros_like(in[0].detach()) + 2; };
  CHECK(gradcheck(constant, {leaf({1, 2})}, GradcheckOptions::torch()));
}

TEST_CASE("gradcheck: torch's mode calls NaN the worst element") {
  auto f = [](const Tensors& in) {
    Tensor y = sqrt(in[0].detach());
    return record("planted", {in[0]}, y, [](const Tensor& g) { return g * 9; });
  };
  CHECK_THROWS_WITH_AS(gradcheck(f, {leaf({1, 0, 4})}, GradcheckOptions::torch()), Contains("d input(1,)"),
                       GradcheckError);
}

TEST_CASE("gradcheck: many equal derivatives are not none") {
  auto f = [](const Tensors& in) { return sum(in[0]); };
  CHECK(gradcheck_report(f, {ones(1500, DType::Float64).requires_grad_()}).verdict == GradcheckVerdict::Passed);
}

namespace {
// x, whose gradient is off by that factor.
Tensor off_by(const Tensor& x, double factor) {
  return record("planted", {x}, x.detach() * 1, [=](const Tensor& g) { return g * factor; });
}
}  // namespace

TEST_CASE("gradcheck: the greatest errors of a row, and its worst element") {
  const Tensors in{leaf({1, 2})};
  SUBCASE("errors") {
    const GradcheckRow row = gradcheck_report([](const Tensors& x) { return off_by(x[0], 1.5); }, in).rows[0];
    CHECK(row.max_abs_error == doctest::Approx(row.scale / 2));
    CHECK(row.max_rel_error == doctest::Approx(0.5));
  }
  SUBCASE("what is wrong comes before what is only uncertain") {
    auto f = [](const Tensors& x) { return Tensors{x[0] * 1e-3 + 1e9, off_by(x[0], 1 + 1e-6)}; };
    const GradcheckRow row = gradcheck_report(f, in).rows[0];
    CHECK(row.wrong == 2);
    CHECK(row.worst.analytic / row.worst.numeric - 1 == doctest::Approx(1e-6).epsilon(1e-3));
  }
}

TEST_CASE("gradcheck: fast mode measures in full what has the wrong sign, or no derivative") {
  Tensor c = ones(2, DType::Float64);
  CHECK_FALSE(gradcheck(dot_with(c, -c), {somewhere(2)}, {.raise_exception = false, .fast_mode = true}));
  auto corner = [](const Tensors& in) { return abs(in[0]); };
  const GradcheckReport report = gradcheck_report(corner, {leaf({0, 0})}, {.fast_mode = true});
  CHECK(report.has(GradcheckFault::Skipped));
  CHECK(report.rows[0].skipped == 2);
}

TEST_CASE(
    "gradcheck: a corner after many smooth elements is still a corner, and one too slight for it still measured") {
  Tensor x = somewhere(100);
  x.raw<double>()[90] = 0;
  const GradcheckReport report = gradcheck_report([](const Tensors& in) { return relu(in[0]); }, {x});
  CHECK(report.rows[0].wrong == 0);
  CHECK(report.rows[0].skipped == 1);
  // The slopes 1 ± 1e-4 differ by less than a thousandth: the derivative is 1 there, not 1.1.
  Tensor c = ones(100, DType::Float64), claimed = c.clone();
  claimed.raw<double>()[90] = 1.1;
  auto f = [=](const Tensors& in) {
    Tensor y;
    {
      NoGrad guard;
      y = sum(in[0] + abs(in[0]) * 1e-4);
    }
    return record("planted", {in[0]}, y, [=](const Tensor& g) { return g * (claimed + sign(x.detach()) * 1e-4); });
  };
  CHECK(gradcheck_report(f, {x}).rows[0].wrong == 1);
}

TEST_CASE("gradcheck: NaN is the most wrong of an element's derivatives, in the output that has it") {
  auto f = [](const Tensors& in) {
    auto nan_first = [](const Tensor& g) {
      Tensor dx = g * 1;
      if (g.data<double>()[0] != 0) dx.data<double>()[0] = NAN;
      return reshape(sum(dx), {1});
    };
    return Tensors{eq(in[0], 0), record("planted", {in[0]}, expand(in[0].detach(), 3).clone(), nan_first)};
  };
  const GradcheckReport report = gradcheck_report(f, {leaf({1})});
  REQUIRE(report.pair);
  CHECK(report.pair->output == 1);
  CHECK(report.pair->output_index == Shape{0});
}

TEST_CASE("gradcheck: two runs are compared to their last element") {
  double last = 0;
  auto f = [&](const Tensors& in) { return cat({in[0], zeros(15, DType::Float64), full(1, ++last, DType::Float64)}); };
  CHECK(gradcheck_report(f, {leaf({1})}).has(GradcheckFault::Nondeterministic));
}

TEST_CASE("gradcheck: the second derivative of a constant sum is rounding, and passes") {
  CHECK(gradgradcheck([](const Tensors& in) { return sum(softmax(in[0], 0)); }, {somewhere(5)}));
}

TEST_CASE("gradcheck: the gradient in float32 is compared as sharply as its rounding allows") {
  // d/dx = 1000 and d/dy = 1, which 1000 may push by 5e-7 of itself; not by a hundredth.
  auto f = [](const Tensors& in) {
    Tensor y = in[0].detach() * 1000 + in[1].detach();
    return record(
        "planted", {in[0], in[1]}, y, [](const Tensor& g) { return g * 1000; },
        [](const Tensor& g) { return g * (g.dtype() == DType::Float32 ? 1.01 : 1); });
  };
  const Tensor x = ones(2).requires_grad_(), y = ones(2).requires_grad_();
  CHECK(gradcheck_report(f, {x, y}).has(GradcheckFault::Float32));
}

TEST_CASE("gradcheck: laws hold in float32 as well") {
  auto f = [](const Tensors& in) {
    return record("planted", {in[0]}, in[0].detach() * 2,
                  [](const Tensor& g) { return g * (g.dtype() == DType::Float32 && !g.is_contiguous() ? 2.002 : 2); });
  };
  CHECK(gradcheck_report(f, {ones({2, 3}).requires_grad_()}).has(GradcheckFault::Layout));
  CHECK(gradcheck(f, {ones({2, 3}, DType::Float64).requires_grad_()}));
}

TEST_CASE("gradcheck: what is not the same twice in float64 alone is not compared with float32") {
  double calls = 0;
  auto f = [&](const Tensors& in) { return in[0].dtype() == DType::Float32 ? in[0] * 2 : in[0] * ++calls; };
  CHECK(gradcheck_report(f, {ones(2).requires_grad_()}).has(GradcheckFault::Nondeterministic));
}

TEST_CASE("gradcheck: torch's rtol is a part of the numeric derivative, not of the analytic one") {
  auto f = [](const Tensors& in) { return off_by(in[0], 1.9); };  // 0.9 is less than half of 1.9
  for (bool fast : {false, true})
    CHECK_FALSE(
        gradcheck(f, {leaf({1, 2})},
                  {.eps = 1e-6, .rtol = 0.5, .raise_exception = false, .fast_mode = fast, .torch_procedure = true}));
}

TEST_CASE("gradcheck: torch's procedure names the very entry, in fast mode too") {
  auto f = [](const Tensors& in) {
    const Tensor y = cat({in[0].detach(), sum(in[0].detach(), 0, true)});  // x0, x1, x0 + x1
    return record("planted", {in[0]}, y, [](const Tensor& g) {
      return narrow(g, 0, 0, 2) + select(g, 0, 2) * tensor({1.5, 1.0}, DType::Float64);
    });
  };
  for (bool fast : {false, true})
    CHECK_THROWS_WITH_AS(
        gradcheck(f, {leaf({1, 2})}, {.eps = 1e-6, .atol = 1e-5, .fast_mode = fast, .torch_procedure = true}),
        Contains("in 1 of 6 elements; the worst is d output(2,) / d input(0,)"), GradcheckError);
}

TEST_CASE("gradcheck: an input that a label leaves nameless has its number for a name") {
  auto f = [](const Tensors& in) { return in[0] * 2; };
  CHECK(gradcheck_report(f, {leaf({1})}, {}, {.inputs = {{}}}).rows[0].name == "input 0");
}
