#include "support/error_table.h"

#include <doctest/doctest.h>
#include <fmt/format.h>

#include <limits>

using namespace unroll;
using namespace unroll::optim;

namespace {

constexpr double kNan = std::numeric_limits<double>::quiet_NaN(), kInf = std::numeric_limits<double>::infinity();

/// An optimizer without momentum.
struct Plain : Optimizer {
  explicit Plain(const Tensor& p) : Optimizer("plain", {}, {{"lr", 1}}) { add_param_groups({ParamGroup{{p}}}); }
  void validate(const ParamGroup&) const override {}
  bool extend(State&, const ParamGroup&, const Tensor&) const override { return false; }
  void update(const ParamGroup&, std::span<Update>) const override {}
};

struct Fixture {
  Fixture() {
    table.watch(sgd, adam, plain, two, fresh);
    for (LRScheduler* s : {static_cast<LRScheduler*>(&step), static_cast<LRScheduler*>(&plateau)})
      table.watch_state(s->name(), [s] {
        std::string text;
        for (const auto& [name, values] : s->state_dict()) text += fmt::format("{} {};", name, fmt::join(values, " "));
        return text;
      });
  }
  /// A schedule that cannot be made, with the start of what the error says.
  template <class Schedule, class... Args>
  void row(const std::string& what, std::vector<std::string> tokens, Optimizer& opt, Args... args) {
    table.row<ValueError>(what, std::move(tokens), [&opt, args...] { Schedule made(opt, args...); });
  }

  Tensor p = ones(2).requires_grad_(), q = ones(2).requires_grad_();
  SGD sgd{{p}, {.lr = 1}}, fresh{{p}};
  SGD two{{{.params = {p}}, {.params = {q}}}, {.lr = 1}};
  Adam adam{{p}};
  Plain plain{p};
  StepLR step{sgd, 2};
  ReduceLROnPlateau plateau{sgd};
  ErrorTable table{"schedules"};
};

using Whole = std::vector<std::int64_t>;

}  // namespace

TEST_CASE_FIXTURE(Fixture, "errors of schedules: constants") {
  row<StepLR>("a step of 0", {"step_lr", "step_size ≥ 1", "0"}, sgd, 0);
  row<StepLR>("a negative gamma", {"step_lr", "gamma ≥ 0", "-1"}, sgd, 1, -1);
  row<MultiStepLR>("a negative milestone", {"multi_step_lr", "milestones ≥ 0", "-3"}, sgd, Whole{2, -3});
  row<MultiStepLR>("a gamma of NaN", {"multi_step_lr", "gamma", "nan"}, sgd, Whole{2}, kNan);
  row<ExponentialLR>("a gamma of NaN", {"exponential_lr", "gamma", "nan"}, sgd, kNan);
  row<ExponentialLR>("a negative gamma", {"exponential_lr", "gamma", "-0.5"}, sgd, -0.5);
  for (double factor : {-0.1, 1.1, kNan}) {
    const std::string text = fmt::format("{}", factor);
    row<ConstantLR>("factor", {"constant_lr", "factor", text}, sgd, ConstantLROptions{.factor = factor});
    row<LinearLR>("start_factor", {"linear_lr", "start_factor in (0, 1]", text}, sgd,
                  LinearLROptions{.start_factor = factor});
    row<LinearLR>("end_factor", {"linear_lr", "end_factor", text}, sgd, LinearLROptions{.end_factor = factor});
  }
  row<LinearLR>("a start of 0", {"linear_lr", "start_factor in (0, 1]", "0"}, sgd, LinearLROptions{.start_factor = 0});
  row<ConstantLR>("total_iters", {"constant_lr", "total_iters ≥ 0", "-1"}, sgd, ConstantLROptions{.total_iters = -1});
  row<LinearLR>("total_iters", {"linear_lr", "total_iters ≥ 0", "-1"}, sgd, LinearLROptions{.total_iters = -1});
  row<PolynomialLR>("total_iters", {"polynomial_lr", "total_iters", "-1"}, sgd, PolynomialLROptions{.total_iters = -1});
  row<PolynomialLR>("power", {"polynomial_lr", "power ≥ 0", "-1"}, sgd, PolynomialLROptions{.power = -1});
  row<CosineAnnealingLR>("T_max", {"cosine_annealing_lr", "T_max ≥ 1", "-3"}, sgd, -3);
  row<CosineAnnealingLR>("eta_min", {"cosine_annealing_lr", "finite eta_min", "inf"}, sgd, 3, kInf);
  using Restarts = CosineAnnealingWarmRestarts;
  row<Restarts>("T_0 = 0", {"cosine_annealing_warm_restarts", "T_0 ≥ 1", "0"}, sgd, 0);
  row<Restarts>("a negative T_0", {"cosine_annealing_warm_restarts", "T_0", "-2"}, sgd, -2);
  row<Restarts>("T_mult = 0", {"cosine_annealing_warm_restarts", "T_mult ≥ 1", "0"}, sgd, 2, 0);
  row<Restarts>("eta_min", {"cosine_annealing_warm_restarts", "finite eta_min", "nan"}, sgd, 2, 1, kNan);
  table.row<ValueError>("a negative epoch", {"cosine_annealing_warm_restarts", "epoch ≥ 0", "-0.5"}, [&] {
    Adam own({q});
    Restarts(own, 2).step(-0.5);
  });
  row<LambdaLR>("no function", {"lambda_lr", "function 0 is empty"}, sgd, LRLambda());
  auto one = [](std::int64_t) { return 1.0; };
  row<LambdaLR>("a function for two groups", {"lambda_lr", "1 functions", "2 parameter groups"}, two,
                std::vector<LRLambda>{one});
  row<MultiplicativeLR>("three functions for two groups", {"multiplicative_lr", "3 functions", "2 parameter groups"},
                        two, std::vector<LRLambda>(3, one));
  row<MultiplicativeLR>("an empty function", {"multiplicative_lr", "function 1 is empty"}, two,
                        std::vector<LRLambda>{one, {}});
}

