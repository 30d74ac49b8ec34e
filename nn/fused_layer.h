#pragma once
#include <unroll/autograd/fused.h>
#include <unroll/core/kernels/recurrent.h>
#include <unroll/nn/time_loop.h>

#include <array>
#include <optional>

#pragma GCC visibility push(default)
namespace unroll::nn {

/// What a layer keeps of its forward for backward: floats for each step, sequence and unit of an LSTM, GRU, RNN. What
/// is missing is computed once more, to the same bits. See docs/memory.md. Calls that kernels do not compute (a trace,
/// a done mask, a cell of one's own) keep what their ops keep.
enum class Memory : std::uint8_t {
  KeepGates,       ///< 6, 5, 1: gates, an LSTM's c, outputs
  RecomputeGates,  ///< 2, 1, 1: an LSTM's c, outputs
  Checkpoint,      ///< the states of every k-th step, k = √(T/3)
};

namespace detail {
/// Which kernels do what a built-in cell does.
struct FusedKind {
  kernels::RecurrentKind kind;
  bool relu = false;
};
}  // namespace detail

/// What the equations of a built-in cell read beside x and the state.
struct RNNWeights {
  Tensor ih, hh, bias_ih, bias_hh;  // biases undefined for none
  Tensor hr = {};                   // LSTM's projection, undefined for none
  /// Factors of x (N, I) and of h (N, Ho) on their way into the products, undefined for none. Where sequences have
  /// ended, x and h have fewer rows.
  Tensor input_mask = {}, hidden_mask = {};

  bool has_masks() const noexcept { return input_mask.defined() || hidden_mask.defined(); }
  /// W_ih x + b_ih
  Tensor from_input(const Tensor& x) const;
  /// W_hh h + b_hh
  Tensor from_hidden(const Tensor& h) const;
};

/// A cell that has kernels which do all its steps at once: RNNCell, LSTMCell, GRUCell, and what derives from one and
/// changes neither its call, nor its step or equations, nor what begins a sequence.
template <class C>
concept FusedCell = !OverridesCall<C> && !detail::HasBegin<C> && requires(const C& cell) {
  { cell.fused_kind() } -> std::same_as<std::optional<detail::FusedKind>>;
  requires std::same_as<decltype(&C::step), decltype(&C::Fused::step)>;
  requires std::same_as<decltype(&C::equations), decltype(&C::Fused::equations)>;
};

namespace detail {

/// What one direction of a layer reads beside x; a state is undefined for zeros, c is an LSTM's.
struct FusedDirection {
  RNNWeights weights;
  Tensor h, c;
};
struct FusedResult {
  Tensor output;               // (T, N, D·Ho), packed (ΣB_t, D·Ho)
  std::array<Tensor, 2> h, c;  // of each direction, (N, width); of a single step without h, which is the output
};

/// A whole layer in all its directions as one op: the forward direction, or that and the reverse one. `definition` says
/// the same with ops, of tensors in the order x, then of each direction h, c, weight_ih, weight_hh, bias_ih, bias_hh,
/// weight_hr (undefined ones among them), and returns the output, then of each direction h (unless it is a single step)
/// and, of an LSTM, c. Takes the tensors out of `directions`.
FusedResult fused_layer(const char* op, FusedKind kind, Memory memory, const StepLayout& layout, const Tensor& x,
                        std::span<FusedDirection> directions, unroll::detail::Definition definition);

/// Number `direction` of those that fused_layer gave the definition.
FusedDirection fused_direction(std::span<const Tensor> inputs, std::size_t direction);

/// One step of a cell: x (N, I) or (I).
template <FusedCell C>
typename C::State fused_step(const char* op, const C& cell, FusedKind kind, RNNWeights weights, const Tensor& x,
                             const typename C::State& state) {
  using State = typename C::State;
  constexpr bool has_cells = state_size<State> == 2;
  FusedDirection direction{std::move(weights), *state_tensors(state)[0], {}};
  if constexpr (has_cells) direction.c = *state_tensors(state)[1];
  auto definition = [equations = cell.equations()](std::span<const Tensor> in) {
    const FusedDirection d = fused_direction(in, 0);
    const State next =
        equations(d.weights, in[0], make_state<State>([&](std::size_t i) { return i == 0 ? d.h : d.c; }));
    std::vector<Tensor> outputs;
    for (const Tensor* s : state_tensors(next)) outputs.push_back(*s);
    return outputs;
  };
  const StepLayout step{.batch = x.dim() == 1 ? 1 : x.size(0), .packed = {}, .single = true};
  FusedResult result =
      fused_layer(op, kind, Memory::KeepGates, step, x, std::span(&direction, 1), std::move(definition));
  return make_state<State>([&](std::size_t i) { return i == 0 ? result.output : result.c[0]; });
}

}  // namespace detail
}  // namespace unroll::nn
#pragma GCC visibility pop
