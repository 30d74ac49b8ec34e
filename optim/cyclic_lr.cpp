#include <unroll/optim/cyclic_lr.h>

#include <array>
#include <cmath>
#include <numbers>

namespace unroll::optim {

// -- CosineAnnealingWarmRestarts

CosineAnnealingWarmRestarts::CosineAnnealingWarmRestarts(Optimizer& optimizer, std::int64_t T_0, std::int64_t T_mult,
                                                         double eta_min, std::int64_t last_epoch)
    : LRScheduler("cosine_annealing_warm_restarts", optimizer,
                  {{"T_0", {as_number(T_0)}},
                   {"T_i", {as_number(T_0)}},
                   {"T_mult", {as_number(T_mult)}},
                   {"T_cur", {0}},
                   {"eta_min", {eta_min}}}) {
  validate(state_dict());  // else T_0 = 0 would keep turn_to for ever
  turn_to(as_number(last_epoch) + 1);
  start(last_epoch);
}

void CosineAnnealingWarmRestarts::validate(const StateDict& numbers) const {
  check_whole(numbers, "T_0", 1);
  check_whole(numbers, "T_mult", 1);
  check_least(numbers, "T_i", 1);
  check_least(numbers, "T_cur", 0);
  for (const char* finite : {"T_cur", "eta_min"}) {
    const double value = numbers.find(finite)->second[0];
    check<ValueError>(std::isfinite(value), "{}: expected a finite {}, got {}", name(), finite, value);
  }
}

void CosineAnnealingWarmRestarts::turn_to(double epoch) noexcept {
  const double T_0 = number("T_0"), T_mult = number("T_mult");
  double T_cur = T_mult == 1 ? std::fmod(epoch, T_0) : epoch, T_i = T_0;
  for (; T_cur >= T_i; T_i *= T_mult) T_cur -= T_i;
  number("T_cur") = T_cur;
  number("T_i") = T_i;
}

void CosineAnnealingWarmRestarts::step() {
  all_or_none([&] {
    double &T_cur = number("T_cur"), &T_i = number("T_i");
    if (++T_cur >= T_i) {
      T_cur = std::fmod(T_cur, T_i);
      T_i *= number("T_mult");
    }
    LRScheduler::step();
  });
}

void CosineAnnealingWarmRestarts::step(double epoch) {
  check<ValueError>(epoch >= 0 && epoch < 0x1p53, "{}: expected epoch ≥ 0 and < 2^53, got {}", name(), epoch);
  all_or_none([&] {
    turn_to(epoch);
    go_to(static_cast<std::int64_t>(epoch), false, false);
  });
}

void CosineAnnealingWarmRestarts::begin(bool again) {
  turn_to(0);
  LRScheduler::begin(again);
}

double CosineAnnealingWarmRestarts::next_lr(const Moment& m) const {
  const double eta_min = number("eta_min");
  return eta_min + (m.base_lr - eta_min) * (1 + std::cos(std::numbers::pi * number("T_cur") / number("T_i"))) / 2;
}

// -- CyclicLR

CyclicLR::CyclicLR(Optimizer& optimizer, const PerGroup& base_lr, const PerGroup& max_lr,
                   const CyclicLROptions& options)
    : LRScheduler("cyclic_lr", optimizer,
                  {{"max_lrs", max_lr.of(optimizer, "cyclic_lr", "max_lr")},
                   {"step_size_up", {as_number(options.step_size_up)}},
                   {"step_size_down", {as_number(options.step_size_down.value_or(options.step_size_up))}},
                   {"mode", {static_cast<double>(options.mode)}},
                   {"gamma", {options.gamma}},
                   {"scale_mode", {static_cast<double>(options.scale_mode)}},
                   {"cycle_momentum", {static_cast<double>(options.cycle_momentum)}},
                   {"base_momentums", options.base_momentum.of(optimizer, "cyclic_lr", "base_momentum")},
                   {"max_momentums", options.max_momentum.of(optimizer, "cyclic_lr", "max_momentum")}}),
      base_lrs_(base_lr.of(optimizer, name(), "base_lr")), scale_fn_(options.scale_fn) {
  for (double lr : base_lrs_) check<ValueError>(lr >= 0, "{}: expected base_lr ≥ 0, got {}", name(), lr);
  start(options.last_epoch);
  // Only now, as in torch: a rate of an earlier schedule is where this one begins.
  list("base_lrs") = base_lrs_;
}

void CyclicLR::validate(const StateDict& numbers) const {
  check_least(numbers, "max_lrs", 0);
  check_whole(numbers, "step_size_up", 1);
  check_whole(numbers, "step_size_down", 0);
  check_whole(numbers, "mode", 0, 2);
  check_least(numbers, "gamma", 0);
  check_whole(numbers, "scale_mode", 0, 1);
  check_whole(numbers, "cycle_momentum", 0, 1);
  check_momentum(numbers);
}

void CyclicLR::prepare() {
  for (std::size_t g = 0; g < base_lrs_.size(); ++g) optimizer().param_groups()[g]["lr"] = base_lrs_[g];
}

double CyclicLR::height(std::int64_t epoch, double low, double high) const {
  const double up = number("step_size_up"), total = up + number("step_size_down"), ratio = up / total,
               t = as_number(epoch), cycle = std::floor(1 + t / total), x = 1 + t / total - cycle;
  const double height = (high - low) * (x <= ratio ? x / ratio : (x - 1) / (ratio - 1));
  const auto mode = static_cast<CyclicMode>(number("mode"));
  if (scale_fn_)
    return height * scale_fn_(static_cast<ScaleMode>(number("scale_mode")) == ScaleMode::Cycle ? cycle : t);
  if (mode == CyclicMode::Triangular2) return height * (1 / std::pow(2.0, cycle - 1));
  if (mode == CyclicMode::ExpRange) return height * std::pow(number("gamma"), t);
  return height;
}

double CyclicLR::next_lr(const Moment& m) const {
  return m.base_lr + height(m.epoch, m.base_lr, list("max_lrs")[m.group]);
}

std::optional<double> CyclicLR::next_momentum(const Moment& m) const {
  if (number("cycle_momentum") == 0) return {};
  const double low = list("base_momentums")[m.group], high = list("max_momentums")[m.group];
  return high - height(m.epoch, low, high);
}

// -- OneCycleLR

namespace {

double total_steps_of(const OneCycleLROptions& o) {
  auto at_least_one = [](const char* name, std::int64_t value) {
    check<ValueError>(value >= 1, "one_cycle_lr: expected {} ≥ 1, got {}", name, value);
    return static_cast<double>(value);
  };
  if (o.total_steps) return at_least_one("total_steps", *o.total_steps);
  check<ValueError>(o.epochs && o.steps_per_epoch, "one_cycle_lr: expected total_steps, or epochs and steps_per_epoch");
  return at_least_one("epochs", *o.epochs) * at_least_one("steps_per_epoch", *o.steps_per_epoch);
}

}  // namespace

OneCycleLR::OneCycleLR(Optimizer& optimizer, const PerGroup& max_lr, const OneCycleLROptions& options)
    : LRScheduler("one_cycle_lr", optimizer,
                  {{"total_steps", {total_steps_of(options)}},
                   {"max_lrs", max_lr.of(optimizer, "one_cycle_lr", "max_lr")},
                   {"pct_start", {options.pct_start}},
                   {"anneal_strategy", {static_cast<double>(options.anneal_strategy)}},
                   {"div_factor", {options.div_factor}},
                   {"final_div_factor", {options.final_div_factor}},
                   {"three_phase", {static_cast<double>(options.three_phase)}},
                   {"cycle_momentum", {static_cast<double>(options.cycle_momentum)}},
                   {"base_momentums", options.base_momentum.of(optimizer, "one_cycle_lr", "base_momentum")},
                   {"max_momentums", options.max_momentum.of(optimizer, "one_cycle_lr", "max_momentum")}}) {
  start(options.last_epoch);
}

void OneCycleLR::validate(const StateDict& numbers) const {
  check_whole(numbers, "total_steps", 1);
  check_least(numbers, "max_lrs", 0);
  check_between(numbers, "pct_start", 0, 1);
  check_whole(numbers, "anneal_strategy", 0, 1);
  for (const char* factor : {"div_factor", "final_div_factor"}) {
    const double value = numbers.find(factor)->second[0];
    check<ValueError>(value > 0, "{}: expected {} > 0, got {}", name(), factor, value);
  }
  check_whole(numbers, "three_phase", 0, 1);
  check_whole(numbers, "cycle_momentum", 0, 1);
  check_momentum(numbers);
}

void OneCycleLR::prepare() {
  for (std::size_t g = 0; g < list("max_lrs").size(); ++g)
    optimizer().param_groups()[g].options["initial_lr"] = list("max_lrs")[g] / number("div_factor");
}

// From one station to the next in each phase.
double OneCycleLR::anneal(std::int64_t epoch, std::initializer_list<double> stations) const {
  const double total = number("total_steps"), pct_start = number("pct_start"), t = as_number(epoch);
  const std::array ends = {pct_start * total - 1, 2 * pct_start * total - 2, total - 1};
  const bool three_phase = number("three_phase") != 0;
  double begin = 0, end = ends[0];
  const double* from = stations.begin();
  for (std::size_t phase = three_phase ? 1 : 2; t > end && phase < 3; ++phase, ++from) {
    begin = end;
    end = ends[phase];
  }
  const double pct = end != begin ? (t - begin) / (end - begin) : 1;  // a phase of no length is over at once
  if (static_cast<AnnealStrategy>(number("anneal_strategy")) == AnnealStrategy::Linear)
    return (from[1] - from[0]) * pct + from[0];
  return from[1] + (from[0] - from[1]) / 2 * (std::cos(std::numbers::pi * pct) + 1);
}

double OneCycleLR::next_lr(const Moment& m) const {
  check<ValueError>(as_number(m.epoch) <= number("total_steps"), "{}: step {} is past the end, total_steps = {}",
                    name(), m.epoch, number("total_steps"));
  const double max = list("max_lrs")[m.group], min = m.base_lr / number("final_div_factor");
  return number("three_phase") != 0 ? anneal(m.epoch, {m.base_lr, max, m.base_lr, min})
                                    : anneal(m.epoch, {m.base_lr, max, min});
}

std::optional<double> OneCycleLR::next_momentum(const Moment& m) const {
  if (number("cycle_momentum") == 0) return {};
  const double base = list("base_momentums")[m.group], max = list("max_momentums")[m.group];
  return anneal(m.epoch, {max, base, max, max});
}

}  // namespace unroll::optim
