#include "support/gradients.h"

#include <doctest/doctest.h>
#include <unroll/autograd/engine.h>
#include <unroll/autograd/gradcheck.h>
#include <unroll/autograd/ops/arithmetic.h>
#include <unroll/autograd/ops/compare.h>
#include <unroll/autograd/ops/reduce.h>
#include <unroll/autograd/ops/shape.h>
#include <unroll/core/random.h>

#include <cmath>
#include <limits>

using namespace unroll;

namespace {

constexpr double kInf = std::numeric_limits<double>::infinity();
constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();

Tensor random(const Shape& shape) {
  Generator generator(3);
  return randn(shape, DType::Float64, generator);
}

// The gradient of f at x, summed over f's elements.
template <class F>
Values gradient(F f, const Tensor& x) {
  const Tensor y = f(x);
  return grad({sum(y)}, {x})[0].to_vector<double>();
}

// NaN equals NaN here.
bool same(const Values& a, const Values& b) {
  return std::equal(a.begin(), a.end(), b.begin(), b.end(),
                    [](double x, double y) { return x == y || (x != x && y != y); });
}

}  // namespace

TEST_CASE("sum: shapes and values for every choice of dimensions") {
  Tensor x = arange(0, 24, 1, DType::Float64);
  x = view(x, {2, 3, 4});
  CHECK(sum(x).item() == 276);
  CHECK(sum(x).shape() == Shape{});
  CHECK(sum(x, 0).to_vector<double>() == Values{12, 14, 16, 18, 20, 22, 24, 26, 28, 30, 32, 34});
  CHECK(sum(x, 1).to_vector<double>() == Values{12, 15, 18, 21, 48, 51, 54, 57});
  CHECK(sum(x, -1).to_vector<double>() == Values{6, 22, 38, 54, 70, 86});
  CHECK(sum(x, {0, 2}).to_vector<double>() == Values{60, 92, 124});  // a kept dimension between reduced ones
  CHECK(sum(x, {2, 0}, true).shape() == Shape{1, 3, 1});
  CHECK(sum(x, {0, 1}).to_vector<double>() == Values{60, 66, 72, 78});
  CHECK(sum(x, Shape{}, true).shape() == Shape{1, 1, 1});
  CHECK(sum(permute(x, {2, 0, 1}), 0).to_vector<double>() == sum(x, 2).to_vector<double>());
  CHECK(sum(scalar(3.0), 0).item() == 3);
  CHECK(sum(tensor({true, false, true})).item<std::int64_t>() == 2);
  CHECK(sum(tensor({{1, 2}, {3, 4}}), 0).to_vector<std::int64_t>() == std::vector<std::int64_t>{4, 6});
}

TEST_CASE("sum: no elements") {
  CHECK(sum(zeros({0, 3})).item() == 0);
  CHECK(sum(zeros({0, 3}), 0).to_vector<float>() == std::vector<float>{0, 0, 0});
  CHECK(sum(zeros({0, 3}), 1).shape() == Shape{0});
  CHECK(sum(zeros({3, 0}), 1).to_vector<float>() == std::vector<float>{0, 0, 0});
  CHECK(sum(zeros({2, 0, 3}), {0, 1}).to_vector<float>() == std::vector<float>{0, 0, 0});
  CHECK(gradient([](const Tensor& x) { return sum(x, 0); }, zeros({0, 3}, DType::Float64).requires_grad_()).empty());
}

TEST_CASE("sum: float32 keeps its digits over a million elements, along a row and down columns") {
  for (std::int64_t n : {1, 31, 32, 33, 2049, 1000000}) {
    CAPTURE(n);
    Generator generator(5);
    Tensor x = rand({n}, DType::Float32, generator);
    double expected = 0;
    for (float v : x.to_vector<float>()) expected += static_cast<double>(v);
    auto close = [expected](double v) { return std::abs(v - expected) <= 3e-7 * expected; };
    CHECK(close(sum(x).item()));
    for (std::int64_t columns : {3, 35}) {  // fewer than are summed at a time, and more
      Tensor sums = sum(expand(unsqueeze(x, 1), {n, columns}), 0);
      CHECK(sums.shape() == Shape{columns});
      CHECK(close(amin(sums).item()));
      CHECK(close(amax(sums).item()));
    }
  }
}

TEST_CASE("sum_to: undoes broadcasting") {
  Tensor x = view(arange(0, 24, 1, DType::Float64), {2, 3, 4});
  CHECK(sum_to(x, {3, 1}).to_vector<double>() == Values{60, 92, 124});
  CHECK(sum_to(x, {3, 1}).shape() == Shape{3, 1});
  CHECK(sum_to(x, {1, 1, 4}).to_vector<double>() == Values{60, 66, 72, 78});
  CHECK(sum_to(x, {}).item() == 276);
  CHECK(sum_to(x, {2, 3, 4}).is_same(x));
  CHECK(sum_to(zeros({0, 3}), {1, 3}).to_vector<float>() == std::vector<float>{0, 0, 0});
  CHECK_THROWS_WITH_AS(sum_to(x, {2, 4}), "sum_to: shape (2, 4) does not broadcast to (2, 3, 4)", ShapeError);
  CHECK_THROWS_AS(sum_to(zeros({3}), {1, 3}), ShapeError);
}

