#pragma once
#include <unroll/autograd/ops/shape.h>
#include <unroll/nn/recurrent.h>

#include <fmt/core.h>

#pragma GCC visibility push(default)
namespace unroll::nn {

/// A layer's initial state as parameters, to be learned with the rest, from zeros:
///
///     nn::GRU rnn(10, 20);
///     nn::InitialState start(rnn);
///     auto [output, h_n] = rnn(x, start(x.size(1)));
///
/// One parameter (L·D, width) for each tensor of the state: "h0", "c0", then "s2_0", …
template <CellState S>
class InitialState : public Module {
 public:
  template <Cell C>
  explicit InitialState(const Recurrent<C>& layer) {
    const Shape widths = layer.state_widths();
    const std::int64_t lead = layer.num_layers * layer.num_directions();
    state = make_state<S>([&](std::size_t i) {
      return zeros({lead, widths[i]}, layer.dtype().value_or(DType::Float32));
    });
    std::size_t i = 0;
    for (Tensor* tensor : state_tensors(state)) {
      add(i == 0 ? "h0" : i == 1 ? "c0" : fmt::format("s{}_0", i), *tensor);
      ++i;
    }
  }

  /// For a batch of N sequences, (L·D, N, width); expanded, not copied. Raises ValueError for a negative N.
  S operator()(std::int64_t batch) const {
    check<ValueError>(batch >= 0, "initial_state: the batch must not be negative, got {}", batch);
    return map_state(state, [&](const Tensor& s) { return expand(unsqueeze(s, 1), {s.size(0), batch, s.size(1)}); });
  }
  /// For an input without a batch, (L·D, width).
  const S& operator()() const { return state; }

  S state;
};

template <Cell C>
InitialState(const Recurrent<C>&) -> InitialState<typename C::State>;

}  // namespace unroll::nn
#pragma GCC visibility pop
