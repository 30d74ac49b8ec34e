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

void LSTMCell::check_parameters() const {
  RNNCellBase::check_parameters();
  if (proj_size > 0) check_parameter("weight_hr", weight_hr, {proj_size, hidden_size});
}

RNNWeights LSTMCell::sequence_weights(const Tensor& h) const {
  RNNWeights w = RNNCellBase::sequence_weights(h);
  w.hr = weight_hr;
  return w;
}

std::string LSTMCell::extra_repr() const {
  return RNNCellBase::extra_repr() + (proj_size > 0 ? fmt::format(", proj_size={}", proj_size) : "");
}

LSTMState LSTMCell::operator()(const Tensor& x, const LSTMState& state) const { return step_once(*this, x, state); }

LSTMState LSTMCell::Equations::operator()(const RNNWeights& w, const Tensor& x, const LSTMState& state) const {
  Tensor gates = w.from_input(x) + w.from_hidden(state.h);  // (N, 4H)
  std::vector<Tensor> block = split(gates, Shape(4, state.c.size(-1)), -1);
  Tensor i = note("i", sigmoid(block[0])), f = note("f", sigmoid(block[1]));
  Tensor g = note("g", tanh(block[2])), o = note("o", sigmoid(block[3]));
  Tensor c = f * state.c + i * g;
  Tensor h = o * tanh(c);
  return {w.hr.defined() ? linear(h, w.hr) : h, c};
}

}  // namespace unroll::nn