TEST_CASE("mean: values, and NaN for no elements") {
  Tensor x = view(arange(0, 6, 1, DType::Float64), {2, 3});
  CHECK(mean(x).item() == 2.5);
  CHECK(mean(x, -1).to_vector<double>() == Values{1, 4});
  CHECK(mean(x, 0, true).shape() == Shape{1, 3});
  CHECK(std::isnan(mean(zeros({0})).item()));
  CHECK(same(mean(zeros({2, 0}, DType::Float64), 1).to_vector<double>(), {kNaN, kNaN}));
  CHECK(mean(zeros({0, 2}), 1).numel() == 0);
  CHECK(gradient([](const Tensor& v) { return mean(v); }, leaf({1, 2, 3, 4})) == Values{0.25, 0.25, 0.25, 0.25});
  CHECK_THROWS_WITH_AS(mean(arange(3)), "mean: expected float32 or float64, got int64", DTypeError);
}

TEST_CASE("amax, amin: values, ties and NaN") {
  Tensor x = tensor({{3, 1, 3}, {2, 5, 5}}).to(DType::Float64).requires_grad_();
  CHECK(amax(x).item() == 5);
  CHECK(amin(x).item() == 1);
  CHECK(amax(x, 0).to_vector<double>() == Values{3, 5, 5});
  CHECK(amin(x, 1, true).shape() == Shape{2, 1});
  CHECK(gradient([](const Tensor& v) { return amax(v, 1); }, x) == Values{0.5, 0, 0.5, 0, 0.5, 0.5});
  CHECK(gradient([](const Tensor& v) { return amax(v); }, x) == Values{0, 0, 0, 0, 0.5, 0.5});
  CHECK(gradient([](const Tensor& v) { return amin(v, 0, true); }, x) == Values{0, 1, 1, 1, 0, 0});
  CHECK(amax(tensor({4, 9, 2})).item<std::int64_t>() == 9);
  for (auto f : {amax, amin}) {
    auto whole = [f](const Tensor& v) { return f(v, {}, false); };
    CHECK(std::isnan(whole(leaf({kNaN, 1})).item()));
    CHECK(std::isnan(whole(leaf({1, kNaN, 2})).item()));
    CHECK(same(gradient(whole, leaf({kNaN, 1, kNaN})), {kNaN, kNaN, kNaN}));
  }
  CHECK(gradient([](const Tensor& v) { return amax(v); }, leaf({kInf, kInf, 1})) == Values{0.5, 0.5, 0});
}

TEST_CASE("amax, amin: an empty dimension has no largest element") {
  CHECK_THROWS_WITH_AS(amax(zeros({2, 0}), 1), "amax: shape (2, 0) has no element to choose from", ShapeError);
  CHECK_THROWS_AS(amin(zeros({0})), ShapeError);
  CHECK(amax(zeros({2, 0}), 0).shape() == Shape{0});
}

TEST_CASE("logsumexp: neither large nor infinite numbers overflow") {
  auto value = [](std::initializer_list<double> values) { return logsumexp(leaf(values), 0).item(); };
  CHECK(value({1000, 1000}) == doctest::Approx(1000 + std::log(2.0)).epsilon(1e-15));
  CHECK(value({-1000, -1000}) == doctest::Approx(-1000 + std::log(2.0)).epsilon(1e-15));
  CHECK(value({-kInf, -kInf}) == -kInf);
  CHECK(value({kInf, 1}) == kInf);
  CHECK(value({kInf, -kInf}) == kInf);
  CHECK(value({-kInf, 1}) == 1);
  CHECK(std::isnan(value({kNaN, 1})));
  CHECK(logsumexp(zeros({2, 0}, DType::Float64), 1).to_vector<double>() == Values{-kInf, -kInf});
  CHECK(logsumexp(zeros({0, 2}), 1).numel() == 0);
  Tensor x = random({2, 3, 4});
  for (const Shape& dims : {Shape{1}, Shape{0, 2}, Shape{}})
    CHECK(allclose(logsumexp(x, dims), log(sum(exp(x), dims)), 1e-14, 1e-15));
  CHECK(logsumexp(x, {0, 2}, true).shape() == Shape{1, 3, 1});
  // As torch has them.
  auto f = [](const Tensor& v) { return logsumexp(v, 0); };
  CHECK(gradient(f, leaf({-kInf, 1})) == Values{0, 1});
  CHECK(same(gradient(f, leaf({kInf, 1})), {kNaN, 0}));
  CHECK(same(gradient(f, leaf({-kInf, -kInf})), {kNaN, kNaN}));
}

