#pragma once
#include "layer.h"
#include "sequence.h"

namespace planted {

/// What the loops of sequence.cpp compute, said with the library's ops, so that it can be differentiated any number of
/// times.
struct Definition {
  Plan plan;
  LengthList lengths;  // in the caller's order
  bool batch_first;
  Tensors masks;  // (T, N, D·P), one a gap

  /// output, h_n, c_n from x, the states and the parameters.
  Tensors operator()(std::span<const Tensor> inputs) const;
};

}  // namespace planted
