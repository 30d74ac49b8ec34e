#include <doctest/doctest.h>
#include <unroll/autograd/ops/compare.h>
#include <unroll/autograd/ops/dropout.h>
#include <unroll/core/random.h>
#include <unroll/nn/dropout.h>

#include <limits>

using namespace unroll;

TEST_CASE("dropout: drops while training, and only then") {
  nn::Dropout drop(0.25);
  Tensor x = ones({10, 10});
  manual_seed(4);
  Tensor y = drop(x);
  manual_seed(4);
  CHECK(equal(y, dropout(x, 0.25)));
  CHECK_FALSE(equal(y, x));
  drop.eval();
  std::vector<std::byte> state = default_generator().get_state();
  CHECK(equal(drop(x), x));
  CHECK(default_generator().get_state() == state);
}

TEST_CASE("dropout: p is a probability") {
  CHECK_THROWS_WITH_AS(nn::Dropout(1.5), "dropout: p must be in [0, 1], got 1.5", ValueError);
  CHECK_THROWS_AS(nn::Dropout(-0.1), ValueError);
  CHECK_THROWS_AS(nn::Dropout{std::numeric_limits<double>::quiet_NaN()}, ValueError);
  CHECK(equal(nn::Dropout(1)(ones(3)), zeros(3)));
  CHECK(nn::to_string(nn::Dropout(1)) == "Dropout(p=1.0, inplace=False)");
}
