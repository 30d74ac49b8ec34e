#include <unroll/autograd/ops/shape.h>
#include <unroll/nn/time_loop.h>

namespace unroll::nn::detail {

std::vector<Tensor> StepLayout::split(const Tensor& x) const {
  if (single) return {x};
  return packed == nullptr ? unbind(x) : unroll::split(x, Shape(std::span(*packed)));
}

Tensor StepLayout::join(const std::vector<Tensor>& steps, std::int64_t features, DType dtype) const {
  if (single) return steps[0];
  if (!steps.empty()) return packed == nullptr ? stack(steps) : cat(steps);
  return zeros(packed == nullptr ? Shape{0, batch, features} : Shape{0, features}, dtype);
}

}  // namespace unroll::nn::detail
