#include <fmt/format.h>
#include <unroll/autograd/ops/normalize.h>
#include <unroll/nn/init.h>
#include <unroll/nn/layer_norm.h>

namespace unroll::nn {

LayerNorm::LayerNorm(Shape normalized_shape_, const LayerNormOptions& options)
    : normalized_shape(std::move(normalized_shape_)), eps(options.eps), elementwise_affine(options.elementwise_affine) {
  check<ValueError>(!normalized_shape.empty(), "layer_norm: normalized_shape must have at least one dimension");
  for (std::int64_t size : normalized_shape)
    check<ValueError>(size >= 0, "layer_norm: a size of normalized_shape {} is negative", normalized_shape);
  if (elementwise_affine) weight = empty(normalized_shape, options.dtype);
  if (elementwise_affine && options.bias) bias = empty(normalized_shape, options.dtype);
  add("weight", weight);
  add("bias", bias);
  reset_parameters();
}

void LayerNorm::reset_parameters() {
  if (weight.defined()) init::ones_(weight);
  if (bias.defined()) init::zeros_(bias);
}

Tensor LayerNorm::operator()(const Tensor& x) const {
  return hooked([this](const Tensor& input) { return layer_norm(input, normalized_shape, weight, bias, eps); }, x);
}

std::string LayerNorm::extra_repr() const {
  return fmt::format("{}, eps={}, elementwise_affine={}, bias={}", normalized_shape, detail::python(eps),
                     detail::python(elementwise_affine), detail::python(bias.defined()));
}

}  // namespace unroll::nn