TEST_CASE("norm: every kind of p") {
  auto value = [](double p) { return norm(leaf({3, -4, 0}), p).item(); };
  CHECK(value(0) == 2);
  CHECK(value(1) == 7);
  CHECK(value(2) == 5);
  CHECK(value(3) == doctest::Approx(std::cbrt(91.0)).epsilon(1e-15));
  CHECK(value(kInf) == 4);
  CHECK(value(-kInf) == 0);
  CHECK(value(-1) == 0);
  CHECK(norm(leaf({3, -4}), 0.5).item() == doctest::Approx(13.92820323027551).epsilon(1e-15));
  CHECK(norm(leaf({3, -4}), -1).item() == doctest::Approx(12.0 / 7).epsilon(1e-15));
  CHECK(norm(tensor({{3, 4}, {0, 5}}).to(DType::Float64), 2, 1).to_vector<double>() == Values{5, 5});
  CHECK(norm(ones({2, 3, 4}), 1, {0, 2}, true).shape() == Shape{1, 3, 1});
  for (double p : {2.0, 3.0, -2.0})  // each of one element, whose power float32 has not
    CHECK(norm(tensor({{-1e30}, {1e-30}}), p, 1).to_vector<float>() == std::vector<float>{1e30F, 1e-30F});
  for (double p : {0.0, 0.5, 1.0, 2.0, 3.0}) CHECK(norm(zeros({0}), p).item() == 0);
  for (double p : {-1.0, -kInf, kInf}) {
    CHECK_THROWS_AS(norm(zeros({0}), p), ShapeError);
    CHECK(norm(zeros({0, 2}), p, 1).numel() == 0);
  }
  CHECK_THROWS_WITH_AS(norm(ones({2}), kNaN), "norm: p is NaN", ValueError);
  CHECK_THROWS_AS(norm(arange(3), 1), DTypeError);
}

TEST_CASE("norm: gradients, where it has none too") {
  auto at = [](double p, std::initializer_list<double> x) {
    return gradient([p](const Tensor& v) { return norm(v, p); }, leaf(x));
  };
  for (double p : {0.0, 0.5, 1.0, 1.5, 2.0, 3.0, kInf, -kInf, -1.0}) {
    CAPTURE(p);
    CHECK(at(p, {0, 0}) == Values{0, 0});
  }
  CHECK(at(2, {3, -4})[1] == doctest::Approx(-0.8).epsilon(1e-15));
  CHECK(at(1, {3, 0, -4}) == Values{1, 0, -1});
  CHECK(at(1.5, {0, 2}) == Values{0, 1});
  CHECK(at(0.5, {0, 2})[0] == 0);
  CHECK(at(0.5, {0, 2})[1] == doctest::Approx(1).epsilon(1e-15));
  CHECK(at(kInf, {2, -2, 1}) == Values{0.5, -0.5, 0});
  CHECK(at(-kInf, {2, -2, 3}) == Values{0.5, -0.5, 0});
  CHECK(at(0, {3, -4}) == Values{0, 0});
}

TEST_CASE("reductions: gradients of both orders") {
  Tensor x = random({2, 3, 4}).requires_grad_();
  auto check_both = [&](auto f) { check_gradients([f](const std::vector<Tensor>& in) { return f(in[0]); }, {x}); };
  for (bool keepdim : {false, true})
    for (const Shape& dims : {Shape{}, Shape{1}, Shape{0, -1}, Shape{2}}) {
      CAPTURE(to_string(dims));
      check_both([=](const Tensor& v) { return square(sum(v, dims, keepdim)); });
      check_both([=](const Tensor& v) { return square(mean(v, dims, keepdim)); });
      check_both([=](const Tensor& v) { return square(amax(v, dims, keepdim)); });
      check_both([=](const Tensor& v) { return square(amin(v, dims, keepdim)); });
      check_both([=](const Tensor& v) { return logsumexp(v, dims, keepdim); });
      for (double p : {0.0, 0.7, 1.0, 1.5, 2.0, 3.0, kInf, -kInf, -2.0})
        check_both([=](const Tensor& v) { return norm(v, p, dims, keepdim); });
    }
  check_both([](const Tensor& v) { return square(sum_to(v, {3, 1})); });
}

TEST_CASE("reductions: wrong dimensions") {
  Tensor x = zeros({2, 3});
  CHECK_THROWS_AS(sum(x, 2), IndexError);
  CHECK_THROWS_AS(amax(x, -3), IndexError);
  CHECK_THROWS_WITH_AS(sum(x, {1, -1}), "sum: dimension -1 is repeated in (1, -1)", ValueError);
  CHECK_THROWS_AS(logsumexp(x, {0, 0}), ValueError);
  CHECK_THROWS_WITH_AS(amax(scalar(2), {-1, 0}), "amax: dimension 0 is repeated in (-1, 0)", ValueError);
}

TEST_CASE("amax, amin: the one that stands out is found wherever it is in a row of any length") {
  for (std::int64_t n : {1, 2, 31, 32, 33, 63, 64, 65, 100})
    for (std::int64_t at = 0; at < n; ++at) {
      const Tensor x = zeros({2, n});
      x.data<float>()[n + at] = 1;
      CHECK(amax(x, {1}).to_vector<float>() == std::vector<float>{0, 1});
      x.data<float>()[n + at] = -1;
      CHECK(amin(x, {1}).to_vector<float>() == std::vector<float>{0, -1});
    }
}
