#include <doctest/doctest.h>
#include <unroll/autograd/gradcheck.h>
#include <unroll/autograd/ops/compare.h>
#include <unroll/autograd/ops/matmul.h>
#include <unroll/core/random.h>
#include <unroll/nn/linear.h>

#include <cmath>

using namespace unroll;

TEST_CASE("linear: starts with torch's numbers") {
  manual_seed(0);
  nn::Linear layer(3, 2);
  CHECK(layer.weight.to_vector<float>() ==
        std::vector<float>{-0.00432251766f, 0.309715837f, -0.475185335f, -0.424894601f, -0.222368971f, 0.154820725f});
  CHECK(layer.bias.to_vector<float>() == std::vector<float>{-0.0114391446f, 0.457774937f});

  manual_seed(0);
  nn::Linear wide(3, 2, {.dtype = DType::Float64});
  CHECK(wide.weight.to_vector<double>() == std::vector<double>{0.5427704542528101, 0.23996970930833816,
                                                               -0.046900537438113156, 0.48583757737745076,
                                                               0.16745942958373372, 0.3361886278485809});
  CHECK(wide.bias.to_vector<double>() == std::vector<double>{-0.3711136225274598, -0.17192610627289664});
}

TEST_CASE("linear: x·weightᵀ + bias over any leading dimensions") {
  nn::Linear layer(2, 3);
  layer.load_state_dict(
      {{"weight", tensor({{1.0, 2.0}, {3.0, 4.0}, {5.0, 6.0}})}, {"bias", tensor({0.5, 0.25, 0.125})}});
  CHECK(layer(tensor({1.0, -1.0})).to_vector<float>() == std::vector<float>{-0.5f, -0.75f, -0.875f});
  CHECK(layer(ones({4, 5, 2})).shape() == Shape{4, 5, 3});
  CHECK(layer(ones({0, 2})).shape() == Shape{0, 3});
  CHECK_THROWS_AS(layer(ones({4, 3})), ShapeError);
  CHECK_THROWS_AS(layer(ones({4, 2}, DType::Float64)), DTypeError);
}

TEST_CASE("linear: without bias; sizes") {
  nn::Linear layer(2, 3, {.bias = false});
  CHECK(layer.parameters().size() == 1);
  CHECK(equal(layer(ones({1, 2})), linear(ones({1, 2}), layer.weight)));
  CHECK(nn::Linear(0, 2)(zeros({4, 0})).shape() == Shape{4, 2});
  CHECK_FALSE(std::signbit(nn::Linear(0, 1).bias.item()));  // torch's zero of no inputs
  CHECK_THROWS_WITH_AS(nn::Linear(-1, 2), "linear: in_features must not be negative, got -1", ValueError);
  CHECK_THROWS_WITH_AS(nn::Linear(1, -2), "linear: out_features must not be negative, got -2", ValueError);
  CHECK_THROWS_AS(nn::Linear(std::int64_t{1} << 40, std::int64_t{1} << 40), ShapeError);
}

TEST_CASE("linear: gradients") {
  manual_seed(1);
  nn::Linear layer(3, 2, {.dtype = DType::Float64});
  std::vector<Tensor> inputs{randn({4, 3}, DType::Float64).requires_grad_(), layer.weight, layer.bias};
  auto f = [&](const std::vector<Tensor>& in) { return layer(in[0]); };
  CHECK(gradcheck(f, inputs));
  CHECK(gradgradcheck(f, inputs));
}
