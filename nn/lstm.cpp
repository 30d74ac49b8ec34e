#include <unroll/nn/lstm.h>

namespace unroll::nn {

template class Recurrent<LSTMCell>;

LSTM::LSTM(std::int64_t input_size_, std::int64_t hidden_size_, const LSTMOptions& options)
    : Recurrent(input_size_, hidden_size_, detail::recurrent_options(options),
                LSTMCellOptions{.bias = options.bias, .dtype = options.dtype, .proj_size = options.proj_size}),
      bias(options.bias), proj_size(options.proj_size) {}

std::string LSTM::extra_repr() const { return describe(proj_size, bias); }

}  // namespace unroll::nn
