#include <unroll/autograd/ops/arithmetic.h>
#include <unroll/autograd/ops/compare.h>
#include <unroll/autograd/ops/reduce.h>
#include <unroll/autograd/ops/shape.h>
#include <unroll/autograd/record.h>
#include <unroll/core/kernels/copy.h>
#include <unroll/core/kernels/elementwise.h>
#include <unroll/core/kernels/reduce.h>

#include <cmath>

namespace unroll {
namespace {

// How x is reduced. `x` is row-major and has the geometry `extent`: it is the tensor itself, or a copy where that lies
// otherwise or keeps dimensions between reduced ones.
struct Plan {
  Tensor x;
  kernels::Extent extent{1, 1, 1};
  Shape shape, kept;  // of the result; the same with a 1 for each reduced dimension
};

Plan plan(const char* op, const Tensor& x, const Shape& dims, bool keepdim) {
  const std::size_t rank = x.shape().size();
  Shape reduced(std::max<std::size_t>(rank, 1), dims.empty()), order, last;  // of a scalar, too, one dimension
  for (std::int64_t dim : dims) {
    std::size_t d = wrap_dim(op, dim, rank);
    check<ValueError>(reduced[d]++ == 0, "{}: dimension {} is repeated in {}", op, dim, dims);
  }
  Plan p;
  p.kept = x.shape();
  auto& [outer, n, inner] = p.extent;
  bool started = false, ended = false, interrupted = false;
  for (std::size_t d = 0; d < rank; ++d) {
    const std::int64_t size = x.shape()[d];
    (reduced[d] ? last : order).push_back(static_cast<std::int64_t>(d));
    if (size != 1) {
      interrupted |= reduced[d] && ended;
      ended |= !reduced[d] && started;
      started |= reduced[d] != 0;
    }
    (reduced[d] ? n : started ? inner : outer) *= size;
    if (reduced[d]) p.kept[d] = 1;
    if (keepdim || !reduced[d]) p.shape.push_back(p.kept[d]);
  }
  if (interrupted) {
    for (std::int64_t d : last) order.push_back(d);
    p.x = kernels::contiguous(views::permute(x, order));
    p.extent = {outer * inner, n, 1};
  } else {
    p.x = kernels::contiguous(x);
  }
  return p;
}

// Gives a reduced tensor, or its gradient, back the dimensions that it lost.
Tensor keep(const Tensor& y, const Shape& kept) { return y.shape() == kept ? y : reshape(y, kept); }

template <class T, class R, class F>
void sum_into(const Tensor& y, const Plan& p, F f) {
  kernels::sum(p.x.raw<T>(), y.raw<R>(), p.extent, f);
}

Tensor sum_of(const char* op, const Plan& p) {
  if (!p.x.is_floating_point()) {
    Tensor y = empty(p.shape, DType::Int64);
    auto widen = [](auto v) { return static_cast<std::int64_t>(v); };
    if (p.x.dtype() == DType::Bool)
      sum_into<bool, std::int64_t>(y, p, widen);
    else
      sum_into<std::int64_t, std::int64_t>(y, p, widen);
    return y;
  }
  Tensor y = empty(p.shape, p.x.dtype());
  dispatch_float(op, p.x.dtype(), [&]<class T>() { sum_into<T, T>(y, p, [](T v) { return v; }); });
  return y;
}

template <class F>
Tensor fold_of(const char* op, const Plan& p, const Tensor& x, F pick) {
  check<ShapeError>(p.extent.n > 0 || p.extent.outer * p.extent.inner == 0,
                    "{}: shape {} has no element to choose from", op, x.shape());
  Tensor y = empty(p.shape, x.dtype());
  if (y.numel() > 0)
    dispatch_number(op, x.dtype(), [&]<class T>() { kernels::fold(p.x.raw<T>(), y.raw<T>(), p.extent, pick); });
  return y;
}

// The gradient of both: each of the k elements that equal the result gets 1/k of it.
auto to_the_best(const Shape& dims, const Shape& kept) {
  return [dims, kept](const Tensor& g, const Saved& s) {
    Tensor chosen = eq(s[0], keep(s[1], kept)).to(g.dtype());
    return chosen * (keep(g, kept) / sum(chosen, dims, true));
  };
}

}  // namespace

Tensor sum(const Tensor& x) { return sum(x, {}); }

/// Σ x.   d/dx = 1
Tensor sum(const Tensor& x, const Shape& dims, bool keepdim) {
  Plan p = plan("sum", x, dims, keepdim);
  return record("sum", {x}, sum_of("sum", p),
                [kept = p.kept, shape = x.shape()](const Tensor& g) { return expand(keep(g, kept), shape); });
}

Tensor sum_to(const Tensor& x, const Shape& shape) {
  if (x.shape() == shape) return x;
  Shape dims;
  const std::size_t rank = x.shape().size(), lead = rank - std::min(rank, shape.size());
  bool fits = shape.size() <= rank;
  for (std::size_t d = 0; d < rank; ++d) {
    const bool summed = d < lead || (shape[d - lead] == 1 && x.shape()[d] != 1);
    fits &= summed || x.shape()[d] == shape[d - lead];
    if (summed) dims.push_back(static_cast<std::int64_t>(d));
  }
  check<ShapeError>(fits, "sum_to: shape {} does not broadcast to {}", shape, x.shape());
  Plan p = plan("sum_to", x, dims, false);
  p.shape = shape;
  return record("sum_to", {x}, sum_of("sum_to", p), [broad = x.shape()](const Tensor& g) { return expand(g, broad); });
}

Tensor mean(const Tensor& x) { return mean(x, {}); }

/// Σ x / n.   d/dx = 1/n
Tensor mean(const Tensor& x, const Shape& dims, bool keepdim) {
  Plan p = plan("mean", x, dims, keepdim);
  Tensor y = empty(p.shape, x.dtype());
  const auto n = static_cast<double>(p.extent.n);
  dispatch_float("mean", x.dtype(), [&]<class T>() {
    sum_into<T, T>(y, p, [](T v) { return v; });
    kernels::map_into<T, T>(y, y, [n](T v) { return v / static_cast<T>(n); });
  });
  return record("mean", {x}, y,
                [n, kept = p.kept, shape = x.shape()](const Tensor& g) { return expand(keep(g, kept) / n, shape); });
}

/// max x.   d/dx = 1/k for each of the k elements that equal it, else 0
Tensor amax(const Tensor& x, const Shape& dims, bool keepdim) {
  Plan p = plan("amax", x, dims, keepdim);
  Tensor y = fold_of("amax", p, x, kernels::larger);
  return record("amax", {x}, y, save(x, y), to_the_best(dims, p.kept));
}

/// min x.   d/dx as amax
Tensor amin(const Tensor& x, const Shape& dims, bool keepdim) {
  Plan p = plan("amin", x, dims, keepdim);
  Tensor y = fold_of("amin", p, x, kernels::smaller);
  return record("amin", {x}, y, save(x, y), to_the_best(dims, p.kept));
}

/// ln Σ eˣ = m + ln Σ e^(x − m) for m = max x.   d/dx = e^(x − y)
Tensor logsumexp(const Tensor& x, const Shape& dims, bool keepdim) {
  Plan p = plan("logsumexp", x, dims, keepdim);
  const kernels::Extent e = p.extent;
  Tensor y = empty(p.shape, x.dtype()), peak = empty({e.outer, 1, e.inner}, x.dtype());
  dispatch_float("logsumexp", x.dtype(), [&]<class T>() {
    if (e.n > 0)
      kernels::fold(p.x.raw<T>(), peak.raw<T>(), e, kernels::larger);
    else
      kernels::fill(peak, 0);
    // An infinite maximum would make ∞ − ∞. Without it, e^∞ and e^−∞ are right as they are.
    kernels::map_into<T, T>(peak, peak, [](T m) { return std::isinf(m) ? 0 : m; });
    p.x = kernels::zip("logsumexp", views::view(p.x, {e.outer, e.n, e.inner}), peak,
                       [](auto v, auto m) { return std::exp(v - m); });
    sum_into<T, T>(y, p, [](T v) { return v; });
    kernels::zip_into<T, T>(y, y, views::view(peak, p.shape), [](T v, T m) { return std::log(v) + m; });
  });
  return record("logsumexp", {x}, y, save(x, y), [kept = p.kept](const Tensor& g, const Saved& s) {
    return keep(g, kept) * exp(s[0] - keep(s[1], kept));
  });
}

Tensor norm(const Tensor& x, double p) { return norm(x, p, {}); }

/// y = (Σ |x|ᵖ)^(1/p).   d/dx = sign(x)·|x|ᵖ⁻¹ / yᵖ⁻¹, and 0 where x or y is 0
Tensor norm(const Tensor& x, double p, const Shape& dims, bool keepdim) {
  check<ValueError>(!std::isnan(p), "norm: p is NaN");
  check<DTypeError>(x.is_floating_point(), "norm: expected float32 or float64, got {}", x.dtype());
  if (p == 1) return sum(abs(x), dims, keepdim);
  if (std::isinf(p)) return p > 0 ? amax(abs(x), dims, keepdim) : amin(abs(x), dims, keepdim);
  Plan way = plan("norm", x, dims, keepdim);
  auto [outer, n, inner] = way.extent;
  check<ShapeError>(p >= 0 || n > 0 || outer * inner == 0, "norm: p = {} of no elements, in shape {}, is not defined",
                    p, x.shape());
  Tensor y = empty(way.shape, x.dtype());
  dispatch_float("norm", x.dtype(), [&]<class T>() {
    const auto power = static_cast<T>(p), root = static_cast<T>(1 / p);
    if (p == 0) return sum_into<T, T>(y, way, [](T v) { return static_cast<T>(v != 0); });
    if (way.extent.n == 1) return sum_into<T, T>(y, way, [](T v) { return std::abs(v); });  // its power may overflow
    if (p == 2) {
      sum_into<T, T>(y, way, [](T v) { return v * v; });
      return kernels::map_into<T, T>(y, y, [](T v) { return std::sqrt(v); });
    }
    sum_into<T, T>(y, way, [power](T v) { return std::pow(std::abs(v), power); });
    kernels::map_into<T, T>(y, y, [root](T v) { return std::pow(v, root); });
  });
  return record("norm", {x}, y, save(x, y), [p, kept = way.kept](const Tensor& g, const Saved& s) {
    if (p == 0) return zeros_like(s[0]);
    // 1 stands in for 0 wherever a power is taken: the branch not taken must not turn 0·∞ into NaN.
    Tensor norm = keep(s[1], kept), flat = eq(norm, 0);
    Tensor scale = where(flat, zeros_like(norm), keep(g, kept) / pow(where(flat, ones_like(norm), norm), p - 1));
    if (p == 2) return s[0] * scale;
    Tensor size = where(eq(s[0], 0), ones_like(s[0]), abs(s[0]));
    return sign(s[0]) * pow(size, p - 1) * scale;
  });
}

}  // namespace unroll
