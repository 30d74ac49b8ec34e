#include "optim/rates.h"

#include <doctest/doctest.h>
#include <unroll/optim/sgd.h>

#include <memory>

using namespace unroll;
using namespace unroll::optim;
using golden::rate;

namespace {

// For the rates that PyTorch gives from `lr`.
template <class Schedule, class... Args>
void check_rates(const std::vector<double>& expected, double lr, const Args&... args) {
  SGD opt({golden::parameter()}, {.lr = lr});
  Schedule schedule(opt, args...);
  CHECK(schedule.last_epoch() == 0);
  golden::check_rates(expected, schedule);
}

// The same from epoch last_epoch + 1 on, with the rate that the group has then.
template <class Schedule, class... Args>
void check_resumed(const std::vector<double>& expected, double initial_lr, double lr, const Args&... args) {
  SGD opt({golden::parameter()}, {.lr = lr});
  StateDict state = opt.state_dict();
  state.param_groups[0].options["initial_lr"] = initial_lr;
  opt.load_state_dict(state);
  Schedule schedule(opt, args...);
  golden::check_rates(expected, schedule);
  CHECK(opt.param_groups()[0]["initial_lr"] == initial_lr);
}

double inverse(std::int64_t epoch) { return 1 / static_cast<double>(1 + epoch); }

}  // namespace

TEST_CASE("lr_scheduler: rates as PyTorch's") {
  check_rates<StepLR>({1, 1, 1, 0.1, 0.1, 0.1, 0.010000000000000002, 0.010000000000000002, 0.010000000000000002}, 1, 3);
  check_rates<StepLR>({2, 1, 0.5, 0.25}, 2, 1, 0.5);
  check_rates<MultiStepLR>({1, 1, 0.5, 0.5, 0.5, 0.125, 0.125}, 1, std::vector<std::int64_t>{2, 5, 5}, 0.5);
  check_rates<MultiStepLR>({0.3, 0.09, 0.09, 0.0081, 0.0081}, 1, std::vector<std::int64_t>{0, 3, 1, 3}, 0.3);
  check_rates<MultiStepLR>({1, 1, 1}, 1, std::vector<std::int64_t>{});
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

TEST_CASE("lr_scheduler: constant, linear and polynomial rates as PyTorch's") {
  const double third = 1.0 / 3;
  check_rates<ConstantLR>({third, third, third, third, third, 1, 1}, 1);
  check_rates<ConstantLR>({0.21, 0.21, 0.7, 0.7}, 0.7, ConstantLROptions{.factor = 0.3, .total_iters = 2});
  check_rates<ConstantLR>({0.5, 0.5, 0.5}, 1, ConstantLROptions{.factor = 0.5, .total_iters = 0});
  check_rates<ConstantLR>({0, 0, 0.7, 0.7}, 0.7, ConstantLROptions{.factor = 0, .total_iters = 2});  // torch: 1 / 0
  check_rates<LinearLR>({third, 0.4666666666666667, 0.6000000000000001, 0.7333333333333335, 0.8666666666666669,
                         1.0000000000000002, 1.0000000000000002, 1.0000000000000002},
                        1);
  check_rates<LinearLR>({0.63, 0.4316666666666667, 0.23333333333333336, 0.03500000000000006, 0.03500000000000006}, 0.7,
                        LinearLROptions{.start_factor = 0.9, .end_factor = 0.05, .total_iters = 3});
  check_rates<LinearLR>({0.5, 0.5}, 1, LinearLROptions{.start_factor = 0.5, .total_iters = 0});
  check_rates<PolynomialLR>({1.0, 0.8, 0.6, 0.4, 0.19999999999999996, 0.0, 0.0, 0.0}, 1);
  check_rates<PolynomialLR>({0.3, 0.183960847839828, 0.09233583100086871, 0.02841968562206996, 0.0, 0.0}, 0.3,
                            PolynomialLROptions{.total_iters = 4, .power = 1.7});
  check_rates<PolynomialLR>({1, 1}, 1, PolynomialLROptions{.total_iters = 0});
}

TEST_CASE("lr_scheduler: rates by functions as PyTorch's") {
  check_rates<LambdaLR>({0.3, 0.15, 0.09999999999999999, 0.075, 0.06}, 0.3, inverse);
  auto shrink = [](std::int64_t) { return 0.95; };
  check_rates<MultiplicativeLR>({0.3, 0.285, 0.27075, 0.25721249999999996, 0.24435187499999994}, 0.3, shrink);

  std::vector<std::int64_t> asked;
  SGD opt({{.params = {golden::parameter()}, .options = {{"lr", 8}}}, {.params = {golden::parameter()}}}, {.lr = 4});
  LambdaLR each(opt, {inverse, [&](std::int64_t epoch) { return asked.push_back(epoch), 0.5; }});
  each.step();
  CHECK(asked == std::vector<std::int64_t>{0, 1});
  CHECK(each.get_last_lr() == std::vector{4.0, 2.0});
  MultiplicativeLR both(opt, {[](std::int64_t) { return 2.0; }, [&](std::int64_t) -> double { throw 7; }});
  CHECK(both.get_last_lr() == std::vector{4.0, 2.0});  // nobody is asked for epoch 0
  CHECK_THROWS_AS(both.step(), int);
  CHECK(rate(opt, 0) == 4);
  CHECK(both.last_epoch() == 0);
}

TEST_CASE("lr_scheduler: a function that raises leaves the optimizer without an initial_lr") {
  SGD opt({golden::parameter()}, {.lr = 1});
  auto before = golden::everything(opt);
  CHECK_THROWS_AS(LambdaLR(opt, [](std::int64_t) -> double { throw 7; }).step(), int);
  CHECK(golden::everything(opt) == before);
}

TEST_CASE("lr_scheduler: made with last_epoch, a schedule goes on as PyTorch's") {
  check_resumed<StepLR>({0.15, 0.15, 0.15, 0.075, 0.075}, 0.7, 0.3, 3, 0.5, 2);
  check_resumed<MultiStepLR>({0.3, 0.15}, 0.7, 0.3, std::vector<std::int64_t>{4}, 0.5, 2);
  check_resumed<ExponentialLR>({0.3, 0.15, 0.075, 0.0375}, 0.7, 0.3, 0.5, 2);
  check_resumed<ConstantLR>({0.3, 0.6}, 0.7, 0.3, ConstantLROptions{.factor = 0.5, .total_iters = 4, .last_epoch = 2});
  check_resumed<LinearLR>({0.3, 0.3666666666666667, 0.4333333333333334, 0.5}, 0.7, 0.3,
                          LinearLROptions{.last_epoch = 1});
  check_resumed<PolynomialLR>({0.3, 0.19999999999999996}, 0.7, 0.3, PolynomialLROptions{.last_epoch = 1});
  check_resumed<CosineAnnealingLR>({0.3, 0.1, 0.18786796564403574, 0.40000000000000013, 0.6121320343559646}, 0.7, 0.3,
                                   4, 0.1, 2);
  check_resumed<LambdaLR>({0.2333333333333333, 0.175, 0.13999999999999999}, 0.7, 0.3, inverse, 1);
  check_resumed<MultiplicativeLR>({0.3, 0.075}, 0.7, 0.3, inverse, 1);
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
