#include <fmt/format.h>
#include <unroll/autograd/ops/dropout.h>
#include <unroll/nn/dropout.h>

namespace unroll::nn {

Dropout::Dropout(double p_) : p(p_) { check<ValueError>(p >= 0 && p <= 1, "dropout: p must be in [0, 1], got {}", p); }

Tensor Dropout::operator()(const Tensor& x) const {
  return hooked([this](const Tensor& input) { return dropout(input, p, training()); }, x);
}

std::string Dropout::extra_repr() const { return fmt::format("p={}, inplace=False", detail::python(p)); }

}  // namespace unroll::nn
