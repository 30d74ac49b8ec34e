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
  return record("tanh", {x}, y, save(y), [](const Tensor& g, const Saved& s) { return g * (1 - s[0] * s[0]); });
}

/// σ(x).   d/dx = σ·(1 − σ)
Tensor sigmoid(const Tensor& x) {
  Tensor y = kernels::map_rows("sigmoid", x, [](auto... of) { kernels::sigmoid(of...); });
  return record("sigmoid", {x}, y, save(y), [](const Tensor& g, const Saved& s) { return g * (s[0] * (1 - s[0])); });
}

/// max(x, 0).   d/dx = 1 where the output is positive
Tensor relu(const Tensor& x) {
  Tensor y = kernels::map("relu", x, [](auto v) { return v != v || v > 0 ? v : 0; });
  return record("relu", {x}, y, save(y),
                [](const Tensor& g, const Saved& s) { return where(gt(s[0], 0), g, zeros_like(g)); });
}

/// ln(1 + e^(βx)) / β.   d/dx = σ(βx), and 1 beyond the threshold
Tensor softplus(const Tensor& x, double beta, double threshold) {
  Tensor y = kernels::map("softplus", x, [=](auto v) {
    auto scaled = v * static_cast<decltype(v)>(beta);
    return scaled > static_cast<decltype(v)>(threshold) ? v
                                                        : std::log1p(std::exp(scaled)) / static_cast<decltype(v)>(beta);
  });
  return record("softplus", {x}, y, save(x), [=](const Tensor& g, const Saved& s) {
    Tensor scaled = s[0] * beta;
    return where(gt(scaled, threshold), g, g * sigmoid(scaled));
  });
}

}  // namespace unroll
