#pragma once
#include <unroll/core/tensor.h>

#include <limits>

#pragma GCC visibility push(default)
/// Rearrangements of tensors of any dtype. Those said to be views share x's memory; the others copy. Negative
/// dimensions and indices count from the end; one out of range raises IndexError.
namespace unroll {

/// A view with other sizes and the same elements in the same order; one size may be −1. Raises ShapeError when x's
/// strides allow none.
Tensor view(const Tensor& x, const Shape& shape);
/// The same; a copy where no view is possible.
Tensor reshape(const Tensor& x, const Shape& shape);
/// Dimensions start_dim to end_dim become one; a scalar becomes (1). A view where possible.
Tensor flatten(const Tensor& x, std::int64_t start_dim = 0, std::int64_t end_dim = -1);

/// A view with two dimensions exchanged.
Tensor transpose(const Tensor& x, std::int64_t dim0, std::int64_t dim1);
/// The transpose of a matrix; a vector or scalar as it is. Raises ShapeError beyond two dimensions.
Tensor t(const Tensor& x);
/// A view whose dimension d is dimension dims[d] of x.
Tensor permute(const Tensor& x, const Shape& dims);
/// A view that repeats dimensions of size 1, and new leading ones. A size of −1 keeps the dimension. Raises ShapeError
/// when it does not fit.
Tensor expand(const Tensor& x, const Shape& shape);
/// A view without the dimensions of size 1, or without `dim` if its size is 1.
Tensor squeeze(const Tensor& x);
Tensor squeeze(const Tensor& x, std::int64_t dim);
/// A view with a new dimension of size 1, which `dim` is to become.
Tensor unsqueeze(const Tensor& x, std::int64_t dim);

/// The view x[…, start : start + length, …] along `dim`.
Tensor narrow(const Tensor& x, std::int64_t dim, std::int64_t start, std::int64_t length);
/// The view x[…, start : end : step, …]; start and end are clamped as Python does, step ≥ 1.
Tensor slice(const Tensor& x, std::int64_t dim, std::int64_t start,
             std::int64_t end = std::numeric_limits<std::int64_t>::max(), std::int64_t step = 1);
/// The view x[…, index, …], one dimension less.
Tensor select(const Tensor& x, std::int64_t dim, std::int64_t index);

/// Views of `split_size` each along `dim`, the last one of what is left.
std::vector<Tensor> split(const Tensor& x, std::int64_t split_size, std::int64_t dim = 0);
/// Views of the given sizes, which must add up to the dimension's. A list of one number, `{n}`, is read as the number.
std::vector<Tensor> split(const Tensor& x, const Shape& split_sizes, std::int64_t dim = 0);
/// At most `chunks` views of ⌈size / chunks⌉ each, the last one of what is left: fewer where fewer do, as 6 in 4 chunks
/// is 2, 2, 2.
std::vector<Tensor> chunk(const Tensor& x, std::int64_t chunks, std::int64_t dim = 0);
/// The views select(x, dim, 0), select(x, dim, 1), …
std::vector<Tensor> unbind(const Tensor& x, std::int64_t dim = 0);

/// A copy in reverse order along `dims`.
Tensor flip(const Tensor& x, const Shape& dims);
/// One tensor after the other along `dim`. Raises ShapeError unless all other sizes agree, DTypeError for differing
/// dtypes.
Tensor cat(TensorList tensors, std::int64_t dim = 0);
/// Tensors of one shape along a new dimension, which `dim` is to become.
Tensor stack(TensorList tensors, std::int64_t dim = 0);

}  // namespace unroll
#pragma GCC visibility pop
