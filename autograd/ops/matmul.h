#pragma once
#include <unroll/core/tensor.h>

#pragma GCC visibility push(default)
/// Matrix products of float32 and float64 tensors. Transposed and narrowed matrices are multiplied where they lie, and
/// broadcast batch dimensions are never written out, neither in the product nor in its gradients. A batch times one
/// matrix is a single product, for which a batch that is not row-major is copied.
namespace unroll {

/// The product of two tensors by torch's rules: (N, K)·(K, M) → (N, M). Dimensions before the last two are a batch and
/// broadcast; a vector counts as a row on the left, (K)·(…, K, M) → (…, M), and as a column on the right, (…, N, K)·(K)
/// → (…, N), so (K)·(K) is a scalar. Raises ShapeError for a scalar operand, when the inner sizes differ, or when the
/// batches do not broadcast; DTypeError for differing dtypes.
Tensor matmul(const Tensor& a, const Tensor& b);

/// x·weightᵀ + bias: (…, I) with weight (O, I) and bias (O), which may be undefined, → (…, O).
/// Raises ShapeError when the sizes do not fit, DTypeError for differing dtypes.
Tensor linear(const Tensor& x, const Tensor& weight, const Tensor& bias = {});

}  // namespace unroll
#pragma GCC visibility pop
