#pragma once
#include <unroll/autograd/engine.h>
#include <unroll/nn/packed_sequence.h>

#include <algorithm>
#include <cmath>
#include <functional>

#include "layers.h"

/// Layers of all kinds and sizes as functions that can be computed in two ways and compared.
namespace fused {
using namespace unroll;

using Tensors = std::vector<Tensor>;

struct Case {
  std::int64_t t = 3, n = 2, i = 3, h = 4, layers = 1, proj = 0;
  bool bidirectional = false, bias = true, packed = false, states = true;
  DType dtype = DType::Float64;
  nn::Memory memory = nn::Memory::KeepGates;
};

// A layer, and its arguments, as a function of nothing but the tensors that have gradients.
struct Subject {
  Tensors tensors;  // x, the states, the parameters
  std::function<Tensors()> outputs;
};

template <class L, class Options>
Subject subject(const Case& c) {
  Options options;
  options.num_layers = c.layers, options.bidirectional = c.bidirectional, options.bias = c.bias,
  options.dtype = c.dtype, options.memory = c.memory;
  if constexpr (requires { options.proj_size; }) options.proj_size = c.proj;
  auto layer = std::make_shared<L>(c.i, c.h, options);
  Subject s;
  const std::int64_t lead = c.layers * (c.bidirectional ? 2 : 1), out = c.proj > 0 ? c.proj : c.h;
  Tensor x = randn({c.t, c.n, c.i}, c.dtype).requires_grad_();
  typename L::State state;
  if (c.states) {
    *nn::state_tensors(state)[0] = randn({lead, c.n, out}, c.dtype).requires_grad_();
    if (nn::state_size<typename L::State> == 2)
      *nn::state_tensors(state).back() = randn({lead, c.n, c.h}, c.dtype).requires_grad_();
  }
  s.tensors.push_back(x);
  for (const Tensor* p : nn::state_tensors(state))
    if (p->defined()) s.tensors.push_back(*p);
  for (const Tensor& p : layer->parameters()) s.tensors.push_back(p);
  std::vector<std::int64_t> lengths;  // falling evenly from T to 1
  for (std::int64_t n = 0; n < c.n; ++n) lengths.push_back(std::max<std::int64_t>(1, c.t - n * c.t / c.n));
  std::reverse(lengths.begin(), lengths.end());
  s.outputs = [layer, x, state, lengths, packed = c.packed] {
    Tensors all;
    auto append = [&](const Tensor& output, const typename L::State& last) {
      all.push_back(output);
      for (const Tensor* p : nn::state_tensors(last)) all.push_back(*p);
    };
    if (packed) {
      auto [output, last] = (*layer)(nn::pack_padded_sequence(x, lengths, {.enforce_sorted = false}), state);
      append(output.data(), last);
    } else {
      auto [output, last] = (*layer)(x, state);
      append(output, last);
    }
    return all;
  };
  return s;
}

enum class Kind { LSTM, GRU, Tanh, ReLU };
inline constexpr Kind kKinds[] = {Kind::LSTM, Kind::GRU, Kind::Tanh, Kind::ReLU};
struct ReluOptions : nn::RNNOptions {
  ReluOptions() { nonlinearity = nn::Nonlinearity::ReLU; }
};

inline Subject subject(Kind kind, const Case& c) {
  switch (kind) {
    case Kind::LSTM:
      return subject<nn::LSTM, nn::LSTMOptions>(c);
    case Kind::GRU:
      return subject<nn::GRU, nn::GRUOptions>(c);
    case Kind::Tanh:
      return subject<nn::RNN, nn::RNNOptions>(c);
    case Kind::ReLU:
      return subject<nn::RNN, ReluOptions>(c);
  }
  return {};
}

// Outputs, then the gradients of Σ v·outputs over those outputs that `used` has a bit for.
inline Tensors values(
    const Subject& s, bool fused, unsigned used = ~0u, const std::function<void()>& before_backward = [] {}) {
  FusedMode mode(fused);
  Tensors all = s.outputs(), chosen, cotangents;
  Generator numbers;
  for (std::size_t j = 0; j < all.size(); ++j) {
    Tensor v = randn(all[j].shape(), all[j].dtype(), numbers);
    if ((used >> j & 1) == 0) continue;
    chosen.push_back(all[j]), cotangents.push_back(v);
  }
  before_backward();
  Tensors dx = grad(chosen, s.tensors, {.grad_outputs = cotangents, .allow_unused = true});
  for (std::size_t k = 0; k < dx.size(); ++k) all.push_back(dx[k].defined() ? dx[k] : zeros_like(s.tensors[k]));
  return all;
}

// Of all elements, relative to the largest of its tensor (and 1).
inline double distance(const Tensors& a, const Tensors& b) {
  double worst = a.size() == b.size() ? 0 : HUGE_VAL;
  for (std::size_t k = 0; k < std::min(a.size(), b.size()); ++k) {
    const auto x = a[k].to(DType::Float64).to_vector<double>(), y = b[k].to(DType::Float64).to_vector<double>();
    if (a[k].shape() != b[k].shape()) return HUGE_VAL;
    double scale = 1, difference = 0;
    for (std::size_t i = 0; i < x.size(); ++i) {
      scale = std::max(scale, std::abs(y[i]));
      difference = std::max(difference, std::isnan(x[i]) ? HUGE_VAL : std::abs(x[i] - y[i]));
    }
    worst = std::max(worst, difference / scale);
  }
  return worst;
}

inline bool same_bits(const Tensors& a, const Tensors& b) {
  if (a.size() != b.size()) return false;
  for (std::size_t k = 0; k < a.size(); ++k)
    if (a[k].shape() != b[k].shape() || a[k].dtype() != b[k].dtype() ||
        a[k].to(DType::Float64).to_vector<double>() != b[k].to(DType::Float64).to_vector<double>())
      return false;
  return true;
}

// Sizes around those of vectors, tiles and panels, and of nothing.
inline const Case kCases[] = {{},
                              {.t = 1, .n = 1, .i = 1, .h = 1},
                              {.t = 1, .n = 1, .i = 23, .h = 20},
                              {.t = 4, .n = 1, .i = 8, .h = 8, .states = false},
                              {.t = 2, .n = 7, .i = 5, .h = 17},
                              {.t = 3, .n = 13, .i = 16, .h = 16, .states = false},
                              {.t = 2, .n = 3, .i = 0, .h = 5},
                              {.t = 2, .n = 0, .i = 3, .h = 5},
                              {.t = 2, .n = 2, .i = 70, .h = 65},
                              {.t = 3, .n = 2, .i = 3, .h = 4, .bias = false},
                              {.t = 4, .n = 3, .i = 3, .h = 9, .layers = 2, .bidirectional = true},
                              {.t = 5, .n = 4, .i = 3, .h = 6, .packed = true},
                              {.t = 5, .n = 9, .i = 3, .h = 6, .layers = 2, .bidirectional = true, .packed = true},
                              {.t = 5, .n = 4, .i = 3, .h = 6, .bidirectional = true, .packed = true, .states = false}};

}  // namespace fused
