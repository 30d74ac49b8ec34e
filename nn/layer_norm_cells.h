#pragma once
#include <unroll/nn/gru_cell.h>
#include <unroll/nn/layer_norm.h>
#include <unroll/nn/lstm_cell.h>

#pragma GCC visibility push(default)
/// Cells whose sums are normalised over their features (Ba, Kiros and Hinton 2016). LN(…) is a LayerNorm over all gates
/// at once, with a weight and no bias: the cell's biases are added behind it.
namespace unroll::nn {

struct LayerNormCellOptions {
  bool bias = true;
  DType dtype = DType::Float32;
  double eps = 1e-5;
};

/// LSTMCell with
///
///     i, f, o = σ(LN(W_ih x) + b_ih + LN(W_hh h) + b_hh),  g = tanh(…)
///     c' = f·c + i·g
///     h' = o·tanh(LN(c'))
///
/// Parameters as in LSTMCell, and layer_norm_ih.weight, layer_norm_hh.weight (4H), layer_norm_c.weight and
/// layer_norm_c.bias (H).
class LayerNormLSTMCell : public RNNCellBase {
 public:
  using State = LSTMState;
  static constexpr const char* kLayer = "layer_norm_lstm";
  static constexpr std::array kGates = LSTMCell::kGates;

  /// Raises ValueError for a negative size.
  LayerNormLSTMCell(std::int64_t input_size, std::int64_t hidden_size, const LayerNormCellOptions& options = {});

  /// Raises ShapeError or DTypeError when x or the state do not fit, ValueError when only one of h and c is given.
  LSTMState operator()(const Tensor& x, const LSTMState& state = {}) const;
  /// The equations, of arguments that fit. Notes i, f, g, o.
  LSTMState step(const RNNWeights& w, const Tensor& x, const LSTMState& state) const;
  void reset_parameters();

  LayerNorm layer_norm_ih, layer_norm_hh, layer_norm_c;
};

/// GRUCell with LN(W_ih x) + b_ih and LN(W_hh h) + b_hh in the place of W_ih x + b_ih and W_hh h + b_hh. Parameters as
/// in GRUCell, and layer_norm_ih.weight, layer_norm_hh.weight (3H).
class LayerNormGRUCell : public RNNCellBase {
 public:
  using State = Tensor;
  static constexpr const char* kLayer = "layer_norm_gru";
  static constexpr std::array kGates = GRUCell::kGates;

  /// Raises ValueError for a negative size.
  LayerNormGRUCell(std::int64_t input_size, std::int64_t hidden_size, const LayerNormCellOptions& options = {});

  /// Raises ShapeError or DTypeError when x or h do not fit.
  Tensor operator()(const Tensor& x, const Tensor& h = {}) const;
  /// The equations, of arguments that fit. Notes r, z, n.
  Tensor step(const RNNWeights& w, const Tensor& x, const Tensor& h) const;
  void reset_parameters();

  LayerNorm layer_norm_ih, layer_norm_hh;
};

}  // namespace unroll::nn
#pragma GCC visibility pop
