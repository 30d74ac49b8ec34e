#pragma once
#include <unroll/nn/module.h>

#pragma GCC visibility push(default)
namespace unroll::nn {

/// While training, sets each element to 0 with probability p and multiplies the others by 1/(1 − p); else the identity.
class Dropout : public Module {
 public:
  /// Raises ValueError unless p is in [0, 1].
  explicit Dropout(double p = 0.5);

  Tensor operator()(const Tensor& x) const;
  std::string extra_repr() const override;

  const double p;
};

}  // namespace unroll::nn
#pragma GCC visibility pop
