#include <unroll/core/detail/text.h>
#include <unroll/optim/lr_scheduler.h>

#include <algorithm>
#include <cmath>
#include <numbers>

namespace unroll::optim {
namespace {

/// The option "momentum" or "beta1"; null if there is neither.
double* momentum_of(ParamGroup& group) {
  for (const char* option : {"beta1", "momentum"})
    if (auto found = group.options.find(option); found != group.options.end()) return &found->second;
  return nullptr;
}

}  // namespace

std::vector<double> PerGroup::of(const Optimizer& optimizer, std::string_view schedule, std::string_view name) const {
  const std::size_t groups = optimizer.param_groups().size();
  if (for_all_) return std::vector<double>(groups, values_[0]);
  check<ValueError>(values_.size() == groups, "{}: got {} values of {} for {} parameter groups", schedule,
                    values_.size(), name, groups);
  return values_;
}

// -- LRScheduler

LRScheduler::LRScheduler(const char* name, Optimizer& optimizer, StateDict numbers)
    : name_(name), optimizer_(optimizer), numbers_(std::move(numbers)) {
  numbers_["last_epoch"] = {0};
  numbers_["last_lr"];
  arrive(0);
}

LRScheduler::~LRScheduler() = default;

void LRScheduler::start(std::int64_t last_epoch) {
  check<ValueError>(last_epoch >= -1, "{}: expected last_epoch ≥ -1, got {}", name_, last_epoch);
  check<ValueError>(last_epoch < std::int64_t{1} << 53, "{}: expected last_epoch < 2^53, got {}", name_, last_epoch);
  validate(numbers_);
  all_or_none([&] {
    if (last_epoch == -1) prepare();
    std::span<ParamGroup> groups = optimizer_.param_groups();
    std::vector<double>& base_lrs = numbers_["base_lrs"];
    for (std::size_t g = 0; g < groups.size(); ++g) {
      if (last_epoch == -1) groups[g].options.try_emplace("initial_lr", groups[g]["lr"]);
      auto found = groups[g].options.find("initial_lr");
      check<ValueError>(found != groups[g].options.end(),
                        "{}: to go on after last_epoch = {}, param_groups[{}] needs an 'initial_lr'", name_, last_epoch,
                        g);
      base_lrs.push_back(found->second);
    }
    go_to(last_epoch + 1, true, false);
  });
}

void LRScheduler::all_or_none(const std::function<void()>& change) {
  StateDict before = state_dict();
  std::vector<Options> options;
  for (const ParamGroup& group : optimizer_.param_groups()) options.push_back(group.options);
  try {
    change();
  } catch (...) {
    load(std::move(before));
    for (std::size_t g = 0; g < options.size(); ++g) optimizer_.param_groups()[g].options = std::move(options[g]);
    throw;
  }
}

void LRScheduler::step() { go_to(last_epoch() + 1, false, false); }

void LRScheduler::begin(bool again) { go_to(0, true, again); }

void LRScheduler::go_to(std::int64_t epoch, bool first, bool again) {
  check_groups();
  std::span<ParamGroup> groups = optimizer_.param_groups();
  std::vector<std::pair<double, std::optional<double>>> next;
  for (std::size_t g = 0; g < groups.size(); ++g) {
    const double base_lr = list("base_lrs")[g];
    const Moment m{epoch, g, again ? base_lr : groups[g]["lr"], base_lr, first, again};
    next.emplace_back(next_lr(m), next_momentum(m));
    check_groups();  // the caller's functions may have done anything
    groups = optimizer_.param_groups();
    check<ValueError>(!next.back().second || momentum_of(groups[g]), "{}: param_groups[{}] has no momentum any more",
                      name_, g);
  }
  for (std::size_t g = 0; g < groups.size(); ++g) {
    groups[g]["lr"] = next[g].first;
    if (next[g].second) *momentum_of(groups[g]) = *next[g].second;
  }
  arrive(epoch);
}

void LRScheduler::arrive(std::int64_t epoch) {
  std::span<ParamGroup> groups = optimizer_.param_groups();
  std::vector<double>& last_lr = list("last_lr");
  last_lr.resize(groups.size());
  for (std::size_t g = 0; g < groups.size(); ++g) last_lr[g] = groups[g]["lr"];
  number("last_epoch") = as_number(epoch);
}

void LRScheduler::check_groups() const {
  const std::size_t known = list("last_lr").size(), now = optimizer_.param_groups().size();
  check<ValueError>(known == now, "{}: made for {} parameter groups, the optimizer has {} now", name_, known, now);
}

void LRScheduler::check_momentum(const StateDict& numbers) const {
  if (numbers.find("cycle_momentum")->second[0] == 0) return;
  ParamGroup& group = optimizer_.param_groups()[0];
  check<ValueError>(momentum_of(group) != nullptr,
                    "{}: cycle_momentum needs an optimizer with momentum or beta1, {} has neither", name_,
                    optimizer_.name());
  for (const char* name : {"base_momentums", "max_momentums"}) {
    check_least(numbers, name, 0);
    for (double value : numbers.find(name)->second)
      check<ValueError>(value < 1 || !group.options.contains("beta1"), "{}: expected {} < 1 for beta1, got {}", name_,
                        name, value);
  }
}

void LRScheduler::check_between(const StateDict& numbers, std::string_view name, double least, double most) const {
  for (double value : numbers.find(name)->second) {
    check<ValueError>(value >= least, "{}: expected {} ≥ {}, got {}", name_, name, least, value);
    check<ValueError>(value <= most, "{}: expected {} ≤ {}, got {}", name_, name, most, value);
  }
}

void LRScheduler::check_whole(const StateDict& numbers, std::string_view name, double least, double most) const {
  check_between(numbers, name, least, most);
  for (double value : numbers.find(name)->second)
    check<ValueError>(value == std::floor(value), "{}: expected a whole {}, got {}", name_, name, value);
}

LRScheduler::StateDict LRScheduler::state_dict() const { return numbers_; }

void LRScheduler::load_state_dict(StateDict state) {
  check_state_dict(state);
  load(std::move(state));
}

void LRScheduler::check_state_dict(const StateDict& state) const {
  for (const auto& [name, values] : numbers_) {
    auto found = state.find(name);
    check<ValueError>(found != state.end(), "{}: the state has no '{}'", name_, name);
    const std::size_t size = found->second.size();
    const bool grows_to = takes_groups(name) && size >= 1 && size <= optimizer_.param_groups().size();
    check<ValueError>(size == values.size() || grows_to || name == "milestones",  // these may be as many as they like
                      "{}: the state has {} values of '{}', the schedule {}", name_, size, name, values.size());
  }
  for (const auto& [name, values] : state)
    check<ValueError>(numbers_.contains(name), "{}: the state has an unknown {}", name_, detail::Quoted{name});
  validate(state);
  check_whole(state, "last_epoch", 0);
}

void LRScheduler::load(StateDict&& state) noexcept { numbers_ = std::move(state); }

// -- StepLR, MultiStepLR, ExponentialLR

StepLR::StepLR(Optimizer& optimizer, std::int64_t step_size, double gamma, std::int64_t last_epoch)
    : LRScheduler("step_lr", optimizer, {{"step_size", {as_number(step_size)}}, {"gamma", {gamma}}}) {
  start(last_epoch);
}

void StepLR::validate(const StateDict& numbers) const {
  check_whole(numbers, "step_size", 1);
  check_least(numbers, "gamma", 0);
}

double StepLR::next_lr(const Moment& m) const {
  bool drops = m.epoch > 0 && m.epoch % static_cast<std::int64_t>(number("step_size")) == 0;
  return drops ? m.lr * number("gamma") : m.lr;
}

MultiStepLR::MultiStepLR(Optimizer& optimizer, const std::vector<std::int64_t>& milestones, double gamma,
                         std::int64_t last_epoch)
    : LRScheduler("multi_step_lr", optimizer,
                  {{"milestones", {milestones.begin(), milestones.end()}}, {"gamma", {gamma}}}) {
  start(last_epoch);
}

void MultiStepLR::validate(const StateDict& numbers) const {
  check_whole(numbers, "milestones", 0);
  check_least(numbers, "gamma", 0);
}

double MultiStepLR::next_lr(const Moment& m) const {
  const std::vector<double>& milestones = list("milestones");
  auto drops = std::count(milestones.begin(), milestones.end(), as_number(m.epoch));
  return drops > 0 ? m.lr * std::pow(number("gamma"), as_number(drops)) : m.lr;
}

ExponentialLR::ExponentialLR(Optimizer& optimizer, double gamma, std::int64_t last_epoch)
    : LRScheduler("exponential_lr", optimizer, {{"gamma", {gamma}}}) {
  start(last_epoch);
}

void ExponentialLR::validate(const StateDict& numbers) const { check_least(numbers, "gamma", 0); }

double ExponentialLR::next_lr(const Moment& m) const { return m.first ? m.lr : m.lr * number("gamma"); }

// -- ConstantLR, LinearLR, PolynomialLR

ConstantLR::ConstantLR(Optimizer& optimizer, const ConstantLROptions& options)
    : LRScheduler("constant_lr", optimizer,
                  {{"factor", {options.factor}}, {"total_iters", {as_number(options.total_iters)}}}) {
  start(options.last_epoch);
}

void ConstantLR::validate(const StateDict& numbers) const {
  check_between(numbers, "factor", 0, 1);
  check_whole(numbers, "total_iters", 0);
}

double ConstantLR::next_lr(const Moment& m) const {
  const double factor = number("factor"), total = number("total_iters");
  if (m.again && total == 0) return m.lr * (factor + (1 - factor));  // over at once, but only in SequentialLR
  if (m.epoch == 0) return m.lr * factor;
  if (as_number(m.epoch) != total) return m.lr;
  return factor != 0 ? m.lr * (1 / factor) : m.base_lr;  // from 0 there is no other way back
}

LinearLR::LinearLR(Optimizer& optimizer, const LinearLROptions& options)
    : LRScheduler("linear_lr", optimizer,
                  {{"start_factor", {options.start_factor}},
                   {"end_factor", {options.end_factor}},
                   {"total_iters", {as_number(options.total_iters)}}}) {
  start(options.last_epoch);
}

void LinearLR::validate(const StateDict& numbers) const {
  const double factor = numbers.find("start_factor")->second[0];
  check<ValueError>(factor > 0 && factor <= 1, "{}: expected start_factor in (0, 1], got {}", name(), factor);
  check_between(numbers, "end_factor", 0, 1);
  check_whole(numbers, "total_iters", 0);
}

double LinearLR::next_lr(const Moment& m) const {
  const double begin = number("start_factor"), rise = number("end_factor") - begin, total = number("total_iters"),
               t = as_number(m.epoch);
  if (m.epoch == 0) return m.lr * begin;
  if (m.first || t > total) return m.lr;
  return m.lr * (1 + rise / (total * begin + (t - 1) * rise));
}

PolynomialLR::PolynomialLR(Optimizer& optimizer, const PolynomialLROptions& options)
    : LRScheduler("polynomial_lr", optimizer,
                  {{"total_iters", {as_number(options.total_iters)}}, {"power", {options.power}}}) {
  start(options.last_epoch);
}

void PolynomialLR::validate(const StateDict& numbers) const {
  check_whole(numbers, "total_iters", 0);
  check_least(numbers, "power", 0);
}

double PolynomialLR::next_lr(const Moment& m) const {
  const double total = number("total_iters"), t = as_number(m.epoch);
  if (m.first || t > total) return m.lr;
  return m.lr * std::pow((1 - t / total) / (1 - (t - 1) / total), number("power"));
}

// -- CosineAnnealingLR

CosineAnnealingLR::CosineAnnealingLR(Optimizer& optimizer, std::int64_t T_max, double eta_min, std::int64_t last_epoch)
    : LRScheduler("cosine_annealing_lr", optimizer, {{"T_max", {as_number(T_max)}}, {"eta_min", {eta_min}}}) {
  start(last_epoch);
}

void CosineAnnealingLR::validate(const StateDict& numbers) const {
  check_whole(numbers, "T_max", 1);
  double eta_min = numbers.find("eta_min")->second[0];
  check<ValueError>(std::isfinite(eta_min), "{}: expected a finite eta_min, got {}", name(), eta_min);
}

double CosineAnnealingLR::next_lr(const Moment& m) const {
  const double T_max = number("T_max"), eta_min = number("eta_min"), pi = std::numbers::pi, t = as_number(m.epoch);
  if (m.again) return eta_min + (m.base_lr - eta_min);  // rounded as torch does
  if (m.first) return m.lr;
  // lr(t − 1) was the minimum, where the ratio below is 0 / 0.
  if (std::fmod(t - 1 - T_max, 2 * T_max) == 0) return m.lr + (m.base_lr - eta_min) * (1 - std::cos(pi / T_max)) / 2;
  return (1 + std::cos(pi * t / T_max)) / (1 + std::cos(pi * (t - 1) / T_max)) * (m.lr - eta_min) + eta_min;
}

// -- LambdaLR, MultiplicativeLR

namespace {

std::vector<LRLambda> one_a_group(const char* name, const Optimizer& optimizer, std::vector<LRLambda> lambdas) {
  const std::size_t groups = optimizer.param_groups().size();
  check<ValueError>(lambdas.size() == groups, "{}: got {} functions for {} parameter groups", name, lambdas.size(),
                    groups);
  for (std::size_t g = 0; g < groups; ++g)
    check<ValueError>(lambdas[g] != nullptr, "{}: function {} is empty", name, g);
  return lambdas;
}

std::vector<LRLambda> for_all(const Optimizer& optimizer, const LRLambda& lambda) {
  return std::vector<LRLambda>(optimizer.param_groups().size(), lambda);
}

}  // namespace

LambdaLR::LambdaLR(Optimizer& optimizer, std::vector<LRLambda> lr_lambdas, std::int64_t last_epoch)
    : LRScheduler("lambda_lr", optimizer, {}), lr_lambdas_(one_a_group(name(), optimizer, std::move(lr_lambdas))) {
  start(last_epoch);
}

LambdaLR::LambdaLR(Optimizer& optimizer, const LRLambda& lr_lambda, std::int64_t last_epoch)
    : LambdaLR(optimizer, for_all(optimizer, lr_lambda), last_epoch) {}

double LambdaLR::next_lr(const Moment& m) const { return m.base_lr * lr_lambdas_[m.group](m.epoch); }

MultiplicativeLR::MultiplicativeLR(Optimizer& optimizer, std::vector<LRLambda> lr_lambdas, std::int64_t last_epoch)
    : LRScheduler("multiplicative_lr", optimizer, {}),
      lr_lambdas_(one_a_group(name(), optimizer, std::move(lr_lambdas))) {
  start(last_epoch);
}

MultiplicativeLR::MultiplicativeLR(Optimizer& optimizer, const LRLambda& lr_lambda, std::int64_t last_epoch)
    : MultiplicativeLR(optimizer, for_all(optimizer, lr_lambda), last_epoch) {}

double MultiplicativeLR::next_lr(const Moment& m) const {
  if (m.first && !m.again) return m.lr;
  // When it comes again, it goes on from the rate of the schedule before, as torch does.
  return optimizer().param_groups()[m.group]["lr"] * lr_lambdas_[m.group](m.epoch);
}

}  // namespace unroll::optim
