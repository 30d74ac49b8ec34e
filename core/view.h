#pragma once
#include <unroll/core/tensor.h>

#pragma GCC visibility push(default)
/// Views: tensors that share their argument's memory. Unrecorded: the ops of autograd/ops/shape.h give them gradients.
/// Negative dimensions and indices count from the end; out of range raises IndexError.
namespace unroll::views {

/// The same memory read with another geometry. The caller vouches for the bounds.
Tensor as_strided(const Tensor& x, Shape shape, Strides strides, std::int64_t offset);
/// The same tensor in a handle of its own, without history; not counted as a view.
Tensor alias(const Tensor& x);

/// x[…, start : start + length, …] along `dim`.
Tensor narrow(const Tensor& x, std::int64_t dim, std::int64_t start, std::int64_t length);
/// x[…, start : end : step, …]; start and end are clamped as Python does, step ≥ 1.
Tensor slice(const Tensor& x, std::int64_t dim, std::int64_t start, std::int64_t end, std::int64_t step = 1);
/// x[…, index, …], one dimension less.
Tensor select(const Tensor& x, std::int64_t dim, std::int64_t index);
Tensor transpose(const Tensor& x, std::int64_t dim0, std::int64_t dim1);
/// Dimension d of the result is dimension dims[d] of x.
Tensor permute(const Tensor& x, const Shape& dims);
/// Raises ShapeError when the strides allow no view of that shape (reshape copies then). One size may be −1.
Tensor view(const Tensor& x, const Shape& shape);
/// Repeats dimensions of size 1, and new leading ones, with stride 0. A size of −1 keeps the dimension.
Tensor expand(const Tensor& x, const Shape& shape);
/// Drops a dimension of size 1; another size is left alone.
Tensor squeeze(const Tensor& x, std::int64_t dim);
Tensor squeeze(const Tensor& x);
Tensor unsqueeze(const Tensor& x, std::int64_t dim);

/// `shape` with a −1 replaced by what numel(x) leaves for it. Raises ShapeError when it does not fit.
Shape infer_shape(const char* op, const Tensor& x, const Shape& shape);
/// Whether view(x, shape) is possible; `shape` must hold as many elements as x.
bool viewable(const Tensor& x, const Shape& shape);

}  // namespace unroll::views
#pragma GCC visibility pop
