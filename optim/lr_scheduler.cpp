#include <unroll/optim/lr_scheduler.h>

#include <cmath>
#include <numbers>

namespace unroll::optim {
namespace {

void check_whole(const char* schedule, const char* name, const Options& constants) {
  double value = constants.find(name)->second;
  check<ValueError>(value >= 1 && value < 0x1p53 && value == std::floor(value), "{}: expected {} ≥ 1, got {}", schedule,
                    name, value);
}

void check_factor(const char* schedule, const char* name, const Options& constants) {
  double value = constants.find(name)->second;
  check<ValueError>(value >= 0, "{}: expected {} ≥ 0, got {}", schedule, name, value);
}

}  // namespace

LRScheduler::LRScheduler(const char* name, Optimizer& optimizer, Options constants)
    : name_(name), optimizer_(optimizer), constants_(std::move(constants)) {}

void LRScheduler::start() {
  validate(constants_);
  for (ParamGroup& group : optimizer_.param_groups())
    base_lrs_.push_back(group.options.try_emplace("initial_lr", group["lr"]).first->second);
  last_lr_.resize(base_lrs_.size());
  step();
}

void LRScheduler::step() {
  std::span<ParamGroup> groups = optimizer_.param_groups();
  check<ValueError>(groups.size() == base_lrs_.size(), "{}: made for {} parameter groups, the optimizer has {} now",
                    name_, base_lrs_.size(), groups.size());
  ++last_epoch_;
  for (std::size_t g = 0; g < groups.size(); ++g)
    last_lr_[g] = groups[g]["lr"] = next_lr(groups[g]["lr"], base_lrs_[g]);
}

LRScheduler::StateDict LRScheduler::state_dict() const {
  StateDict state{{"last_epoch", {static_cast<double>(last_epoch_)}}, {"base_lrs", base_lrs_}, {"last_lr", last_lr_}};
  for (const auto& [name, value] : constants_) state.emplace(name, std::vector{value});
  return state;
}

void LRScheduler::check_state_dict(const StateDict& state) const {
  StateDict own = state_dict();
  for (const auto& [name, values] : own) {
    auto found = state.find(name);
    check<ValueError>(found != state.end(), "{}: the state has no '{}'", name_, name);
    check<ValueError>(found->second.size() == values.size(), "{}: the state has {} values of '{}', the schedule {}",
                      name_, found->second.size(), name, values.size());
  }
  for (const auto& [name, values] : state)
    check<ValueError>(own.contains(name), "{}: the state has an unknown '{}'", name_, name);
  Options constants = constants_;
  for (auto& [name, value] : constants) value = state.find(name)->second[0];
  validate(constants);
  double epoch = state.find("last_epoch")->second[0];
  check<ValueError>(epoch >= 0 && epoch < 0x1p53 && epoch == std::floor(epoch), "{}: the state's last_epoch is {}",
                    name_, epoch);
}

void LRScheduler::load(StateDict&& state) noexcept {
  base_lrs_ = std::move(state.find("base_lrs")->second);
  last_lr_ = std::move(state.find("last_lr")->second);
  last_epoch_ = static_cast<std::int64_t>(state.find("last_epoch")->second[0]);
  for (auto& [name, value] : constants_) value = state.find(name)->second[0];
}

StepLR::StepLR(Optimizer& optimizer, std::int64_t step_size, double gamma)
    : LRScheduler("step_lr", optimizer, {{"step_size", static_cast<double>(step_size)}, {"gamma", gamma}}) {
  start();
}

void StepLR::validate(const Options& constants) const {
  check_whole(name(), "step_size", constants);
  check_factor(name(), "gamma", constants);
}

double StepLR::next_lr(double lr, double) const {
  bool drops = last_epoch() > 0 && last_epoch() % static_cast<std::int64_t>(constant("step_size")) == 0;
  return drops ? lr * constant("gamma") : lr;
}

ExponentialLR::ExponentialLR(Optimizer& optimizer, double gamma)
    : LRScheduler("exponential_lr", optimizer, {{"gamma", gamma}}) {
  start();
}

void ExponentialLR::validate(const Options& constants) const { check_factor(name(), "gamma", constants); }

double ExponentialLR::next_lr(double lr, double) const { return last_epoch() > 0 ? lr * constant("gamma") : lr; }

CosineAnnealingLR::CosineAnnealingLR(Optimizer& optimizer, std::int64_t T_max, double eta_min)
    : LRScheduler("cosine_annealing_lr", optimizer, {{"T_max", static_cast<double>(T_max)}, {"eta_min", eta_min}}) {
  start();
}

void CosineAnnealingLR::validate(const Options& constants) const {
  check_whole(name(), "T_max", constants);
  double eta_min = constants.find("eta_min")->second;
  check<ValueError>(std::isfinite(eta_min), "{}: expected a finite eta_min, got {}", name(), eta_min);
}

double CosineAnnealingLR::next_lr(double lr, double base_lr) const {
  if (last_epoch() == 0) return lr;
  const auto t = static_cast<double>(last_epoch());
  const double T_max = constant("T_max"), eta_min = constant("eta_min"), pi = std::numbers::pi;
  // lr(t − 1) was the minimum, where the ratio below is 0 / 0.
  if (std::fmod(t - 1 - T_max, 2 * T_max) == 0) return lr + (base_lr - eta_min) * (1 - std::cos(pi / T_max)) / 2;
  return (1 + std::cos(pi * t / T_max)) / (1 + std::cos(pi * (t - 1) / T_max)) * (lr - eta_min) + eta_min;
}

}  // namespace unroll::optim
