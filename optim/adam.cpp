#include <unroll/core/kernels/mul_add.h>
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
  if (group["amsgrad"] != 0) need(kMaxExpAvgSq);
  return missing;
}

void Adam::update(Update& u) const {
  const double beta1 = u.group["beta1"], beta2 = u.group["beta2"], lr = u.group["lr"],
               weight_decay = u.group["weight_decay"];
  const auto t = static_cast<double>(++u.state.step);
  const double step_size = lr / (1 - std::pow(beta1, t)), correction = std::sqrt(1 - std::pow(beta2, t));
  dispatch_float(name(), u.param.dtype(), [&]<class T>() {
    const T b1 = static_cast<T>(beta1), c1 = static_cast<T>(1 - beta1), b2 = static_cast<T>(beta2),
            c2 = static_cast<T>(1 - beta2);
    const T rate = static_cast<T>(step_size), root = static_cast<T>(correction), eps = static_cast<T>(u.group["eps"]);
    const T kept = decoupled_ ? static_cast<T>(1 - lr * weight_decay) : 1,
            decay = decoupled_ ? 0 : static_cast<T>(weight_decay);
    const T sign = u.group["maximize"] != 0 ? -1 : 1;
    T *p = u.param.data<T>(), *m = u.state.tensors[kExpAvg].data<T>(), *v = u.state.tensors[kExpAvgSq].data<T>();
    T* greatest = u.group["amsgrad"] != 0 ? u.state.tensors[kMaxExpAvgSq].data<T>() : nullptr;
    const T* grad = u.grad.data<T>();
    // A loop for each pair of options, since one that asks for them in each turn is not vectorised.
    auto loop = [=, n = u.param.numel()](auto decays, auto amsgrad) {
      for (std::int64_t i = 0; i < n; ++i) {
        T g = sign * grad[i];
        if constexpr (decays) g = kernels::mul_add(decay, p[i], g);
        m[i] = kernels::mul_add(c1, g, b1 * m[i]);
        v[i] = kernels::mul_add(c2 * g, g, b2 * v[i]);
        T second = v[i];
        if constexpr (amsgrad) second = greatest[i] = second < greatest[i] ? greatest[i] : second;
        p[i] = kept * p[i] - rate * m[i] / (std::sqrt(second) / root + eps);
      }
    };
    std::true_type yes;
    std::false_type no;
    decay != 0 ? greatest ? loop(yes, yes) : loop(yes, no) : greatest ? loop(no, yes) : loop(no, no);
  });
}

}  // namespace unroll::optim
