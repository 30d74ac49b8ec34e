#pragma once
#include <unroll/nn/gru_cell.h>
#include <unroll/nn/recurrent.h>

#include <string_view>

#pragma GCC visibility push(default)
namespace unroll::nn {

struct GRUOptions {
  std::int64_t num_layers = 1;
  bool bias = true;
  bool batch_first = false;
  /// Between layers, see RecurrentOptions.
  double dropout = 0;
  bool bidirectional = false;
  DType dtype = DType::Float32;
  /// See GRUCellOptions.
  bool reset_after = true;
  /// Whether a sequence of no steps is allowed.
  bool allow_empty = false;
  /// What is kept for backward.
  Memory memory = Memory::KeepGates;
};

extern template class Recurrent<GRUCell>;

/// Layers of GRUCell, torch.nn.GRU:
///
///     nn::GRU rnn(10, 20, {.num_layers = 2, .bidirectional = true});
///     auto [output, h_n] = rnn(x, h0);     // or rnn(x): from zeros
///
/// Shapes as in Recurrent, and packed input likewise: output (T, N, D·H), h_n (L·D, N, H). Parameters, for each layer
/// and direction: weight_ih_l0, weight_hh_l0, bias_ih_l0, bias_hh_l0; all start as U(−k, k), k = 1/√hidden_size.
class GRU : public Recurrent<GRUCell> {
 public:
  /// Raises ValueError for options outside their domain, naming them.
  GRU(std::int64_t input_size, std::int64_t hidden_size, const GRUOptions& options = {});
  std::string extra_repr() const override;

  static constexpr std::string_view mode = "GRU";
  const bool bias, reset_after;
};

}  // namespace unroll::nn
#pragma GCC visibility pop
