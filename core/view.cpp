#include <unroll/core/view.h>

#include <algorithm>

namespace unroll::views {

Tensor as_strided(const Tensor& x, Shape shape, Strides strides, std::int64_t offset) {
  return detail::new_tensor(x.body().storage, std::move(shape), std::move(strides), offset, x.dtype(), true);
}

Tensor alias(const Tensor& x) { return detail::new_tensor(x.body()); }

Tensor narrow(const Tensor& x, std::int64_t dim, std::int64_t start, std::int64_t length) {
  std::size_t d = wrap_dim("narrow", dim, x.shape().size());
  check<ShapeError>(x.dim() > 0, "narrow: a scalar has no dimension to narrow");
  std::int64_t size = x.shape()[d], first = start < 0 ? start + size : start;
  check<IndexError>(first >= 0 && length >= 0 && first <= size - length,
                    "narrow: start {} and length {} reach outside dimension {} of shape {}", start, length, dim,
                    x.shape());
  Shape shape = x.shape();
  shape[d] = length;
  return as_strided(x, std::move(shape), x.strides(), x.body().offset + first * x.strides()[d]);
}

Tensor slice(const Tensor& x, std::int64_t dim, std::int64_t start, std::int64_t end, std::int64_t step) {
  std::size_t d = wrap_dim("slice", dim, x.shape().size());
  check<ShapeError>(x.dim() > 0, "slice: a scalar has no dimension to slice");
  check<ValueError>(step >= 1, "slice: step {} must be at least 1", step);
  std::int64_t size = x.shape()[d];
  auto clamp = [size](std::int64_t i) { return std::clamp<std::int64_t>(i < 0 ? i + size : i, 0, size); };
  std::int64_t first = clamp(start), last = std::max(first, clamp(end));
  Shape shape = x.shape();
  Strides strides = x.strides();
  shape[d] = (last - first) / step + ((last - first) % step != 0);  // rounded up; a huge step may not overflow
  strides[d] = shape[d] > 1 ? strides[d] * step : strides[d];  // one element: a huge step may not overflow the stride
  return as_strided(x, std::move(shape), std::move(strides), x.body().offset + first * x.strides()[d]);
}

Tensor select(const Tensor& x, std::int64_t dim, std::int64_t index) {
  std::size_t d = wrap_dim("select", dim, x.shape().size());
  check<ShapeError>(x.dim() > 0, "select: a scalar has no dimension to select from");
  std::int64_t size = x.shape()[d];
  check<IndexError>(index >= -size && index < size, "select: index {} is out of range for dimension {} of shape {}",
                    index, dim, x.shape());
  Shape shape = x.shape();
  Strides strides = x.strides();
  shape.erase(d);
  strides.erase(d);
  std::int64_t offset = x.body().offset + (index < 0 ? index + size : index) * x.strides()[d];
  return as_strided(x, std::move(shape), std::move(strides), offset);
}

Tensor transpose(const Tensor& x, std::int64_t dim0, std::int64_t dim1) {
  std::size_t a = wrap_dim("transpose", dim0, x.shape().size()), b = wrap_dim("transpose", dim1, x.shape().size());
  Shape shape = x.shape();
  Strides strides = x.strides();
  if (a != b) {
    std::swap(shape[a], shape[b]);
    std::swap(strides[a], strides[b]);
  }
  return as_strided(x, std::move(shape), std::move(strides), x.body().offset);
}

Tensor permute(const Tensor& x, const Shape& dims) {
  std::size_t rank = x.shape().size();
  check<ShapeError>(dims.size() == rank, "permute: {} dimensions given for shape {}", dims.size(), x.shape());
  Shape shape(rank, 0), seen(rank, 0);
  Strides strides(rank, 0);
  for (std::size_t i = 0; i < rank; ++i) {
    std::size_t d = wrap_dim("permute", dims[i], rank);
    check<ValueError>(seen[d]++ == 0, "permute: dimension {} is repeated in {}", dims[i], dims);
    shape[i] = x.shape()[d];
    strides[i] = x.strides()[d];
  }
  return as_strided(x, std::move(shape), std::move(strides), x.body().offset);
}

Shape infer_shape(const char* op, const Tensor& x, const Shape& shape) {
  Shape result = shape;
  std::int64_t* unknown = nullptr;
  std::int64_t known = 1;
  for (std::int64_t& size : result) {
    if (size == -1) {
      check<ShapeError>(!unknown, "{}: only one size of {} may be -1", op, shape);
      unknown = &size;
    } else {
      check<ShapeError>(size >= 0, "{}: negative size {} in shape {}", op, size, shape);
      known = checked_mul(known, size);
    }
  }
  if (unknown) {
    check<ShapeError>(known > 0 && x.numel() % known == 0, "{}: shape {} does not fit the {} elements of shape {}", op,
                      shape, x.numel(), x.shape());
    *unknown = x.numel() / known;
  }
  check<ShapeError>(numel(result) == x.numel(), "{}: shape {} does not fit the {} elements of shape {}", op, shape,
                    x.numel(), x.shape());
  return result;
}

namespace {
// Strides under which `shape` reads x's elements in the same order; false when there are none. Dimensions of x that
// follow each other in memory (stride[d] = size[d+1] · stride[d+1]) form a block; every block must be cut into whole
// dimensions of `shape`.
bool view_strides(const Tensor& x, const Shape& shape, Strides& strides) {
  strides = contiguous_strides(shape);
  if (x.is_contiguous()) return true;
  std::size_t target = shape.size();
  std::int64_t block = 1, base = x.strides().back();
  for (std::size_t d = x.shape().size(); d-- > 0;) {
    block *= x.shape()[d];
    bool block_ends = d == 0 || (x.shape()[d - 1] != 1 && x.strides()[d - 1] != block * base);
    if (!block_ends) continue;
    std::int64_t filled = 1;
    while (target > 0 && (filled < block || shape[target - 1] == 1)) {
      --target;
      strides[target] = filled * base;
      filled *= shape[target];
    }
    if (filled != block) return false;
    block = 1;
    if (d > 0) base = x.strides()[d - 1];
  }
  return target == 0;
}
}  // namespace

bool viewable(const Tensor& x, const Shape& shape) {
  Strides strides;
  return view_strides(x, shape, strides);
}

Tensor view(const Tensor& x, const Shape& shape) {
  Shape sizes = infer_shape("view", x, shape);
  Strides strides;
  check<ShapeError>(view_strides(x, sizes, strides),
                    "view: shape {} with strides {} cannot be viewed as {}; use reshape", x.shape(), x.strides(),
                    sizes);
  return as_strided(x, std::move(sizes), std::move(strides), x.body().offset);
}

Tensor expand(const Tensor& x, const Shape& shape) {
  std::size_t rank = x.shape().size();
  check<ShapeError>(shape.size() >= rank, "expand: shape {} has fewer dimensions than {}", shape, x.shape());
  std::size_t lead = shape.size() - rank;
  Shape sizes = shape;
  Strides strides(shape.size(), 0);
  for (std::size_t d = 0; d < shape.size(); ++d) {
    std::int64_t have = d < lead ? 1 : x.shape()[d - lead];
    if (d >= lead && sizes[d] == -1) sizes[d] = have;
    check<ShapeError>(sizes[d] >= 0 && (have == sizes[d] || have == 1), "expand: shape {} does not expand to {}",
                      x.shape(), shape);
    if (d >= lead && have == sizes[d]) strides[d] = x.strides()[d - lead];
  }
  return as_strided(x, std::move(sizes), std::move(strides), x.body().offset);
}

Tensor squeeze(const Tensor& x, std::int64_t dim) {
  std::size_t d = wrap_dim("squeeze", dim, x.shape().size());
  Shape shape = x.shape();
  Strides strides = x.strides();
  if (d < shape.size() && shape[d] == 1) {
    shape.erase(d);
    strides.erase(d);
  }
  return as_strided(x, std::move(shape), std::move(strides), x.body().offset);
}

Tensor squeeze(const Tensor& x) {
  Shape shape;
  Strides strides;
  for (std::size_t d = 0; d < x.shape().size(); ++d)
    if (x.shape()[d] != 1) {
      shape.push_back(x.shape()[d]);
      strides.push_back(x.strides()[d]);
    }
  return as_strided(x, std::move(shape), std::move(strides), x.body().offset);
}

Tensor unsqueeze(const Tensor& x, std::int64_t dim) {
  std::size_t d = wrap_dim("unsqueeze", dim, x.shape().size() + 1);
  Shape shape = x.shape();
  Strides strides = x.strides();
  strides.insert(d, d < shape.size() ? shape[d] * strides[d] : 1);
  shape.insert(d, 1);
  return as_strided(x, std::move(shape), std::move(strides), x.body().offset);
}

}  // namespace unroll::views
