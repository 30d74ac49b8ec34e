#include <doctest/doctest.h>
#include <unroll/autograd/ops/compare.h>
#include <unroll/autograd/ops/reduce.h>
#include <unroll/core/random.h>
#include <unroll/nn/embedding.h>

using namespace unroll;

TEST_CASE("embedding: starts as torch's normal numbers, the padding row as zeros") {
  manual_seed(0);
  nn::Embedding plain(3, 2);
  manual_seed(0);
  CHECK(equal(plain.weight.detach(), randn({3, 2})));
  manual_seed(0);
  nn::Embedding padded(3, 2, {.padding_idx = -2});
  CHECK(padded.padding_idx == 1);
  CHECK(padded.weight.to_vector<float>() ==
        std::vector<float>{1.54099607f, -0.293428898f, 0, 0, -1.08452237f, -1.39859545f});
}

TEST_CASE("embedding: looks rows up; the padding row receives no gradient") {
  nn::Embedding table(4, 2, {.padding_idx = 0});
  Tensor y = table(tensor({{1, 0, 3}, {1, 1, 2}}));
  CHECK(y.shape() == Shape{2, 3, 2});
  sum(y).backward();
  CHECK(table.weight.grad().to_vector<float>() == std::vector<float>{0, 0, 3, 3, 1, 1, 1, 1});
  CHECK_THROWS_AS(table(tensor({4})), IndexError);
  CHECK_THROWS_AS(table(tensor({-1})), IndexError);
  CHECK_THROWS_AS(table(tensor({1.0})), DTypeError);
}

TEST_CASE("embedding: options and printing") {
  CHECK(nn::to_string(nn::Embedding(5, 3)) == "Embedding(5, 3)");
  CHECK(nn::to_string(nn::Embedding(5, 3, {.padding_idx = -1})) == "Embedding(5, 3, padding_idx=4)");
  CHECK(nn::Embedding(5, 3, {.dtype = DType::Float64}).weight.dtype() == DType::Float64);
  CHECK_THROWS_WITH_AS(nn::Embedding(5, 3, {.padding_idx = 5}), "embedding: padding_idx 5 is outside the 5 rows",
                       IndexError);
  CHECK_THROWS_AS(nn::Embedding(5, 3, {.padding_idx = -6}), IndexError);
  CHECK_THROWS_AS(nn::Embedding(-1, 3), ValueError);
  CHECK_THROWS_AS(nn::Embedding(-1, 3, {.padding_idx = 0}), ValueError);
  CHECK_THROWS_AS(nn::Embedding(1, -3), ValueError);
}
