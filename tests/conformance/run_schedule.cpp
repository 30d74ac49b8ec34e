#include "replay.h"

#include <unroll/optim/cyclic_lr.h>
#include <unroll/optim/lr_scheduler.h>
#include <unroll/optim/reduce_lr_on_plateau.h>
#include <unroll/optim/sgd.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <optional>

namespace conformance {
namespace {
using namespace unroll::optim;

/// Overwrites `value` if the option is there and not None. A list has one number a group, an enumerator is one of its
/// `names`.
template <class T>
void read(Case& c, const std::string& key, std::optional<T>& value) {
  T given = 0;
  std::string text;
  c.option(key, text);
  if (text.empty() || text == "None") return;
  c.option(key, given);
  value = given;
}
void read(Case& c, const std::string& key, PerGroup& value) {
  std::string text;
  c.option(key, text);
  if (text.empty()) return;
  const auto given = nlohmann::json::parse(text);
  value = given.is_array() ? PerGroup(given.get<std::vector<double>>()) : PerGroup(given.get<double>());
}
template <class Enum>
void read(Case& c, const std::string& key, Enum& value, std::initializer_list<std::string_view> names) {
  std::string text;
  c.option(key, text);
  if (text.empty()) return;
  const auto found = std::find(names.begin(), names.end(), text);
  check<ValueError>(found != names.end(), "{} {} is unknown", key, text);
  value = static_cast<Enum>(found - names.begin());
}
PerGroup per_group(Case& c, const std::string& key) {
  PerGroup value = 0;
  static_cast<void>(c.option(key));  // raises if there is none
  read(c, key, value);
  return value;
}

using Schedule = std::unique_ptr<LRScheduler>;
const std::map<std::string_view, Schedule (*)(Case&, Optimizer&)> kSchedules = {
    {"StepLR",
     [](Case& c, Optimizer& o) -> Schedule {
       double gamma = 0.1;
       c.option("gamma", gamma);
       return std::make_unique<StepLR>(o, c.option<std::int64_t>("step_size"), gamma);
     }},
    {"MultiStepLR",
     [](Case& c, Optimizer& o) -> Schedule {
       double gamma = 0.1;
       c.option("gamma", gamma);
       const auto milestones = nlohmann::json::parse(c.option("milestones"));
       return std::make_unique<MultiStepLR>(o, milestones.get<std::vector<std::int64_t>>(), gamma);
     }},
    {"ExponentialLR",
     [](Case& c, Optimizer& o) -> Schedule { return std::make_unique<ExponentialLR>(o, c.option<double>("gamma")); }},
    {"ConstantLR",
     [](Case& c, Optimizer& o) -> Schedule {
       ConstantLROptions options;
       c.option("factor", options.factor);
       c.option("total_iters", options.total_iters);
       return std::make_unique<ConstantLR>(o, options);
     }},
    {"LinearLR",
     [](Case& c, Optimizer& o) -> Schedule {
       LinearLROptions options;
       c.option("start_factor", options.start_factor);
       c.option("end_factor", options.end_factor);
       c.option("total_iters", options.total_iters);
       return std::make_unique<LinearLR>(o, options);
     }},
    {"PolynomialLR",
     [](Case& c, Optimizer& o) -> Schedule {
       PolynomialLROptions options;
       c.option("total_iters", options.total_iters);
       c.option("power", options.power);
       return std::make_unique<PolynomialLR>(o, options);
     }},
    {"CosineAnnealingLR",
     [](Case& c, Optimizer& o) -> Schedule {
       double eta_min = 0;
       c.option("eta_min", eta_min);
       return std::make_unique<CosineAnnealingLR>(o, c.option<std::int64_t>("T_max"), eta_min);
     }},
    {"CosineAnnealingWarmRestarts",
     [](Case& c, Optimizer& o) -> Schedule {
       std::int64_t T_mult = 1;
       double eta_min = 0;
       c.option("T_mult", T_mult);
       c.option("eta_min", eta_min);
       return std::make_unique<CosineAnnealingWarmRestarts>(o, c.option<std::int64_t>("T_0"), T_mult, eta_min);
     }},
    {"CyclicLR",
     [](Case& c, Optimizer& o) -> Schedule {
       CyclicLROptions options;
       c.option("step_size_up", options.step_size_up);
       read(c, "step_size_down", options.step_size_down);
       read(c, "mode", options.mode, {"triangular", "triangular2", "exp_range"});
       c.option("gamma", options.gamma);
       c.option("cycle_momentum", options.cycle_momentum);
       read(c, "base_momentum", options.base_momentum);
       read(c, "max_momentum", options.max_momentum);
       return std::make_unique<CyclicLR>(o, per_group(c, "base_lr"), per_group(c, "max_lr"), options);
     }},
    {"OneCycleLR",
     [](Case& c, Optimizer& o) -> Schedule {
       OneCycleLROptions options;
       read(c, "total_steps", options.total_steps);
       read(c, "epochs", options.epochs);
       read(c, "steps_per_epoch", options.steps_per_epoch);
       c.option("pct_start", options.pct_start);
       read(c, "anneal_strategy", options.anneal_strategy, {"cos", "linear"});
       c.option("cycle_momentum", options.cycle_momentum);
       read(c, "base_momentum", options.base_momentum);
       read(c, "max_momentum", options.max_momentum);
       c.option("div_factor", options.div_factor);
       c.option("final_div_factor", options.final_div_factor);
       c.option("three_phase", options.three_phase);
       return std::make_unique<OneCycleLR>(o, per_group(c, "max_lr"), options);
     }},
    {"ReduceLROnPlateau",
     [](Case& c, Optimizer& o) -> Schedule {
       ReduceLROnPlateauOptions options;
       read(c, "mode", options.mode, {"min", "max"});
       c.option("factor", options.factor);
       c.option("patience", options.patience);
       c.option("threshold", options.threshold);
       read(c, "threshold_mode", options.threshold_mode, {"rel", "abs"});
       c.option("cooldown", options.cooldown);
       read(c, "min_lr", options.min_lr);
       c.option("eps", options.eps);
       return std::make_unique<ReduceLROnPlateau>(o, options);
     }},
};

}  // namespace

Answers replay_schedule(Case& c) {
  SGD optimizer({zeros(1).requires_grad_()}, {.lr = c.option<double>("lr")});
  const std::string name = c.option("scheduler");
  const auto make = kSchedules.find(name);
  check<ValueError>(make != kSchedules.end(), "scheduler {} is unknown", name);
  const Schedule schedule = make->second(c, optimizer);
  auto* plateau = dynamic_cast<ReduceLROnPlateau*>(schedule.get());
  std::vector<double> metrics;
  if (plateau) metrics = c.given("metrics").to_vector<double>();

  std::vector<double> rates;
  for (std::size_t step = 0; step < 15; ++step) {
    rates.push_back(optimizer.param_groups()[0]["lr"]);
    optimizer.step();
    plateau ? plateau->step(metrics.at(step)) : schedule->step();
  }
  return {{"lr", from_data(rates, 15)}};
}

}  // namespace conformance
