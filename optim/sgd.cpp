#include <unroll/core/kernels/optimizer.h>
#include <unroll/optim/sgd.h>

namespace unroll::optim {

SGD::SGD(std::vector<Tensor> params, const SGDOptions& options)
    : SGD(std::vector{ParamGroup{std::move(params)}}, options) {}

SGD::SGD(const std::vector<ParamGroup>& groups, const SGDOptions& options)
    : Optimizer("sgd", {"momentum_buffer"},
                {{"lr", options.lr},
                 {"momentum", options.momentum},
                 {"dampening", options.dampening},
                 {"weight_decay", options.weight_decay},
                 {"nesterov", options.nesterov},
                 {"maximize", options.maximize}}) {
  add_param_groups(groups);
}

void SGD::validate(const ParamGroup& group) const {
  for (const char* option : {"lr", "momentum", "weight_decay"})
    check<ValueError>(group[option] >= 0, "sgd: expected {} ≥ 0, got {}", option, group[option]);
  check<ValueError>(group["nesterov"] == 0 || (group["momentum"] > 0 && group["dampening"] == 0),
                    "sgd: nesterov requires momentum > 0 and dampening = 0, got {} and {}", group["momentum"],
                    group["dampening"]);
}

bool SGD::extend(State& state, const ParamGroup& group, const Tensor& param) const {
  if (group["momentum"] == 0 || state.tensors[0].defined()) return false;
  state.tensors[0] = empty_like(param);
  return true;
}

void SGD::update(const ParamGroup& group, std::span<Update> updates) const {
  const double lr = group["lr"], momentum = group["momentum"], dampening = group["dampening"],
               decay = group["weight_decay"];
  const bool nesterov = group["nesterov"] != 0, maximize = group["maximize"] != 0;
  for (Update& u : updates)
    dispatch_float(name(), u.param.dtype(), [&]<class T>() {
      const kernels::SGDStep<T> step = {.lr = static_cast<T>(lr),
                                        .momentum = static_cast<T>(momentum),
                                        .kept = static_cast<T>(1 - dampening),
                                        .decay = static_cast<T>(decay),
                                        .sign = static_cast<T>(maximize ? -1 : 1),
                                        .nesterov = nesterov};
      T* buffer = step.momentum != 0 ? u.state.tensors[0].raw<T>() : nullptr;
      kernels::sgd<T>(u.param.raw<T>(), buffer, u.grad.raw<T>(), u.param.numel(), step, u.first);
    });
}

}  // namespace unroll::optim
