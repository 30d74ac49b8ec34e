#pragma once
#include <unroll/core/tensor.h>

#include <limits>

#pragma GCC visibility push(default)
/// Reductions of float32 and float64 tensors (sum also of int64 and bool, as Int64). `dims` may be negative; a reduced dimension
/// disappears, or stays with size 1 if keepdim. The order of summation is fixed, so results never depend on the machine.
namespace unroll {

Tensor sum(const Tensor& x);
Tensor sum(const Tensor& x, const Shape& dims, bool keepdim = false);
/// x summed over what broadcasting to its shape would have repeated; `shape` must broadcast to x's.
Tensor sum_to(const Tensor& x, const Shape& shape);
/// NaN for no elements.
Tensor mean(const Tensor& x);
Tensor mean(const Tensor& x, const Shape& dims, bool keepdim = false);
/// The largest element; equal ones share the gradient evenly. Raises ShapeError where there is none.
Tensor amax(const Tensor& x, const Shape& dims = {}, bool keepdim = false);
Tensor amin(const Tensor& x, const Shape& dims = {}, bool keepdim = false);
/// ln Σ eˣ, computed without overflow.
Tensor logsumexp(const Tensor& x, const Shape& dims, bool keepdim = false);
/// (Σ |x|ᵖ)^(1/p) of all elements; p = ∞ is the largest |x|. The gradient at 0 is 0.
Tensor norm(const Tensor& x, double p = 2);
Tensor norm(const Tensor& x, double p, const Shape& dims, bool keepdim = false);

}  // namespace unroll
#pragma GCC visibility pop