TEST_CASE_FIXTURE(Fixture, "errors of schedules: last_epoch") {
  const std::string text = "last_epoch = 3, param_groups[0] needs an 'initial_lr'";
  row<StepLR>("going on without a start", {"step_lr", text}, fresh, 2, 0.1, 3);
  row<MultiStepLR>("going on without a start", {"multi_step_lr", text}, fresh, Whole{2}, 0.1, 3);
  row<ExponentialLR>("going on without a start", {"exponential_lr", text}, fresh, 0.1, 3);
  row<ConstantLR>("going on without a start", {"constant_lr", text}, fresh, ConstantLROptions{.last_epoch = 3});
  row<LinearLR>("going on without a start", {"linear_lr", text}, fresh, LinearLROptions{.last_epoch = 3});
  row<PolynomialLR>("going on without a start", {"polynomial_lr", text}, fresh, PolynomialLROptions{.last_epoch = 3});
  row<CosineAnnealingLR>("going on without a start", {"cosine_annealing_lr", text}, fresh, 3, 0, 3);
  row<CosineAnnealingWarmRestarts>("going on without a start", {"warm_restarts", text}, fresh, 3, 1, 0, 3);
  row<CyclicLR>("going on without a start", {"cyclic_lr", text}, fresh, 0.1, 1, CyclicLROptions{.last_epoch = 3});
  row<OneCycleLR>("going on without a start", {"one_cycle_lr", text}, fresh, 1,
                  OneCycleLROptions{.total_steps = 9, .last_epoch = 3});
  row<StepLR>("before the first", {"step_lr", "last_epoch ≥ -1", "-2"}, sgd, 2, 0.1, -2);
  row<CosineAnnealingWarmRestarts>("before the first", {"warm_restarts", "last_epoch", "-9"}, sgd, 3, 2, 0, -9);
  constexpr std::int64_t kMost = std::numeric_limits<std::int64_t>::max();
  row<StepLR>("greater than doubles count", {"step_lr", "last_epoch < 2^53", "9223372036854775807"}, sgd, 2, 0.1,
              kMost);
  row<CosineAnnealingWarmRestarts>("greater than doubles count", {"warm_restarts", "last_epoch < 2^53"}, sgd, 3, 2, 0,
                                   kMost);
}

