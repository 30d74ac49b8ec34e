#pragma once
#include <unroll/autograd/ops/dropout.h>
#include <unroll/nn/cell.h>

#include <memory>

#pragma GCC visibility push(default)
namespace unroll::nn {

struct RecurrentOptions {
  std::int64_t num_layers = 1;
  /// Whether x and the output are (N, T, …) instead of (T, N, …). States never are.
  bool batch_first = false;
  /// The probability with which, while training, elements are dropped between two layers. Without effect on a single
  /// layer.
  double dropout = 0;
  bool bidirectional = false;
};

/// What does not depend on the cell.
class RecurrentBase : public Module {
 public:
  const std::int64_t input_size, hidden_size, num_layers;
  const bool batch_first;
  const double dropout;
  const bool bidirectional;

  std::int64_t num_directions() const noexcept { return bidirectional ? 2 : 1; }
  std::string extra_repr() const override { return describe(0, true); }

 protected:
  RecurrentBase(const char* op, std::int64_t input_size, std::int64_t hidden_size, const RecurrentOptions& options);

  /// l·D + d
  std::size_t index_of(std::int64_t layer, std::int64_t direction) const;
  /// "_l1_reverse": what the names of a cell's parameters end in.
  std::string suffix(std::int64_t layer, std::int64_t direction) const;
  /// (T, N, I) of an x that has been checked; raises ShapeError when T = 0.
  Tensor to_time_major(const Tensor& x) const;
  /// Back to the layout of x.
  Tensor from_time_major(const Tensor& y, const Tensor& x) const;
  std::string describe(std::int64_t proj_size, bool bias) const;

  const char* const op_;
};

/// Any cell as torch's layer: `num_layers` of them, each reading the outputs of the one below, in one direction or
/// both, over sequences.
///
///     nn::Recurrent<MGUCell> rnn(10, 20, {.num_layers = 2, .bidirectional = true});
///     auto [output, state] = rnn(x);
///
/// x is (T, N, I), with batch_first (N, T, I), without a batch (T, I). The output has the same layout and D·Ho
/// features, forward ones first: of the top layer, at every step. A state's tensors are (L·D, N, width), that of layer
/// l in direction d at index l·D + d; the reverse direction starts at the last step and ends at the first. A cell's
/// parameters appear with "_l0", "_l0_reverse", "_l1", … appended to their names.
template <Cell C>
class Recurrent : public RecurrentBase {
 public:
  using State = typename C::State;
  struct Output {
    Tensor output;
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
        add_members_of(*cells_.back(), suffix(layer, direction));
      }
  }

  /// Raises ShapeError, DTypeError or ValueError when x or `initial` do not fit, and ShapeError for a sequence of no
  /// steps.
  Output operator()(const Tensor& x, const State& initial = {}) const {
    State start = detail::checked_state(rules(), x, initial);  // (L·D, N, width)
    Tensor y = to_time_major(x);
    if (y.dim() != x.dim()) start = map_state(start, [](const Tensor& s) { return unsqueeze(s, 1); });

    std::vector<State> last;
    for (std::int64_t layer = 0; layer < num_layers; ++layer) {
      std::vector<Tensor> steps = unbind(y), directions;
      for (std::int64_t direction = 0; direction < num_directions(); ++direction) {
        auto index = static_cast<std::int64_t>(last.size());  // l·D + d
        State state = map_state(start, [&](const Tensor& s) { return select(s, 0, index); });
        directions.push_back(stack(run(cell(layer, direction), steps, state, direction == 1)));
        last.push_back(std::move(state));
      }
      y = bidirectional ? cat(directions, 2) : directions[0];
      if (layer + 1 < num_layers) y = unroll::dropout(y, dropout, training());
    }

    State state = stack_states(last);
    if (y.dim() != x.dim()) state = map_state(state, [](const Tensor& s) { return squeeze(s, 1); });
    return {from_time_major(y, x), std::move(state)};
  }

  /// Raises IndexError unless there are such a layer and direction (1 is the reverse).
  const C& cell(std::int64_t layer, std::int64_t direction = 0) const { return *cells_[index_of(layer, direction)]; }
  C& cell(std::int64_t layer, std::int64_t direction = 0) { return *cells_[index_of(layer, direction)]; }
  /// The features of a direction's output.
  std::int64_t output_size() const { return widths()[0]; }
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

  /// Outputs of one cell over the steps (N, …) of a sequence, at the index of the step each belongs to. Leaves `state`
  /// as after the last.
  static std::vector<Tensor> run(const C& cell, const std::vector<Tensor>& steps, State& state, bool reverse) {
    std::vector<Tensor> outputs(steps.size());
    for (std::size_t k = 0; k < steps.size(); ++k) {
      std::size_t t = reverse ? steps.size() - 1 - k : k;
      state = cell(steps[t], state);
      outputs[t] = output_of(state);
    }
    return outputs;
  }

  Shape widths() const {
    const C& cell = *cells_.front();
    if constexpr (requires { cell.state_widths(); })
      return cell.state_widths();
    else
      return Shape(state_size<State>, hidden_size);
  }
  detail::CallRules rules() const {
    return {op_, input_size, 3, batch_first ? 0 : 1, {num_layers * num_directions()}, widths(), dtype()};
  }

  std::vector<std::unique_ptr<C>> cells_;
};

}  // namespace unroll::nn
#pragma GCC visibility pop
