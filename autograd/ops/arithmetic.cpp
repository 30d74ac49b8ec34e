#include <unroll/autograd/detail/chain.h>
#include <unroll/autograd/ops/arithmetic.h>
#include <unroll/autograd/ops/compare.h>
#include <unroll/autograd/record.h>
#include <unroll/core/kernels/activation.h>
#include <unroll/core/kernels/elementwise.h>
#include <unroll/core/kernels/reduce.h>

#include <algorithm>
#include <cmath>

namespace unroll {
namespace {
Tensor negated(const Tensor& g) { return -g; }

constexpr auto itself = [](const auto& x) { return x; };
}  // namespace

Tensor add(const Tensor& a, const Tensor& b) {
  Tensor y = kernels::zip_number("add", a, b, [](auto x, auto z) { return x + z; });
  return record("add", {a, b}, std::move(y), unchanged, unchanged);
}

Tensor add(const Tensor& a, double b) {
  kernels::check_number("add", a, b);
  Tensor y = kernels::map_number("add", a, [b](auto x) { return x + static_cast<decltype(x)>(b); });
  return record("add", {a}, std::move(y), unchanged);
}

Tensor sub(const Tensor& a, const Tensor& b) {
  Tensor y = kernels::zip_number("sub", a, b, [](auto x, auto z) { return x - z; });
  return record("sub", {a, b}, std::move(y), unchanged, negated);
}

Tensor sub(double a, const Tensor& b) {
  kernels::check_number("sub", b, a);
  Tensor y = kernels::map_number("sub", b, [a](auto x) { return static_cast<decltype(x)>(a) - x; });
  return record("sub", {b}, std::move(y), negated);
}

/// a·b.   d/da = b, d/db = a
Tensor mul(const Tensor& a, const Tensor& b) {
  Tensor y = kernels::zip_number("mul", a, b, [](auto x, auto z) { return x * z; });
  return record(
      "mul", {a, b}, std::move(y), save(a, b),
      [](const Tensor& g, const Saved& s) { return detail::chain(g, s, 1, 0, itself); },
      [](const Tensor& g, const Saved& s) { return detail::chain(g, s, 0, 1, itself); });
}

Tensor mul(const Tensor& a, double b) {
  kernels::check_number("mul", a, b);
  Tensor y = kernels::map_number("mul", a, [b](auto x) { return x * static_cast<decltype(x)>(b); });
  return record("mul", {a}, std::move(y), [b](const Tensor& g) { return g * b; });
}

/// a/b.   d/da = 1/b, d/db = −a/b²
Tensor div(const Tensor& a, const Tensor& b) {
  Tensor y = kernels::zip("div", a, b, [](auto x, auto z) { return x / z; });
  return record(
      "div", {a, b}, std::move(y), save(a, b), [](const Tensor& g, const Saved& s) { return g / s[1]; },
      [](const Tensor& g, const Saved& s) { return -g * (s[0] / s[1] / s[1]); });
}

Tensor div(const Tensor& a, double b) {
  Tensor y = kernels::map("div", a, [b](auto x) { return x / static_cast<decltype(x)>(b); });
  return record("div", {a}, std::move(y), [b](const Tensor& g) { return g / b; });
}

Tensor div(double a, const Tensor& b) {
  Tensor y = kernels::map("div", b, [a](auto x) { return static_cast<decltype(x)>(a) / x; });
  // Not −a/b²: the gradient of that would hold b⁴, which overflows long before b³ does.
  return record("div", {b}, std::move(y), save(b),
                [a](const Tensor& g, const Saved& s) { return g * (-a / s[0] / s[0]); });
}

Tensor neg(const Tensor& x) {
  return record("neg", {x}, kernels::map_number("neg", x, [](auto v) { return -v; }), negated);
}

/// xᵖ.   d/dx = p·xᵖ⁻¹. Roots are sqrt's, as torch's: of −∞ none, of −0 itself.
Tensor pow(const Tensor& x, double exponent) {
  Tensor y = kernels::map("pow", x, [exponent](auto v) {
    if (exponent == 0.5) return std::sqrt(v);
    if (exponent == -0.5) return 1 / std::sqrt(v);
    return std::pow(v, static_cast<decltype(v)>(exponent));
  });
  return record("pow", {x}, std::move(y), save(x), [exponent](const Tensor& g, const Saved& s) {
    return exponent == 0 ? zeros_like(s[0]) : g * (exponent * pow(s[0], exponent - 1));
  });
}

/// x^p.   d/dx = p·x^(p−1), 0 where p = 0;   d/dp = x^p·ln x, 0 where x = 0 and p ≥ 0
Tensor pow(const Tensor& x, const Tensor& exponent) {
  Tensor y = kernels::zip("pow", x, exponent, [](auto v, auto p) { return std::pow(v, p); });
  return record(
      "pow", {x, exponent}, std::move(y), save(x, exponent, y),
      [](const Tensor& g, const Saved& s) {
        return g * where(eq(s[1], 0), zeros_like(s[2]), s[1] * pow(s[0], s[1] - 1));
      },
      [](const Tensor& g, const Saved& s) {
        Tensor flat = logical_and(eq(s[0], 0), ge(s[1], 0));
        // log of 1 instead of 0 there: the branch not taken must not turn 0·∞ into NaN
        return g * where(flat, zeros_like(s[2]), s[2] * log(where(flat, ones_like(s[2]), s[0])));
      });
}

/// x².   d/dx = 2x
Tensor square(const Tensor& x) {
  Tensor y = kernels::map("square", x, [](auto v) { return v * v; });
  return record("square", {x}, std::move(y), save(x), [](const Tensor& g, const Saved& s) {
    return detail::chain(g, s, 0, 0, [](const auto& v) { return 2 * v; });
  });
}

/// √x.   d/dx = 1/(2√x)
Tensor sqrt(const Tensor& x) {
  Tensor y = kernels::map("sqrt", x, [](auto v) { return std::sqrt(v); });
  return record("sqrt", {x}, std::move(y), save(y), [](const Tensor& g, const Saved& s) { return g / (2 * s[0]); });
}

/// eˣ.   d/dx = eˣ
Tensor exp(const Tensor& x) {
  Tensor y = kernels::map_rows("exp", x, [](auto... of) { kernels::exp(of...); });
  return record("exp", {x}, std::move(y), save(y),
                [](const Tensor& g, const Saved& s) { return detail::chain(g, s, 0, 0, itself); });
}

/// ln x.   d/dx = 1/x
Tensor log(const Tensor& x) {
  Tensor y = kernels::map("log", x, [](auto v) { return std::log(v); });
  return record("log", {x}, std::move(y), save(x), [](const Tensor& g, const Saved& s) { return g / s[0]; });
}

Tensor sin(const Tensor& x) {
  Tensor y = kernels::map("sin", x, [](auto v) { return std::sin(v); });
  return record("sin", {x}, std::move(y), save(x), [](const Tensor& g, const Saved& s) { return g * cos(s[0]); });
}

Tensor cos(const Tensor& x) {
  Tensor y = kernels::map("cos", x, [](auto v) { return std::cos(v); });
  return record("cos", {x}, std::move(y), save(x), [](const Tensor& g, const Saved& s) { return g * -sin(s[0]); });
}

/// |x|.   d/dx = sign x
Tensor abs(const Tensor& x) {
  Tensor y = kernels::map_number("abs", x, [](auto v) { return v < 0 ? -v : v + 0; });  // −0 + 0 = +0
  return record("abs", {x}, std::move(y), save(x), [](const Tensor& g, const Saved& s) { return g * sign(s[0]); });
}

Tensor sign(const Tensor& x) {
  Tensor y = kernels::map_number("sign", x, [](auto v) { return static_cast<decltype(v)>((v > 0) - (v < 0)); });
  return record("sign", {x}, std::move(y), [](const Tensor& g) { return zeros_like(g); });
}

namespace {
// What of g goes to the larger: all, half of it where both are equal, and all to each where one is NaN. By choice, not
// by a factor: the smaller gets nothing of an infinity either, as √max(x, 0) brings it.
Tensor share(const Tensor& g, const Tensor& larger, const Tensor& smaller) {
  return where(lt(larger, smaller), zeros_like(g), where(eq(larger, smaller), g * 0.5, g));
}
}  // namespace

Tensor maximum(const Tensor& a, const Tensor& b) {
  Tensor y = kernels::zip("maximum", a, b, kernels::larger);
  return record(
      "maximum", {a, b}, std::move(y), save(a, b), [](const Tensor& g, const Saved& s) { return share(g, s[0], s[1]); },
      [](const Tensor& g, const Saved& s) { return share(g, s[1], s[0]); });
}

Tensor minimum(const Tensor& a, const Tensor& b) {
  Tensor y = kernels::zip("minimum", a, b, kernels::smaller);
  return record(
      "minimum", {a, b}, std::move(y), save(a, b), [](const Tensor& g, const Saved& s) { return share(g, s[1], s[0]); },
      [](const Tensor& g, const Saved& s) { return share(g, s[0], s[1]); });
}

/// min(max(x, lo), hi).   d/dx = 1 for lo ≤ x ≤ hi, else 0
Tensor clamp(const Tensor& x, double lowest, double highest) {
  Tensor y = kernels::map("clamp", x, [=](auto v) {
    auto lo = static_cast<decltype(v)>(lowest), hi = static_cast<decltype(v)>(highest);
    return v != v ? v : lo != lo ? lo : hi != hi ? hi : std::min(std::max(v, lo), hi);
  });
  return record("clamp", {x}, std::move(y), save(x), [=](const Tensor& g, const Saved& s) {
    return where(logical_and(ge(s[0], lowest), le(s[0], highest)), g, zeros_like(g));
  });
}

Tensor where(const Tensor& condition, const Tensor& a, const Tensor& b) {
  check<DTypeError>(condition.dtype() == DType::Bool, "where: the condition must be bool, got {}", condition.dtype());
  kernels::check_same_dtype("where", a, b);
  Shape shape = broadcast("where", condition.shape(), broadcast("where", a.shape(), b.shape()));
  Tensor y = empty(shape, a.dtype()), c = views::expand(condition, shape), p = views::expand(a, shape),
         q = views::expand(b, shape);
  dispatch(a.dtype(), [&]<class T>() {
    const bool* mask = c.raw<bool>();
    const T *yes = p.raw<T>(), *no = q.raw<T>();
    T* out = y.raw<T>();
    kernels::for_rows<4>(
        shape, {&y.strides(), &c.strides(), &p.strides(), &q.strides()}, [&](auto offset, std::int64_t n, auto step) {
          for (std::int64_t i = 0; i < n; ++i)
            out[offset[0] + i * step[0]] =
                mask[offset[1] + i * step[1]] ? yes[offset[2] + i * step[2]] : no[offset[3] + i * step[3]];
        });
  });
  return record(
      "where", {a, b}, std::move(y), save(condition),
      [](const Tensor& g, const Saved& s) { return where(s[0], g, zeros_like(g)); },
      [](const Tensor& g, const Saved& s) { return where(s[0], zeros_like(g), g); });
}

Tensor where(const Tensor& condition, const Tensor& a, double b) { return where(condition, a, scalar(b, a.dtype())); }
Tensor where(const Tensor& condition, double a, const Tensor& b) { return where(condition, scalar(a, b.dtype()), b); }

}  // namespace unroll
