#pragma once
#include <unroll/nn/rnn_cell_base.h>

#pragma GCC visibility push(default)
namespace unroll::nn {

struct GRUCellOptions {
  bool bias = true;
  DType dtype = DType::Float32;
  /// Whether the reset gate is multiplied to the hidden state's product with the weights, as torch has it, or to the
  /// hidden state itself, as the gated recurrent unit was first published.
  bool reset_after = true;
};

/// Gated recurrent unit (Cho et al. 2014), one step:
///
///     r = σ(W_ir x + b_ir + W_hr h + b_hr)    three blocks of rows, in the order r, z, n
///     z = σ(W_iz x + b_iz + W_hz h + b_hz)
///     n = tanh(W_in x + b_in + r·(W_hn h + b_hn)),  reset before: tanh(W_in x + b_in + W_hn (r·h) + b_hn)
///     h' = (1 − z)·n + z·h
///
/// x (N, I) or (I), h (N, H). Parameters: weight_ih (3H, I), weight_hh (3H, H), bias_ih and bias_hh (3H).
class GRUCell : public RNNCellBase {
 public:
  using State = Tensor;
  static constexpr const char* kLayer = "gru";
  static constexpr std::array kGates = {"r", "z", "n"};

  /// Raises ValueError for a negative size.
  GRUCell(std::int64_t input_size, std::int64_t hidden_size, const GRUCellOptions& options = {});

  /// Raises ShapeError or DTypeError when x or h do not fit.
  Tensor operator()(const Tensor& x, const Tensor& h = {}) const;
  /// The equations, of arguments that fit. Notes r, z, n.
  struct Equations {
    bool reset_after;
    Tensor operator()(const RNNWeights& w, const Tensor& x, const Tensor& h) const;
  };
  Equations equations() const { return {reset_after}; }
  Tensor step(const RNNWeights& w, const Tensor& x, const Tensor& h) const { return equations()(w, x, h); }
  /// Its kernels; none with the reset before.
  using Fused = GRUCell;
  std::optional<detail::FusedKind> fused_kind() const;
  std::string extra_repr() const override;

  const bool reset_after;
};

}  // namespace unroll::nn
#pragma GCC visibility pop
