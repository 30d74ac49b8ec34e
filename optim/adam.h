#pragma once
#include <unroll/optim/optimizer.h>

#include <utility>

#pragma GCC visibility push(default)
namespace unroll::optim {

struct AdamOptions {
  double lr = 1e-3;
  std::pair<double, double> betas = {0.9, 0.999};  // in a group: "beta1" and "beta2"
  double eps = 1e-8, weight_decay = 0;
  bool amsgrad = false, maximize = false;
};

/// Adam (Kingma and Ba, arXiv:1412.6980), with AMSGrad on request (Reddi et al., arXiv:1904.09237). For each parameter
/// p with gradient g:
///
///     t ← t + 1;  g ← −g if maximize;  g ← g + weight_decay · p
///     m ← β₁ m + (1 − β₁) g;  v ← β₂ v + (1 − β₂) g²;  v̂ = v, or the greatest v so far if amsgrad
///     p ← p − lr / (1 − β₁ᵗ) · m / (√v̂ / √(1 − β₂ᵗ) + eps)
///
/// Raises ValueError for a negative lr, eps or weight_decay, or a beta outside [0, 1).
class Adam : public Optimizer {
 public:
  explicit Adam(std::vector<Tensor> params, const AdamOptions& options = {});
  explicit Adam(const std::vector<ParamGroup>& groups, const AdamOptions& options = {});

 protected:
  Adam(const char* name, bool decoupled, const std::vector<ParamGroup>& groups, Options defaults);

 private:
  void validate(const ParamGroup& group) const override;
  bool extend(State& state, const ParamGroup& group, const Tensor& param) const override;
  void update(const ParamGroup& group, std::span<Update> updates) const override;

  bool decoupled_;  // decay the parameter instead of adding to the gradient
};

struct AdamWOptions {
  double lr = 1e-3;
  std::pair<double, double> betas = {0.9, 0.999};
  double eps = 1e-8, weight_decay = 1e-2;
  bool amsgrad = false, maximize = false;
};

/// Adam with decoupled weight decay (Loshchilov and Hutter, arXiv:1711.05101): p ← p · (1 − lr · weight_decay) before
/// Adam's step, and nothing is added to the gradient.
class AdamW final : public Adam {
 public:
  explicit AdamW(std::vector<Tensor> params, const AdamWOptions& options = {});
  explicit AdamW(const std::vector<ParamGroup>& groups, const AdamWOptions& options = {});
};

}  // namespace unroll::optim
#pragma GCC visibility pop
