#include <unroll/core/kernels/optimizer.h>
#include <unroll/optim/adam.h>

#include <cmath>

namespace unroll::optim {
namespace {

enum { kExpAvg, kExpAvgSq, kMaxExpAvgSq };

Options named(const auto& options) {
  return {{"lr", options.lr},
          {"beta1", options.betas.first},
          {"beta2", options.betas.second},
          {"eps", options.eps},
          {"weight_decay", options.weight_decay},
          {"amsgrad", options.amsgrad},
          {"maximize", options.maximize}};
}

}  // namespace

Adam::Adam(const char* name, bool decoupled, const std::vector<ParamGroup>& groups, Options defaults)
    : Optimizer(name, {"exp_avg", "exp_avg_sq", "max_exp_avg_sq"}, std::move(defaults)), decoupled_(decoupled) {
  add_param_groups(groups);
}

Adam::Adam(const std::vector<ParamGroup>& groups, const AdamOptions& options)
    : Adam("adam", false, groups, named(options)) {}
Adam::Adam(std::vector<Tensor> params, const AdamOptions& options)
    : Adam(std::vector{ParamGroup{std::move(params)}}, options) {}
AdamW::AdamW(const std::vector<ParamGroup>& groups, const AdamWOptions& options)
    : Adam("adamw", true, groups, named(options)) {}
AdamW::AdamW(std::vector<Tensor> params, const AdamWOptions& options)
    : AdamW(std::vector{ParamGroup{std::move(params)}}, options) {}

void Adam::validate(const ParamGroup& group) const {
  for (const char* option : {"lr", "eps", "weight_decay"})
    check<ValueError>(group[option] >= 0, "{}: expected {} ≥ 0, got {}", name(), option, group[option]);
  for (const char* beta : {"beta1", "beta2"})
    check<ValueError>(group[beta] >= 0 && group[beta] < 1, "{}: expected {} in [0, 1), got {}", name(), beta,
                      group[beta]);
}

bool Adam::extend(State& state, const ParamGroup& group, const Tensor& param) const {
  bool missing = state.step == 0;
  auto need = [&](std::size_t k) {
    if (state.tensors[k].defined()) return;
    state.tensors[k] = zeros_like(param);
    missing = true;
  };
  need(kExpAvg);
  need(kExpAvgSq);
  const bool lacks_moments = missing;
  if (group["amsgrad"] != 0) need(kMaxExpAvgSq);  // which may have been turned on after some steps
  return lacks_moments;
}

void Adam::update(const ParamGroup& group, std::span<Update> updates) const {
  const double beta1 = group["beta1"], beta2 = group["beta2"], lr = group["lr"], eps = group["eps"],
               weight_decay = group["weight_decay"];
  const bool amsgrad = group["amsgrad"] != 0, maximize = group["maximize"] != 0;
  for (Update& u : updates) {
    const auto t = static_cast<double>(++u.state.step);
    dispatch_float(name(), u.param.dtype(), [&]<class T>() {
      const kernels::AdamStep<T> step = {.beta1 = static_cast<T>(beta1),
                                         .kept1 = static_cast<T>(1 - beta1),
                                         .beta2 = static_cast<T>(beta2),
                                         .kept2 = static_cast<T>(1 - beta2),
                                         .rate = static_cast<T>(lr / (1 - std::pow(beta1, t))),
                                         .root = static_cast<T>(std::sqrt(1 - std::pow(beta2, t))),
                                         .eps = static_cast<T>(eps),
                                         .shrink = static_cast<T>(decoupled_ ? 1 - lr * weight_decay : 1),
                                         .decay = static_cast<T>(decoupled_ ? 0 : weight_decay),
                                         .sign = static_cast<T>(maximize ? -1 : 1)};
      auto& [mean, square, greatest] = u.state.tensors;
      kernels::adam<T>(u.param.raw<T>(), mean.raw<T>(), square.raw<T>(), amsgrad ? greatest.raw<T>() : nullptr,
                       u.grad.raw<T>(), u.param.numel(), step);
    });
  }
}

}  // namespace unroll::optim
