#include <fmt/format.h>
#include <unroll/autograd/ops/arithmetic.h>
#include <unroll/autograd/ops/matmul.h>
#include <unroll/nn/init.h>
#include <unroll/nn/rnn_cell_base.h>

#include <cmath>

namespace unroll::nn {

namespace {
Tensor masked(const Tensor& x, const Tensor& mask) {
  if (!mask.defined()) return x;
  return x * (x.dim() == 2 && x.size(0) < mask.size(0) ? narrow(mask, 0, 0, x.size(0)) : mask);
}
}  // namespace

Tensor RNNWeights::from_input(const Tensor& x) const { return linear(masked(x, input_mask), ih, bias_ih); }

Tensor RNNWeights::from_hidden(const Tensor& h) const { return linear(masked(h, hidden_mask), hh, bias_hh); }

RNNCellBase::RNNCellBase(const char* op, std::int64_t input_size_, std::int64_t hidden_size_, std::int64_t gates,
                         std::int64_t output_size, bool bias_, DType dtype)
    : input_size(input_size_), hidden_size(hidden_size_), bias(bias_), op_(op), gates_(gates),
      output_size_(output_size) {
  check<ValueError>(input_size >= 0, "{}: input_size must not be negative, got {}", op, input_size);
  check<ValueError>(hidden_size >= 0, "{}: hidden_size must not be negative, got {}", op, hidden_size);
  std::int64_t rows = checked_mul(gates, hidden_size);
  weight_ih = empty({rows, input_size}, dtype);
  weight_hh = empty({rows, output_size}, dtype);
  if (bias) bias_ih = empty(rows, dtype);
  if (bias) bias_hh = empty(rows, dtype);
  add("weight_ih", weight_ih);
  add("weight_hh", weight_hh);
  add("bias_ih", bias_ih);
  add("bias_hh", bias_hh);
}

void RNNCellBase::reset_parameters() {
  double bound = hidden_size > 0 ? 1 / std::sqrt(static_cast<double>(hidden_size)) : 0;
  for (const auto& [name, parameter] : named_parameters())
    if (name.find('.') == std::string::npos) init::uniform_(parameter, -bound, bound);
}

std::string RNNCellBase::extra_repr() const {
  return fmt::format("{}, {}{}", input_size, hidden_size, bias ? "" : ", bias=False");
}

void RNNCellBase::check_parameter(const char* name, const Tensor& parameter,
                                  std::initializer_list<std::int64_t> sizes) const {
  const bool fits = parameter.defined() && parameter.shape().is(sizes);
  if (fits && parameter.dtype() == dtype()) return;
  const Shape expected(sizes);
  const std::string where = path() == type_name() ? "" : fmt::format(", in {}", path());
  check<ValueError>(parameter.defined(), "{}: {} is undefined, expected shape {}{}", op_, name, expected, where);
  check<ShapeError>(fits, "{}: {} has been replaced by one of shape {}, expected {}{}", op_, name, parameter.shape(),
                    expected, where);
  unroll::detail::fail<DTypeError>("{}: {} is {}, the other parameters are {}{}", op_, name, parameter.dtype(),
                                   *dtype(), where);
}

void RNNCellBase::check_parameters() const {
  std::int64_t rows = gates_ * hidden_size;
  check_parameter("weight_ih", weight_ih, {rows, input_size});
  check_parameter("weight_hh", weight_hh, {rows, output_size_});
  if (bias_ih.defined()) check_parameter("bias_ih", bias_ih, {rows});
  if (bias_hh.defined()) check_parameter("bias_hh", bias_hh, {rows});
}

RNNWeights RNNCellBase::sequence_weights(const Tensor&) const {
  check_parameters();
  return {weight_ih, weight_hh, bias_ih, bias_hh};
}

}  // namespace unroll::nn
