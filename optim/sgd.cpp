#include <unroll/core/kernels/mul_add.h>
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

void SGD::update(Update& u) const {
  dispatch_float(name(), u.param.dtype(), [&]<class T>() {
    auto option = [&](const char* key) { return static_cast<T>(u.group[key]); };
    const T lr = option("lr"), momentum = option("momentum"), decay = option("weight_decay"),
            sign = option("maximize") != 0 ? -1 : 1;
    const T kept = static_cast<T>(1 - u.group["dampening"]);
    const bool nesterov = option("nesterov") != 0;
    T* p = u.param.data<T>();
    const T* grad = u.grad.data<T>();
    T* buffer = momentum != 0 ? u.state.tensors[0].data<T>() : nullptr;

    // A loop for each way to go, since one that asks for the options in each turn is not vectorised.
    auto move = [=, n = u.param.numel()](auto direction) {
      auto loop = [=](auto decays) {
        for (std::int64_t i = 0; i < n; ++i) {
          T g = sign * grad[i];
          if constexpr (decays) g = kernels::mul_add(decay, p[i], g);
          p[i] = kernels::mul_add(-lr, direction(i, g), p[i]);
        }
      };
      decay != 0 ? loop(std::true_type()) : loop(std::false_type());
    };
    auto average = [=](std::int64_t i, T g) { return buffer[i] = kernels::mul_add(kept, g, momentum * buffer[i]); };
    if (!buffer)
      move([](std::int64_t, T g) { return g; });
    else if (u.first)
      move([=](std::int64_t i, T g) { return buffer[i] = g, nesterov ? kernels::mul_add(momentum, g, g) : g; });
    else if (nesterov)
      move([=](std::int64_t i, T g) { return kernels::mul_add(momentum, average(i, g), g); });
    else
      move(average);
  });
}

}  // namespace unroll::optim
