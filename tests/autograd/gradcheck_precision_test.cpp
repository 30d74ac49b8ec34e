#include "support/gradients.h"

#include <unroll/autograd/ops/activation.h>
#include <unroll/autograd/ops/arithmetic.h>
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
Tensor somewhere(Shape shape) {
  Generator generator(7);
  return (rand(std::move(shape), DType::Float64, generator) + 0.5).requires_grad_();
}
}  // namespace

TEST_CASE("gradcheck: of a small element, scale_tol excuses a billionth of the greatest and no more") {
  Tensor c = tensor({1.0, 1e-3}, DType::Float64);
  CHECK(gradcheck(dot_with(c, c + tensor({0.0, 5e-10}, DType::Float64)), {somewhere(2)}));
  CHECK_FALSE(
      gradcheck(dot_with(c, c + tensor({0.0, 2e-8}, DType::Float64)), {somewhere(2)}, {.raise_exception = false}));
  CHECK(gradcheck(dot_with(c, c + tensor({0.0, 2e-8}, DType::Float64)), {somewhere(2)}, {.scale_tol = 1e-7}));
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
  const Tensors in{leaf({1})};
  for (bool fast : {false, true})
    CHECK(gradcheck(f, in, {.eps = 1e-6, .atol = 1e-5, .rtol = 0, .fast_mode = fast, .torch_procedure = true}));
}

TEST_CASE("gradcheck: outputs without a gradient must not depend on the inputs, in torch's mode too") {
  auto f = [](const Tensors& in) { return in[0].detach() * 2; };
  CHECK_THROWS_AS(gradcheck(f, {leaf({1, 2})}, GradcheckOptions::torch()), GradcheckError);
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
