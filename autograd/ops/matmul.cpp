#include <unroll/autograd/ops/matmul.h>
#include <unroll/autograd/ops/shape.h>
#include <unroll/autograd/record.h>
#include <unroll/core/kernels/copy.h>
#include <unroll/core/kernels/elementwise.h>
#include <unroll/core/kernels/matmul.h>

namespace unroll {
namespace {

Tensor transposed(const Tensor& x) { return transpose(x, -1, -2); }

// The product of two tensors of matrices, its batch broadcast or summed to that of `shape`. The gradients of a matrix
// product are of this kind, and so are this one's own.
Tensor product(const Tensor& a, const Tensor& b, const Shape& shape) {
  Tensor y = empty(shape, a.dtype());
  kernels::matmul("matmul", y, a, b);
  return record(
      "matmul", {a, b}, y, save(a, b),
      [](const Tensor& g, const Saved& s) { return product(g, transposed(s[1]), s.shape(0)); },
      [](const Tensor& g, const Saved& s) { return product(transposed(s[0]), g, s.shape(1)); });
}

// A vector as the matrix that it counts as.
Tensor as_row(const Tensor& x) { return x.dim() == 1 ? unsqueeze(x, 0) : x; }
Tensor as_column(const Tensor& x) { return x.dim() == 1 ? unsqueeze(x, 1) : x; }

Shape as_row(const Shape& x) { return x.size() == 1 ? Shape{1, x[0]} : x; }
Shape as_column(const Shape& x) { return x.size() == 1 ? Shape{x[0], 1} : x; }

// The gradient of matmul(a, b), with the dimensions that vectors among them have not left in it.
Tensor as_matrices(const Tensor& g, const Shape& a, const Shape& b) {
  Tensor columns = b.size() == 1 ? unsqueeze(g, -1) : g;
  return a.size() == 1 ? unsqueeze(columns, -2) : columns;
}

// The shape of the product of matrices a and b, their batch broadcast.
Shape product_shape(const Tensor& a, const Tensor& b, const Tensor& rows, const Tensor& columns) {
  check<ShapeError>(rows.size(-1) == columns.size(-2),
                    "matmul: shapes {} and {} do not multiply: {} columns meet {} rows", a.shape(), b.shape(),
                    rows.size(-1), columns.size(-2));
  const Shape &sa = rows.shape(), &sb = columns.shape();
  const std::size_t na = sa.size(), nb = sb.size();
  Shape shape = na >= nb ? sa : sb;
  for (std::size_t d = 3; d <= std::min(na, nb); ++d) {  // counted from the end
    const std::int64_t size_a = sa[na - d], size_b = sb[nb - d];
    check<ShapeError>(size_a == size_b || size_a == 1 || size_b == 1,
                      "matmul: the batches of shapes {} and {} do not broadcast", a.shape(), b.shape());
    shape[shape.size() - d] = size_a == 1 ? size_b : size_a;
  }
  shape[shape.size() - 2] = rows.size(-2);
  shape[shape.size() - 1] = columns.size(-1);
  return shape;
}

}  // namespace

/// y = a b.   d/da = g bᵀ, d/db = aᵀ g
Tensor matmul(const Tensor& a, const Tensor& b) {
  check<ShapeError>(a.dim() > 0 && b.dim() > 0, "matmul: shapes {} and {}: a scalar is no matrix; multiply it with *",
                    a.shape(), b.shape());
  kernels::check_same_dtype("matmul", a, b);
  if (a.dim() > 1 && b.dim() > 1) return product(a, b, product_shape(a, b, a, b));
  Tensor y;
  {
    NoGrad no_grad;
    Tensor rows = as_row(a), columns = as_column(b);
    Shape full = product_shape(a, b, rows, columns), shape = full;
    if (b.dim() == 1) shape.erase(full.size() - 1);
    if (a.dim() == 1) shape.erase(full.size() - 2);
    y = empty(shape, a.dtype());
    kernels::matmul("matmul", view(y, full), rows, columns);
  }
  return record(
      "matmul", {a, b}, y, save(a, b),
      [](const Tensor& g, const Saved& s) {
        const Shape &of_a = s.shape(0), &of_b = s.shape(1);
        return reshape(product(as_matrices(g, of_a, of_b), transposed(as_column(s[1])), as_row(of_a)), of_a);
      },
      [](const Tensor& g, const Saved& s) {
        const Shape &of_a = s.shape(0), &of_b = s.shape(1);
        return reshape(product(transposed(as_row(s[0])), as_matrices(g, of_a, of_b), as_column(of_b)), of_b);
      });
}

/// y = x Wᵀ + b.   d/dx = g W, d/dW = gᵀ x over all rows at once, d/db = g, which the engine sums over the rows
Tensor linear(const Tensor& x, const Tensor& weight, const Tensor& bias) {
  check<ShapeError>(weight.dim() == 2, "linear: weight has shape {}, expected (out, in)", weight.shape());
  const std::int64_t in = weight.size(1), out = weight.size(0);
  check<ShapeError>(x.dim() > 0 && x.size(-1) == in,
                    "linear: input of shape {} does not fit weight of shape {}: expected {} features", x.shape(),
                    weight.shape(), in);
  kernels::check_same_dtype("linear", x, weight);
  Shape shape = x.shape();
  shape.back() = out;
  if (bias.defined()) {
    check<ShapeError>(bias.shape() == Shape(out), "linear: bias has shape {}, expected ({},) for weight of shape {}",
                      bias.shape(), out, weight.shape());
    kernels::check_same_dtype("linear", x, bias);
  }
  Tensor y = empty(shape, x.dtype());
  if (bias.defined()) kernels::copy(y, bias);
  {
    NoGrad no_grad;
    kernels::matmul("linear", as_row(y), as_row(x), transposed(weight), bias.defined());
  }
  return record(
      "linear", {x, weight, bias}, y, save(x, weight), [](const Tensor& g, const Saved& s) { return matmul(g, s[1]); },
      [](const Tensor& g, const Saved& s) { return product(transposed(as_row(g)), as_row(s[0]), s.shape(1)); },
      unchanged);
}

}  // namespace unroll
