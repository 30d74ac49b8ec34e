#pragma once
#include <unroll/nn/recurrent.h>
#include <unroll/nn/rnn_cell.h>

#include <string_view>

#pragma GCC visibility push(default)
namespace unroll::nn {

struct RNNOptions {
  std::int64_t num_layers = 1;
  Nonlinearity nonlinearity = Nonlinearity::Tanh;
  bool bias = true;
  bool batch_first = false;
  /// Between layers, see RecurrentOptions.
  double dropout = 0;
  bool bidirectional = false;
  DType dtype = DType::Float32;
  /// Whether a sequence of no steps is allowed.
  bool allow_empty = false;
  /// What is kept for backward.
  Memory memory = Memory::KeepGates;
};

extern template class Recurrent<RNNCell>;

/// Layers of RNNCell, torch.nn.RNN:
///
///     nn::RNN rnn(10, 20, {.num_layers = 2, .nonlinearity = nn::Nonlinearity::ReLU});
///     auto [output, h_n] = rnn(x, h0);     // or rnn(x): from zeros
///
/// Shapes as in Recurrent, and packed input likewise: output (T, N, D·H), h_n (L·D, N, H). Parameters, for each layer
/// and direction: weight_ih_l0, weight_hh_l0, bias_ih_l0, bias_hh_l0; all start as U(−k, k), k = 1/√hidden_size.
class RNN : public Recurrent<RNNCell> {
 public:
  /// Raises ValueError for options outside their domain, naming them.
  RNN(std::int64_t input_size, std::int64_t hidden_size, const RNNOptions& options = {});
  std::string extra_repr() const override;

  const std::string_view mode;  // "RNN_TANH" or "RNN_RELU"
  const Nonlinearity nonlinearity;
  const bool bias;
};

}  // namespace unroll::nn
#pragma GCC visibility pop
