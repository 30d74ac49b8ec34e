#pragma once
#include <unroll/nn/module.h>
#include <unroll/optim/sgd.h>

#include <functional>
#include <memory>
#include <optional>

#include "train_step/config.h"

namespace bench {

/// A model with its data, ready to be stepped.
class Workload {
 public:
  /// Raises ValueError for options that the module does not have.
  explicit Workload(const Config& config);

  /// Forward, the sum of weighted outputs as the loss, backward, and a step of gradient descent; or forward alone,
  /// unrecorded.
  void step();

 private:
  std::unique_ptr<unroll::nn::Module> module_;  // none for a single op
  std::function<unroll::Tensor()> forward_;
  unroll::Tensor x_;       // the input; none for a single op
  unroll::Tensor weight_;  // of the outputs in the loss
  std::optional<unroll::optim::SGD> optimizer_;
};

}  // namespace bench
