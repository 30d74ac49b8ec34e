#include "support/threads.h"
#include "support/child.h"

#include <doctest/doctest.h>
#include <unroll/autograd/engine.h>
#include <unroll/autograd/grad_mode.h>
#include <unroll/autograd/ops/activation.h>
#include <unroll/autograd/ops/arithmetic.h>
#include <unroll/autograd/ops/compare.h>
#include <unroll/autograd/ops/reduce.h>
#include <unroll/autograd/ops/shape.h>
#include <unroll/core/random.h>
#include <unroll/nn/lstm.h>
#include <unroll/optim/adam.h>
#include <unroll/optim/sgd.h>

#include <filesystem>
#include <iterator>
#include <vector>

using namespace unroll;

namespace {

// Two optimizers' steps on parameters of more elements than one thread takes, and the ways back from their loss.
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

// Ops without a record, in place too, on contiguous elements and on every second one.
template <class T>
std::vector<T> compute(int threads) {
  Threads scope(threads);
  const NoGrad guard;
  manual_seed(2);
  const DType dtype = dtype_of<T>;
  std::vector<T> result;
  for (bool strided : {false, true}) {
    const auto numbers = [&] {
      return strided ? narrow(randn({200'003, 2}, dtype), 1, 1, 1) : randn({200'003, 1}, dtype);
    };
    const Tensor x = numbers(), y = numbers();
    x.add_(y).mul_(y).add_(1.0).mul_(0.5);
    for (const Tensor& v : {x, x + y, x * 3.0, tanh(x), -x, lt(x, y).to(dtype)})
      for (T e : v.to_vector<T>()) result.push_back(e);
  }
  return result;
}

#ifndef __SANITIZE_THREAD__  // which does not follow a fork
// How many threads start in a process that trains one layer with up to eight: a child, to which this one's are not
// handed on. -1 if it fails.
int started_by_training(std::int64_t batch, std::int64_t size) {
  return in_child([=] {
    auto threads = [] {
      return std::distance(std::filesystem::directory_iterator("/proc/self/task"),
                           std::filesystem::directory_iterator());
    };
    const auto before = threads();
    Threads scope(8);
    nn::LSTM lstm(size, size);
    optim::SGD sgd(lstm.parameters(), {.lr = 0.1});
    for (int step = 0; step < 3; ++step) {
      sgd.zero_grad();
      sum(lstm(randn({12, batch, size})).output).backward();
      sgd.step();
    }
    return static_cast<int>(threads() - before);
  });
}
#endif

}  // namespace

TEST_CASE("threads: many elements have the bits that one thread gives them") {
  CHECK(train<float>(3) == train<float>(1));
  CHECK(train<double>(2) == train<double>(1));
  CHECK(compute<float>(3) == compute<float>(1));
  CHECK(compute<double>(2) == compute<double>(1));
}

#ifndef __SANITIZE_THREAD__
TEST_CASE("threads: a small net starts none, as with a second one every count of references is a locked instruction") {
  CHECK(started_by_training(1, 8) == 0);
  CHECK(started_by_training(4, 16) == 0);
  CHECK(started_by_training(64, 64) > 0);
}
#endif
