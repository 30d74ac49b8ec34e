#include <unroll/autograd/ops/activation.h>
#include <unroll/autograd/ops/arithmetic.h>
#include <unroll/autograd/ops/matmul.h>
#include <unroll/nn/lstm_cell.h>

namespace unroll::nn {

namespace {
std::int64_t output_size(std::int64_t hidden_size, std::int64_t proj_size) {
  check<ValueError>(proj_size >= 0, "lstm: proj_size must not be negative, got {}", proj_size);
  check<ValueError>(proj_size == 0 || proj_size < hidden_size,
                    "lstm: proj_size must be smaller than hidden_size, got {} and {}", proj_size, hidden_size);
  return proj_size > 0 ? proj_size : hidden_size;
}
}  // namespace

LSTMCell::LSTMCell(std::int64_t input_size_, std::int64_t hidden_size_, const LSTMCellOptions& options)
    : RNNCellBase("lstm_cell", input_size_, hidden_size_, 4, output_size(hidden_size_, options.proj_size), options.bias,
                  options.dtype),
      proj_size(options.proj_size) {
  if (proj_size > 0) weight_hr = empty({proj_size, hidden_size}, options.dtype);
  add("weight_hr", weight_hr);
  reset_parameters();
}

Shape LSTMCell::state_widths() const { return {output_size(hidden_size, proj_size), hidden_size}; }

LSTMState LSTMCell::operator()(const Tensor& x, const LSTMState& state) const {
  const auto [h, c] = checked(x, state, state_widths());
  if (proj_size > 0)
    check<ShapeError>(weight_hr.shape() == Shape{proj_size, hidden_size},
                      "lstm_cell: weight_hr has been replaced by one of shape {}, expected ({}, {})", weight_hr.shape(),
                      proj_size, hidden_size);
  Tensor gates = linear(x, weight_ih, bias_ih) + linear(h, weight_hh, bias_hh);  // (N, 4H)
  std::vector<Tensor> block = split(gates, Shape(4, hidden_size), -1);
  Tensor i = sigmoid(block[0]), f = sigmoid(block[1]), g = tanh(block[2]), o = sigmoid(block[3]);
  Tensor c_next = f * c + i * g;
  Tensor h_next = o * tanh(c_next);
  return {proj_size > 0 ? linear(h_next, weight_hr) : h_next, c_next};
}

}  // namespace unroll::nn
