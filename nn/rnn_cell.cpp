#include <unroll/autograd/ops/activation.h>
#include <unroll/nn/rnn_cell.h>

namespace unroll::nn {

RNNCell::RNNCell(std::int64_t input_size_, std::int64_t hidden_size_, const RNNCellOptions& options)
    : RNNCellBase("rnn_cell", input_size_, hidden_size_, 1, hidden_size_, options.bias, options.dtype),
      nonlinearity(options.nonlinearity) {
  reset_parameters();
}

Tensor RNNCell::operator()(const Tensor& x, const Tensor& h) const { return step_once(*this, x, h); }

Tensor RNNCell::Equations::operator()(const RNNWeights& w, const Tensor& x, const Tensor& h) const {
  Tensor a = w.from_input(x) + w.from_hidden(h);  // (N, H)
  return nonlinearity == Nonlinearity::Tanh ? tanh(a) : relu(a);
}

std::optional<detail::FusedKind> RNNCell::fused_kind() const {
  return detail::FusedKind{kernels::RecurrentKind::RNN, nonlinearity == Nonlinearity::ReLU};
}

std::string RNNCell::extra_repr() const {
  return RNNCellBase::extra_repr() + (nonlinearity == Nonlinearity::ReLU ? ", nonlinearity=relu" : "");
}

}  // namespace unroll::nn
