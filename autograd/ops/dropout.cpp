#include <unroll/autograd/ops/arithmetic.h>
#include <unroll/autograd/ops/dropout.h>
#include <unroll/autograd/record.h>
#include <unroll/core/kernels/elementwise.h>

namespace unroll {

/// x·m, where m is 0 or 1 / (1 − p).   d/dx = m
Tensor dropout(const Tensor& x, double p, bool training, Generator& generator) {
  check<ValueError>(p >= 0 && p <= 1, "dropout: expected a probability in [0, 1], got {}", p);
  check<DTypeError>(x.is_floating_point(), "dropout: expected float32 or float64, got {}", x.dtype());
  if (p == 0 || !training || x.numel() == 0) return x;
  if (p == 1) return x * 0;
  Tensor mask = detail::laid_out_like(x);
  bernoulli_(mask, 1 - p, generator);
  Tensor scaled = mask / (1 - p);  // 1 / (1 − p) of the dtype, rounded before x is multiplied, as PyTorch does
  Tensor y = kernels::zip("dropout", x, scaled, [](auto v, auto m) { return v * m; });
  return record("dropout", {x}, y, save(scaled), [](const Tensor& g, const Saved& s) { return g * s[0]; });
}

}  // namespace unroll
