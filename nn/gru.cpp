#include <unroll/nn/gru.h>

namespace unroll::nn {

template class Recurrent<GRUCell>;

GRU::GRU(std::int64_t input_size_, std::int64_t hidden_size_, const GRUOptions& options)
    : Recurrent(input_size_, hidden_size_, detail::recurrent_options(options),
                GRUCellOptions{.bias = options.bias, .dtype = options.dtype, .reset_after = options.reset_after}),
      bias(options.bias), reset_after(options.reset_after) {}

std::string GRU::extra_repr() const { return describe(0, bias) + (reset_after ? "" : ", reset_after=False"); }

}  // namespace unroll::nn
