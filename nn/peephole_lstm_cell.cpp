#include <unroll/autograd/ops/activation.h>
#include <unroll/autograd/ops/arithmetic.h>
#include <unroll/nn/peephole_lstm_cell.h>

namespace unroll::nn {

PeepholeLSTMCell::PeepholeLSTMCell(std::int64_t input_size_, std::int64_t hidden_size_,
                                   const PeepholeLSTMCellOptions& options)
    : RNNCellBase("peephole_lstm_cell", input_size_, hidden_size_, 4, hidden_size_, options.bias, options.dtype),
      weight_ci(empty(hidden_size_, options.dtype)), weight_cf(empty(hidden_size_, options.dtype)),
      weight_co(empty(hidden_size_, options.dtype)) {
  add("weight_ci", weight_ci);
  add("weight_cf", weight_cf);
  add("weight_co", weight_co);
  reset_parameters();
}

LSTMState PeepholeLSTMCell::operator()(const Tensor& x, const LSTMState& state) const {
  return step_once(*this, x, state);
}

void PeepholeLSTMCell::check_parameters() const {
  RNNCellBase::check_parameters();
  check_parameter("weight_ci", weight_ci, {hidden_size});
  check_parameter("weight_cf", weight_cf, {hidden_size});
  check_parameter("weight_co", weight_co, {hidden_size});
}

LSTMState PeepholeLSTMCell::step(const RNNWeights& w, const Tensor& x, const LSTMState& state) const {
  std::vector<Tensor> a = split(w.from_input(x) + w.from_hidden(state.h), Shape(4, hidden_size), -1);
  Tensor i = note("i", sigmoid(a[0] + weight_ci * state.c)), f = note("f", sigmoid(a[1] + weight_cf * state.c));
  Tensor g = note("g", tanh(a[2]));
  Tensor c = f * state.c + i * g;
  Tensor o = note("o", sigmoid(a[3] + weight_co * c));
  return {o * tanh(c), c};
}

}  // namespace unroll::nn
