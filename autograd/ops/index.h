#pragma once
#include <unroll/core/tensor.h>

#include <optional>

#pragma GCC visibility push(default)
/// Reading and adding by index. Indices are Int64; unlike dimensions they may not be negative. One out of range raises
/// IndexError that names it, before anything is computed. Where an index repeats, the terms are added in row-major
/// order, so sums never depend on the machine.
namespace unroll {

/// y[…, i, …] = x[…, index[i], …] along `dim`; index is a vector (or one number), x of any dtype.
Tensor index_select(const Tensor& x, std::int64_t dim, const Tensor& index);
/// x with source[…, i, …] added to its place […, index[i], …] for all i: the adjoint of index_select.
Tensor index_add(const Tensor& x, std::int64_t dim, const Tensor& index, const Tensor& source);

/// y[i, j, k] = x[i, index[i, j, k], k] for dim = 1 of three, and so on. y has index's shape, which has as many
/// dimensions as x and, but for `dim`, no larger ones; x of any dtype.
Tensor gather(const Tensor& x, std::int64_t dim, const Tensor& index);
/// x with source[i, j, k] added to its place [i, index[i, j, k], k] for all (i, j, k) in index's shape, dim = 1: the
/// adjoint of gather.
Tensor scatter_add(const Tensor& x, std::int64_t dim, const Tensor& index, const Tensor& source);

/// Row input[…] of weight (V, D) for each index: input's shape and D. Row padding_idx, which may count from the end,
/// receives no gradient; its values are used like any other's.
Tensor embedding(const Tensor& input, const Tensor& weight, std::optional<std::int64_t> padding_idx = {});

/// x, but `value` where `mask` (Bool, broadcast to x's shape) is true.
Tensor masked_fill(const Tensor& x, const Tensor& mask, double value);

}  // namespace unroll
#pragma GCC visibility pop
