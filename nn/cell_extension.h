#pragma once
#include <unroll/nn/rnn_cell_base.h>

#pragma GCC visibility push(default)
namespace unroll::nn {

/// What derives from a cell to do more to each step or to the weights of a sequence: Zoneout, WeightDrop,
/// VariationalDropout. Parameters keep the cell's names, and extensions can be piled up:
///
///     nn::Recurrent<nn::Zoneout<nn::WeightDrop<nn::LSTMCell>>> rnn(10, 20, {.num_layers = 2},
///         nn::ZoneoutOptions{.h = 0.05, .c = 0.5}, nn::WeightDropOptions{.p = 0.5}, nn::LSTMCellOptions{});
///
/// Each takes its own options first and hands the rest on. Stepped by hand, every call is a sequence of its own, with
/// masks of its own; a layer keeps them from step to step.
///
/// A cell that steps by `step(weights, x, state)` and `sequence_weights(h)`, as the built-in ones do.
template <class C>
concept WeightedCell = Cell<C> && std::derived_from<C, RNNCellBase> && !OverridesCall<C>;

namespace detail {
/// Raises ValueError unless p is a probability. Returns `next`, the first argument of a cell, so that it comes before
/// the cell draws its parameters.
inline std::int64_t check_probability(const char* op, const char* name, double p, std::int64_t next) {
  check<ValueError>(p >= 0 && p <= 1, "{}: {} must be in [0, 1], got {}", op, name, p);
  return next;
}
}  // namespace detail

}  // namespace unroll::nn
#pragma GCC visibility pop
