#include "optim/golden.h"

#include <doctest/doctest.h>
#include <unroll/optim/lr_scheduler.h>
#include <unroll/optim/sgd.h>

#include <limits>
#include <memory>

using namespace unroll;
using namespace unroll::optim;

namespace {

double rate(const Optimizer& opt) { return opt.param_groups()[0]["lr"]; }

// The rates in the first epochs, to be compared with PyTorch 2.15's: the same operations in the same order, so the same
// bits.
template <class Schedule, class... Args>
void check_rates(const std::vector<double>& expected, double lr, Args... args) {
  SGD opt({golden::parameter()}, {.lr = lr});
  Schedule schedule(opt, args...);
  for (std::size_t epoch = 0; epoch < expected.size(); ++epoch) {
    CAPTURE(epoch);
    CHECK(std::abs(rate(opt) - expected[epoch]) <= 1e-15);
    CHECK(schedule.get_last_lr() == std::vector{rate(opt)});
    CHECK(schedule.last_epoch() == static_cast<std::int64_t>(epoch));
    opt.step();
    schedule.step();
  }
}

}  // namespace

TEST_CASE("lr_scheduler: rates as PyTorch's") {
  check_rates<StepLR>({1, 1, 1, 0.1, 0.1, 0.1, 0.010000000000000002, 0.010000000000000002, 0.010000000000000002}, 1, 3);
  check_rates<StepLR>({2, 1, 0.5, 0.25}, 2, 1, 0.5);
  check_rates<ExponentialLR>(
      {1, 0.9, 0.81, 0.7290000000000001, 0.6561000000000001, 0.5904900000000002, 0.5314410000000002}, 1, 0.9);
  check_rates<CosineAnnealingLR>(
      {1.0, 0.8535533905932737, 0.5, 0.14644660940672627, 0.0, 0.1464466094067262, 0.5000000000000001,
       0.8535533905932742, 1.0000000000000004, 0.8535533905932742, 0.5000000000000003, 0.14644660940672674, 0.0,
       0.1464466094067262, 0.499999999999999, 0.853553390593272},
      1, 4);
  check_rates<CosineAnnealingLR>({1, 0, 1, 0, 1, 0, 1}, 1, 1);

  SGD opt({golden::parameter()}, {.lr = 0.3});
  CosineAnnealingLR cosine(opt, 5, 0.05);
  for (int epoch = 0; epoch < 28; ++epoch) cosine.step();
  CHECK(std::abs(rate(opt) - 0.21362712429686864) <= 1e-15);
}

TEST_CASE("lr_scheduler: each group follows its own rate, and a rate changed by hand is taken up") {
  SGD opt({{.params = {golden::parameter()}, .options = {{"lr", 8}}}, {.params = {golden::parameter()}}}, {.lr = 4});
  StepLR schedule(opt, 1, 0.5);
  CHECK(opt.param_groups()[0]["initial_lr"] == 8);
  schedule.step();
  CHECK(schedule.get_last_lr() == std::vector{4.0, 2.0});
  opt.param_groups()[1]["lr"] = 100;
  schedule.step();
  CHECK(schedule.get_last_lr() == std::vector{2.0, 50.0});
  opt.add_param_group({{golden::parameter()}});
  CHECK_RAISES(ValueError, "step_lr: made for 2 parameter groups, the optimizer has 3 now", schedule.step());
  CHECK(schedule.last_epoch() == 2);
}

TEST_CASE("lr_scheduler: a second schedule keeps the first initial_lr") {
  SGD opt({golden::parameter()}, {.lr = 1});
  StepLR first(opt, 1, 0.5);
  first.step();
  ExponentialLR second(opt, 0.5);
  CHECK(opt.param_groups()[0]["initial_lr"] == 1);
  CHECK(second.state_dict().at("base_lrs") == std::vector{1.0});
  CHECK(rate(opt) == 0.5);
}

TEST_CASE("lr_scheduler: constants outside their domain leave the optimizer as it was") {
  SGD opt({golden::parameter()}, {.lr = 1});
  auto before = golden::everything(opt);
  CHECK_RAISES(ValueError, "step_lr: expected step_size ≥ 1, got 0", StepLR(opt, 0).step());
  CHECK_RAISES(ValueError, "gamma ≥ 0, got -1", StepLR(opt, 1, -1).step());
  CHECK_RAISES(ValueError, "exponential_lr: expected gamma",
               ExponentialLR(opt, std::numeric_limits<double>::quiet_NaN()).step());
  CHECK_RAISES(ValueError, "cosine_annealing_lr: expected T_max ≥ 1, got -3", CosineAnnealingLR(opt, -3).step());
  CHECK_RAISES(ValueError, "eta_min", CosineAnnealingLR(opt, 3, std::numeric_limits<double>::infinity()).step());
  CHECK(golden::everything(opt) == before);
}

TEST_CASE_TEMPLATE("lr_scheduler: a schedule goes on from its state_dict", Schedule, StepLR, ExponentialLR,
                   CosineAnnealingLR) {
  auto make = [](Optimizer& opt, double constant) {
    if constexpr (std::is_same_v<Schedule, ExponentialLR>)
      return std::make_unique<Schedule>(opt, constant);
    else
      return std::make_unique<Schedule>(opt, 3, constant);
  };
  SGD opt({golden::parameter()}, {.lr = 0.7}), opt2({golden::parameter()}, {.lr = 0.1});
  auto whole = make(opt, 0.3);
  for (int epoch = 0; epoch < 5; ++epoch) whole->step();
  auto resumed = make(opt2, 0.4);
  opt2.load_state_dict(opt.state_dict());
  resumed->load_state_dict(whole->state_dict());
  for (int epoch = 0; epoch < 8; ++epoch) {
    whole->step();
    resumed->step();
    CHECK(rate(opt) == rate(opt2));
  }
  CHECK(resumed->state_dict() == whole->state_dict());
}

TEST_CASE("lr_scheduler: a state that does not fit changes nothing") {
  SGD opt({golden::parameter()}, {.lr = 1});
  StepLR schedule(opt, 2);
  const auto before = schedule.state_dict();
  auto rejects = [&](const char* text, auto change) {
    auto state = before;
    state.at("gamma") = {0.75};
    change(state);
    CHECK_RAISES(ValueError, text, schedule.load_state_dict(state));
    CHECK(schedule.state_dict() == before);
  };
  rejects("step_lr: the state has no 'gamma'", [](auto& s) { s.erase("gamma"); });
  rejects("unknown 'T_max'", [](auto& s) { s["T_max"] = {1}; });
  rejects("2 values of 'base_lrs', the schedule 1", [](auto& s) { s["base_lrs"] = {1, 2}; });
  rejects("step_size ≥ 1, got 0", [](auto& s) { s["step_size"] = {0}; });
  rejects("last_epoch is -1", [](auto& s) { s["last_epoch"] = {-1}; });
  rejects("last_epoch is 0.5", [](auto& s) { s["last_epoch"] = {0.5}; });
}
