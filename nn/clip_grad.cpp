#include <unroll/autograd/grad_mode.h>
#include <unroll/autograd/ops/arithmetic.h>
#include <unroll/autograd/ops/reduce.h>
#include <unroll/autograd/ops/shape.h>
#include <unroll/nn/clip_grad.h>

#include <cmath>

namespace unroll::nn {

namespace {
std::vector<Tensor> gradients(TensorList parameters) {
  std::vector<Tensor> found;
  for (const Tensor& p : parameters)
    if (Tensor g = p.grad(); g.defined()) found.push_back(g.detach());
  return found;
}
}  // namespace

double clip_grad_norm_(TensorList parameters, double max_norm, double norm_type, bool error_if_nonfinite) {
  check<ValueError>(max_norm >= 0, "clip_grad_norm_: max_norm must not be negative, got {}", max_norm);
  NoGrad guard;
  std::vector<Tensor> grads = gradients(parameters), norms;
  if (grads.empty()) return 0;
  for (const Tensor& g : grads) norms.push_back(norm(g, norm_type));
  Tensor total = norm(stack(norms), norm_type);
  check<ValueError>(!error_if_nonfinite || std::isfinite(total.item()),
                    "clip_grad_norm_: the total norm of order {} of the gradients is {}, so they cannot be clipped",
                    norm_type, total.item());
  // Multiplied even by 1, so that a NaN spreads to every gradient and cannot be overlooked.
  Tensor coefficient = clamp(div(max_norm, total + 1e-6), 0, 1);
  for (const Tensor& g : grads) g.mul_(coefficient);
  return total.item();
}

void clip_grad_value_(TensorList parameters, double clip_value) {
  check<ValueError>(clip_value >= 0, "clip_grad_value_: clip_value must not be negative, got {}", clip_value);
  NoGrad guard;
  for (const Tensor& g : gradients(parameters)) g.copy_(clamp(g, -clip_value, clip_value));
}

}  // namespace unroll::nn
