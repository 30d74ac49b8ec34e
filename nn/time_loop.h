#pragma once
#include <unroll/autograd/anomaly.h>
#include <unroll/autograd/ops/arithmetic.h>
#include <unroll/autograd/ops/compare.h>
#include <unroll/nn/cell.h>

#include <algorithm>
#include <memory>

#pragma GCC visibility push(default)
namespace unroll::nn {

/// What a layer did at every step: tensors of its very graph, so that retain_grad() on one of them shows what
/// backpropagation through time brings there.
template <CellState S>
struct Trace {
  /// One step of one cell, in the rows (N, width), packed (B_t, width).
  struct Step {
    S state;             // after it
    NamedTensors notes;  // what the cell noted: its gates
  };
  std::vector<Tensor> outputs;           // of each layer before dropout: (T, N, D·Ho), packed (ΣB_t, D·Ho)
  std::vector<std::vector<Step>> steps;  // [l·D + d][t]
  S state;                               // the last, as the layer returns it

  /// All states of a cell: (T, N, width), packed (ΣB_t, width). Raises IndexError unless there is such a cell.
  S states(std::int64_t layer_and_direction) const;
};

namespace detail {

/// How the steps of a sequence lie in a tensor: (T, N, …), packed (ΣB_t, …), or a single one (N, …).
struct StepLayout {
  std::int64_t batch;                                            // N
  std::shared_ptr<const std::vector<std::int64_t>> packed = {};  // the B_t
  bool single = false;
  /// [t] (N, …), packed (B_t, …)
  std::vector<Tensor> split(const Tensor& x) const;
  /// The inverse; `features` and `dtype` are those of a tensor of no steps.
  Tensor join(const std::vector<Tensor>& steps, std::int64_t features, DType dtype) const;
};

/// One cell's way through a sequence: the one loop over time. The state has a row for each sequence that runs at the
/// step, and these are the first ones, since the longest come first: forward, rows leave; in reverse, they join.
template <CellState State>
struct TimeLoop {
  using Steps = std::vector<typename Trace<State>::Step>;

  const char* op;                // whose loop it is, for errors
  const std::vector<Tensor>& x;  // [t] (B_t, I)
  State start;                   // (N, width)
  bool reverse;
  const std::vector<Tensor>& resets;  // none, or [t] (B_t)
  State reset_to;
  std::int64_t layer = -1;  // whose loop it is as well; none of the equations that a fused layer is differentiated by
  Steps* steps = nullptr;
  std::vector<Tensor> outputs = std::vector<Tensor>(x.size());  // [t], each at the step it belongs to

  /// With `step` (x, state) → state.
  template <class Step>
  State go(const Step& step) {
    std::vector<State> ended;  // rows that have left, the last rows first
    State state = reverse ? part(start, 0, x.empty() ? 0 : x.back().size(0)) : start;
    for (std::size_t k = 0; k < x.size(); ++k) {
      const std::size_t t = reverse ? x.size() - 1 - k : k;
      const std::int64_t before = rows(state), now = x[t].size(0);
      if (now < before) {
        ended.push_back(part(state, now, before));
        state = part(state, 0, now);
      }
      if (!resets.empty() && !(reverse && k == 0)) state = reset(state, resets[reverse ? t + 1 : t]);
      if (now > before) state = joined({state, part(start, before, now)});
      NamedTensors notes;
      detail::NoteScope noting(steps != nullptr ? &notes : nullptr);
      State next = [&] {
        const AnomalyScope in_layer(layer < 0 ? "equations" : "layer", layer, nullptr),
            at(reverse ? "reverse step" : "step", static_cast<std::int64_t>(t), nullptr);
        return State(step(x[t], state));
      }();
      check_step(next, state, t);
      state = std::move(next);
      outputs[t] = output_of(state);
      if (steps != nullptr) (*steps)[t] = {state, std::move(notes)};
    }
    if (const std::int64_t all = rows(start); reverse && rows(state) < all)
      ended.push_back(part(start, rows(state), all));
    if (ended.empty()) return state;
    ended.push_back(state);
    std::ranges::reverse(ended);
    return joined(ended);
  }

  /// Raises unless a cell has returned a state of as many rows as there were, of their dtypes, and an output of the
  /// width it had.
  void check_step(const State& next, const State& before, std::size_t t) const {
    auto got = state_tensors(next), were = state_tensors(before);
    for (std::size_t i = 0; i < got.size(); ++i) {
      check<ValueError>(got[i]->defined(), "{}: at step {} the cell returned a state whose tensor {} is undefined", op,
                        t, i);
      check<DTypeError>(got[i]->dtype() == were[i]->dtype(),
                        "{}: at step {} the cell returned a state whose tensor {} is {}, expected {}", op, t, i,
                        got[i]->dtype(), were[i]->dtype());
      const Shape &is = got[i]->shape(), &was = were[i]->shape();
      if (i == 0 ? is == was : !is.empty() && is[0] == was[0]) [[likely]]
        continue;
      unroll::detail::fail<ShapeError>(
          "{}: at step {} the cell returned a state whose tensor {} has shape {}, expected {}", op, t, i, is, was);
    }
  }
  static std::int64_t rows(const State& state) { return output_of(state).size(0); }
  static State part(const State& state, std::int64_t first, std::int64_t last) {
    return map_state(state, [&](const Tensor& s) { return narrow(s, 0, first, last - first); });
  }
  static State joined(const std::vector<State>& parts) {
    return combine_states(parts, [](const std::vector<Tensor>& tensors) { return cat(tensors); });
  }
  /// `state`, but what it is reset to in the rows where `done` (B) is true.
  State reset(const State& state, const Tensor& done) const {
    if (!any(done)) return state;
    auto value = state_tensors(reset_to);
    auto tensors = state_tensors(state);
    return make_state<State>(
        [&](std::size_t i) { return where(unsqueeze(done, 1), narrow(*value[i], 0, 0, done.size(0)), *tensors[i]); });
  }
};

}  // namespace detail

template <CellState S>
S Trace<S>::states(std::int64_t layer_and_direction) const {
  std::vector<S> all;
  const auto index = static_cast<std::size_t>(layer_and_direction);
  check<IndexError>(index < steps.size(), "states: there is no cell {} among {}", layer_and_direction, steps.size());
  for (const Step& step : steps[index]) all.push_back(step.state);
  const bool packed = outputs[0].dim() == 2;
  if (all.empty())
    return map_state(state, [&](const Tensor& s) {
      return zeros(packed ? Shape{0, s.size(-1)} : Shape{0, outputs[0].size(1), s.size(-1)}, s.dtype());
    });
  return combine_states(all, [&](const std::vector<Tensor>& s) { return packed ? cat(s) : stack(s); });
}

}  // namespace unroll::nn
#pragma GCC visibility pop
