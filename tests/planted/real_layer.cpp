#include <unroll/nn/gru.h>
#include <unroll/nn/lstm.h>
#include <unroll/nn/rnn.h>

#include "layer.h"

namespace planted {
namespace {

template <class RNN>
class RealLayer final : public Layer {
 public:
  template <class Options>
  RealLayer(const LayerOptions& o, Options to)
      : Layer(o), rnn_(o.input_size, o.hidden_size, [&] {
          to.num_layers = o.num_layers, to.bias = o.bias, to.batch_first = o.batch_first;
          to.bidirectional = o.bidirectional, to.dropout = o.dropout, to.dtype = DType::Float64;
          return to;
        }()) {}

  NamedTensors parameters() const override { return rnn_.named_parameters(); }
  void train(bool mode) override { rnn_.train(mode); }
  void tie_directions() override {
    auto &from = rnn_.cell(0, 0), &to = rnn_.cell(0, 1);
    to.weight_ih = from.weight_ih, to.weight_hh = from.weight_hh;
    to.bias_ih = from.bias_ih, to.bias_hh = from.bias_hh;
    if constexpr (requires { to.weight_hr; }) to.weight_hr = from.weight_hr;
  }

  Tensors operator()(const Tensor& x, const Tensors& state, const LengthList& lengths) const override {
    using State = typename RNN::State;
    const State initial = state.empty() ? State() : nn::make_state<State>([&](std::size_t i) { return state[i]; });
    auto with = [](const Tensor& output, const State& last) {
      Tensors outputs = {output};
      for (const Tensor* s : nn::state_tensors(last)) outputs.push_back(*s);
      return outputs;
    };
    if (lengths.empty()) {
      const auto [output, last] = rnn_(x, initial);
      return with(output, last);
    }
    const bool batch_first = options.batch_first;
    const auto packed = nn::pack_padded_sequence(x, lengths, {.batch_first = batch_first, .enforce_sorted = false});
    const auto [output, last] = rnn_(packed, initial);
    const nn::PadOptions pad{.batch_first = batch_first, .total_length = x.size(batch_first ? 1 : 0)};
    return with(nn::pad_packed_sequence(output, pad).padded, last);
  }

 private:
  RNN rnn_;
};

}  // namespace

std::unique_ptr<Layer> real_layer(const LayerOptions& o) {
  if (o.mode == Mode::LSTM) return std::make_unique<RealLayer<nn::LSTM>>(o, nn::LSTMOptions{.proj_size = o.proj_size});
  if (o.mode == Mode::GRU) return std::make_unique<RealLayer<nn::GRU>>(o, nn::GRUOptions());
  const auto nonlinearity = o.mode == Mode::RNN ? nn::Nonlinearity::Tanh : nn::Nonlinearity::ReLU;
  return std::make_unique<RealLayer<nn::RNN>>(o, nn::RNNOptions{.nonlinearity = nonlinearity});
}

}  // namespace planted
