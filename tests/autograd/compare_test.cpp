#include <doctest/doctest.h>
#include <unroll/autograd/ops/activation.h>
#include <unroll/autograd/ops/arithmetic.h>
#include <unroll/autograd/ops/compare.h>
#include <unroll/autograd/ops/shape.h>

#include <cmath>
#include <limits>

using namespace unroll;

namespace {

constexpr double kInf = std::numeric_limits<double>::infinity();
constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();

using Mask = std::vector<bool>;
using Indices = std::vector<std::int64_t>;

Mask mask(const Tensor& x) { return x.to_vector<bool>(); }

}  // namespace

TEST_CASE("compare: two tensors") {
  Tensor a = tensor({1.0, 2.0, 3.0, kNaN}), b = tensor({1.0, 3.0, 2.0, kNaN});
  CHECK(mask(eq(a, b)) == Mask{true, false, false, false});
  CHECK(mask(ne(a, b)) == Mask{false, true, true, true});
  CHECK(mask(lt(a, b)) == Mask{false, true, false, false});
  CHECK(mask(le(a, b)) == Mask{true, true, false, false});
  CHECK(mask(gt(a, b)) == Mask{false, false, true, false});
  CHECK(mask(ge(a, b)) == Mask{true, false, true, false});
  CHECK(mask(eq(view(tensor({1, 2}), {2, 1}), tensor({1, 2}))) == Mask{true, false, false, true});
  CHECK(lt(zeros({0, 3}), zeros(3)).shape() == Shape{0, 3});
  CHECK_THROWS_WITH_AS(eq(a, arange(4)), "eq: dtypes float32 and int64 differ; convert one with to()", DTypeError);
  CHECK_THROWS_AS(gt(a, zeros(3)), ShapeError);
}

TEST_CASE("compare: a tensor and a number") {
  CHECK(mask(gt(tensor({1, 2, 3}), 1.5)) == Mask{false, true, true});  // the number is not cut to an integer
  CHECK(mask(eq(tensor({0.1}), 0.1)) == Mask{true});                   // but rounded to float32
  CHECK(mask(eq(tensor({true, false}), 1)) == Mask{true, false});
  CHECK(mask(ne(tensor({1.0, kNaN}), 1)) == Mask{false, true});
  CHECK(mask(le(tensor({1.0, 2.0}), 1)) == Mask{true, false});
  CHECK(mask(ge(transpose(tensor({{1, 2}, {3, 4}}), 0, 1), 3)) == Mask{false, true, false, true});
  CHECK(mask(lt(tensor({1.0, kNaN}), kInf)) == Mask{true, false});
}

TEST_CASE("compare: results never require a gradient") {
  Tensor x = ones(3).requires_grad_();
  CHECK_FALSE(eq(x, x).requires_grad());
  CHECK_FALSE(gt(x, 0).requires_grad());
  CHECK_FALSE(argmax(x).requires_grad());
}

TEST_CASE("compare: masks") {
  Tensor a = tensor({true, true, false, false}), b = tensor({true, false, true, false});
  CHECK(mask(logical_and(a, b)) == Mask{true, false, false, false});
  CHECK(mask(logical_or(a, b)) == Mask{true, true, true, false});
  CHECK(mask(logical_not(a)) == Mask{false, false, true, true});
  CHECK(any(a));
  CHECK_FALSE(all(a));
  CHECK_FALSE(any(zeros({0}, DType::Bool)));
  CHECK(all(zeros({0}, DType::Bool)));
  CHECK(all(slice(tensor({true, false, true}), 0, 0, 3, 2)));
  CHECK_THROWS_WITH_AS(any(ones(2)), "any: expected bool, got float32", DTypeError);
  CHECK_THROWS_AS(logical_and(a, ones(4)), DTypeError);
  CHECK_THROWS_AS(logical_not(ones(4)), DTypeError);
  Tensor x = tensor({1.0, kNaN, kInf, -kInf});
  CHECK(mask(isnan(x)) == Mask{false, true, false, false});
  CHECK(mask(isfinite(x)) == Mask{true, false, false, false});
}

