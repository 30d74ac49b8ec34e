#pragma once
#include <unroll/nn/lstm_cell.h>

#pragma GCC visibility push(default)
namespace unroll::nn {

struct PeepholeLSTMCellOptions {
  bool bias = true;
  DType dtype = DType::Float32;
};

/// LSTM whose gates see the memory (Gers and Schmidhuber 2000), one step; a = W_ih x + b_ih + W_hh h + b_hh in four
/// blocks of rows, in the order i, f, g, o:
///
///     i = σ(a_i + w_ci·c),  f = σ(a_f + w_cf·c),  g = tanh(a_g)
///     c' = f·c + i·g
///     o = σ(a_o + w_co·c')
///     h' = o·tanh c'
///
/// Shapes and parameters as in LSTMCell, and weight_ci, weight_cf, weight_co (H).
class PeepholeLSTMCell : public RNNCellBase {
 public:
  using State = LSTMState;
  static constexpr const char* kLayer = "peephole_lstm";
  static constexpr std::array kGates = {"i", "f", "g", "o"};

  /// Raises ValueError for a negative size.
  PeepholeLSTMCell(std::int64_t input_size, std::int64_t hidden_size, const PeepholeLSTMCellOptions& options = {});

  /// Raises ShapeError or DTypeError when x or the state do not fit, ValueError when only one of h and c is given.
  LSTMState operator()(const Tensor& x, const LSTMState& state = {}) const;
  /// The equations, of arguments that fit. Notes i, f, g, o.
  LSTMState step(const RNNWeights& w, const Tensor& x, const LSTMState& state) const;
  void check_parameters() const override;

  Tensor weight_ci, weight_cf, weight_co;
};

}  // namespace unroll::nn
#pragma GCC visibility pop
