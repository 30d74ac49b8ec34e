#pragma once
#include <unroll/core/tensor.h>

#pragma GCC visibility push(default)
/// Reductions of float32 and float64 tensors; sum also of int64 and bool, as Int64, amax and amin also of int64. `dims`
/// may be negative, and an empty list means all of them; a reduced dimension disappears, or stays with size 1 if
/// keepdim. A dimension named twice raises ValueError. Sums are taken in a fixed order, in halves of halves, so that
/// their error grows with the logarithm of their length. NaN wins.
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
/// ln Σ eˣ, computed without overflow; −∞ for no elements.
Tensor logsumexp(const Tensor& x, const Shape& dims, bool keepdim = false);
/// (Σ |x|ᵖ)^(1/p) for any p: ∞ and −∞ are the largest and smallest |x|, 0 counts what is not 0. The gradient at 0 is 0.
/// Raises ShapeError for no elements where p is negative or infinite.
Tensor norm(const Tensor& x, double p = 2);
Tensor norm(const Tensor& x, double p, const Shape& dims, bool keepdim = false);

}  // namespace unroll
#pragma GCC visibility pop
