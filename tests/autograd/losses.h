#pragma once
#include <doctest/doctest.h>
#include <unroll/autograd/engine.h>
#include <unroll/autograd/ops/loss.h>
#include <unroll/autograd/ops/reduce.h>

#include "support/gradients.h"

/// What the tests of losses share.
namespace losses {
using namespace unroll;

constexpr DType f64 = DType::Float64;

inline Tensor gradient(const Tensor& y, const Tensor& x) { return grad({sum(y)}, {x})[0]; }

/// What loss(reduction) yields for None, Mean and Sum.
template <class Loss>
void check_reductions(Loss loss, const std::vector<double>& each, double average, double total) {
  CHECK(near(loss(Reduction::None), each));
  CHECK(near(loss(Reduction::Mean), {average}));
  CHECK(near(loss(Reduction::Sum), {total}));
  CHECK(loss(Reduction::Mean).shape().empty());
}

}  // namespace losses