TEST_CASE("compare: equal and allclose") {
  Tensor x = tensor({1.0, 2.0, kInf});
  CHECK(equal(x, x.clone()));
  CHECK_FALSE(equal(x, x.to(DType::Float64)));
  CHECK_FALSE(equal(zeros({2, 1}), zeros(2)));
  CHECK_FALSE(equal(tensor({kNaN}), tensor({kNaN})));
  CHECK(equal(zeros({0, 2}), zeros({0, 2})));
  CHECK(allclose(x, tensor({1.000001, 2.0, kInf})));
  CHECK_FALSE(allclose(x, tensor({1.001, 2.0, kInf})));
  CHECK(allclose(x, tensor({1.001, 2.0, kInf}), 0, 0.01));
  CHECK_FALSE(allclose(x, tensor({1.0, 2.0, -kInf})));
  // Integers that are one double, and such whose difference is no int64.
  const std::int64_t large = (std::int64_t{1} << 53) + 1, most = std::numeric_limits<std::int64_t>::max();
  CHECK_FALSE(allclose(tensor({large}), tensor({large - 1}), 0, 0));
  CHECK(allclose(tensor({large}), tensor({large - 1}), 0, 1));
  CHECK_FALSE(allclose(tensor({most}), tensor({-most}), 0, 1e19));
  CHECK(allclose(tensor({most}), tensor({-most}), 0, 2e19));
  CHECK_FALSE(allclose(tensor({1.0}), tensor({kInf})));  // although rtol·∞ is larger than any difference
  CHECK_FALSE(allclose(tensor({kNaN}), tensor({kNaN})));
  CHECK_FALSE(allclose(ones(1), ones({1, 1})));
  CHECK(allclose(tensor({3, 4}), tensor({3, 4})));
}

TEST_CASE("compare: argmax and argmin take the first of equal ones, and NaN") {
  Tensor x = tensor({{3, 5, 5}, {7, 2, 7}});
  CHECK(argmax(x, 1).to_vector<std::int64_t>() == Indices{1, 0});
  CHECK(argmin(x, 1).to_vector<std::int64_t>() == Indices{0, 1});
  CHECK(argmax(x, 0).to_vector<std::int64_t>() == Indices{1, 0, 1});
  CHECK(argmax(x, -1, true).shape() == Shape{2, 1});
  CHECK(argmax(x).item<std::int64_t>() == 3);
  CHECK(argmin(x).item<std::int64_t>() == 4);
  CHECK(argmax(transpose(x, 0, 1)).item<std::int64_t>() == 1);
  CHECK(argmax(tensor({1.0, kNaN, kInf, kNaN})).item<std::int64_t>() == 1);
  CHECK(argmin(tensor({1.0, kNaN, -kInf})).item<std::int64_t>() == 1);
  CHECK(argmax(scalar(3), 0, true).shape() == Shape{});
  CHECK(argmax(zeros({0, 2}), 1).shape() == Shape{0});
  CHECK_THROWS_WITH_AS(argmax(zeros({2, 0}), 1), "argmax: dimension 1 of shape (2, 0) is empty", ShapeError);
  CHECK_THROWS_AS(argmin(zeros({0})), ShapeError);
  CHECK_THROWS_AS(argmax(x, 2), IndexError);
  CHECK_THROWS_AS(argmax(tensor({true})), DTypeError);
}

TEST_CASE("compare: what ops that compare make of NaN is torch's") {
  const Tensor x = tensor({1.0, kNaN, -2.0});
  CHECK(sign(x).to_vector<float>() == std::vector<float>{1, 0, -1});
  CHECK(mask(isnan(relu(x))) == Mask{false, true, false});
  CHECK(mask(isnan(maximum(x, 0 * x))) == Mask{false, true, false});
  CHECK(mask(isnan(clamp(x, -1, 1))) == Mask{false, true, false});
  CHECK(all(isnan(clamp(x, kNaN, 1))));
  CHECK(all(isnan(clamp(x, -1, kNaN))));
}

TEST_CASE("compare: the magnitude of a negative zero, and 2^63, which is no int64") {
  CHECK_FALSE(std::signbit(abs(tensor({-0.0})).item()));
  CHECK_THROWS_AS(arange(3) + 0x1p63, DTypeError);
  CHECK_THROWS_AS(arange(3) * -0x1p63, DTypeError);
}

TEST_CASE("compare: no largest element along an empty dimension, even where there is no room for one") {
  CHECK_THROWS_AS(argmax(zeros({0, 0, 1}), 1), ShapeError);
  CHECK(argmax(zeros({0, 3}), 1).shape() == Shape{0});
}

TEST_CASE("compare: argmax keeps the dimension where it was") {
  CHECK(argmax(zeros({2, 3}), 0, true).shape() == Shape{1, 3});
  CHECK(argmin(zeros({2, 3, 4}), 1, true).shape() == Shape{2, 1, 4});
}

TEST_CASE("compare: clamp with its bounds the wrong way round gives the upper one") {
  CHECK(clamp(tensor({0., 1.5, 5.}), 2, 1).to_vector<float>() == std::vector<float>{1, 1, 1});
}

TEST_CASE("allclose: rtol is relative to the second") {
  const Tensor a = tensor({1.0}), b = tensor({1.5});
  CHECK(allclose(a, b, 0.4, 0));
  CHECK_FALSE(allclose(b, a, 0.4, 0));
}
