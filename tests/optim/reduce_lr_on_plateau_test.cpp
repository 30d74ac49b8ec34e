#include "optim/rates.h"

#include <doctest/doctest.h>
#include <unroll/optim/reduce_lr_on_plateau.h>
#include <unroll/optim/sgd.h>

#include <algorithm>
#include <cmath>

using namespace unroll;
using namespace unroll::optim;
using golden::rate;

namespace {

// The rates that PyTorch gives from lr = 1 for these metrics, of which the last goes on.
void check_rates(const std::vector<double>& expected, const std::vector<double>& metrics,
                 const ReduceLROnPlateauOptions& options) {
  SGD opt({golden::parameter()}, {.lr = 1});
  ReduceLROnPlateau schedule(opt, options);
  CHECK_FALSE(opt.param_groups()[0].options.contains("initial_lr"));
  golden::check_rates(expected, schedule,
                      [&](std::size_t t) { schedule.step(metrics[std::min(t, metrics.size() - 1)]); });
}

}  // namespace

TEST_CASE("reduce_lr_on_plateau: rates as PyTorch's") {
  check_rates({1, 1, 1, 1, 0.5, 0.5, 0.5, 0.25}, {1}, {.factor = 0.5, .patience = 2});
  check_rates({1, 1, 0.5, 0.5, 0.5, 0.25, 0.25, 0.25, 0.2, 0.2}, {1},
              {.factor = 0.5, .patience = 0, .cooldown = 2, .min_lr = 0.2});
  check_rates(
      {1, 1, 1, 0.5, 0.5, 0.25, 0.25, 0.125}, {0.5, 1, 1.05, 1.2, 1.3, 1.35, std::nan("")},
      {.mode = PlateauMode::Max, .factor = 0.5, .patience = 0, .threshold = 0.1, .threshold_mode = ThresholdMode::Abs});
  check_rates({1, 1, 0.5, 0.5, 0.25, 0.25}, {1, 0.95, 0.89, 0.8011, 0.8},
              {.factor = 0.5, .patience = 0, .threshold = 0.1});
  check_rates({1, 1, 0.5, 0.25, 0.25, 0.25}, {1}, {.factor = 0.5, .patience = 0, .eps = 0.2});
  check_rates({1, 1, 1, 1, 1}, {1, 0.5, 0.25, 0.125}, {.patience = 0});  // better and better
  check_rates({1, 1, 1, 1}, {-1, -1.5, -1.5}, {.patience = 0});  // to a share of a negative best, the same is better
}

TEST_CASE("reduce_lr_on_plateau: a rate changed by hand is taken up, and a later group is taken in") {
  SGD opt({golden::parameter()}, {.lr = 1});
  ReduceLROnPlateau schedule(opt, {.factor = 0.5, .patience = 0, .min_lr = 0.25});
  schedule.step(1);
  opt.param_groups()[0]["lr"] = 8;
  opt.add_param_group({{golden::parameter()}, {{"lr", 0.3}}});
  schedule.step(1);
  CHECK(schedule.get_last_lr() == std::vector{4.0, 0.25});
  opt.load_state_dict(opt.state_dict());
  schedule.load_state_dict(schedule.state_dict());
  schedule.step(1);
  CHECK(schedule.get_last_lr() == std::vector{2.0, 0.25});
}

TEST_CASE(
    "reduce_lr_on_plateau: a state is loaded whether the later group is there already or comes after the schedule") {
  for (bool saved_after_step : {false, true})
    for (bool made_after_group : {false, true}) {
      SGD opt({golden::parameter()}, {.lr = 8}), resumed({golden::parameter()}, {.lr = 1});
      ReduceLROnPlateau schedule(opt, {.factor = 0.5, .patience = 0, .min_lr = 0.25});
      schedule.step(1);
      opt.add_param_group({{golden::parameter()}});
      if (saved_after_step) schedule.step(1);

      if (made_after_group) resumed.add_param_group({{golden::parameter()}});
      ReduceLROnPlateau later(resumed, {.factor = 0.5, .patience = 0, .min_lr = 0.25});
      if (!made_after_group) resumed.add_param_group({{golden::parameter()}});
      resumed.load_state_dict(opt.state_dict());
      later.load_state_dict(schedule.state_dict());
      schedule.step(1), later.step(1);
      CHECK(later.state_dict() == schedule.state_dict());
      CHECK(later.get_last_lr() == (saved_after_step ? std::vector{2.0, 2.0} : std::vector{4.0, 4.0}));
      auto too_many = schedule.state_dict();
      too_many["last_lr"].push_back(1);
      CHECK_RAISES(ValueError, "3 values of 'last_lr', the schedule 2", later.load_state_dict(too_many));
      too_many["last_lr"].clear();
      CHECK_RAISES(ValueError, "0 values of 'last_lr', the schedule 2", later.load_state_dict(too_many));
    }
}

TEST_CASE("reduce_lr_on_plateau: min_lr as a list has one value a group, and no later group") {
  SGD opt({{.params = {golden::parameter()}}, {.params = {golden::parameter()}}}, {.lr = 1});
  ReduceLROnPlateau schedule(opt, {.factor = 0, .patience = 0, .min_lr = {0.5, 0.25}});
  schedule.step(1);
  schedule.step(1);
  CHECK(schedule.get_last_lr() == std::vector{0.5, 0.25});
  opt.add_param_group({{golden::parameter()}});
  auto state = schedule.state_dict();
  CHECK_RAISES(ValueError, "reduce_lr_on_plateau: made for 2 parameter groups, the optimizer has 3", schedule.step(1));
  CHECK(schedule.state_dict() == state);
}

TEST_CASE("reduce_lr_on_plateau: there is no step without a metric") {
  SGD opt({golden::parameter()}, {.lr = 1});
  ReduceLROnPlateau schedule(opt);
  LRScheduler& base = schedule;
  CHECK_RAISES(ValueError, "reduce_lr_on_plateau: step needs the metric", base.step());
  CHECK(base.last_epoch() == 0);
}

TEST_CASE("reduce_lr_on_plateau: a step of just eps is too small") {
  SGD opt({golden::parameter()}, {.lr = 1});
  ReduceLROnPlateau schedule(opt, {.factor = 0.5, .patience = 0, .eps = 0.5});
  schedule.step(1.);
  schedule.step(2.);
  CHECK(opt.param_groups()[0]["lr"] == 1);
}

TEST_CASE("reduce_lr_on_plateau: in either mode, what is better by just the threshold is no better") {
  const double half = 0.5;
  for (auto [mode, threshold_mode, bad, good] : {std::tuple{PlateauMode::Min, ThresholdMode::Rel, 2., 1.9},
                                                 {PlateauMode::Min, ThresholdMode::Abs, 3.5, 3.4},
                                                 {PlateauMode::Max, ThresholdMode::Rel, 6., 6.1},
                                                 {PlateauMode::Max, ThresholdMode::Abs, 4.5, 4.6}}) {
    const ReduceLROnPlateauOptions options{
        .mode = mode, .factor = 0.5, .patience = 0, .threshold = half, .threshold_mode = threshold_mode};
    check_rates({1, 1, 0.5}, {4, bad}, options);
    check_rates({1, 1, 1}, {4, good}, options);
  }
}
