#pragma once
#include <unroll/core/tensor.h>

/// Filling, copying and converting, unrecorded; any geometry.
namespace unroll::kernels {

/// Writes `value` to every element. Does not count as an in-place op: that is the caller's to say (see wrote).
void fill(const Tensor& x, double value);
/// to ← from, converted; `from` broadcasts to the shape of `to`.
void copy(const Tensor& to, const Tensor& from);
/// A row-major copy that shares nothing with x.
Tensor clone(const Tensor& x);
/// x itself when it is contiguous, else clone(x).
Tensor contiguous(const Tensor& x);
/// x itself when it has that dtype, else a converted row-major copy.
Tensor cast(const Tensor& x, DType dtype);
/// Notes that `op` has written x in place, so that what was saved of it counts as stale.
void wrote(const Tensor& x, const char* op);

}  // namespace unroll::kernels
