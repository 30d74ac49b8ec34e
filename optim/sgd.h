#pragma once
#include <unroll/optim/optimizer.h>

#pragma GCC visibility push(default)
namespace unroll::optim {

struct SGDOptions {
  double lr = 1e-3, momentum = 0, dampening = 0, weight_decay = 0;
  bool nesterov = false, maximize = false;
};

/// Stochastic gradient descent. For each parameter p with gradient g:
///
///     g ← −g if maximize;  g ← g + weight_decay · p
///     if momentum ≠ 0:
///       b ← momentum · b + (1 − dampening) · g, the first time b ← g
///       g ← g + momentum · b if nesterov, else b
///     p ← p − lr · g
///
///     optim::SGD opt(model.parameters(), {.lr = 0.1, .momentum = 0.9});
///     optim::SGD opt({{.params = low, .options = {{"lr", 0.01}}}, {.params = high}}, {.lr = 0.1});
///
/// Raises ValueError for a negative lr, momentum or weight_decay, or nesterov without momentum or with dampening.
class SGD final : public Optimizer {
 public:
  explicit SGD(std::vector<Tensor> params, const SGDOptions& options = {});
  explicit SGD(const std::vector<ParamGroup>& groups, const SGDOptions& options = {});

 private:
  void validate(const ParamGroup& group) const override;
  bool extend(State& state, const ParamGroup& group, const Tensor& param) const override;
  void update(const ParamGroup& group, std::span<Update> updates) const override;
};

}  // namespace unroll::optim
#pragma GCC visibility pop
