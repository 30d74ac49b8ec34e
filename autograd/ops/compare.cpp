#include <unroll/autograd/ops/compare.h>
#include <unroll/core/kernels/copy.h>
#include <unroll/core/kernels/elementwise.h>
#include <unroll/core/kernels/reduce.h>

#include <algorithm>
#include <cmath>
#include <functional>

namespace unroll {
namespace {

// A number is rounded to a floating tensor's dtype, as torch does it; integers are compared with the number as it is.
template <class F>
Tensor compare_number(const Tensor& a, double b, F f) {
  Tensor y = empty(a.shape(), DType::Bool);
  dispatch(a.dtype(), [&]<class T>() {
    if constexpr (is_floating(dtype_of<T>))
      kernels::map_into<T, bool>(y, a, [f, b = static_cast<T>(b)](T v) { return f(v, b); });
    else
      kernels::map_into<T, bool>(y, a, [f, b](T v) { return f(static_cast<double>(v), b); });
  });
  return y;
}

void check_mask(const char* op, const Tensor& x) {
  check<DTypeError>(x.dtype() == DType::Bool, "{}: expected bool, got {}", op, x.dtype());
}

template <class F>
Tensor logical(const char* op, const Tensor& a, const Tensor& b, F f) {
  check_mask(op, a);
  return kernels::compare(op, a, b, f);
}

template <class F>
Tensor classify(const char* op, const Tensor& x, F f) {
  Tensor y = empty(x.shape(), DType::Bool);
  dispatch_float(op, x.dtype(), [&]<class T>() { kernels::map_into<T, bool>(y, x, f); });
  return y;
}

std::span<const bool> elements(const Tensor& contiguous) {
  return {contiguous.raw<bool>(), static_cast<std::size_t>(contiguous.numel())};
}

template <class F>
Tensor arg(const char* op, const Tensor& x, std::int64_t dim, bool keepdim, F beats) {
  std::size_t d = wrap_dim(op, dim, x.shape().size());
  Tensor source = kernels::contiguous(x);
  Shape shape = x.shape();
  kernels::Extent e = kernels::extent_around(shape, d);
  check<ShapeError>(e.n > 0, "{}: dimension {} of shape {} is empty", op, dim, x.shape());
  if (!shape.empty()) {
    shape.erase(d);
    if (keepdim) shape.insert(d, 1);
  }
  Tensor y = empty(shape, DType::Int64);
  if (y.numel() > 0)
    dispatch_number(op, x.dtype(),
                    [&]<class T>() { kernels::index_of_best(source.raw<T>(), y.raw<std::int64_t>(), e, beats); });
  return y;
}

}  // namespace

Tensor eq(const Tensor& a, const Tensor& b) { return kernels::compare("eq", a, b, std::equal_to()); }
Tensor ne(const Tensor& a, const Tensor& b) { return kernels::compare("ne", a, b, std::not_equal_to()); }
Tensor lt(const Tensor& a, const Tensor& b) { return kernels::compare("lt", a, b, std::less()); }
Tensor le(const Tensor& a, const Tensor& b) { return kernels::compare("le", a, b, std::less_equal()); }
Tensor gt(const Tensor& a, const Tensor& b) { return kernels::compare("gt", a, b, std::greater()); }
Tensor ge(const Tensor& a, const Tensor& b) { return kernels::compare("ge", a, b, std::greater_equal()); }
Tensor eq(const Tensor& a, double b) { return compare_number(a, b, std::equal_to()); }
Tensor ne(const Tensor& a, double b) { return compare_number(a, b, std::not_equal_to()); }
Tensor lt(const Tensor& a, double b) { return compare_number(a, b, std::less()); }
Tensor le(const Tensor& a, double b) { return compare_number(a, b, std::less_equal()); }
Tensor gt(const Tensor& a, double b) { return compare_number(a, b, std::greater()); }
Tensor ge(const Tensor& a, double b) { return compare_number(a, b, std::greater_equal()); }

Tensor logical_and(const Tensor& a, const Tensor& b) { return logical("logical_and", a, b, std::logical_and()); }
Tensor logical_or(const Tensor& a, const Tensor& b) { return logical("logical_or", a, b, std::logical_or()); }

Tensor logical_not(const Tensor& a) {
  check_mask("logical_not", a);
  return eq(a, 0);
}

Tensor isnan(const Tensor& x) {
  return classify("isnan", x, [](auto v) { return std::isnan(v); });
}

Tensor isfinite(const Tensor& x) {
  return classify("isfinite", x, [](auto v) { return std::isfinite(v); });
}

bool any(const Tensor& mask) {
  check_mask("any", mask);
  Tensor x = kernels::contiguous(mask);
  return std::ranges::any_of(elements(x), std::identity());
}

bool all(const Tensor& mask) {
  check_mask("all", mask);
  Tensor x = kernels::contiguous(mask);
  return std::ranges::all_of(elements(x), std::identity());
}

bool equal(const Tensor& a, const Tensor& b) {
  return a.dtype() == b.dtype() && a.shape() == b.shape() && all(eq(a, b));
}

bool allclose(const Tensor& a, const Tensor& b, double rtol, double atol) {
  if (a.dtype() != b.dtype() || a.shape() != b.shape()) return false;
  return all(kernels::compare("allclose", a, b, [=](auto v, auto w) {
    if (v == w) return true;  // equal infinities as well, whose difference is NaN
    const auto y = static_cast<double>(w);
    double distance = std::abs(static_cast<double>(v) - y);
    if constexpr (std::is_same_v<decltype(v), std::int64_t>) {  // of which a double has not all
      const auto p = static_cast<std::uint64_t>(v), q = static_cast<std::uint64_t>(w);
      distance = static_cast<double>(v > w ? p - q : q - p);
    }
    return std::isfinite(y) && distance <= atol + rtol * std::abs(y);
  }));
}

Tensor argmax(const Tensor& x, std::int64_t dim, bool keepdim) {
  return arg("argmax", x, dim, keepdim, kernels::greater);
}
Tensor argmin(const Tensor& x, std::int64_t dim, bool keepdim) { return arg("argmin", x, dim, keepdim, kernels::less); }
Tensor argmax(const Tensor& x) { return argmax(views::view(kernels::contiguous(x), {-1}), 0); }
Tensor argmin(const Tensor& x) { return argmin(views::view(kernels::contiguous(x), {-1}), 0); }

}  // namespace unroll
