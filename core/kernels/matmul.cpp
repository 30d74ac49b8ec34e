#include <unroll/core/blas.h>
#include <unroll/core/kernels/copy.h>
#include <unroll/core/kernels/loops.h>
#include <unroll/core/kernels/matmul.h>
#include <unroll/core/view.h>

#include <algorithm>

namespace unroll::kernels {
namespace {

Shape batch_of(const Shape& shape) { return Shape(std::span(shape.begin(), shape.size() - 2)); }

Tensor transposed(const Tensor& x) { return views::transpose(x, -1, -2); }

// x with its batch broadcast and laid into the rows: (B·rows, columns).
Tensor stacked(const Tensor& x, const Shape& batch, std::int64_t count) {
  Shape full = batch;
  full.push_back(x.size(-2));
  full.push_back(x.size(-1));
  Tensor broad = views::expand(x, full);
  Shape flat{count * x.size(-2), x.size(-1)};
  return views::view(views::viewable(broad, flat) ? broad : clone(broad), flat);
}

// How a tensor's matrices lie in memory.
struct Geometry {
  std::int64_t rows, columns, row_step, column_step;
  // Whether BLAS can read them row by row.
  bool by_rows() const { return (columns <= 1 || column_step == 1) && (rows <= 1 || row_step >= columns); }
  Geometry transposed() const { return {columns, rows, column_step, row_step}; }
  // A single row has any.
  std::int64_t ld() const { return rows <= 1 ? std::max<std::int64_t>(columns, 1) : row_step; }
};

Geometry geometry(const Tensor& x) {
  const std::int64_t *sizes = x.shape().end(), *steps = x.strides().end();
  return {sizes[-2], sizes[-1], steps[-2], steps[-1]};
}

// x where it lies, or a copy if BLAS cannot read its matrices there.
Tensor readable(const Tensor& x) {
  const Geometry g = geometry(x);
  return g.by_rows() || g.transposed().by_rows() ? x : clone(x);
}

template <class T>
blas::Matrix<T> matrix(const Tensor& x) {
  const Geometry g = geometry(x);
  const bool plain = g.by_rows();
  return {x.raw<std::remove_const_t<T>>(), plain ? g.ld() : g.transposed().ld(), !plain};
}

// The strides of x's batch dimensions, 0 where it is broadcast to `batch`.
Strides batch_strides(const Tensor& x, const Shape& batch) {
  const std::size_t lead = batch.size() + 2 - x.shape().size();
  Strides strides(batch.size(), 0);
  for (std::size_t d = lead; d < batch.size(); ++d) strides[d] = x.shape()[d - lead] == 1 ? 0 : x.strides()[d - lead];
  return strides;
}

// One product: no batch to broadcast.
void matmul_plain(const char* op, const Tensor& y, const Tensor& a, const Tensor& b, bool accumulate) {
  const Tensor left = readable(a), right = readable(b);
  dispatch_float(op, y.dtype(), [&]<class T>() {
    blas::gemm<T>({.m = y.size(0), .n = y.size(1), .k = left.size(1)}, matrix<const T>(left), matrix<const T>(right),
                  matrix<T>(y), {.beta = static_cast<T>(accumulate)});
  });
}

}  // namespace

void matmul(const char* op, const Tensor& y, const Tensor& a, const Tensor& b, bool accumulate) {
  if (y.dim() == 2 && a.dim() == 2 && b.dim() == 2) return matmul_plain(op, y, a, b, accumulate);
  const Shape batch_a = batch_of(a.shape()), batch_b = batch_of(b.shape()), batch_y = batch_of(y.shape());
  const Shape batch = broadcast(op, broadcast(op, batch_a, batch_b), batch_y);
  const std::int64_t count = numel(batch), n = y.size(-2), m = y.size(-1), k = a.size(-1);
  if (count > 1 && numel(batch_a) == count) {
    // One b for all: the rows of all a follow each other.
    if (numel(batch_b) == 1 && numel(batch_y) == count)
      return matmul(op, views::view(y, {count * n, m}), stacked(a, batch, count), views::view(b, {k, m}), accumulate);
    // One y for all: the sum over the batch continues the sum over K.
    if (numel(batch_b) == count && numel(batch_y) == 1)
      return matmul(op, views::view(y, {n, m}), transposed(stacked(transposed(a), batch, count)),
                    stacked(b, batch, count), accumulate);
  }
  if (numel(batch_y) != count && !accumulate) {
    fill(y, 0);
    accumulate = true;
  }
  const Tensor left = readable(a), right = readable(b);
  const Strides steps_y = batch_strides(y, batch), steps_a = batch_strides(left, batch),
                steps_b = batch_strides(right, batch);
  dispatch_float(op, y.dtype(), [&]<class T>() {
    auto my = matrix<T>(y);
    auto ma = matrix<const T>(left), mb = matrix<const T>(right);
    for_rows<3>(batch, {&steps_y, &steps_a, &steps_b}, [&](auto offset, std::int64_t products, auto step) {
      for (std::int64_t i = 0; i < products; ++i) {
        auto at = [&](auto x, std::size_t which) {
          x.data += offset[which] + i * step[which];
          return x;
        };
        blas::gemm<T>({.m = n, .n = m, .k = k}, at(ma, 1), at(mb, 2), at(my, 0), {.beta = static_cast<T>(accumulate)});
      }
    });
  });
}

}  // namespace unroll::kernels
