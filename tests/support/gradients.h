#pragma once
#include <doctest/doctest.h>
#include <unroll/autograd/gradcheck.h>
#include <unroll/autograd/ops/compare.h>
#include <unroll/autograd/ops/shape.h>
#include <unroll/core/random.h>

// Small float64 tensors that require a gradient, and what is asked of them.

using Values = std::vector<double>;

inline unroll::Tensor leaf(std::initializer_list<double> values) {
  return unroll::tensor(values, unroll::DType::Float64).requires_grad_();
}
/// With normal numbers.
inline unroll::Tensor leaf(const unroll::Shape& shape, unroll::Generator& generator) {
  return unroll::randn(shape, unroll::DType::Float64, generator).requires_grad_();
}

inline Values of(const unroll::Tensor& x) { return x.to_vector<double>(); }

/// Whether x has these elements, but for the last digits.
inline bool near(const unroll::Tensor& x, const Values& expected) {
  unroll::Tensor y = unroll::from_data(expected, static_cast<std::int64_t>(expected.size()));
  return unroll::allclose(x, unroll::reshape(y, x.shape()), 1e-13, 1e-14);
}

/// First and second derivatives of f against differences.
template <class F>
void check_gradients(F f, const std::vector<unroll::Tensor>& inputs) {
  CHECK(unroll::gradcheck(f, inputs));
  CHECK(unroll::gradgradcheck(f, inputs));
}
