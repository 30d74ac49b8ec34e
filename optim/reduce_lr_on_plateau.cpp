#include <unroll/optim/reduce_lr_on_plateau.h>

#include <algorithm>

namespace unroll::optim {
namespace {
constexpr double kInf = std::numeric_limits<double>::infinity();
}

ReduceLROnPlateau::ReduceLROnPlateau(Optimizer& optimizer, const ReduceLROnPlateauOptions& options)
    : LRScheduler("reduce_lr_on_plateau", optimizer,
                  {{"mode", {static_cast<double>(options.mode)}},
                   {"factor", {options.factor}},
                   {"patience", {as_number(options.patience)}},
                   {"threshold", {options.threshold}},
                   {"threshold_mode", {static_cast<double>(options.threshold_mode)}},
                   {"cooldown", {as_number(options.cooldown)}},
                   {"min_lrs", options.min_lr.of(optimizer, "reduce_lr_on_plateau", "min_lr")},
                   {"eps", {options.eps}},
                   {"best", {options.mode == PlateauMode::Min ? kInf : -kInf}},
                   {"cooldown_counter", {0}},
                   {"num_bad_epochs", {0}}}),
      takes_groups_(options.min_lr.is_for_all()) {
  validate(state_dict());
}

void ReduceLROnPlateau::validate(const StateDict& numbers) const {
  check_whole(numbers, "mode", 0, 1);
  const double factor = numbers.find("factor")->second[0];
  check<ValueError>(factor >= 0 && factor < 1, "{}: expected factor in [0, 1), got {}", name(), factor);
  for (const char* count : {"patience", "cooldown", "cooldown_counter", "num_bad_epochs"})
    check_whole(numbers, count, 0);
  check_whole(numbers, "threshold_mode", 0, 1);
  for (const char* least : {"threshold", "min_lrs", "eps"}) check_least(numbers, least, 0);
}

bool ReduceLROnPlateau::is_better(double metric) const {
  const double best = number("best"), threshold = number("threshold");
  const bool relative = static_cast<ThresholdMode>(number("threshold_mode")) == ThresholdMode::Rel;
  if (static_cast<PlateauMode>(number("mode")) == PlateauMode::Min)
    return metric < (relative ? best * (1 - threshold) : best - threshold);
  return metric > (relative ? best * (1 + threshold) : best + threshold);
}

void ReduceLROnPlateau::step() {
  throw ValueError("reduce_lr_on_plateau: step needs the metric that the schedule watches");
}

void ReduceLROnPlateau::step(double metric) {
  std::span<ParamGroup> groups = optimizer().param_groups();
  std::vector<double>& min_lrs = list("min_lrs");
  if (takes_groups_)
    min_lrs.resize(groups.size(), min_lrs[0]);
  else
    check_groups();

  list("last_lr").resize(groups.size());  // arrive() then needs no memory
  double &bad = number("num_bad_epochs"), &cooldown = number("cooldown_counter");
  if (is_better(metric)) {
    number("best") = metric;
    bad = 0;
  } else {
    ++bad;
  }
  if (cooldown > 0) {
    --cooldown;
    bad = 0;
  }
  if (bad > number("patience")) {
    for (std::size_t g = 0; g < groups.size(); ++g) {
      const double lr = groups[g]["lr"], reduced = std::max(lr * number("factor"), min_lrs[g]);
      if (lr - reduced > number("eps")) groups[g]["lr"] = reduced;
    }
    cooldown = number("cooldown");
    bad = 0;
  }
  arrive(last_epoch() + 1);
}

}  // namespace unroll::optim
