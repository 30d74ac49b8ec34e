#pragma once
#include <unroll/nn/cell.h>

#pragma GCC visibility push(default)
namespace unroll::nn {

/// The parameters that a built-in cell's equations read; undefined where it has none.
struct RNNWeights {
  Tensor ih, hh, bias_ih, bias_hh, hr = {};
};

/// What RNNCell, LSTMCell and GRUCell share: G blocks of H rows, one a gate, in each of weight_ih (G·H, I), weight_hh
/// (G·H, Ho), bias_ih (G·H), bias_hh (G·H).
///
/// Each of them has its equations in `step(weights, x, state)`, a function of the weights, so that they can be
/// altered for a sequence (WeightDrop).
class RNNCellBase : public Module {
 public:
  /// Redraws every parameter, in order, from U(−k, k), k = 1/√hidden_size.
  void reset_parameters();
  std::string extra_repr() const override;
  /// The parameters. Raises ShapeError when one has been replaced by one of another shape.
  RNNWeights weights() const;

  const std::int64_t input_size, hidden_size;
  const bool bias;
  Tensor weight_ih, weight_hh, bias_ih, bias_hh;

 protected:
  /// Raises ValueError for a negative size. Leaves the parameters to be drawn once the derived class has added its own.
  RNNCellBase(const char* op, std::int64_t input_size, std::int64_t hidden_size, std::int64_t gates,
              std::int64_t output_size, bool bias, DType dtype);

  /// Checks the arguments of a call, x (N, I) or (I). The state, or zeros.
  template <CellState S>
  S checked(const Tensor& x, const S& state, const Shape& widths) const {
    return detail::checked_state({op_, input_size, 2, 0, {}, widths, weight_ih.dtype()}, x, state);
  }
  void check_shape(const char* name, const Tensor& weight, const Shape& expected) const;

 private:
  const char* op_;
  const std::int64_t gates_, output_size_;
};

}  // namespace unroll::nn
#pragma GCC visibility pop
