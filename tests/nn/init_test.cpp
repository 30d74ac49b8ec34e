#include <doctest/doctest.h>
#include <unroll/autograd/ops/compare.h>
#include <unroll/autograd/ops/shape.h>
#include <unroll/nn/init.h>

#include <cmath>

using namespace unroll;
namespace init = unroll::nn::init;

namespace {
// Expected numbers are those of PyTorch 2.15.
std::vector<double> first_row(const Tensor& x) { return select(x, 0, 0).to_vector<double>(); }

void check_close(const std::vector<double>& got, const std::vector<double>& expected) {
  REQUIRE(got.size() == expected.size());
  for (std::size_t i = 0; i < got.size(); ++i) CHECK(got[i] == doctest::Approx(expected[i]).epsilon(1e-15));
}
}  // namespace

TEST_CASE("init: uniform draws equal torch's to the bit, normal ones to the last bit but one") {
  manual_seed(0);
  Tensor w = empty({3, 4}, DType::Float64);
  CHECK(first_row(init::xavier_uniform_(w, 2)) ==
        std::vector<double>{1.740738068123721, 0.7696152303733191, -0.15041635058484332, 1.5581466515714528});
  check_close(first_row(init::xavier_normal_(w)),
              {-0.4579118314384201, 0.5882976751392882, -0.5725737299708916, 0.06558657112596043});
  CHECK(first_row(init::kaiming_uniform_(w, {.mode = init::Fan::Out, .nonlinearity = "relu"})) ==
        std::vector<double>{-0.7749318896415128, 0.1647362942340676, 0.24756928985908044, 0.514620112608446});
  check_close(first_row(init::kaiming_normal_(w, {.a = 0.5})),
              {-0.6512408412537635, -0.3167074281198783, 0.1728929384433121, -0.5806574072162254});
}

TEST_CASE("init: dimensions after the second multiply both fans") {
  manual_seed(0);
  Tensor w = init::xavier_uniform_(empty({2, 3, 4}, DType::Float64));
  CHECK(select(select(w, 0, 0), 0, 0).to_vector<double>() ==
        std::vector<double>{0.5149172646249314, 0.22765525525885733, -0.04449375653713078, 0.46090599522331166});
}

TEST_CASE("init: writes a leaf that requires a gradient, unrecorded, and draws from the generator it is given") {
  Tensor w = empty({4, 4}).requires_grad_();
  Generator a(3), b(3);
  init::uniform_(w, -1, 1, a);
  CHECK(w.is_leaf());
  CHECK(equal(w.detach(), uniform_(empty({4, 4}), -1, 1, b)));
  init::normal_(w, 2, 3, a);
  CHECK(equal(w.detach(), normal_(empty({4, 4}), 2, 3, b)));
  CHECK(equal(init::constant_(w, 2.5).detach(), full({4, 4}, 2.5)));
  CHECK(equal(init::zeros_(w).detach(), zeros({4, 4})));
  CHECK(equal(init::ones_(w).detach(), ones({4, 4})));
}

TEST_CASE("init: gains") {
  CHECK(init::calculate_gain("linear") == 1);
  CHECK(init::calculate_gain("sigmoid") == 1);
  CHECK(init::calculate_gain("tanh") == 5.0 / 3);
  CHECK(init::calculate_gain("relu") == std::sqrt(2.0));
  CHECK(init::calculate_gain("selu") == 0.75);
  CHECK(init::calculate_gain("leaky_relu") == std::sqrt(2 / (1 + 0.01 * 0.01)));
  CHECK(init::calculate_gain("leaky_relu", 1) == 1);
  CHECK_THROWS_WITH_AS(init::calculate_gain("gelu"), doctest::Contains("got \"gelu\""), ValueError);
}

TEST_CASE("init: fans need two dimensions, and no elements need no fan") {
  CHECK_THROWS_WITH_AS(init::xavier_uniform_(empty({3})),
                       doctest::Contains("xavier_uniform_: expected at least 2 dimensions"), ShapeError);
  CHECK_THROWS_AS(init::xavier_normal_(empty({3})), ShapeError);
  CHECK_THROWS_AS(init::kaiming_uniform_(empty({3})), ShapeError);
  CHECK_THROWS_AS(init::kaiming_normal_(empty({3})), ShapeError);
  CHECK(init::kaiming_uniform_(empty({3, 0})).numel() == 0);
  CHECK(init::xavier_uniform_(empty({0, 0})).numel() == 0);
}
