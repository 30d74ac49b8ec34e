#pragma once
#include <unroll/autograd/ops/dropout.h>
#include <unroll/autograd/ops/index.h>
#include <unroll/nn/packed_sequence.h>
#include <unroll/nn/recurrent_base.h>

#include <algorithm>
#include <memory>

#pragma GCC visibility push(default)
namespace unroll::nn {

/// For one call of a layer.
template <CellState S>
struct CallOptions {
  /// Bool, of x's shape without the features, for packed x (ΣB_t): where it is true a new sequence begins at that
  /// step, and no state, forward or reverse, gets across.
  Tensor done = {};
  /// What a state is set to there, like the initial state; undefined for zeros.
  S reset_to = {};
};

/// Any cell as torch's layer: `num_layers` of them, each reading the outputs of the one below, in one direction or
/// both, over sequences.
///
///     nn::Recurrent<MGUCell> rnn(10, 20, {.num_layers = 2, .bidirectional = true});
///     auto [output, state] = rnn(x);
///
/// x is (T, N, I), with batch_first (N, T, I), without a batch (T, I), or a PackedSequence. The output has the same
/// layout and D·Ho features, forward ones first: of the top layer, at every step. A state's tensors are (L·D, N,
/// width), that of layer l in direction d at index l·D + d; the reverse direction starts at the last step and ends at
/// the first. A cell's parameters appear with "_l0", "_l0_reverse", "_l1", … appended to their names.
///
/// Packed, each sequence is as if it were alone: its reverse direction starts at its own last step, its state is that
/// after its own last one, and states are in the caller's order.
template <Cell C>
class Recurrent : public RecurrentBase {
  static_assert(detail::InheritsStep<C>, "a cell with another step() needs an operator() of its own that takes it");

 public:
  using State = typename C::State;
  using Call = CallOptions<State>;
  struct Output {
    Tensor output;
    State state;
  };
  struct PackedOutput {
    PackedSequence output;
    State state;
  };

  /// Makes each cell of (its input's features, hidden_size, args…), in the order of the states. Raises ValueError
  /// unless hidden_size > 0, num_layers > 0, input_size ≥ 0 and dropout is in [0, 1].
  template <class... Args>
  Recurrent(std::int64_t input_size_, std::int64_t hidden_size_, const RecurrentOptions& options = {},
            const Args&... args)
      : RecurrentBase(kOp, input_size_, hidden_size_, options) {
    for (std::int64_t layer = 0; layer < num_layers; ++layer)
      for (std::int64_t direction = 0; direction < num_directions(); ++direction) {
        std::int64_t features = layer == 0 ? input_size : num_directions() * output_size();
        cells_.push_back(std::make_unique<C>(features, hidden_size, args...));
        const Shape widths = detail::state_widths(*cells_.back(), hidden_size);
        check<ValueError>(
            widths == state_widths(),
            "{}: a cell of {} features has a state of widths {}, one of {} has {}; nn::Stack takes layers "
            "of different ones",
            kOp, features, widths, input_size, state_widths());
        add_members_of(*cells_.back(), suffix(layer, direction));
      }
  }
  ~Recurrent() override;

  /// Raises ShapeError, DTypeError or ValueError when x or `initial` do not fit, and ShapeError for a sequence of no
  /// steps.
  Output operator()(const Tensor& x, const State& initial = {}, const Call& call = {}) const;
  PackedOutput operator()(const PackedSequence& x, const State& initial = {}, const Call& call = {}) const;
  /// The same computation, of which every layer's output, every state and all gates are kept. Steps and outputs are
  /// time-major, whatever the layout of x. Hooks of the module are not called.
  Trace<State> trace(const Tensor& x, const State& initial = {}, const Call& call = {}) const {
    const detail::CallScope scope(*this);
    return follow(x, initial, call, true);
  }
  Trace<State> trace(const PackedSequence& x, const State& initial = {}, const Call& call = {}) const {
    const detail::CallScope scope(*this);
    return follow(x, initial, call, true);
  }

