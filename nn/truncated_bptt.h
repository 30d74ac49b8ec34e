#pragma once
#include <unroll/autograd/ops/shape.h>
#include <unroll/nn/cell.h>

#pragma GCC visibility push(default)
namespace unroll::nn {

/// Truncated backpropagation through time (Williams and Peng 1990): cuts x, whose steps lie along `dim`, into parts of
/// at most `steps`, and calls `part(x_part, first, state)` → state for each, `first` being the step it begins at. What
/// is handed to the next part has no history, so a backward in `part` ends where the part begins, and no more than one
/// part's graph is alive; the first one gets `state` as it is, so an initial state can be learned. Returns the last
/// state, without history.
///
///     state = nn::truncated_bptt(x, state, 32, [&](const Tensor& part, int64_t first, const nn::LSTMState& s) {
///       auto [output, next] = rnn(part, s);
///       Tensor loss = mse_loss(head(output), narrow(target, 0, first, part.size(0)));
///       optimizer.zero_grad();
///       loss.backward();
///       optimizer.step();
///       return next;
///     });
///
/// Raises ValueError unless steps > 0, IndexError for a dimension that x has not, and what `part` raises.
template <CellState S, class Part>
S truncated_bptt(const Tensor& x, S state, std::int64_t steps, Part part, std::int64_t dim = 0) {
  check<ValueError>(steps > 0, "truncated_bptt: steps must be > 0, got {}", steps);
  check<IndexError>(-x.dim() <= dim && dim < x.dim(), "truncated_bptt: x of shape {} has no dimension {}", x.shape(),
                    dim);
  for (std::int64_t first = 0, all = x.size(dim); first < all; first += steps)
    state = detach(part(narrow(x, dim, first, std::min(steps, all - first)), first, std::as_const(state)));
  return state;
}

}  // namespace unroll::nn
#pragma GCC visibility pop
