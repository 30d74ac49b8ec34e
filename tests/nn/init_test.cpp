#include <doctest/doctest.h>
#include <unroll/autograd/ops/arithmetic.h>
#include <unroll/autograd/ops/compare.h>
#include <unroll/autograd/ops/matmul.h>
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

TEST_CASE("init: the identity, of matrices that are no squares too") {
  CHECK(equal(init::eye_(full({3, 3}, 7)), eye(3)));
  CHECK(init::eye_(full({2, 3}, 7, DType::Float64)).to_vector<double>() == std::vector<double>{1, 0, 0, 0, 1, 0});
  CHECK(init::eye_(full({3, 2}, 7, DType::Float64)).to_vector<double>() == std::vector<double>{1, 0, 0, 1, 0, 0});
  Tensor w = ones({2, 2}).requires_grad_();
  CHECK(equal(init::eye_(w).detach(), eye(2)));
  CHECK(w.is_leaf());
  CHECK_THROWS_WITH_AS(init::eye_(empty({2, 2, 2})), doctest::Contains("expected a matrix, got shape (2, 2, 2)"),
                       ShapeError);
}

TEST_CASE("init: orthogonal_ starts from the normal numbers that torch's does and finds the same matrix") {
  manual_seed(0);
  auto check_drawn = [](const Shape& shape, const std::vector<double>& start, double last) {
    CAPTURE(to_string(shape));
    const std::vector<double> w = init::orthogonal_(empty(shape, DType::Float64), 2).to_vector<double>();
    for (std::size_t i = 0; i < start.size(); ++i) CHECK(w[i] == doctest::Approx(start[i]).epsilon(1e-12));
    CHECK(w.back() == doctest::Approx(last).epsilon(1e-12));
  };
  check_drawn({3, 3}, {1.8222699020693933, 0.15026084715619908, 0.8104036536343504}, -1.3342235577491792);
  check_drawn({4, 2}, {-0.6764309382352969, -1.4625632073661456, 0.3052859480111417}, -0.7353502911768037);
  check_drawn({2, 4}, {0.40774099655367824, -0.974775646035217, -1.6491582997043133}, 0.39534892836817365);
  check_drawn({2, 2, 3}, {1.169143710683779, -1.1937888762278142, -0.731853612227035}, -0.5603428219975433);
  manual_seed(0);
  const Tensor w = init::orthogonal_(empty({3, 3}));
  CHECK(w.to_vector<float>()[8] == doctest::Approx(-0.6671117544174194).epsilon(1e-6));
  CHECK(rand({1}).item() == doctest::Approx(0.6816085577011108));
  manual_seed(0);
  const Tensor large = init::orthogonal_(empty({400, 400}, DType::Float64));
  CHECK(select(select(large, 0, 150), 0, 50).item() == doctest::Approx(0.1498725798710895).epsilon(1e-11));
  CHECK(select(select(large, 0, 399), 0, 399).item() == doctest::Approx(-0.09368216067603048).epsilon(1e-10));
}

TEST_CASE("init: rows of orthogonal_, or columns of a tall matrix, are orthonormal at any size") {
  for (const Shape& shape : {Shape{1, 1}, Shape{5, 5}, Shape{31, 70}, Shape{33, 33}, Shape{100, 65}, Shape{256, 256}}) {
    CAPTURE(to_string(shape));
    Tensor w = init::orthogonal_(empty(shape, DType::Float64), 3);
    Tensor wt = transpose(w, 0, 1), gram = shape[0] > shape[1] ? matmul(wt, w) : matmul(w, wt);
    CHECK(allclose(gram, eye(gram.size(0), DType::Float64) * 9, 0, 1e-13));
  }
}

TEST_CASE("init: orthogonal_ in place on what requires a gradient, gate by gate, and what it refuses") {
  Tensor w = empty({8, 2}).requires_grad_();
  for (const Tensor& gate : chunk(w, 4)) {
    init::orthogonal_(gate);
    const Tensor q = gate.detach();
    CHECK(allclose(matmul(q, transpose(q, 0, 1)), eye(2), 0, 1e-6));
  }
  CHECK(w.is_leaf());
  CHECK(init::orthogonal_(empty({3, 0})).numel() == 0);
  CHECK(init::orthogonal_(empty({0, 3})).numel() == 0);
  CHECK_THROWS_WITH_AS(init::orthogonal_(empty({3})), doctest::Contains("expected at least 2 dimensions"), ShapeError);
  CHECK_THROWS_AS(init::orthogonal_(zeros({2, 2}, DType::Int64)), DTypeError);
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
