#pragma once
#include <unroll/nn/rnn_cell_base.h>

#pragma GCC visibility push(default)
namespace unroll::nn {

/// The output h and the cell's memory c.
struct LSTMState {
  Tensor h = {}, c = {};
  static constexpr auto fields = std::tuple{&LSTMState::h, &LSTMState::c};
};

struct LSTMCellOptions {
  bool bias = true;
  DType dtype = DType::Float32;
  /// The width P of h when it is projected; 0 leaves it at hidden_size.
  std::int64_t proj_size = 0;
};

/// Long short-term memory (Hochreiter and Schmidhuber 1997; with forget gate, Gers et al. 2000), one step:
///
///     i, f, o = σ(W_ih x + b_ih + W_hh h + b_hh),  g = tanh(…)    four blocks of rows, in the order i, f, g, o
///     c' = f·c + i·g
///     h' = o·tanh c',  projected: W_hr (o·tanh c')
///
/// x (N, I) or (I), h (N, Ho), c (N, H), Ho = P or else H. Parameters: weight_ih (4H, I), weight_hh (4H, Ho), bias_ih
/// and bias_hh (4H), weight_hr (P, H).
class LSTMCell : public RNNCellBase {
 public:
  using State = LSTMState;
  static constexpr const char* kLayer = "lstm";
  static constexpr std::array kGates = {"i", "f", "g", "o"};

  /// Raises ValueError for a negative size and unless proj_size is less than hidden_size, or 0.
  LSTMCell(std::int64_t input_size, std::int64_t hidden_size, const LSTMCellOptions& options = {});

  /// Raises ShapeError or DTypeError when x or the state do not fit, ValueError when only one of h and c is given.
  LSTMState operator()(const Tensor& x, const LSTMState& state = {}) const;
  /// The equations, of arguments that fit. Notes i, f, g, o.
  struct Equations {
    LSTMState operator()(const RNNWeights& w, const Tensor& x, const LSTMState& state) const;
  };
  Equations equations() const { return {}; }
  LSTMState step(const RNNWeights& w, const Tensor& x, const LSTMState& state) const {
    return equations()(w, x, state);
  }
  /// Its kernels.
  using Fused = LSTMCell;
  std::optional<detail::FusedKind> fused_kind() const { return detail::FusedKind{kernels::RecurrentKind::LSTM}; }
  void check_parameters() const override;
  RNNWeights sequence_weights(const Tensor& h) const override;
  Shape state_widths() const;
  std::string extra_repr() const override;

  const std::int64_t proj_size;
  Tensor weight_hr;
};

}  // namespace unroll::nn
#pragma GCC visibility pop
