#include "support/threads.h"

#include <doctest/doctest.h>
#include <unroll/autograd/engine.h>
#include <unroll/autograd/ops/activation.h>
#include <unroll/autograd/ops/arithmetic.h>
#include <unroll/autograd/ops/compare.h>
#include <unroll/autograd/ops/reduce.h>
#include <unroll/autograd/ops/shape.h>
#include <unroll/core/random.h>
#include <unroll/optim/adam.h>
#include <unroll/optim/sgd.h>

#include <vector>

using namespace unroll;

namespace {

// Two optimizers' steps on parameters of more elements than one thread takes: operands in step, broadcast, transposed
// and in place, and every way back through them.
template <class T>
std::vector<T> train(int threads) {
  Threads scope(threads);
  manual_seed(1);
  const DType dtype = dtype_of<T>;
  const Shape shape{389, 389};  // 151,321 elements: no multiple of anything
  Tensor a = randn(shape, dtype), b = randn(shape, dtype);
  a.requires_grad_();
  b.requires_grad_();
  const Tensor row = randn({389}, dtype), one = randn({1, 1}, dtype);
  optim::SGD sgd({a}, {.lr = 0.1, .momentum = 0.9, .nesterov = true});
  optim::Adam adam({b}, {.amsgrad = true});
  std::vector<T> result;
  for (int step = 0; step < 3; ++step) {
    sgd.zero_grad();
    adam.zero_grad();
    Tensor y = tanh(a * b + row) + sigmoid(t(b) - a) * one;
    y.mul_(2.0).add_(exp(-(a * a)));
    Tensor loss = mean(y * y);
    loss.backward();
    sgd.step();
    adam.step();
    result.push_back(static_cast<T>(loss.item()));
  }
  for (const Tensor& x : {a, b, a.grad(), b.grad(), lt(a, b).to(dtype)})
    for (T v : x.to_vector<T>()) result.push_back(v);
  return result;
}

}  // namespace

TEST_CASE("threads: many elements have the bits that one thread gives them") {
  CHECK(train<float>(3) == train<float>(1));
  CHECK(train<double>(2) == train<double>(1));
}
