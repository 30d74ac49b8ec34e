#pragma once
#include <unroll/nn/lstm_cell.h>
#include <unroll/nn/recurrent.h>

#include <string_view>

#pragma GCC visibility push(default)
namespace unroll::nn {

struct LSTMOptions {
  std::int64_t num_layers = 1;
  bool bias = true;
  bool batch_first = false;
  /// Between layers, see RecurrentOptions.
  double dropout = 0;
  bool bidirectional = false;
  /// The width P of h when it is projected; 0 leaves it at hidden_size.
  std::int64_t proj_size = 0;
  DType dtype = DType::Float32;
  /// Whether a sequence of no steps is allowed.
  bool allow_empty = false;
  /// What is kept for backward.
  Memory memory = Memory::KeepGates;
};

extern template class Recurrent<LSTMCell>;

/// Layers of LSTMCell, torch.nn.LSTM:
///
///     nn::LSTM rnn(10, 20, {.num_layers = 2, .bidirectional = true});
///     auto [output, state] = rnn(x, {h0, c0});     // or rnn(x): from zeros
///
/// Shapes as in Recurrent, and packed input likewise: output (T, N, D·Ho), state.h (L·D, N, Ho), state.c (L·D, N, H).
/// Parameters, for each layer and direction: weight_ih_l0, weight_hh_l0, bias_ih_l0, bias_hh_l0, weight_hr_l0; all
/// start as U(−k, k), k = 1/√hidden_size.
class LSTM : public Recurrent<LSTMCell> {
 public:
  /// Raises ValueError for options outside their domain, naming them.
  LSTM(std::int64_t input_size, std::int64_t hidden_size, const LSTMOptions& options = {});

  std::string extra_repr() const override;

  static constexpr std::string_view mode = "LSTM";
  const bool bias;
  const std::int64_t proj_size;
};

}  // namespace unroll::nn
#pragma GCC visibility pop
