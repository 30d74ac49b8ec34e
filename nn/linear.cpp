#include <fmt/format.h>
#include <unroll/autograd/ops/matmul.h>
#include <unroll/nn/init.h>
#include <unroll/nn/linear.h>

#include <cmath>

namespace unroll::nn {

Linear::Linear(std::int64_t in_features_, std::int64_t out_features_, const LinearOptions& options)
    : in_features(in_features_), out_features(out_features_) {
  check<ValueError>(in_features >= 0, "linear: in_features must not be negative, got {}", in_features);
  check<ValueError>(out_features >= 0, "linear: out_features must not be negative, got {}", out_features);
  weight = empty({out_features, in_features}, options.dtype);
  if (options.bias) bias = empty(out_features, options.dtype);
  add("weight", weight);
  add("bias", bias);
  reset_parameters();
}

// torch reaches U(−1/√in, 1/√in) by way of kaiming_uniform_ with a = √5, whose rounding is kept.
void Linear::reset_parameters() {
  init::kaiming_uniform_(weight, {.a = std::sqrt(5.0)});
  if (!bias.defined()) return;
  double bound = in_features > 0 ? 1 / std::sqrt(static_cast<double>(in_features)) : 0;
  init::uniform_(bias, 0 - bound, bound);  // not from −0
}

Tensor Linear::operator()(const Tensor& x) const {
  return hooked([this](const Tensor& input) { return linear(input, weight, bias); }, x);
}

std::string Linear::extra_repr() const {
  return fmt::format("in_features={}, out_features={}, bias={}", in_features, out_features,
                     detail::python(bias.defined()));
}

}  // namespace unroll::nn
