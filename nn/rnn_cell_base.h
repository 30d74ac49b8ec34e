#pragma once
#include <unroll/nn/fused_layer.h>

#pragma GCC visibility push(default)
namespace unroll::nn {

/// What RNNCell, LSTMCell and GRUCell share: G blocks of H rows, one a gate, in each of weight_ih (G·H, I), weight_hh
/// (G·H, Ho), bias_ih (G·H), bias_hh (G·H).
///
/// Each of them has its equations in `step(weights, x, state)`, a function of the weights, so that these can be
/// prepared once a sequence, and altered for it (WeightDrop, VariationalDropout). Who derives from one to compute
/// something else overrides operator().
class RNNCellBase : public Module {
 public:
  /// Redraws every parameter of its own, in order, from U(−k, k), k = 1/√hidden_size.
  void reset_parameters();
  std::string extra_repr() const override;
  /// Raises ShapeError or DTypeError when one has been replaced by one that does not fit, ValueError when a weight is
  /// undefined.
  virtual void check_parameters() const;
  /// The parameters, for a sequence whose first h is (N, Ho), or (Ho), after check_parameters().
  virtual RNNWeights sequence_weights(const Tensor& h) const;

  const std::int64_t input_size, hidden_size;
  const bool bias;
  Tensor weight_ih, weight_hh, bias_ih, bias_hh;

 protected:
  /// Raises ValueError for a negative size. Leaves the parameters to be drawn once the derived class has added its own.
  RNNCellBase(const char* op, std::int64_t input_size, std::int64_t hidden_size, std::int64_t gates,
              std::int64_t output_size, bool bias, DType dtype);

  /// What a cell's operator() does: checks its arguments, x (N, I) or (I), and steps from `state`, or from zeros.
  template <class C>
  typename C::State step_once(const C& cell, const Tensor& x, const typename C::State& state) const {
    return hooked(
        [&](const Tensor& input, const typename C::State& given) {
          const auto start = detail::checked_state(
              {op_, input_size, 2, 0, {}, detail::state_widths(cell, hidden_size), dtype()}, input, given);
          RNNWeights weights = sequence_weights(output_of(start));
          if constexpr (FusedCell<C>)
            if (const auto kind = cell.fused_kind(); kind && FusedMode::enabled() && !weights.has_masks())
              return detail::fused_step(op_, cell, *kind, std::move(weights), input, start);
          return cell.step(weights, input, start);
        },
        x, state);
  }
  void check_parameter(const char* name, const Tensor& parameter, std::initializer_list<std::int64_t> sizes) const;

 private:
  const char* op_;
  const std::int64_t gates_, output_size_;
};

}  // namespace unroll::nn
#pragma GCC visibility pop