TEST_CASE_FIXTURE(Fixture, "errors of schedules: cycles") {
  using Cyclic = CyclicLROptions;
  row<CyclicLR>("base_lr", {"cyclic_lr", "base_lr ≥ 0", "-1"}, sgd, -1, 1);
  row<CyclicLR>("max_lr", {"cyclic_lr", "max_lrs ≥ 0", "nan"}, sgd, 1, kNan);
  row<CyclicLR>("step_size_up", {"cyclic_lr", "step_size_up ≥ 1", "0"}, sgd, 0.1, 1, Cyclic{.step_size_up = 0});
  row<CyclicLR>("step_size_down", {"cyclic_lr", "step_size_down ≥ 0", "-1"}, sgd, 0.1, 1, Cyclic{.step_size_down = -1});
  row<CyclicLR>("mode", {"cyclic_lr", "mode", "9"}, sgd, 0.1, 1, Cyclic{.mode = CyclicMode(9)});
  row<CyclicLR>("gamma", {"cyclic_lr", "gamma", "-1"}, sgd, 0.1, 1, Cyclic{.gamma = -1});
  row<CyclicLR>("momentum", {"cyclic_lr", "base_momentums ≥ 0", "-0.1"}, sgd, 0.1, 1, Cyclic{.base_momentum = -0.1});
  row<CyclicLR>("beta1", {"cyclic_lr", "max_momentums < 1", "beta1", "got 1"}, adam, 0.1, 1, Cyclic{.max_momentum = 1});
  row<CyclicLR>("no momentum", {"cyclic_lr", "momentum or beta1", "plain"}, plain, 0.1, 1);
  row<CyclicLR>("values of base_lr", {"cyclic_lr", "3 values of base_lr", "2 parameter groups"}, two, PerGroup{1, 2, 3},
                1);
  row<CyclicLR>("values of max_lr", {"cyclic_lr", "1 values of max_lr", "2 parameter groups"}, two, 1, PerGroup{1});
  row<CyclicLR>("values of a momentum", {"cyclic_lr", "3 values of max_momentum", "2 parameter groups"}, two, 1, 2,
                Cyclic{.max_momentum = {0.5, 0.5, 0.5}});

  using OneCycle = OneCycleLROptions;
  row<OneCycleLR>("no number of steps", {"one_cycle_lr", "total_steps", "epochs and steps_per_epoch"}, sgd, 1);
  row<OneCycleLR>("epochs alone", {"one_cycle_lr", "epochs and steps_per_epoch"}, sgd, 1, OneCycle{.epochs = 2});
  row<OneCycleLR>("total_steps = 0", {"one_cycle_lr", "total_steps ≥ 1", "0"}, sgd, 1, OneCycle{.total_steps = 0});
  row<OneCycleLR>("negative total_steps", {"one_cycle_lr", "total_steps", "-7"}, sgd, 1, OneCycle{.total_steps = -7});
  row<OneCycleLR>("epochs", {"one_cycle_lr", "epochs ≥ 1", "0"}, sgd, 1, OneCycle{.epochs = 0, .steps_per_epoch = 1});
  row<OneCycleLR>("steps_per_epoch", {"one_cycle_lr", "steps_per_epoch ≥ 1", "-1"}, sgd, 1,
                  OneCycle{.epochs = 1, .steps_per_epoch = -1});
  for (double pct : {-0.1, 1.1, kNan})
    row<OneCycleLR>("pct_start", {"one_cycle_lr", "pct_start", fmt::format("{}", pct)}, sgd, 1,
                    OneCycle{.total_steps = 9, .pct_start = pct});
  row<OneCycleLR>("anneal_strategy", {"one_cycle_lr", "anneal_strategy", "7"}, sgd, 1,
                  OneCycle{.total_steps = 9, .anneal_strategy = AnnealStrategy(7)});
  row<OneCycleLR>("max_lr", {"one_cycle_lr", "max_lrs ≥ 0", "-1"}, sgd, -1, OneCycle{.total_steps = 9});
  row<OneCycleLR>("div_factor", {"one_cycle_lr", "div_factor > 0", "0"}, sgd, 1,
                  OneCycle{.total_steps = 9, .div_factor = 0});
  row<OneCycleLR>("final_div_factor", {"one_cycle_lr", "final_div_factor > 0", "-1"}, sgd, 1,
                  OneCycle{.total_steps = 9, .final_div_factor = -1});
  row<OneCycleLR>("no momentum", {"one_cycle_lr", "momentum or beta1", "plain"}, plain, 1, OneCycle{.total_steps = 9});
  row<OneCycleLR>("beta1", {"one_cycle_lr", "base_momentums < 1", "1.5"}, adam, 1,
                  OneCycle{.total_steps = 9, .base_momentum = 1.5});
  row<OneCycleLR>("values of max_lr", {"one_cycle_lr", "3 values of max_lr", "2 parameter groups"}, two,
                  PerGroup{1, 2, 3}, OneCycle{.total_steps = 9});
  row<OneCycleLR>("values of a momentum", {"one_cycle_lr", "1 values of base_momentum", "2 parameter groups"}, two, 1,
                  OneCycle{.total_steps = 9, .base_momentum = {0.5}});
}

