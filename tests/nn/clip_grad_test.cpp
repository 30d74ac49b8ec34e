#include "support/memory.h"

#include <doctest/doctest.h>
#include <unroll/autograd/ops/compare.h>
#include <unroll/core/view.h>
#include <unroll/nn/clip_grad.h>

#include <cmath>
#include <limits>

using namespace unroll;

namespace {
constexpr double kInf = std::numeric_limits<double>::infinity();

// Parameters of which the third has no gradient.
std::vector<Tensor> parameters(std::initializer_list<double> first, double second, DType dtype = DType::Float64) {
  std::vector<Tensor> p{zeros(static_cast<std::int64_t>(first.size()), dtype), zeros(1, dtype), zeros(3, dtype)};
  for (const Tensor& x : p) x.requires_grad_();
  p[0].set_grad(tensor(first, dtype));
  p[1].set_grad(full(1, second, dtype));
  return p;
}
}  // namespace

TEST_CASE("clip_grad_norm_: torch's numbers in three norms") {
  struct Row {
    double norm_type, total;
    std::vector<double> a;
    double b;
  };
  for (const Row& row : {Row{2, 13, {0.23076921301775288, 0.3076922840236705}, -0.9230768520710115},
                         Row{1, 19, {0.15789472853185638, 0.21052630470914185}, -0.6315789141274255},
                         Row{kInf, 12, {0.24999997916666844, 0.3333333055555579}, -0.9999999166666738}}) {
    auto p = parameters({3, 4}, -12);
    Tensor handle = p[0].grad();
    CHECK(nn::clip_grad_norm_(p, 1, row.norm_type) == row.total);
    CHECK(p[0].grad().to_vector<double>() == row.a);
    CHECK(p[1].grad().item() == row.b);
    CHECK_FALSE(p[2].grad().defined());
    CHECK(p[0].grad().is_same(handle));
  }
}

TEST_CASE("clip_grad_norm_: other norms and bounds, as torch's") {
  struct Row {
    double norm_type, max_norm, total, first;
  };
  for (const Row& row : {Row{0, 1, 2, 1.499999250000375}, Row{0.5, 5, 67.17691453623979, 0.2232909903686778},
                         Row{1, 5, 20, 0.7499999625000018}, Row{2, 5, 13.038404810405298, 1.1504473950357683},
                         Row{3, 1, 12.209291497467937, 0.24571448350689973}, Row{-kInf, 1, 0, 3}, Row{-1, 1, 0, 3},
                         Row{2, kInf, 13.038404810405298, 3}}) {
    auto p = parameters({3, -4, 0, 12}, 1);
    CAPTURE(row.norm_type);
    CHECK(nn::clip_grad_norm_(p, row.max_norm, row.norm_type) == doctest::Approx(row.total).epsilon(1e-15));
    CHECK(p[0].grad().to_vector<double>()[0] == doctest::Approx(row.first).epsilon(1e-15));
  }
}

TEST_CASE("clip_grad_norm_: parameters of two dtypes share one norm") {
  auto p = parameters({1, 2}, 0), single = parameters({3, 4}, 0, DType::Float32);
  CHECK(nn::clip_grad_norm_({single[0], p[0]}, 1.7) == doctest::Approx(5.477225575051661).epsilon(1e-15));
  CHECK(single[0].grad().to_vector<float>() == std::vector<float>{0.9311281442642212f, 1.241504192352295f});
  CHECK(p[0].grad().to_vector<double>() == std::vector{0.3103760592529378, 0.6207521185058756});
}

TEST_CASE("clip_grad_norm_, clip_grad_value_: whatever is raised, no gradient has changed") {
  auto p = parameters({3, 4}, -12);
  auto untouched = [&] {
    return p[0].grad().to_vector<double>() == std::vector{3.0, 4.0} && p[1].grad().item() == -12;
  };
  SUBCASE("an expanded gradient") {
    p[2].set_grad(views::expand(ones(1, DType::Float64), 3));
    CHECK_THROWS_WITH_AS(nn::clip_grad_norm_(p, 1), doctest::Contains("clip_grad_norm_: elements of the expanded"),
                         ValueError);
    CHECK(untouched());
    CHECK_THROWS_WITH_AS(nn::clip_grad_value_(p, 1), doctest::Contains("clip_grad_value_: elements of the expanded"),
                         ValueError);
    CHECK(untouched());
  }
  SUBCASE("no memory") {
    int failed = 0;
    for (auto clip :
         {+[](TensorList x) { nn::clip_grad_norm_(x, 1); }, +[](TensorList x) { nn::clip_grad_value_(x, 1); }})
      for (int n = 0;; ++n) {
        p = parameters({3, 4}, -12);
        try {
          FailAfter hook(n);
          clip(p);
          break;
        } catch (const OutOfMemory&) {
          ++failed;
        }
        REQUIRE(untouched());
      }
    CHECK(failed > 4);
  }
}

