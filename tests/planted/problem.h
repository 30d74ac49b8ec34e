#pragma once
#include <unroll/core/random.h>

#include <string>

#include "layer.h"

namespace planted {

/// How a layer is called. What it takes for an error to be seen: more than one of everything, and no two sizes equal.
struct Setting {
  LayerOptions options;
  std::int64_t T = 4, N = 3;
  LengthList lengths = {};
  bool initial_state = true;
};
/// Three layers, both directions, dropout, three lengths.
Setting strong(Mode mode);
/// Two layers without dropout or lengths.
Setting plain(Mode mode, std::int64_t layers = 2, bool bidirectional = true);
/// strong(), and others under which a layer goes another way through its code.
std::vector<Setting> settings(Mode mode);

/// A layer of random weights, random arguments, and a random gradient for each of its outputs.
struct Problem {
  Problem(MakeLayer make, const Setting& setting, std::uint64_t seed = 1);

  /// Runs the layer. Dropout draws the same masks every time.
  Tensors outputs() const { return outputs(x, state, lengths); }
  Tensors outputs(const Tensor& input, const Tensors& initial, const LengthList& length_list = {}) const;
  /// All that a gradient flows to: x, the initial states, the parameters.
  Tensors leaves() const;
  std::vector<std::string> names() const;

  std::unique_ptr<Layer> layer;
  LengthList lengths;
  Tensor x;
  Tensors state, cotangents;
};

/// d(Σ cotangent · output)/d(leaf), zeros where there is none. Undefined cotangents are left out.
Tensors gradients(const Tensors& outputs, const Tensors& cotangents, const Tensors& leaves, bool create_graph = false);
/// Σ cotangent · output
Tensor loss(const Tensors& outputs, const Tensors& cotangents);
/// Random normal numbers.
Tensor normal(const Shape& shape, Generator& generator, double deviation = 1);

/// Names the first tensor that is off by more than `tolerance` times its largest element, "" if there is none.
std::string differ(const Tensors& got, const Tensors& expected, const std::vector<std::string>& names,
                   double tolerance = 1e-10);
std::string differ_outputs(const Tensors& got, const Tensors& expected, double tolerance = 1e-12);

/// The first of two findings that is not empty.
inline std::string either(std::string first, const std::string& second) { return first.empty() ? second : first; }

}  // namespace planted
