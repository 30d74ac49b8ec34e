#pragma once
#include <unroll/core/tensor.h>

#pragma GCC visibility push(default)
/// Not differentiable, and the whole list of what is not: comparisons and masks yield Bool, argmax and argmin yield
/// Int64. Their results never require a gradient. (sign is in arithmetic.h: its derivative exists and is 0.) In
/// comparisons false is below true. DTypeError is raised by argmax and argmin for Bool, by isnan and isfinite for what
/// is not floating, and by logical_…, any and all for what is not Bool.
namespace unroll {

/// a = b, a ≠ b, a < b, a ≤ b, a > b, a ≥ b, element by element. Two tensors broadcast and must have one dtype.
Tensor eq(const Tensor& a, const Tensor& b);
Tensor ne(const Tensor& a, const Tensor& b);
Tensor lt(const Tensor& a, const Tensor& b);
Tensor le(const Tensor& a, const Tensor& b);
Tensor gt(const Tensor& a, const Tensor& b);
Tensor ge(const Tensor& a, const Tensor& b);
Tensor eq(const Tensor& a, double b);
Tensor ne(const Tensor& a, double b);
Tensor lt(const Tensor& a, double b);
Tensor le(const Tensor& a, double b);
Tensor gt(const Tensor& a, double b);
Tensor ge(const Tensor& a, double b);
/// Of Bool tensors.
Tensor logical_and(const Tensor& a, const Tensor& b);
Tensor logical_or(const Tensor& a, const Tensor& b);
Tensor logical_not(const Tensor& a);
Tensor isnan(const Tensor& x);
Tensor isfinite(const Tensor& x);

/// Whether any / every element of a Bool tensor is true.
bool any(const Tensor& mask);
bool all(const Tensor& mask);
/// Same shape, dtype and elements; NaN equals nothing.
bool equal(const Tensor& a, const Tensor& b);
/// Same shape and dtype, and |a − b| ≤ atol + rtol·|b| everywhere; NaN equals nothing.
bool allclose(const Tensor& a, const Tensor& b, double rtol = 1e-5, double atol = 1e-8);

/// The index of the largest element along `dim`, the first of equal ones; NaN counts as largest. Raises ShapeError for
/// an empty dimension.
Tensor argmax(const Tensor& x, std::int64_t dim, bool keepdim = false);
Tensor argmin(const Tensor& x, std::int64_t dim, bool keepdim = false);
/// Of the flattened tensor.
Tensor argmax(const Tensor& x);
Tensor argmin(const Tensor& x);

}  // namespace unroll
#pragma GCC visibility pop
