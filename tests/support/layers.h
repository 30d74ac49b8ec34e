#pragma once
#include <doctest/doctest.h>
#include <unroll/autograd/ops/activation.h>
#include <unroll/autograd/ops/arithmetic.h>
#include <unroll/autograd/ops/compare.h>
#include <unroll/autograd/ops/reduce.h>
#include <unroll/autograd/ops/shape.h>
#include <unroll/core/random.h>
#include <unroll/nn/gru.h>
#include <unroll/nn/linear.h>
#include <unroll/nn/lstm.h>
#include <unroll/nn/rnn.h>

// The layers that the laws of recurrent layers are tested on, torch's and ones of a user's cells, all float64:
// make(input_size, hidden_size, options) of each makes a Layer.

constexpr unroll::DType kDouble = unroll::DType::Float64;

template <class Options>
void as_they_are(Options&) {}

template <class L, class Options, void (*change)(Options&) = as_they_are<Options>>
struct TorchLayer {
  using Layer = L;
  static L make(std::int64_t input_size, std::int64_t hidden_size, const unroll::nn::RecurrentOptions& o = {}) {
    Options options;
    options.num_layers = o.num_layers;
    options.batch_first = o.batch_first;
    options.dropout = o.dropout;
    options.bidirectional = o.bidirectional;
    options.allow_empty = o.allow_empty;
    options.memory = o.memory;
    options.dtype = kDouble;
    change(options);
    return L(input_size, hidden_size, options);
  }
};
template <class C>
struct UserLayer {
  using Layer = unroll::nn::Recurrent<C>;
  static Layer make(std::int64_t input_size, std::int64_t hidden_size,
                    const unroll::nn::RecurrentOptions& options = {}) {
    return Layer(input_size, hidden_size, options);
  }
};

inline void use_relu(unroll::nn::RNNOptions& options) { options.nonlinearity = unroll::nn::Nonlinearity::ReLU; }
inline void project(unroll::nn::LSTMOptions& options) { options.proj_size = 1; }
inline void reset_before(unroll::nn::GRUOptions& options) { options.reset_after = false; }
template <class Options>
void no_bias(Options& options) {
  options.bias = false;
}

using TanhRNN = TorchLayer<unroll::nn::RNN, unroll::nn::RNNOptions>;
using ReluRNN = TorchLayer<unroll::nn::RNN, unroll::nn::RNNOptions, use_relu>;
using PlainLSTM = TorchLayer<unroll::nn::LSTM, unroll::nn::LSTMOptions>;
using ProjectedLSTM = TorchLayer<unroll::nn::LSTM, unroll::nn::LSTMOptions, project>;
using PlainGRU = TorchLayer<unroll::nn::GRU, unroll::nn::GRUOptions>;
using ResetBeforeGRU = TorchLayer<unroll::nn::GRU, unroll::nn::GRUOptions, reset_before>;
using UnbiasedRNN = TorchLayer<unroll::nn::RNN, unroll::nn::RNNOptions, no_bias<unroll::nn::RNNOptions>>;
using UnbiasedLSTM = TorchLayer<unroll::nn::LSTM, unroll::nn::LSTMOptions, no_bias<unroll::nn::LSTMOptions>>;
using UnbiasedGRU = TorchLayer<unroll::nn::GRU, unroll::nn::GRUOptions, no_bias<unroll::nn::GRUOptions>>;

// A minimal gated unit, made of modules.
struct MGUCell : unroll::nn::Module {
  using State = unroll::Tensor;
  unroll::nn::Linear forget, candidate;
  MGUCell(std::int64_t in, std::int64_t hidden)
      : forget(in + hidden, hidden, {.dtype = kDouble}), candidate(in + hidden, hidden, {.dtype = kDouble}) {
    add("forget", forget);
    add("candidate", candidate);
  }
  unroll::Tensor operator()(const unroll::Tensor& x, const unroll::Tensor& h) const {
    unroll::Tensor f = sigmoid(forget(unroll::cat({x, h}, 1)));
    return (1 - f) * h + f * tanh(candidate(unroll::cat({x, f * h}, 1)));
  }
};

