#include <unroll/nn/rnn.h>

namespace unroll::nn {

template class Recurrent<RNNCell>;

RNN::RNN(std::int64_t input_size_, std::int64_t hidden_size_, const RNNOptions& options)
    : Recurrent(input_size_, hidden_size_, detail::recurrent_options(options),
                RNNCellOptions{.bias = options.bias, .nonlinearity = options.nonlinearity, .dtype = options.dtype}),
      mode(options.nonlinearity == Nonlinearity::Tanh ? "RNN_TANH" : "RNN_RELU"), nonlinearity(options.nonlinearity),
      bias(options.bias) {}

std::string RNN::extra_repr() const { return describe(0, bias); }

}  // namespace unroll::nn
