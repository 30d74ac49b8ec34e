#pragma once
#include <unroll/core/tensor.h>

/// Matrix products of tensors, unrecorded.
namespace unroll::kernels {

/// y ← a b, or y + a b: a (…, N, K) and b (…, K, M) of any geometry (copied where BLAS cannot read them as they lie),
/// y (…, N, M) row-major, all of one floating dtype. The dimensions before the last two are a batch and broadcast;
/// where y is the smaller one there, its products are summed. Sizes are the caller's to check.
void matmul(const char* op, const Tensor& y, const Tensor& a, const Tensor& b, bool accumulate = false);

}  // namespace unroll::kernels