// An unusual one: three state tensors of different widths, own tensors, a constructor argument, and a mode.
struct CountingState {
  unroll::Tensor h, slow, count;
  static constexpr auto fields = std::tuple{&CountingState::h, &CountingState::slow, &CountingState::count};
};
struct CountingCell : unroll::nn::Module {
  using State = CountingState;
  static constexpr const char* kLayer = "counting";
  unroll::nn::Linear mix;
  unroll::Tensor decay, seen = unroll::zeros(1);
  std::int64_t hidden;
  CountingCell(std::int64_t in, std::int64_t hidden_, double start)
      : mix(in + 2 * hidden_, 2 * hidden_, {.dtype = kDouble}), decay(unroll::full(hidden_, start, kDouble)),
        hidden(hidden_) {
    add("mix", mix);
    add("decay", decay);
    add("seen", seen, Kind::Buffer);
  }
  unroll::Shape state_widths() const { return {2 * hidden, hidden, 1}; }
  CountingState operator()(const unroll::Tensor& x, const CountingState& s) const {
    unroll::Tensor h = tanh(mix(unroll::cat({x, s.h}, 1)));
    return {training() ? h : h * 0.5, s.slow * decay + narrow(h, 1, 0, hidden), s.count + 1};
  }
};
struct CountingCell9 : CountingCell {
  CountingCell9(std::int64_t in, std::int64_t width) : CountingCell(in, width, 0.9) {}
};

using MGU = UserLayer<MGUCell>;
using Counting = UserLayer<CountingCell9>;

#define BUILTIN_LAYERS TanhRNN, ReluRNN, PlainLSTM, ProjectedLSTM, PlainGRU, ResetBeforeGRU
#define ALL_LAYERS BUILTIN_LAYERS, MGU, Counting

// -- States

template <class S>
bool same(const S& a, const S& b) {
  auto p = unroll::nn::state_tensors(a), q = unroll::nn::state_tensors(b);
  for (std::size_t i = 0; i < p.size(); ++i)
    if (!equal(*p[i], *q[i])) return false;
  return true;
}

/// Equal but for the last digits.
inline bool close(const unroll::Tensor& a, const unroll::Tensor& b) { return allclose(a, b, 0, 1e-12); }
template <class S>
requires(!std::same_as<S, unroll::Tensor>) bool close(const S& a, const S& b) {
  auto p = unroll::nn::state_tensors(a), q = unroll::nn::state_tensors(b);
  for (std::size_t i = 0; i < p.size(); ++i)
    if (!close(*p[i], *q[i])) return false;
  return true;
}

// The state of `count` cells, from number `from` on.
template <class S>
S rows(const S& state, std::int64_t from, std::int64_t count) {
  return unroll::nn::map_state(state, [&](const unroll::Tensor& s) { return narrow(s, 0, from, count); });
}

/// Normal numbers, (L·D, batch, width).
template <class C>
typename C::State random_state(const unroll::nn::Recurrent<C>& rnn, std::int64_t batch) {
  const unroll::Shape widths = rnn.state_widths();
  return unroll::nn::make_state<typename C::State>([&](std::size_t i) {
    return unroll::randn({rnn.num_layers * rnn.num_directions(), batch, widths[i]}, kDouble);
  });
}

// Gives one layer's cells the parameters of another's.
template <class To, class From>
void copy_parameters(To& to, std::int64_t layer, const From& from, std::int64_t from_layer, std::int64_t direction = 0,
                     std::int64_t from_direction = 0) {
  std::vector<unroll::Tensor> p = to.cell(layer, direction).parameters(),
                              q = from.cell(from_layer, from_direction).parameters();
  for (std::size_t i = 0; i < p.size(); ++i) p[i].detach().copy_(q[i].detach());
}

// -- Gradients

/// output and all tensors of the state.
template <class Result>
std::vector<unroll::Tensor> all_of(const Result& result) {
  std::vector<unroll::Tensor> tensors;
  if constexpr (requires { result.output.data(); })
    tensors.push_back(result.output.data());
  else
    tensors.push_back(result.output);
  for (const unroll::Tensor* s : unroll::nn::state_tensors(result.state)) tensors.push_back(*s);
  return tensors;
}

/// Σ weights·tensors: reaches every element with a weight of its own.
inline unroll::Tensor weighted(const std::vector<unroll::Tensor>& tensors, const std::vector<unroll::Tensor>& weights) {
  unroll::Tensor total = unroll::scalar(0, kDouble);
  for (std::size_t i = 0; i < tensors.size(); ++i) total = total + sum(tensors[i] * weights.at(i));
  return total;
}
