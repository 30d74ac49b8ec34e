#pragma once
#include <unroll/nn/cell.h>

#pragma GCC visibility push(default)
namespace unroll::nn {

/// What RNNCell, LSTMCell and GRUCell share: G blocks of H rows, one a gate, in each of weight_ih (G·H, I), weight_hh
/// (G·H, Ho), bias_ih (G·H), bias_hh (G·H).
class RNNCellBase : public Module {
 public:
  /// Redraws every parameter, in order, from U(−k, k), k = 1/√hidden_size.
  void reset_parameters();
  std::string extra_repr() const override;

  const std::int64_t input_size, hidden_size;
  const bool bias;
  Tensor weight_ih, weight_hh, bias_ih, bias_hh;

 protected:
  /// Raises ValueError for a negative size. Leaves the parameters to be drawn once the derived class has added its own.
  RNNCellBase(const char* op, std::int64_t input_size, std::int64_t hidden_size, std::int64_t gates,
              std::int64_t output_size, bool bias, DType dtype);

  /// Checks the arguments of a call, x (N, I) or (I), and the shapes of the weights, which may have been replaced. The
  /// state, or zeros.
  template <CellState S>
  S checked(const Tensor& x, const S& state, const Shape& widths) const {
    check_weights();
    return detail::checked_state({op_, input_size, 2, 0, {}, widths, weight_ih.dtype()}, x, state);
  }

 private:
  void check_weights() const;
  const char* op_;
  const std::int64_t gates_, output_size_;
};

}  // namespace unroll::nn
#pragma GCC visibility pop
