#include <unroll/autograd/ops/shape.h>
#include <unroll/autograd/record.h>
#include <unroll/core/kernels/copy.h>
#include <unroll/core/kernels/elementwise.h>
#include <unroll/core/view.h>

#include <utility>

// Rearrangements come in pairs, each the other's gradient: transpose and transpose, squeeze and unsqueeze, slice and
// its placing, cat and split, stack and unbind.
namespace unroll {

namespace {
// y, which views::… made of x, is from now on part of what x is part of: written in place, either one changes both.
// Unless nothing is recorded, here or where x came from: then y stays what it is, a window on the memory.
Tensor part(const Tensor& x, Tensor y, bool is_piece = false) {
  const detail::Body& from = x.body();
  detail::Body& to = y.body();
  if (!GradMode::enabled() || (from.is_view && !from.base)) {
    to.is_hidden = from.is_hidden || detail::wants_grad(x);
    return y;
  }
  to.base = from.base ? from.base : Ref<detail::Body>(&x.body());
  to.rewrites.store(to.base->rewrites.load(std::memory_order_relaxed), std::memory_order_relaxed);
  to.is_piece = is_piece || from.is_piece;
  return y;
}
}  // namespace

Tensor view(const Tensor& x, const Shape& shape) {
  return record("view", {x}, part(x, views::view(x, shape)),
                [from = x.shape()](const Tensor& g) { return reshape(g, from); });
}

Tensor reshape(const Tensor& x, const Shape& shape) {
  Shape sizes = views::infer_shape("reshape", x, shape);
  if (views::viewable(x, sizes)) return view(x, sizes);
  Tensor y = empty(std::move(sizes), x.dtype());
  kernels::copy(views::view(y, x.shape()), x);
  return record("reshape", {x}, y, [from = x.shape()](const Tensor& g) { return reshape(g, from); });
}

Tensor flatten(const Tensor& x, std::int64_t start_dim, std::int64_t end_dim) {
  const std::size_t rank = x.shape().size();
  const std::size_t first = wrap_dim("flatten", start_dim, rank), last = wrap_dim("flatten", end_dim, rank);
  check<ValueError>(first <= last, "flatten: start_dim {} comes after end_dim {} in shape {}", start_dim, end_dim,
                    x.shape());
  if (rank == 0) return reshape(x, 1);
  Shape shape = x.shape();
  for (std::size_t d = last; d > first; --d) {
    shape[first] *= shape[d];
    shape.erase(d);
  }
  return reshape(x, shape);
}

Tensor transpose(const Tensor& x, std::int64_t dim0, std::int64_t dim1) {
  return record("transpose", {x}, part(x, views::transpose(x, dim0, dim1)),
                [dim0, dim1](const Tensor& g) { return transpose(g, dim0, dim1); });
}

Tensor t(const Tensor& x) {
  check<ShapeError>(x.dim() <= 2, "t: expected at most two dimensions, got shape {}; use transpose or permute",
                    x.shape());
  return x.dim() < 2 ? x : transpose(x, 0, 1);
}

Tensor permute(const Tensor& x, const Shape& dims) {
  Tensor y = part(x, views::permute(x, dims));
  Shape inverse(dims.size(), 0);
  for (std::size_t i = 0; i < dims.size(); ++i)
    inverse[wrap_dim("permute", dims[i], dims.size())] = static_cast<std::int64_t>(i);
  return record("permute", {x}, y, [inverse](const Tensor& g) { return permute(g, inverse); });
}

/// The engine sums what a gradient has more than its input, so there is nothing to do here.
Tensor expand(const Tensor& x, const Shape& shape) {
  return record("expand", {x}, part(x, views::expand(x, shape)), unchanged);
}

Tensor squeeze(const Tensor& x) {
  return record("squeeze", {x}, part(x, views::squeeze(x)),
                [from = x.shape()](const Tensor& g) { return reshape(g, from); });
}

Tensor squeeze(const Tensor& x, std::int64_t dim) {
  Tensor y = part(x, views::squeeze(x, dim));
  return record("squeeze", {x}, y, [from = x.shape()](const Tensor& g) { return reshape(g, from); });
}

Tensor unsqueeze(const Tensor& x, std::int64_t dim) {
  return record("unsqueeze", {x}, part(x, views::unsqueeze(x, dim)),
                [dim](const Tensor& g) { return squeeze(g, dim); });
}

namespace {
// Zeros of `shape` that hold g at [start : end : step] of dimension `dim`: what slice took from there.
Tensor slice_backward(const Tensor& g, const Shape& shape, std::int64_t dim, std::int64_t start, std::int64_t end,
                      std::int64_t step) {
  Tensor y = zeros(shape, g.dtype());
  kernels::copy(views::slice(y, dim, start, end, step), g);
  return record("slice_backward", {g}, y, [=](const Tensor& h) { return slice(h, dim, start, end, step); });
}
}  // namespace

Tensor narrow(const Tensor& x, std::int64_t dim, std::int64_t start, std::int64_t length) {
  Tensor y = part(x, views::narrow(x, dim, start, length));
  const std::int64_t first = start < 0 ? start + x.size(dim) : start;
  return record("narrow", {x}, y, [=, from = x.shape()](const Tensor& g) {
    return slice_backward(g, from, dim, first, first + length, 1);
  });
}

Tensor slice(const Tensor& x, std::int64_t dim, std::int64_t start, std::int64_t end, std::int64_t step) {
  return record("slice", {x}, part(x, views::slice(x, dim, start, end, step)),
                [=, from = x.shape()](const Tensor& g) { return slice_backward(g, from, dim, start, end, step); });
}

Tensor select(const Tensor& x, std::int64_t dim, std::int64_t index) {
  Tensor y = part(x, views::select(x, dim, index));
  const std::int64_t at = index < 0 ? index + x.size(dim) : index;
  const auto d = static_cast<std::int64_t>(wrap_dim("select", dim, x.shape().size()));
  return record("select", {x}, y, [=, from = x.shape()](const Tensor& g) {
    return slice_backward(unsqueeze(g, d), from, d, at, at + 1, 1);
  });
}

namespace {
// The gradients of all pieces: zeros of shape(i) take the place of one that did not arrive.
template <class F>
std::vector<Tensor> all_pieces(Gradients g, DType dtype, F shape) {
  std::vector<Tensor> pieces(g.begin(), g.end());
  for (std::size_t i = 0; i < pieces.size(); ++i)
    if (!pieces[i].defined()) pieces[i] = zeros(shape(i), dtype);
  return pieces;
}
}  // namespace

std::vector<Tensor> split(const Tensor& x, std::int64_t split_size, std::int64_t dim) {
  check<ShapeError>(x.dim() > 0, "split: a scalar cannot be split");
  const std::int64_t size = x.shape()[wrap_dim("split", dim, x.shape().size())];
  check<ValueError>(split_size > 0 || (split_size == 0 && size == 0),
                    "split: split_size {} for dimension {} of shape {} is not positive", split_size, dim, x.shape());
  const std::int64_t whole = size > 0 ? (size - 1) / split_size : 0;  // pieces before the last
  Shape sizes(static_cast<std::size_t>(whole) + 1, split_size);
  sizes.back() = size - whole * split_size;
  return split(x, sizes, dim);
}

std::vector<Tensor> split(const Tensor& x, const Shape& split_sizes, std::int64_t dim) {
  check<ShapeError>(x.dim() > 0, "split: a scalar cannot be split");
  const std::size_t d = wrap_dim("split", dim, x.shape().size());
  const std::int64_t size = x.shape()[d];
  std::int64_t left = size, at = 0;
  for (std::int64_t piece : split_sizes) {
    check<ValueError>(piece >= 0, "split: negative size in {}", split_sizes);
    left = piece > left ? -1 : left - piece;
  }
  check<ShapeError>(left == 0, "split: sizes {} do not add up to {}, dimension {} of shape {}", split_sizes, size, dim,
                    x.shape());
  std::vector<Tensor> pieces;
  for (std::int64_t piece : split_sizes)
    pieces.push_back(part(x, views::narrow(x, dim, std::exchange(at, at + piece), piece), true));
  auto backward = [d, from = x.shape(), sizes = split_sizes, dtype = x.dtype()](Gradients g, const Saved&,
                                                                                std::span<Tensor> dx) {
    auto shape = [&](std::size_t i) {
      Shape piece = from;
      piece[d] = sizes[i];
      return piece;
    };
    dx[0] = cat(all_pieces(g, dtype, shape), static_cast<std::int64_t>(d));
  };
  record_all("split", {x}, pieces, {}, std::move(backward));
  return pieces;
}

std::vector<Tensor> chunk(const Tensor& x, std::int64_t chunks, std::int64_t dim) {
  check<ValueError>(chunks > 0, "chunk: {} chunks; expected at least 1", chunks);
  check<ShapeError>(x.dim() > 0, "chunk: a scalar cannot be split");
  const std::int64_t size = x.shape()[wrap_dim("chunk", dim, x.shape().size())];
  // An empty dimension gives as many empty pieces as were asked for.
  return size == 0 ? split(x, Shape(static_cast<std::size_t>(chunks), 0), dim) : split(x, (size - 1) / chunks + 1, dim);
}

std::vector<Tensor> unbind(const Tensor& x, std::int64_t dim) {
  check<ShapeError>(x.dim() > 0, "unbind: a scalar has no dimension to take apart");
  const std::size_t d = wrap_dim("unbind", dim, x.shape().size());
  std::vector<Tensor> pieces;
  for (std::int64_t i = 0; i < x.shape()[d]; ++i) pieces.push_back(part(x, views::select(x, dim, i), true));
  Shape piece = x.shape();
  piece.erase(d);
  auto backward = [d, piece, dtype = x.dtype()](Gradients g, const Saved&, std::span<Tensor> dx) {
    dx[0] = stack(all_pieces(g, dtype, [&](std::size_t) { return piece; }), static_cast<std::int64_t>(d));
  };
  record_all("unbind", {x}, pieces, {}, std::move(backward));
  return pieces;
}

Tensor flip(const Tensor& x, const Shape& dims) {
  const std::size_t rank = x.shape().size();
  Shape seen(rank, 0);
  Strides strides = x.strides();
  std::int64_t offset = x.body().offset;
  for (std::int64_t dim : dims) {
    std::size_t d = wrap_dim("flip", dim, rank);
    if (rank == 0) continue;
    check<ValueError>(seen[d]++ == 0, "flip: dimension {} is repeated in {}", dim, dims);
    if (x.shape()[d] > 0) offset += (x.shape()[d] - 1) * strides[d];
    strides[d] = -strides[d];
  }
  Tensor y = kernels::clone(views::as_strided(x, x.shape(), std::move(strides), offset));
  return record("flip", {x}, y, [dims](const Tensor& g) { return flip(g, dims); });
}

Tensor cat(TensorList tensors, std::int64_t dim) {
  check<ValueError>(!tensors.empty(), "cat: the list of tensors is empty");
  const Tensor& first = tensors[0];
  check<ShapeError>(first.dim() > 0, "cat: scalars have no dimension to follow each other in; stack them");
  const std::size_t d = wrap_dim("cat", dim, first.shape().size());
  Shape shape = first.shape(), sizes(tensors.size(), 0);
  shape[d] = 0;
  for (std::size_t i = 0; i < tensors.size(); ++i) {
    const Tensor& x = tensors[i];
    kernels::check_same_dtype("cat", first, x);
    bool fits = x.shape().size() == shape.size();
    for (std::size_t k = 0; fits && k < shape.size(); ++k) fits = k == d || x.shape()[k] == shape[k];
    check<ShapeError>(fits,
                      "cat: tensor {} has shape {}, which differs from the first one's {} not only in dimension {}", i,
                      x.shape(), first.shape(), dim);
    sizes[i] = x.shape()[d];
    check<ShapeError>(!__builtin_add_overflow(shape[d], sizes[i], &shape[d]),
                      "cat: the sizes in dimension {} add up to more than 2^63 - 1", dim);
  }
  Tensor y = empty(shape, first.dtype());
  std::int64_t at = 0;
  for (std::size_t i = 0; i < tensors.size(); ++i)
    kernels::copy(views::narrow(y, dim, std::exchange(at, at + sizes[i]), sizes[i]), tensors[i]);
  return record_all("cat", tensors, y, save(), [dim, sizes](Gradients g, const Saved& s, std::span<Tensor> dx) {
    std::int64_t start = 0;
    for (std::size_t i = 0; i < dx.size(); start += sizes[i++])
      if (s.needs(i)) dx[i] = narrow(g[0], dim, start, sizes[i]);
  });
}

Tensor stack(TensorList tensors, std::int64_t dim) {
  check<ValueError>(!tensors.empty(), "stack: the list of tensors is empty");
  const Tensor& first = tensors[0];
  const std::size_t d = wrap_dim("stack", dim, first.shape().size() + 1);
  for (std::size_t i = 0; i < tensors.size(); ++i) {
    kernels::check_same_dtype("stack", first, tensors[i]);
    check<ShapeError>(tensors[i].shape() == first.shape(), "stack: tensor {} has shape {}, expected the first one's {}",
                      i, tensors[i].shape(), first.shape());
  }
  Shape shape = first.shape();
  shape.insert(d, static_cast<std::int64_t>(tensors.size()));
  Tensor y = empty(shape, first.dtype());
  for (std::size_t i = 0; i < tensors.size(); ++i)
    kernels::copy(views::select(y, dim, static_cast<std::int64_t>(i)), tensors[i]);
  return record_all("stack", tensors, y, save(), [dim](Gradients g, const Saved& s, std::span<Tensor> dx) {
    for (std::size_t i = 0; i < dx.size(); ++i)
      if (s.needs(i)) dx[i] = select(g[0], dim, static_cast<std::int64_t>(i));
  });
}

}  // namespace unroll
