#include <unroll/autograd/ops/activation.h>
#include <unroll/autograd/ops/arithmetic.h>
#include <unroll/nn/layer_norm_cells.h>

namespace unroll::nn {

namespace {
LayerNormOptions without_bias(const LayerNormCellOptions& options) {
  return {.eps = options.eps, .bias = false, .dtype = options.dtype};
}

/// LN(W v) + b, where `product` is W v + b without its b.
Tensor normalised(const LayerNorm& norm, const Tensor& product, const Tensor& bias) {
  Tensor y = norm(product);
  return bias.defined() ? y + bias : y;
}

/// The sums of all gates, from x and from h.
std::pair<Tensor, Tensor> sums(RNNWeights w, const LayerNorm& norm_ih, const LayerNorm& norm_hh, const Tensor& x,
                               const Tensor& h) {
  const Tensor bias_ih = std::exchange(w.bias_ih, {}), bias_hh = std::exchange(w.bias_hh, {});
  return {normalised(norm_ih, w.from_input(x), bias_ih), normalised(norm_hh, w.from_hidden(h), bias_hh)};
}
}  // namespace

LayerNormLSTMCell::LayerNormLSTMCell(std::int64_t input_size_, std::int64_t hidden_size_,
                                     const LayerNormCellOptions& options)
    : RNNCellBase("layer_norm_lstm_cell", input_size_, hidden_size_, 4, hidden_size_, options.bias, options.dtype),
      layer_norm_ih({4 * hidden_size_}, without_bias(options)),
      layer_norm_hh({4 * hidden_size_}, without_bias(options)),
      layer_norm_c({hidden_size_}, {.eps = options.eps, .dtype = options.dtype}) {
  add("layer_norm_ih", layer_norm_ih);
  add("layer_norm_hh", layer_norm_hh);
  add("layer_norm_c", layer_norm_c);
  RNNCellBase::reset_parameters();
}

void LayerNormLSTMCell::reset_parameters() {
  RNNCellBase::reset_parameters();
  for (LayerNorm* norm : {&layer_norm_ih, &layer_norm_hh, &layer_norm_c}) norm->reset_parameters();
}

LSTMState LayerNormLSTMCell::operator()(const Tensor& x, const LSTMState& state) const {
  return step_once(*this, x, state);
}

LSTMState LayerNormLSTMCell::step(const RNNWeights& w, const Tensor& x, const LSTMState& state) const {
  const auto [from_x, from_h] = sums(w, layer_norm_ih, layer_norm_hh, x, state.h);
  std::vector<Tensor> block = split(from_x + from_h, Shape(4, hidden_size), -1);
  Tensor i = note("i", sigmoid(block[0])), f = note("f", sigmoid(block[1]));
  Tensor g = note("g", tanh(block[2])), o = note("o", sigmoid(block[3]));
  Tensor c = f * state.c + i * g;
  return {o * tanh(layer_norm_c(c)), c};
}

LayerNormGRUCell::LayerNormGRUCell(std::int64_t input_size_, std::int64_t hidden_size_,
                                   const LayerNormCellOptions& options)
    : RNNCellBase("layer_norm_gru_cell", input_size_, hidden_size_, 3, hidden_size_, options.bias, options.dtype),
      layer_norm_ih({3 * hidden_size_}, without_bias(options)),
      layer_norm_hh({3 * hidden_size_}, without_bias(options)) {
  add("layer_norm_ih", layer_norm_ih);
  add("layer_norm_hh", layer_norm_hh);
  RNNCellBase::reset_parameters();
}

void LayerNormGRUCell::reset_parameters() {
  RNNCellBase::reset_parameters();
  for (LayerNorm* norm : {&layer_norm_ih, &layer_norm_hh}) norm->reset_parameters();
}

Tensor LayerNormGRUCell::operator()(const Tensor& x, const Tensor& h) const { return step_once(*this, x, h); }

Tensor LayerNormGRUCell::step(const RNNWeights& w, const Tensor& x, const Tensor& h) const {
  const auto [from_x, from_h] = sums(w, layer_norm_ih, layer_norm_hh, x, h);
  std::vector<Tensor> a = split(from_x, Shape(3, hidden_size), -1), u = split(from_h, Shape(3, hidden_size), -1);
  Tensor r = note("r", sigmoid(a[0] + u[0])), z = note("z", sigmoid(a[1] + u[1]));
  Tensor n = note("n", tanh(a[2] + r * u[2]));
  return (h - n) * z + n;
}

}  // namespace unroll::nn