TEST_CASE_FIXTURE(Fixture, "errors of schedules: plateau") {
  using Plateau = ReduceLROnPlateauOptions;
  for (double factor : {1.0, 2.0, -0.5, kNan})
    row<ReduceLROnPlateau>("factor", {"reduce_lr_on_plateau", "factor in [0, 1)", fmt::format("{}", factor)}, sgd,
                           Plateau{.factor = factor});
  row<ReduceLROnPlateau>("mode", {"reduce_lr_on_plateau", "mode", "2"}, sgd, Plateau{.mode = PlateauMode(2)});
  row<ReduceLROnPlateau>("threshold_mode", {"reduce_lr_on_plateau", "threshold_mode", "5"}, sgd,
                         Plateau{.threshold_mode = ThresholdMode(5)});
  row<ReduceLROnPlateau>("patience", {"reduce_lr_on_plateau", "patience ≥ 0", "-1"}, sgd, Plateau{.patience = -1});
  row<ReduceLROnPlateau>("cooldown", {"reduce_lr_on_plateau", "cooldown ≥ 0", "-1"}, sgd, Plateau{.cooldown = -1});
  row<ReduceLROnPlateau>("threshold", {"reduce_lr_on_plateau", "threshold ≥ 0", "nan"}, sgd,
                         Plateau{.threshold = kNan});
  row<ReduceLROnPlateau>("min_lr", {"reduce_lr_on_plateau", "min_lrs ≥ 0", "-1"}, sgd, Plateau{.min_lr = -1});
  row<ReduceLROnPlateau>("eps", {"reduce_lr_on_plateau", "eps ≥ 0", "-1"}, sgd, Plateau{.eps = -1});
  row<ReduceLROnPlateau>("values of min_lr", {"reduce_lr_on_plateau", "1 values of min_lr", "2 parameter groups"}, two,
                         Plateau{.min_lr = {0.5}});
  table.row<ValueError>("no metric", {"reduce_lr_on_plateau", "step", "metric"},
                        [&] { static_cast<LRScheduler&>(plateau).step(); });
}

TEST_CASE_FIXTURE(Fixture, "errors of schedules: several") {
  SGD other({q});
  StepLR second(sgd, 3), stranger(other, 3);
  using Ref = std::reference_wrapper<LRScheduler>;
  row<SequentialLR>("none", {"sequential_lr", "no schedule"}, sgd, LRSchedulers{}, Whole{});
  row<SequentialLR>("no milestone", {"sequential_lr", "1 milestones between 2 schedules", "0"}, sgd,
                    LRSchedulers{step, second}, Whole{});
  row<SequentialLR>("two milestones", {"sequential_lr", "1 milestones between 2 schedules", "2"}, sgd,
                    LRSchedulers{step, second}, Whole{1, 2});
  row<SequentialLR>("descending milestones", {"sequential_lr", "ascending", "2 after 5"}, sgd,
                    LRSchedulers{step, second, step}, Whole{5, 2});
  row<SequentialLR>("a negative milestone", {"sequential_lr", "milestones ≥ 0", "-1"}, sgd, LRSchedulers{step, second},
                    Whole{-1});
  row<SequentialLR>("a plateau", {"sequential_lr", "schedule 1", "reduce_lr_on_plateau", "metric"}, sgd,
                    LRSchedulers{step, plateau}, Whole{1});
  row<SequentialLR>("a schedule of another optimizer", {"sequential_lr", "schedule 1", "step_lr", "another optimizer"},
                    sgd, LRSchedulers{step, stranger}, Whole{1});
  auto chain = [&](std::vector<Ref> schedules) { return [schedules] { ChainedScheduler made(schedules); }; };
  table.row<ValueError>("none", {"chained_scheduler", "no schedule"}, chain({}));
  table.row<ValueError>("a plateau", {"chained_scheduler", "schedule 0", "reduce_lr_on_plateau"}, chain({plateau}));
  table.row<ValueError>("schedules of two optimizers", {"chained_scheduler", "schedule 1", "another optimizer"},
                        chain({step, stranger}));
}

TEST_CASE_FIXTURE(Fixture, "errors of schedules: what the caller's functions do to the optimizer") {
  bool add = false;
  LambdaLR lambda(sgd, [&](std::int64_t) {
    for (int i = 0; std::exchange(add, false) && i < 8; ++i) sgd.add_param_group({{zeros(1).requires_grad_()}});
    return 0.5;
  });
  add = true;
  CHECK_THROWS_WITH_AS(lambda.step(), doctest::Contains("made for 1 parameter groups, the optimizer has"), ValueError);
  CHECK(lambda.last_epoch() == 0);
  SGD heavy({q}, {.lr = 0.1, .momentum = 0.9});
  CyclicLR cyclic(heavy, 0.1, 1);
  heavy.param_groups()[0].options.erase("momentum");
  CHECK_THROWS_WITH_AS(cyclic.step(), doctest::Contains("param_groups[0] has no momentum"), ValueError);
  CHECK(heavy.param_groups()[0]["lr"] == 0.1);
  CHECK(cyclic.last_epoch() == 0);
  CosineAnnealingWarmRestarts restarts(heavy, 3);
  const LRScheduler::StateDict before = restarts.state_dict();
  heavy.param_groups()[0].options.erase("lr");
  CHECK_THROWS_WITH_AS(restarts.step(), doctest::Contains("no option 'lr'"), ValueError);
  CHECK_THROWS_AS(restarts.step(2.5), ValueError);
  CHECK(restarts.state_dict() == before);
}
