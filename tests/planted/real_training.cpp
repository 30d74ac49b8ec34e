#include <unroll/autograd/engine.h>
#include <unroll/autograd/grad_mode.h>
#include <unroll/nn/clip_grad.h>
#include <unroll/optim/adam.h>
#include <unroll/optim/sgd.h>

#include "training.h"

namespace planted {
namespace {

class RealStepper final : public Stepper {
 public:
  RealStepper(const Tensors& parameters, const OptimizerOptions& o) : options_(o) {
    if (o.adam)
      optimizer_ =
          std::make_unique<optim::Adam>(parameters, optim::AdamOptions{.lr = o.lr, .weight_decay = o.weight_decay});
    else
      optimizer_ =
          std::make_unique<optim::SGD>(parameters, optim::SGDOptions{.lr = o.lr, .weight_decay = o.weight_decay});
  }
  void step() override { optimizer_->step(); }
  std::unique_ptr<Stepper> resumed(const Tensors& parameters) const override {
    auto next = std::make_unique<RealStepper>(parameters, options_);
    next->optimizer_->load_state_dict(optimizer_->state_dict());
    return next;
  }

 private:
  OptimizerOptions options_;
  std::unique_ptr<optim::Optimizer> optimizer_;
};

}  // namespace

void real_backward(const Tensor& loss, bool retain_graph) { loss.backward({.retain_graph = retain_graph}); }

void real_scale(const Tensor& x, double factor) {
  NoGrad guard;
  x.mul_(factor);
}

double real_clip(const Tensors& parameters, double max_norm) { return nn::clip_grad_norm_(parameters, max_norm); }

std::unique_ptr<Stepper> real_stepper(const Tensors& parameters, const OptimizerOptions& options) {
  return std::make_unique<RealStepper>(parameters, options);
}

}  // namespace planted
