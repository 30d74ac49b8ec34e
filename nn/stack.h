#pragma once
#include <unroll/autograd/ops/dropout.h>
#include <unroll/nn/recurrent.h>

#include <fmt/core.h>

#pragma GCC visibility push(default)
namespace unroll::nn {

struct StackOptions {
  /// Between layers, see RecurrentOptions.
  double dropout = 0;
};

/// Layers of different widths, one reading the other's output: LSTM, GRU, RNN or Recurrent<…>, each made with the same
/// arguments.
///
///     nn::Stack<nn::LSTM> rnn(10, {64, 32}, {.dropout = 0.2}, nn::LSTMOptions{.bidirectional = true});
///     auto [output, states] = rnn(x);      // states[1].h (D, N, 32)
///
/// Parameters are named "0.weight_ih_l0", "1.weight_ih_l0", …
template <class Layer>
class Stack : public Module {
 public:
  using State = typename Layer::State;
  template <class Sequence>
  struct Output {
    Sequence output;
    std::vector<State> states;  // of each layer
  };

  /// Raises ValueError unless there are widths, all positive, and `dropout`, between layers, is in [0, 1], and what a
  /// layer raises.
  template <class... Args>
  Stack(std::int64_t input_size, const std::vector<std::int64_t>& hidden_sizes, const StackOptions& options = {},
        const Args&... args)
      : dropout(options.dropout) {
    check<ValueError>(!hidden_sizes.empty(), "stack: expected at least one hidden size");
    check<ValueError>(dropout >= 0 && dropout <= 1, "stack: dropout must be in [0, 1], got {}", dropout);
    // Before the first layer draws its parameters.
    for (std::size_t i = 0; i < hidden_sizes.size(); ++i)
      check<ValueError>(hidden_sizes[i] > 0, "stack: hidden sizes must be positive, got {} at {}", hidden_sizes[i], i);
    for (std::int64_t hidden_size : hidden_sizes) {
      layers_.push_back(std::make_unique<Layer>(input_size, hidden_size, args...));
      add(fmt::format("{}", layers_.size() - 1), *layers_.back());
      input_size = layers_.back()->num_directions() * layers_.back()->output_size();
    }
  }

  /// x is a Tensor or a PackedSequence, as a layer takes it. Raises ValueError unless there are no states or one a
  /// layer, and what a layer raises.
  template <class Sequence>
  Output<Sequence> operator()(const Sequence& x, const std::vector<State>& initial = {}) const {
    check<ValueError>(initial.empty() || initial.size() == layers_.size(),
                      "stack: got {} states for {} layers, expected one a layer, or none", initial.size(),
                      layers_.size());
    return hooked(
        [this](Sequence y, const std::vector<State>& given) -> Output<Sequence> {
          std::vector<State> states;
          for (std::size_t i = 0; i < layers_.size(); ++i) {
            auto result = (*layers_[i])(i == 0 ? y : dropped(y), given.empty() ? State{} : given[i]);
            y = std::move(result.output);
            states.push_back(std::move(result.state));
          }
          return {std::move(y), std::move(states)};
        },
        x, initial);
  }

  std::size_t size() const noexcept { return layers_.size(); }
  /// Raises IndexError unless i < size().
  const Layer& operator[](std::size_t i) const { return *layers_[checked(i)]; }
  Layer& operator[](std::size_t i) { return *layers_[checked(i)]; }

  const double dropout;

 private:
  std::size_t checked(std::size_t i) const {
    check<IndexError>(i < layers_.size(), "stack: index {} is outside its {} layers", i, layers_.size());
    return i;
  }
  Tensor dropped(const Tensor& x) const { return unroll::dropout(x, dropout, training()); }
  PackedSequence dropped(const PackedSequence& x) const { return x.with_data(dropped(x.data())); }

  std::vector<std::unique_ptr<Layer>> layers_;
};

}  // namespace unroll::nn
#pragma GCC visibility pop