TEST_CASE("clip_grad_value_: gradients of many dimensions, and no memory") {
  const std::vector<Tensor> p = {zeros({2, 2, 2, 2, 2}).requires_grad_(), zeros({2, 2, 2, 2, 2}).requires_grad_()};
  for (const Tensor& x : p) x.set_grad(full({2, 2, 2, 2, 2}, 5));
  int failed = 0;
  for (;; ++failed) try {
      FailAfter hook(failed);
      nn::clip_grad_value_(p, 1);
      break;
    } catch (const OutOfMemory&) {
      for (const Tensor& x : p) REQUIRE(x.grad().to_vector<float>() == std::vector<float>(32, 5));
    }
  CHECK(failed > 1);
  for (const Tensor& x : p) CHECK(x.grad().to_vector<float>() == std::vector<float>(32, 1));
}

TEST_CASE("clip_grad_norm_: leaves a small norm and no gradients alone") {
  auto p = parameters({3, 4}, 0, DType::Float32);
  CHECK(nn::clip_grad_norm_(p, 5.1) == 5);
  CHECK(p[0].grad().to_vector<float>() == std::vector<float>{3, 4});
  CHECK(nn::clip_grad_norm_({p[2]}, 1) == 0);
  CHECK(nn::clip_grad_norm_({}, 1) == 0);
  CHECK(nn::clip_grad_norm_(p, 0) == 5);
  CHECK(p[0].grad().to_vector<float>() == std::vector<float>{0, 0});
}

TEST_CASE("clip_grad_norm_: what is not finite poisons all, or raises and changes nothing") {
  auto p = parameters({3, std::nan("")}, 1);
  CHECK_THROWS_WITH_AS(nn::clip_grad_norm_(p, 1, 2, true), doctest::Contains("total norm of order 2"), ValueError);
  CHECK(p[1].grad().item() == 1);
  CHECK(std::isnan(nn::clip_grad_norm_(p, 1)));
  CHECK(std::isnan(p[1].grad().item()));

  p = parameters({3, kInf}, 1);
  CHECK_THROWS_AS(nn::clip_grad_norm_(p, 1, 2, true), ValueError);
  CHECK(nn::clip_grad_norm_(p, 1) == kInf);
  CHECK(p[0].grad().to_vector<double>()[0] == 0);
  CHECK(std::isnan(p[0].grad().to_vector<double>()[1]));
  CHECK(p[1].grad().item() == 0);

  CHECK_THROWS_WITH_AS(nn::clip_grad_norm_(p, -1), "clip_grad_norm_: max_norm must not be negative, got -1",
                       ValueError);
  CHECK_THROWS_AS(nn::clip_grad_norm_(p, std::nan("")), ValueError);
}

TEST_CASE("clip_grad_value_") {
  auto p = parameters({3, -4, 0.5}, -0.5);
  nn::clip_grad_value_(p, 1.5);
  CHECK(p[0].grad().to_vector<double>() == std::vector<double>{1.5, -1.5, 0.5});
  CHECK(p[1].grad().item() == -0.5);
  p[0].set_grad(tensor({std::nan(""), kInf, -kInf}, DType::Float64));
  nn::clip_grad_value_(p, 1.5);
  CHECK(std::isnan(p[0].grad().to_vector<double>()[0]));
  CHECK(p[0].grad().to_vector<double>()[1] == 1.5);
  CHECK(p[0].grad().to_vector<double>()[2] == -1.5);
  p = parameters({3, -4, 0.5}, -0.5);
  CHECK_THROWS_WITH_AS(nn::clip_grad_value_(p, -1), "clip_grad_value_: clip_value must not be negative, got -1",
                       ValueError);
  CHECK(p[0].grad().to_vector<double>()[0] == 3);
}
