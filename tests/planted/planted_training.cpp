#include <unroll/autograd/grad_mode.h>
#include <unroll/autograd/node.h>
#include <unroll/autograd/ops/arithmetic.h>
#include <unroll/autograd/ops/reduce.h>

#include <cmath>
#include <map>

#include "bugs.h"
#include "training.h"

namespace planted {
namespace {

/// SGD and Adam from their formulas, in the order of the parameters and of their elements.
class PlantedStepper final : public Stepper {
 public:
  PlantedStepper(const Tensors& parameters, const OptimizerOptions& o) : parameters_(parameters), options_(o) {
    for (const Tensor& p : parameters) {
      m_.emplace_back(p.numel());
      v_.emplace_back(p.numel());
    }
  }

  void step() override {
    ++t_;
    for (std::size_t k = 0; k < parameters_.size(); ++k) {
      double* p = parameters_[k].data<double>();
      const std::vector<double> gradient = parameters_[k].grad().to_vector<double>();
      for (std::size_t i = 0; i < gradient.size(); ++i) {
        double g = gradient[i] + options_.weight_decay * p[i];
        if (bug(74)) g += options_.weight_decay * p[i];
        p[i] -= options_.lr * (options_.adam ? adam(g, m_[k][i], v_[k][i]) : g);
      }
      ++parameters_[k].body().storage->version;
    }
  }

  std::unique_ptr<Stepper> resumed(const Tensors& parameters) const override {
    auto next = std::make_unique<PlantedStepper>(parameters, options_);
    next->m_ = m_, next->v_ = v_, next->t_ = bug(75) ? 0 : t_;
    return next;
  }

 private:
  /// m̂ / (√v̂ + eps), m̂ = m / (1 − β₁ᵗ), v̂ = v / (1 − β₂ᵗ)
  double adam(double g, double& m, double& v) const {
    const double t = bug(73) ? t_ - 1 : t_;
    m = 0.9 * m + 0.1 * g;
    v = 0.999 * v + 0.001 * g * g;
    return m / (1 - std::pow(0.9, t)) / (std::sqrt(v / (1 - std::pow(0.999, t))) + 1e-8);
  }

  Tensors parameters_;
  OptimizerOptions options_;
  std::vector<std::vector<double>> m_, v_;
  int t_ = 0;
};

}  // namespace

/// Sweeps the graph once, in the falling order of the nodes' numbers.
void planted_backward(const Tensor& loss, bool retain_graph) {
  using detail::GradSlot;
  NoGrad guard;
  std::map<std::uint64_t, Ref<Node>, std::greater<>> waiting;
  std::map<std::pair<const Node*, std::uint32_t>, Tensor> of_output;
  std::map<GradSlot*, Tensor> of_leaf;
  auto arrive = [&](GradSlot& slot, const Tensor& g) {
    if (slot.grad_fn) waiting.emplace(slot.grad_fn->sequence(), slot.grad_fn);
    Tensor& sum = slot.grad_fn ? of_output[{slot.grad_fn.get(), slot.output}] : of_leaf[&slot];
    const bool assigned = !sum.defined() || (bug(61) && !slot.grad_fn);
    sum = assigned ? g : sum + g;
  };

  arrive(*loss.body().grad_slot, ones_like(loss));
  while (!waiting.empty()) {
    const Ref<Node> node = waiting.extract(waiting.begin()).mapped();
    check<GradError>(!node->freed(), "planted_backward: the graph has been freed");
    const std::span<const Ref<GradSlot>> inputs = node->inputs();
    Tensors out(node->outputs()), in(inputs.size());
    for (std::uint32_t j = 0; j < node->outputs(); ++j) out[j] = of_output[{node.get(), j}];
    Tensor nothing_yet;
    std::vector<Tensor*> sums;
    for (const Ref<GradSlot>& slot : inputs)
      sums.push_back(slot && (slot->grad_fn || slot->requires_grad) ? &nothing_yet : nullptr);
    node->backward({out, in, sums});
    for (std::size_t i = 0; i < in.size(); ++i)
      if (sums[i] && in[i].defined()) arrive(*inputs[i], sum_to(in[i], inputs[i]->shape));
    if (!retain_graph || bug(70)) node->free();
  }
  for (auto& [slot, g] : of_leaf) slot->grad = slot->grad.defined() && !bug(60) ? slot->grad + g : g.clone();
}

void planted_scale(const Tensor& x, double factor) {
  double* data = x.data<double>();
  for (std::int64_t i = 0; i < x.numel(); ++i) data[i] *= factor;
  if (!bug(71)) ++x.body().storage->version;
}

double planted_clip(const Tensors& parameters, double max_norm) {
  double total = 0;
  for (const Tensor& p : parameters)
    for (double g : p.grad().to_vector<double>()) total += g * g;
  for (const Tensor& p : parameters) {
    double square = bug(72) ? 0 : total;
    if (bug(72))
      for (double g : p.grad().to_vector<double>()) square += g * g;
    p.set_grad(p.grad() * std::min(1.0, max_norm / (std::sqrt(square) + 1e-6)));
  }
  return std::sqrt(total);
}

std::unique_ptr<Stepper> planted_stepper(const Tensors& parameters, const OptimizerOptions& options) {
  return std::make_unique<PlantedStepper>(parameters, options);
}

}  // namespace planted
