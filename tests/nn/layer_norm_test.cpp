#include "support/gradients.h"

#include <doctest/doctest.h>
#include <unroll/autograd/ops/compare.h>
#include <unroll/autograd/ops/shape.h>
#include <unroll/nn/layer_norm.h>

using namespace unroll;

TEST_CASE("layer_norm: torch's numbers") {
  nn::LayerNorm layer({2, 3}, {.dtype = DType::Float64});
  Tensor x = reshape(arange(0, 6, 1, DType::Float64), {2, 3});
  CHECK(allclose(layer(x),
                 tensor({{-1.4638475999719223, -0.8783085599831533, -0.29276951999438444},
                         {0.29276951999438444, 0.8783085599831533, 1.4638475999719223}},
                        DType::Float64),
                 1e-14, 1e-14));
  CHECK(layer.parameters().size() == 2);
  CHECK_THROWS_AS(layer(ones({2, 4}, DType::Float64)), ShapeError);
}

TEST_CASE("layer_norm: options and printing") {
  CHECK(nn::LayerNorm({4}).normalized_shape == Shape{4});
  CHECK(nn::to_string(nn::LayerNorm(4)) == "LayerNorm((4,), eps=1e-05, elementwise_affine=True, bias=True)");
  nn::LayerNorm weight_only({2, 3}, {.eps = 0.5, .bias = false});
  CHECK(weight_only.parameters().size() == 1);
  CHECK(nn::to_string(weight_only) == "LayerNorm((2, 3), eps=0.5, elementwise_affine=True, bias=False)");
  nn::LayerNorm plain(4, {.elementwise_affine = false});
  CHECK(plain.parameters().empty());
  CHECK(nn::to_string(plain) == "LayerNorm((4,), eps=1e-05, elementwise_affine=False, bias=False)");
  CHECK_THROWS_AS(nn::LayerNorm(Shape{}), ValueError);
  CHECK_THROWS_AS(nn::LayerNorm(-1), ValueError);
}

TEST_CASE("layer_norm: a layer's eps is its option's") {
  nn::LayerNorm layer({2}, {.eps = 3, .dtype = DType::Float64});
  CHECK(near(layer(leaf({-1, 1})), {-0.5, 0.5}));  // 1 / sqrt(1 + 3)
}