  /// The cell itself. A layer steps built-in cells without calling them, so that their hooks see calls by hand alone.
  /// Raises IndexError unless there are such a layer and direction (1 is the reverse).
  const C& cell(std::int64_t layer, std::int64_t direction = 0) const { return *cells_[index_of(layer, direction)]; }
  C& cell(std::int64_t layer, std::int64_t direction = 0) { return *cells_[index_of(layer, direction)]; }
  /// The features of a direction's output.
  std::int64_t output_size() const { return state_widths()[0]; }
  /// The width of each tensor of the state.
  Shape state_widths() const { return detail::state_widths(*cells_.front(), hidden_size); }
  /// The parameters of each cell, in the order of the states.
  std::vector<std::vector<Tensor>> all_weights() const {
    std::vector<std::vector<Tensor>> weights;
    for (const auto& cell : cells_) weights.push_back(cell->parameters());
    return weights;
  }
  /// Redraws all parameters, of cells that have reset_parameters().
  void reset_parameters() {
    for (const auto& cell : cells_) cell->reset_parameters();
  }

 private:
  static constexpr const char* kOp = [] {
    if constexpr (requires { C::kLayer; })
      return C::kLayer;
    else
      return "recurrent";
  }();
  using Run = detail::TimeLoop<State>;

  detail::CallRules rules() const {
    return {op_, input_size, 3, batch_first ? 0 : 1, {num_layers * num_directions()}, state_widths(), dtype()};
  }
  /// What resets set a state to, after checking `call`; nothing when there are none.
  static State reset_state(const detail::CallRules& rules, const Tensor& x, const Call& call) {
    if (!call.done.defined()) return {};
    detail::check_done(rules, x, call.done);
    return detail::checked_state(rules, x, call.reset_to);
  }
  template <class F>
  static State map_defined(const State& state, F f) {
    return map_state(state, [&](const Tensor& s) { return s.defined() ? f(s) : s; });
  }

  Trace<State> follow(const Tensor& x, const State& initial, const Call& call, bool keep) const;
  Trace<State> follow(const PackedSequence& x, const State& initial, const Call& call, bool keep) const;
  /// All layers over a sequence y in that layout, from `start` (L·D, N, width) or from zeros.
  Trace<State> layers(const detail::StepLayout& layout, Tensor y, const Tensor& done, const State& start,
                      const State& reset_to, bool keep) const;
  /// A cell's part of a state (L·D, N, width).
  State of_cell(const State& state, std::int64_t layer, std::int64_t direction) const {
    return map_defined(state, [&](const Tensor& s) { return select(s, 0, layer * num_directions() + direction); });
  }
  State state_or_zeros(const State& state, std::int64_t batch, DType dtype) const {
    if (output_of(state).defined()) return state;
    return make_state<State>([&](std::size_t i) { return zeros({batch, state_widths()[i]}, dtype); });
  }

  /// The layer by its cells' kernels, if they have any that do all that is asked: y becomes its output, and its last
  /// states are appended to `last`.
  bool fused(const detail::StepLayout& layout, std::int64_t layer, const std::array<State, 2>& first,
             const std::array<RNNWeights, 2>& weights, Tensor& y, std::vector<State>& last) const;
  /// What fused_layer computes, said with ops.
  template <class Equations>
  static std::vector<Tensor> by_equations(const detail::StepLayout& layout, const Equations& equations,
                                          const Shape& widths, std::size_t directions, std::span<const Tensor> in);

