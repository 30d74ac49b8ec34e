#pragma once
#include <unroll/autograd/ops/dropout.h>
#include <unroll/nn/cell_extension.h>

#pragma GCC visibility push(default)
namespace unroll::nn {

struct VariationalDropoutOptions {
  /// The probability with which, while training, a feature of x is dropped, and one of h on its way into W_hh h.
  double input = 0.5, hidden = 0.5;
};

/// Dropout whose mask is drawn once a sequence and stays through time (Gal and Ghahramani 2016), of x and of h where
/// they meet the weights. What a cell hands on from step to step is not dropped: LSTM's c, z·h in a GRU.
template <WeightedCell C>
class VariationalDropout : public C {
 public:
  /// Raises ValueError unless the probabilities are in [0, 1], and what C raises.
  template <class... Args>
  VariationalDropout(std::int64_t in, std::int64_t hidden, const VariationalDropoutOptions& options = {},
                     const Args&... args)
      : C(detail::check_probability("variational_dropout", "input", options.input, in),
          detail::check_probability("variational_dropout", "hidden", options.hidden, hidden), args...),
        p_input(options.input), p_hidden(options.hidden) {}

  RNNWeights sequence_weights(const Tensor& h) const override {
    RNNWeights w = C::sequence_weights(h);
    if (!this->training()) return w;
    Shape x_shape = h.shape();
    x_shape.back() = this->input_size;
    if (p_input > 0) w.input_mask = dropout(ones(x_shape, h.dtype()), p_input);
    if (p_hidden > 0) w.hidden_mask = dropout(ones_like(h), p_hidden);
    return w;
  }

  const double p_input, p_hidden;
};

}  // namespace unroll::nn
#pragma GCC visibility pop
