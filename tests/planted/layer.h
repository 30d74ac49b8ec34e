#pragma once
#include <unroll/core/tensor.h>

#include <functional>
#include <memory>

#include "cells.h"

namespace planted {
using namespace unroll;

using Tensors = std::vector<Tensor>;
using LengthList = Array<std::int64_t>;

struct LayerOptions {
  Mode mode = Mode::LSTM;
  std::int64_t input_size = 3, hidden_size = 4, num_layers = 1;
  bool bias = true, batch_first = false, bidirectional = false;
  double dropout = 0;
  std::int64_t proj_size = 0;

  std::int64_t directions() const { return bidirectional ? 2 : 1; }
  std::int64_t output_size() const { return proj_size > 0 ? proj_size : hidden_size; }
  std::size_t states() const { return mode == Mode::LSTM ? 2 : 1; }
};

/// A recurrent layer of torch's, float64, whoever wrote it.
class Layer {
 public:
  explicit Layer(const LayerOptions& o) : options(o) {}
  virtual ~Layer() = default;
  /// output, h_n and, of an LSTM, c_n, from x and {}, {h0} or {h0, c0}. With lengths, what is returned is that of
  /// pack_padded_sequence, the layer, and pad_packed_sequence: padding is zero, h_n is that of each own last step.
  virtual Tensors operator()(const Tensor& x, const Tensors& state = {}, const LengthList& lengths = {}) const = 0;
  /// By torch's names and in torch's order.
  virtual NamedTensors parameters() const = 0;
  virtual void train(bool mode) = 0;
  /// Makes the first layer's reverse direction use the parameters of its forward one, the very same tensors.
  virtual void tie_directions() = 0;

  const LayerOptions options;
};

using MakeLayer = std::unique_ptr<Layer> (*)(const LayerOptions& options);
/// The library's own.
std::unique_ptr<Layer> real_layer(const LayerOptions& options);
/// The copy with the switches: loops over arrays, one recorded op.
std::unique_ptr<Layer> planted_layer(const LayerOptions& options);

}  // namespace planted