  std::vector<std::unique_ptr<C>> cells_;
};

// Outside of the class, so that they are not inline: who includes this for nn::LSTM, which is compiled with the
// library, compiles none of what follows.

template <Cell C>
Recurrent<C>::~Recurrent() = default;

template <Cell C>
auto Recurrent<C>::operator()(const Tensor& x, const State& initial, const Call& call) const -> Output {
  return this->hooked(
      [&](const Tensor& input, const State& start) -> Output {
        Trace<State> trace = follow(input, start, call, false);
        return {from_time_major(trace.outputs.back(), input), std::move(trace.state)};
      },
      x, initial);
}

template <Cell C>
auto Recurrent<C>::operator()(const PackedSequence& x, const State& initial, const Call& call) const -> PackedOutput {
  return this->hooked(
      [&](const PackedSequence& input, const State& start) -> PackedOutput {
        Trace<State> trace = follow(input, start, call, false);
        return {input.with_data(trace.outputs.back()), std::move(trace.state)};
      },
      x, initial);
}

template <Cell C>
auto Recurrent<C>::follow(const Tensor& x, const State& initial, const Call& call, bool keep) const -> Trace<State> {
  const detail::CallRules rules = this->rules();
  detail::check_call(rules, x, state_tensors(initial));
  State start = initial, reset_to = reset_state(rules, x, call);  // (L·D, N, width)
  Tensor y = to_time_major(x, 3), done = to_time_major(call.done, 2);
  check_steps(y.size(0));
  const bool batched = x.dim() == 3;
  auto add_batch = [](const Tensor& s) { return unsqueeze(s, 1); };
  if (!batched) start = map_defined(start, add_batch), reset_to = map_defined(reset_to, add_batch);
  Trace<State> trace = layers({.batch = y.size(1), .packed = {}}, y, done, start, reset_to, keep);
  if (!batched) trace.state = map_state(trace.state, [](const Tensor& s) { return squeeze(s, 1); });
  return trace;
}

template <Cell C>
auto Recurrent<C>::follow(const PackedSequence& x, const State& initial, const Call& call, bool keep) const
    -> Trace<State> {
  detail::CallRules rules = this->rules();
  rules.sequences = x.size();
  detail::check_call(rules, x.data(), state_tensors(initial));
  const State reset_to = reset_state(rules, x.data(), call);
  check_steps(static_cast<std::int64_t>(x.batch_sizes().size()));
  auto reorder = [](const State& state, const Tensor& order) {
    return order.defined() ? map_defined(state, [&](const Tensor& s) { return index_select(s, 1, order); }) : state;
  };
  const detail::StepLayout layout{.batch = x.size(),
                                  .packed = std::make_shared<std::vector<std::int64_t>>(x.batch_sizes())};
  Trace<State> trace = layers(layout, x.data(), call.done, reorder(initial, x.sorted_indices()),
                              reorder(reset_to, x.sorted_indices()), keep);
  trace.state = reorder(trace.state, x.unsorted_indices());
  return trace;
}

template <Cell C>
auto Recurrent<C>::layers(const detail::StepLayout& layout, Tensor y, const Tensor& done, const State& start,
                          const State& reset_to, bool keep) const -> Trace<State> {
  for (const auto& c : cells_)
    if constexpr (requires { c->check_parameters(); }) c->check_parameters();
  Trace<State> trace;
  const std::vector<Tensor> resets = done.defined() ? layout.split(done) : std::vector<Tensor>();
  std::vector<State> last;
  for (std::int64_t layer = 0; layer < num_layers; ++layer) {
    std::array<State, 2> first;
    std::array<RNNWeights, 2> weights;  // drawn once a sequence, of cells that can do without begin()
    for (std::int64_t direction = 0; direction < num_directions(); ++direction) {
      const auto d = static_cast<std::size_t>(direction);
      first[d] = of_cell(start, layer, direction);
      if constexpr (FusedCell<C>) {
        const bool is_plain = std::same_as<C, typename C::Fused>;  // others may draw a mask of the size of h
        if (!is_plain) first[d] = state_or_zeros(first[d], layout.batch, y.dtype());
        weights[d] = cell(layer, direction).sequence_weights(output_of(first[d]));
      }
    }
    if (keep || done.defined() || !fused(layout, layer, first, weights, y, last)) {
      const std::vector<Tensor> x = layout.split(y);
      std::vector<Tensor> directions;
      for (std::int64_t direction = 0; direction < num_directions(); ++direction) {
        const auto d = static_cast<std::size_t>(direction);
        const C& c = cell(layer, direction);
        State from = state_or_zeros(first[d], layout.batch, y.dtype());
        Run run{kOp, x, std::move(from), direction == 1, resets, of_cell(reset_to, layer, direction), layer};
        if (keep) run.steps = &trace.steps.emplace_back(x.size());
        if constexpr (FusedCell<C>)
          last.push_back(run.go([&](const Tensor& xt, const State& s) { return c.step(weights[d], xt, s); }));
        else
          last.push_back(run.go(detail::begin(c, run.start)));
        directions.push_back(layout.join(run.outputs, output_size(), y.dtype()));
      }
      y = bidirectional ? cat(directions, -1) : directions[0];
    }
    if (!keep) trace.outputs.clear();
    trace.outputs.push_back(y);
    if (layer + 1 < num_layers) y = unroll::dropout(y, dropout, training());
  }
  trace.state = stack_states(last);
  return trace;
}

template <Cell C>
bool Recurrent<C>::fused(const detail::StepLayout& layout, std::int64_t layer, const std::array<State, 2>& first,
                         const std::array<RNNWeights, 2>& weights, Tensor& y, std::vector<State>& last) const {
  if constexpr (FusedCell<C>) {
    const auto kind = cell(layer).fused_kind();
    if (!kind || !FusedMode::enabled() || y.size(0) == 0) return false;
    std::array<detail::FusedDirection, 2> given;
    const std::span directions(given.data(), static_cast<std::size_t>(num_directions()));
    for (std::size_t d = 0; d < directions.size(); ++d) {
      if (weights[d].has_masks()) return false;
      given[d].weights = weights[d];
      for (std::size_t i = 0; i < state_size<State>; ++i)
        (i == 0 ? given[d].h : given[d].c) = *state_tensors(first[d])[i];
    }
    detail::FusedResult result = detail::fused_layer(
        op_, *kind, memory, layout, y, directions,
        [layout, equations = cell(layer).equations(), widths = state_widths(), count = directions.size()](
            std::span<const Tensor> in) { return by_equations(layout, equations, widths, count, in); });
    y = std::move(result.output);
    for (std::size_t d = 0; d < directions.size(); ++d)
      last.push_back(make_state<State>([&](std::size_t i) { return (i == 0 ? result.h : result.c)[d]; }));
    return true;
  } else {
    return false;
  }
}

template <Cell C>
template <class Equations>
std::vector<Tensor> Recurrent<C>::by_equations(const detail::StepLayout& layout, const Equations& equations,
                                               const Shape& widths, std::size_t directions,
                                               std::span<const Tensor> in) {
  const std::vector<Tensor> x = layout.split(in[0]), resets;
  std::vector<Tensor> outputs, result(1);
  for (std::size_t d = 0; d < directions; ++d) {
    const detail::FusedDirection given = detail::fused_direction(in, d);
    State start = make_state<State>([&](std::size_t i) {
      const Tensor& s = i == 0 ? given.h : given.c;
      return s.defined() ? s : zeros({layout.batch, widths[i]}, in[0].dtype());
    });
    Run run{kOp, x, std::move(start), d == 1, resets, {}};
    const State last = run.go([&](const Tensor& xt, const State& s) { return equations(given.weights, xt, s); });
    outputs.push_back(layout.join(run.outputs, widths[0], in[0].dtype()));
    for (const Tensor* s : state_tensors(last)) result.push_back(*s);
  }
  result[0] = directions > 1 ? cat(outputs, -1) : outputs[0];
  return result;
}

}  // namespace unroll::nn
#pragma GCC visibility pop
