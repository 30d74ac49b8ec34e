#pragma once
#include "layer.h"

namespace planted {

/// Adds d(loss)/d(leaf) to the .grad() of every leaf.
using Backward = void (*)(const Tensor& loss, bool retain_graph);
void real_backward(const Tensor& loss, bool retain_graph);
void planted_backward(const Tensor& loss, bool retain_graph);

/// Multiplies the elements in place.
using Scale = void (*)(const Tensor& x, double factor);
void real_scale(const Tensor& x, double factor);
void planted_scale(const Tensor& x, double factor);

/// clip_grad_norm_ with p = 2.
using Clip = double (*)(const Tensors& parameters, double max_norm);
double real_clip(const Tensors& parameters, double max_norm);
double planted_clip(const Tensors& parameters, double max_norm);

struct OptimizerOptions {
  bool adam = false;
  double lr = 0.1, weight_decay = 0;
};

/// SGD or Adam with its parameters.
class Stepper {
 public:
  virtual ~Stepper() = default;
  virtual void step() = 0;
  /// A new optimizer of other parameters that goes on where this one stands, from its state_dict.
  virtual std::unique_ptr<Stepper> resumed(const Tensors& parameters) const = 0;
};
using MakeStepper = std::unique_ptr<Stepper> (*)(const Tensors& parameters, const OptimizerOptions& options);
std::unique_ptr<Stepper> real_stepper(const Tensors& parameters, const OptimizerOptions& options);
std::unique_ptr<Stepper> planted_stepper(const Tensors& parameters, const OptimizerOptions& options);

}  // namespace planted
