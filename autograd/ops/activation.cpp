#include <unroll/autograd/detail/chain.h>
#include <unroll/autograd/ops/activation.h>
#include <unroll/autograd/ops/arithmetic.h>
#include <unroll/autograd/ops/compare.h>
#include <unroll/autograd/record.h>
#include <unroll/core/kernels/activation.h>
#include <unroll/core/kernels/elementwise.h>

#include <cmath>

namespace unroll {

/// tanh x.   d/dx = 1 − tanh² x, so the output is all that is kept.
Tensor tanh(const Tensor& x) {
  Tensor y = kernels::map_rows("tanh", x, [](auto... of) { kernels::tanh(of...); });
  return record("tanh", {x}, std::move(y), save(y), [](const Tensor& g, const Saved& s) {
    return detail::chain(g, s, 0, 0, [](const auto& t) { return 1 - t * t; });
  });
}

/// σ(x).   d/dx = σ·(1 − σ)
Tensor sigmoid(const Tensor& x) {
  Tensor y = kernels::map_rows("sigmoid", x, [](auto... of) { kernels::sigmoid(of...); });
  return record("sigmoid", {x}, std::move(y), save(y), [](const Tensor& g, const Saved& s) {
    return detail::chain(g, s, 0, 0, [](const auto& p) { return p * (1 - p); });
  });
}

/// max(x, 0).   d/dx = 0 where the output is 0, else 1, of NaN too. That 0 is a multiple of the output: the second
/// derivative is 0, as torch's, and not missing.
Tensor relu(const Tensor& x) {
  Tensor y = kernels::map("relu", x, [](auto v) { return v != v || v > 0 ? v : 0; });
  return record("relu", {x}, std::move(y), save(y),
                [](const Tensor& g, const Saved& s) { return where(le(s[0], 0), s[0] * 0, g); });
}

/// ln(1 + e^(βx)) / β.   d/dx = σ(βx), and 1 beyond the threshold
Tensor softplus(const Tensor& x, double beta, double threshold) {
  Tensor y = kernels::map("softplus", x, [=](auto v) {
    auto scaled = v * static_cast<decltype(v)>(beta);
    return scaled > static_cast<decltype(v)>(threshold) ? v
                                                        : std::log1p(std::exp(scaled)) / static_cast<decltype(v)>(beta);
  });
  return record("softplus", {x}, std::move(y), save(x), [=](const Tensor& g, const Saved& s) {
    Tensor scaled = s[0] * beta;
    return where(gt(scaled, threshold), g, g * sigmoid(scaled));
  });
}

}  // namespace unroll
