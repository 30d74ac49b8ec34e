#include <unroll/autograd/ops/arithmetic.h>
#include <unroll/autograd/ops/compare.h>
#include <unroll/autograd/ops/index.h>
#include <unroll/autograd/ops/shape.h>
#include <unroll/autograd/record.h>
#include <unroll/core/kernels/copy.h>
#include <unroll/core/kernels/elementwise.h>
#include <unroll/core/kernels/index.h>

namespace unroll {
namespace {

void check_index_dtype(const char* op, const Tensor& index) {
  check<DTypeError>(index.dtype() == DType::Int64, "{}: indices must be int64, got {}", op, index.dtype());
}

std::int64_t size_along(const Tensor& x, std::size_t dim) { return x.dim() > 0 ? x.shape()[dim] : 1; }

// The vector `index` as gather takes it: laid along `dim` and repeated along all other dimensions of `shape`.
Tensor lay_along(const Tensor& index, std::size_t dim, const Shape& shape) {
  Strides strides(shape.size(), 0);
  if (dim < shape.size() && index.dim() > 0) strides[dim] = index.strides()[0];
  return views::as_strided(index, shape, std::move(strides), index.body().offset);
}

Tensor unchecked_gather(const Tensor& x, std::size_t dim, const Tensor& index);

// Adds source to y, which nobody else holds: a copy of x, or zeros where there is no x.
Tensor unchecked_scatter_add(const Tensor& y, const Tensor& x, std::size_t dim, const Tensor& index,
                             const Tensor& source) {
  kernels::scatter_add(y, dim, index, source);
  return record("scatter_add", {x, source}, y, save(index), unchanged,
                [dim](const Tensor& g, const Saved& s) { return unchecked_gather(g, dim, s[0]); });
}

// Every element of x receives the gradients of all places it was read into.
Tensor unchecked_gather(const Tensor& x, std::size_t dim, const Tensor& index) {
  Tensor y = empty(index.shape(), x.dtype());
  kernels::gather(y, x, dim, index);
  return record("gather", {x}, y, save(index), [dim, shape = x.shape()](const Tensor& g, const Saved& s) {
    return unchecked_scatter_add(zeros(shape, g.dtype()), Tensor(), dim, s[0], g);
  });
}

// Raises unless `index` picks slices of x along `dim`; yields the shape of what it picks.
Shape check_select(const char* op, const Tensor& x, std::size_t dim, const Tensor& index) {
  check_index_dtype(op, index);
  check<ShapeError>(index.dim() <= 1, "{}: index must be a vector, got shape {}", op, index.shape());
  check<ShapeError>(x.dim() > 0 || index.numel() == 1, "{}: a scalar takes one index, got {}", op, index.numel());
  kernels::check_indices(op, "index", index, dim, size_along(x, dim));
  Shape shape = x.shape();
  if (!shape.empty()) shape[dim] = index.numel();
  return shape;
}

// Raises unless `index` names a place along `dim` of x for each of its own.
void check_gather(const char* op, const Tensor& x, std::size_t dim, const Tensor& index) {
  check_index_dtype(op, index);
  std::size_t rank = std::max<std::size_t>(x.shape().size(), 1);
  bool fits = std::max<std::size_t>(index.shape().size(), 1) == rank;
  for (std::size_t d = 0; fits && x.dim() > 0 && d < index.shape().size(); ++d)
    fits = d == dim || index.shape()[d] <= x.shape()[d];
  check<ShapeError>(fits,
                    "{}: index of shape {} does not fit shape {} along dimension {}: it needs as many dimensions, the "
                    "others no larger",
                    op, index.shape(), x.shape(), dim);
  kernels::check_indices(op, "index", index, dim, size_along(x, dim));
}

}  // namespace

Tensor index_select(const Tensor& x, std::int64_t dim, const Tensor& index) {
  std::size_t d = wrap_dim("index_select", dim, x.shape().size());
  Shape shape = check_select("index_select", x, d, index);
  return unchecked_gather(x, d, lay_along(index, d, shape));
}

Tensor index_add(const Tensor& x, std::int64_t dim, const Tensor& index, const Tensor& source) {
  std::size_t d = wrap_dim("index_add", dim, x.shape().size());
  kernels::check_same_dtype("index_add", x, source);
  Shape shape = check_select("index_add", x, d, index);
  check<ShapeError>(source.shape() == shape,
                    "index_add: source of shape {}, expected {} for {} indices into dimension {} of shape {}",
                    source.shape(), shape, index.numel(), dim, x.shape());
  return unchecked_scatter_add(kernels::clone(x), x, d, lay_along(index, d, shape), source);
}

Tensor gather(const Tensor& x, std::int64_t dim, const Tensor& index) {
  std::size_t d = wrap_dim("gather", dim, x.shape().size());
  check_gather("gather", x, d, index);
  return unchecked_gather(x, d, index);
}

Tensor scatter_add(const Tensor& x, std::int64_t dim, const Tensor& index, const Tensor& source) {
  std::size_t d = wrap_dim("scatter_add", dim, x.shape().size());
  kernels::check_same_dtype("scatter_add", x, source);
  check_gather("scatter_add", x, d, index);
  bool covered = source.dim() == index.dim();
  for (std::size_t k = 0; covered && k < index.shape().size(); ++k) covered = index.shape()[k] <= source.shape()[k];
  check<ShapeError>(covered, "scatter_add: source of shape {} has no element for each index of shape {}",
                    source.shape(), index.shape());
  Tensor read = source;
  for (std::int64_t k = 0; k < index.dim(); ++k)
    if (index.size(k) < source.size(k)) read = narrow(read, k, 0, index.size(k));
  return unchecked_scatter_add(kernels::clone(x), x, d, index, read);
}

/// Rows of weight (V, D).   dV = the sum of the gradients of all places where a row stands, 0 for row padding_idx
Tensor embedding(const Tensor& input, const Tensor& weight, std::optional<std::int64_t> padding_idx) {
  check_index_dtype("embedding", input);
  check<ShapeError>(weight.dim() == 2, "embedding: weight has shape {}, expected (num_embeddings, embedding_dim)",
                    weight.shape());
  std::int64_t rows = weight.size(0), width = weight.size(1), padding = padding_idx.value_or(-1);
  if (padding_idx) {
    check<IndexError>(padding >= -rows && padding < rows, "embedding: padding_idx {} is out of bounds for {} rows",
                      padding, rows);
    if (padding < 0) padding += rows;
  }
  kernels::check_indices("embedding", "index", input, 0, rows);
  Shape shape = input.shape();
  shape.push_back(width);
  Tensor y = empty(shape, weight.dtype());
  Tensor index = lay_along(views::view(kernels::contiguous(input), {input.numel()}), 0, {input.numel(), width});
  kernels::gather(views::view(y, index.shape()), weight, 0, index);
  return record("embedding", {weight}, y, save(index), [rows, width, padding](const Tensor& g, const Saved& s) {
    Tensor by_row = reshape(g, s[0].shape());  // no index is −1, so without padding_idx none is masked
    if (padding >= 0) by_row = masked_fill(by_row, eq(s[0], static_cast<double>(padding)), 0);
    return unchecked_scatter_add(zeros({rows, width}, g.dtype()), Tensor(), 0, s[0], by_row);
  });
}

Tensor masked_fill(const Tensor& x, const Tensor& mask, double value) {
  check<DTypeError>(mask.dtype() == DType::Bool, "masked_fill: expected a mask of bool, got {}", mask.dtype());
  check<ShapeError>(broadcast("masked_fill", mask.shape(), x.shape()) == x.shape(),
                    "masked_fill: mask of shape {} does not broadcast to {}", mask.shape(), x.shape());
  return where(mask, value, x);
}

}  // namespace unroll
