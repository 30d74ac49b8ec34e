#include <unroll/autograd/grad_mode.h>
#include <unroll/autograd/ops/arithmetic.h>
#include <unroll/autograd/ops/reduce.h>
#include <unroll/autograd/ops/shape.h>
#include <unroll/core/kernels/copy.h>
#include <unroll/nn/clip_grad.h>

#include <algorithm>
#include <cmath>

namespace unroll::nn {

namespace {
// All that may be written.
std::vector<Tensor> gradients(TensorList parameters, const char* op) {
  std::vector<Tensor> found;
  for (const Tensor& p : parameters) {
    Tensor g = p.grad();
    if (!g.defined()) continue;
    found.push_back(g.detach());
    unroll::detail::before_write(found.back(), op);
  }
  return found;
}
}  // namespace

double clip_grad_norm_(TensorList parameters, double max_norm, double norm_type, bool error_if_nonfinite) {
  check<ValueError>(max_norm >= 0, "clip_grad_norm_: max_norm must not be negative, got {}", max_norm);
  check<ValueError>(!std::isnan(norm_type), "clip_grad_norm_: norm_type must be a number, got nan");
  NoGrad guard;
  std::vector<Tensor> grads = gradients(parameters, "clip_grad_norm_"), norms;
  if (grads.empty()) return 0;
  bool mixed = std::any_of(grads.begin(), grads.end(), [&](const Tensor& g) { return g.dtype() != grads[0].dtype(); });
  for (const Tensor& g : grads) norms.push_back(mixed ? norm(g, norm_type).to(DType::Float64) : norm(g, norm_type));
  Tensor total = norm(stack(norms), norm_type);
  check<ValueError>(!error_if_nonfinite || std::isfinite(total.item()),
                    "clip_grad_norm_: the total norm of order {} of the gradients is {}, so they cannot be clipped",
                    norm_type, total.item());
  // Divided as torch does, by way of the reciprocal. Multiplied even by 1, so that a NaN spreads to every gradient and
  // cannot be overlooked.
  const double coefficient = clamp(1 / (total + 1e-6) * max_norm, 0, 1).item();
  for (const Tensor& g : grads) g.mul_(coefficient);
  return total.item();
}

void clip_grad_value_(TensorList parameters, double clip_value) {
  check<ValueError>(clip_value >= 0, "clip_grad_value_: clip_value must not be negative, got {}", clip_value);
  NoGrad guard;
  std::vector<Tensor> grads = gradients(parameters, "clip_grad_value_"), clamped;
  for (const Tensor& g : grads) clamped.push_back(clamp(g, -clip_value, clip_value));
  for (std::size_t i = 0; i < grads.size(); ++i) {  // without memory, so that it is done to all
    kernels::copy(grads[i], clamped[i]);
    kernels::wrote(grads[i], "clip_grad_value_");
  }
}

}  // namespace unroll::nn
