#pragma once
#include "layer.h"

namespace planted {

/// A check of gradients as it is usually written: one backward against central differences, in one configuration.
struct UsualCheck {
  const char* name;
  const char* what;
  std::int64_t T, N, layers;
  bool random = false;  // cotangents of all outputs and an initial state, instead of sum(output) from zeros
  bool bidirectional = false, dropout_and_lengths = false;
  bool strided_and_twice = false;
  double scale = 1;  // of the loss
  /// |analytic − numeric| ≤ atol + rtol·|numeric|
  double eps = 1e-5, atol = 1e-8, rtol = 1e-6;
};
extern const std::vector<UsualCheck> kUsualChecks;

/// Whether the layer's gradient passes.
bool passes(const UsualCheck& check, MakeLayer make, Mode mode);

}  // namespace planted
