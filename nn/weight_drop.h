#pragma once
#include <unroll/autograd/ops/dropout.h>
#include <unroll/nn/cell_extension.h>

#pragma GCC visibility push(default)
namespace unroll::nn {

struct WeightDropOptions {
  /// The probability with which an element of weight_hh is dropped while training.
  double p = 0.5;
};

/// Dropout of the hidden-to-hidden weights (Wan et al. 2013; in recurrent networks Merity et al. 2017): one mask of
/// W_hh a sequence, the same at every step; kept weights are multiplied by 1 / (1 − p).
template <WeightedCell C>
class WeightDrop : public C {
 public:
  /// Raises ValueError unless p is in [0, 1], and what C raises.
  template <class... Args>
  WeightDrop(std::int64_t in, std::int64_t hidden, const WeightDropOptions& options = {}, const Args&... args)
      : C(detail::check_probability("weight_drop", "p", options.p, in), hidden, args...), p(options.p) {}

  RNNWeights sequence_weights(const Tensor& h) const override {
    RNNWeights w = C::sequence_weights(h);
    w.hh = dropout(w.hh, p, this->training());
    return w;
  }

  const double p;
};

}  // namespace unroll::nn
#pragma GCC visibility pop
