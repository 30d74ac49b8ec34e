#include <doctest/doctest.h>
#include <unroll/autograd/grad_mode.h>
#include <unroll/autograd/ops/arithmetic.h>

#include <thread>

using namespace unroll;

TEST_CASE("NoGrad: nothing is recorded until the end of the scope") {
  Tensor x = ones(2).requires_grad_();
  {
    NoGrad guard;
    CHECK_FALSE((x * 2).requires_grad());
    CHECK((x * 2).is_leaf());
    CHECK(ones(2).requires_grad_().requires_grad());  // leaves can still be made
    x.add_(1);                                        // and written
    {
      GradMode on(true);
      CHECK((x * 2).requires_grad());
      {
        NoGrad again;
        CHECK_FALSE(GradMode::enabled());
      }
      CHECK(GradMode::enabled());
    }
    CHECK_FALSE(GradMode::enabled());
  }
  CHECK((x * 2).requires_grad());
  CHECK(x.to_vector<float>() == std::vector<float>{2, 2});
}

TEST_CASE("NoGrad ends with an exception, too") {
  try {
    NoGrad guard;
    FusedMode composed(false);
    throw 1;
  } catch (int) {}
  CHECK(GradMode::enabled());
  CHECK(FusedMode::enabled());
}

TEST_CASE("modes belong to a thread") {
  NoGrad guard;
  FusedMode composed(false);
  bool grad = false, fused = false;
  std::thread([&] {
    grad = GradMode::enabled();
    fused = FusedMode::enabled();
  }).join();
  CHECK(grad);
  CHECK(fused);
  CHECK_FALSE(FusedMode::enabled());
}
