#pragma once
#include <unroll/nn/rnn_cell_base.h>

#pragma GCC visibility push(default)
namespace unroll::nn {

enum class Nonlinearity : std::uint8_t { Tanh, ReLU };

struct RNNCellOptions {
  bool bias = true;
  Nonlinearity nonlinearity = Nonlinearity::Tanh;
  DType dtype = DType::Float32;
};

/// The simple recurrent network (Elman 1990), one step:
///
///     h' = tanh(W_ih x + b_ih + W_hh h + b_hh)    or relu
///
/// x (N, I) or (I), h (N, H). Parameters: weight_ih (H, I), weight_hh (H, H), bias_ih and bias_hh (H).
class RNNCell : public RNNCellBase {
 public:
  using State = Tensor;
  static constexpr const char* kLayer = "rnn";

  /// Raises ValueError for a negative size.
  RNNCell(std::int64_t input_size, std::int64_t hidden_size, const RNNCellOptions& options = {});

  /// Raises ShapeError or DTypeError when x or h do not fit.
  Tensor operator()(const Tensor& x, const Tensor& h = {}) const;
  /// The equation, of arguments that fit.
  struct Equations {
    Nonlinearity nonlinearity;
    Tensor operator()(const RNNWeights& w, const Tensor& x, const Tensor& h) const;
  };
  Equations equations() const { return {nonlinearity}; }
  Tensor step(const RNNWeights& w, const Tensor& x, const Tensor& h) const { return equations()(w, x, h); }
  /// Its kernels.
  using Fused = RNNCell;
  std::optional<detail::FusedKind> fused_kind() const;
  std::string extra_repr() const override;

  const Nonlinearity nonlinearity;
};

}  // namespace unroll::nn
#pragma GCC visibility pop
