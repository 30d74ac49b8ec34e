#include "support/error_table.h"

#include <doctest/doctest.h>

#include <cmath>

using namespace unroll;
using namespace unroll::optim;

// What C++ does not compile: a schedule of what is no optimizer, a mode or a strategy by an unknown name, a number of
// steps that is a fraction.

namespace {

std::string numbers(const LRScheduler& schedule) {
  std::string text = schedule.name();
  for (const auto& [name, values] : schedule.state_dict()) {
    text += ' ' + name;
    for (double value : values) text += fmt::format(" {}", value);
  }
  return text;
}

// An optimizer with neither momentum nor beta1.
struct Plain : Optimizer {
  explicit Plain(const Tensor& x) : Optimizer("plain", {}, {{"lr", 1}}) {
    add_param_groups({ParamGroup{.params = {x}}});
  }
  void validate(const ParamGroup&) const override {}
  bool extend(State&, const ParamGroup&, const Tensor&) const override { return false; }
  void update(const ParamGroup&, std::span<Update>) const override {}
};

struct Fixture {
  Fixture() {
    two.param_groups()[1]["lr"] = 0.5;
    table.watch(sgd, adam, two);
  }

  /// Making a schedule of these arguments.
  template <class Schedule, class... Args>
  void made(const char* what, std::vector<std::string> tokens, Optimizer& optimizer, const Args&... args) {
    table.row<ValueError>(what, tokens, [&] { Schedule schedule(optimizer, args...); });
  }
  void watch(LRScheduler& schedule) {
    table.watch_state(schedule.name(), [&schedule] { return numbers(schedule); });
  }

  Tensor w = ones(3).requires_grad_(), v = ones(2).requires_grad_();
  SGD sgd{{w}, {.lr = 0.1, .momentum = 0.9}};
  Adam adam{{w}};
  SGD two{std::vector<ParamGroup>{{.params = {w}}, {.params = {v}}}, {.lr = 0.1}};
  ErrorTable table{"schedules"};
};

}  // namespace

TEST_CASE_FIXTURE(Fixture, "errors of schedules: simple ones") {
  for (std::int64_t step : {0, -3})
    made<StepLR>("step_size", {"step_lr: ", "step_size", fmt::format("got {}", step)}, sgd, step);
  for (double bad : {-0.5, double(NAN)}) {
    const std::string got = std::isnan(bad) ? "got nan" : "got -0.5";
    made<StepLR>("gamma", {"step_lr: ", "gamma", got}, sgd, 2, bad);
    made<MultiStepLR>("gamma", {"multi_step_lr: ", "gamma", got}, sgd, std::vector<std::int64_t>{2}, bad);
    made<ExponentialLR>("gamma", {"exponential_lr: ", "gamma", got}, sgd, bad);
    made<ConstantLR>("factor", {"constant_lr: ", "factor", got}, sgd, ConstantLROptions{.factor = bad});
    made<LinearLR>("start_factor", {"linear_lr: ", "start_factor", got}, sgd, LinearLROptions{.start_factor = bad});
    made<LinearLR>("end_factor", {"linear_lr: ", "end_factor", got}, sgd, LinearLROptions{.end_factor = bad});
    made<PolynomialLR>("power", {"polynomial_lr: ", "power", got}, sgd, PolynomialLROptions{.power = bad});
  }
  made<MultiStepLR>("a negative milestone", {"multi_step_lr: ", "milestones", "got -1"}, sgd,
                    std::vector<std::int64_t>{2, -1});
  made<ConstantLR>("a factor above 1", {"constant_lr: ", "factor", "got 1.5"}, sgd, ConstantLROptions{.factor = 1.5});
  made<LinearLR>("start_factor 0", {"linear_lr: ", "start_factor", "got 0"}, sgd, LinearLROptions{.start_factor = 0});
  made<LinearLR>("start_factor above 1", {"linear_lr: ", "start_factor", "got 2"}, sgd,
                 LinearLROptions{.start_factor = 2});
  made<LinearLR>("end_factor above 1", {"linear_lr: ", "end_factor", "got 2"}, sgd, LinearLROptions{.end_factor = 2});
  made<ConstantLR>("total_iters", {"constant_lr: ", "total_iters", "got -1"}, sgd,
                   ConstantLROptions{.total_iters = -1});
  made<LinearLR>("total_iters", {"linear_lr: ", "total_iters", "got -1"}, sgd, LinearLROptions{.total_iters = -1});
  made<PolynomialLR>("total_iters", {"polynomial_lr: ", "total_iters", "got -1"}, sgd,
                     PolynomialLROptions{.total_iters = -1});
  made<CosineAnnealingLR>("T_max 0", {"cosine_annealing_lr: ", "T_max", "got 0"}, sgd, 0);
  made<CosineAnnealingLR>("eta_min", {"cosine_annealing_lr: ", "eta_min", "finite", "nan"}, sgd, 4, NAN);

  // Going on after an earlier run.
  made<StepLR>("no initial_lr", {"step_lr: ", "last_epoch = 3", "param_groups[0]", "'initial_lr'"}, sgd, 2, 0.1, 3);
  made<CosineAnnealingLR>("no initial_lr", {"cosine_annealing_lr: ", "last_epoch = 0", "'initial_lr'"}, adam, 4, 0., 0);
  made<ExponentialLR>("an epoch before the first", {"exponential_lr: ", "last_epoch", "got -2"}, sgd, 0.9, -2);
  two.param_groups()[0].options["initial_lr"] = 0.1;
  made<ExponentialLR>("no initial_lr of the second group", {"exponential_lr: ", "param_groups[1]", "'initial_lr'"}, two,
                      0.9, 5);
}

TEST_CASE_FIXTURE(Fixture, "errors of schedules: functions") {
  const LRLambda half = [](std::int64_t) { return 0.5; }, none;
  const std::vector<LRLambda> one{half}, gap{half, none};
  made<LambdaLR>("an empty function", {"lambda_lr: ", "function 0", "empty"}, sgd, none);
  made<MultiplicativeLR>("an empty function", {"multiplicative_lr: ", "function 0", "empty"}, sgd, none);
  made<LambdaLR>("one of two empty", {"lambda_lr: ", "function 1", "empty"}, two, gap);
  made<LambdaLR>("fewer than groups", {"lambda_lr: ", "1 functions", "2 parameter groups"}, two, one);
  made<MultiplicativeLR>("more than groups", {"multiplicative_lr: ", "2 functions", "1 parameter groups"}, sgd, gap);
  const LRLambda raises = [](std::int64_t epoch) -> double {
    if (epoch >= 1) throw ValueError("function: 1 of 2");
    return 1;
  };
  LambdaLR lambda(sgd, raises);
  MultiplicativeLR product(two, std::vector<LRLambda>{half, raises});
  watch(lambda), watch(product);
  table.row<ValueError>("a function that raises", {"function", "1 of 2"}, [&] { lambda.step(); });
  table.row<ValueError>("the second of two raises", {"function", "1 of 2"}, [&] { product.step(); });
}

TEST_CASE_FIXTURE(Fixture, "errors of schedules: cycles") {
  using Cyclic = CyclicLROptions;
  using OneCycle = OneCycleLROptions;
  const std::string restarts = "cosine_annealing_warm_restarts: ", cyclic = "cyclic_lr: ", one = "one_cycle_lr: ";
  for (std::int64_t bad : {0, -1}) {
    const std::string got = fmt::format("got {}", bad);
    made<CosineAnnealingWarmRestarts>("T_0", {restarts, "T_0", got}, sgd, bad);
    made<CosineAnnealingWarmRestarts>("T_mult", {restarts, "T_mult", got}, sgd, 3, bad);
    made<CyclicLR>("step_size_up", {cyclic, "step_size_up", got}, sgd, 0.1, 1., Cyclic{.step_size_up = bad});
    made<OneCycleLR>("total_steps", {one, "total_steps", got}, sgd, 1., OneCycle{.total_steps = bad});
    made<OneCycleLR>("epochs", {one, "epochs", got}, sgd, 1., OneCycle{.epochs = bad, .steps_per_epoch = 3});
    made<OneCycleLR>("steps_per_epoch", {one, "steps_per_epoch", got}, sgd, 1.,
                     OneCycle{.epochs = 3, .steps_per_epoch = bad});
    made<OneCycleLR>("div_factor", {one, "div_factor", got}, sgd, 1.,
                     OneCycle{.total_steps = 9, .div_factor = double(bad)});
    made<OneCycleLR>("final_div_factor", {one, "final_div_factor", got}, sgd, 1.,
                     OneCycle{.total_steps = 9, .final_div_factor = double(bad)});
  }
  made<CosineAnnealingWarmRestarts>("eta_min", {restarts, "eta_min", "finite", "inf"}, sgd, 3, 1, INFINITY);
  made<CyclicLR>("a negative base_lr", {cyclic, "base_lr", "got -0.1"}, sgd, -0.1, 1.);
  made<CyclicLR>("a negative max_lr", {cyclic, "max_lr", "got -1"}, sgd, 0.1, -1.);
  made<CyclicLR>("step_size_down", {cyclic, "step_size_down", "got -1"}, sgd, 0.1, 1., Cyclic{.step_size_down = -1});
  made<CyclicLR>("gamma", {cyclic, "gamma", "got -1"}, sgd, 0.1, 1., Cyclic{.gamma = -1});
  made<CyclicLR>("base_momentum", {cyclic, "base_momentum", "got -0.5"}, sgd, 0.1, 1., Cyclic{.base_momentum = -0.5});
  made<CyclicLR>("beta1 = 1", {cyclic, "max_momentum", "beta1", "got 1"}, adam, 0.1, 1., Cyclic{.max_momentum = 1});
  const PerGroup pair{0.1, 0.2}, three{1, 2, 3};
  made<CyclicLR>("too many rates", {cyclic, "2 values of base_lr", "1 parameter groups"}, sgd, pair, 1.);
  made<CyclicLR>("too many peaks", {cyclic, "3 values of max_lr", "2 parameter groups"}, two, 0.1, three);
  made<CyclicLR>("too many momentums", {cyclic, "3 values of base_momentum", "2 parameter groups"}, two, 0.1, 1.,
                 Cyclic{.base_momentum = three});
  made<OneCycleLR>("no number of steps", {one, "total_steps", "epochs and steps_per_epoch"}, sgd, 1., OneCycle{});
  made<OneCycleLR>("epochs alone", {one, "total_steps", "epochs and steps_per_epoch"}, sgd, 1., OneCycle{.epochs = 3});
  for (double bad : {-0.1, 1.5, double(NAN)}) {
    const std::string got = std::isnan(bad) ? "got nan" : bad < 0 ? "got -0.1" : "got 1.5";
    made<OneCycleLR>("pct_start", {one, "pct_start", got}, sgd, 1., OneCycle{.total_steps = 9, .pct_start = bad});
  }
  made<OneCycleLR>("a negative max_lr", {one, "max_lr", "got -1"}, sgd, -1., OneCycle{.total_steps = 9});
  made<OneCycleLR>("too many rates", {one, "2 values of max_lr", "1 parameter groups"}, sgd, pair,
                   OneCycle{.total_steps = 9});
  Plain plain(w);
  table.watch(plain);
  made<CyclicLR>("no momentum to cycle", {cyclic, "cycle_momentum", "plain has neither"}, plain, 0.1, 1.);
  made<OneCycleLR>("no momentum to cycle", {one, "cycle_momentum", "plain has neither"}, plain, 1.,
                   OneCycle{.total_steps = 9});

  CosineAnnealingWarmRestarts cosine(adam, 3);
  OneCycleLR cycle(sgd, 1, {.total_steps = 2});
  for (int i = 0; i < 2; ++i) cycle.step();
  watch(cosine), watch(cycle);
  table.row<ValueError>("an epoch before the first", {restarts, "epoch", "got -0.5"}, [&] { cosine.step(-0.5); });
  table.row<ValueError>("an epoch of NaN", {restarts, "epoch", "got nan"}, [&] { cosine.step(NAN); });
  table.row<ValueError>("past the end", {one, "step 3", "past the end", "total_steps = 2"}, [&] { cycle.step(); });
}

TEST_CASE_FIXTURE(Fixture, "errors of schedules: reduce_lr_on_plateau") {
  using Plateau = ReduceLROnPlateauOptions;
  const std::string op = "reduce_lr_on_plateau: ";
  auto row = [&](const char* what, std::vector<std::string> tokens, const Plateau& options) {
    tokens.insert(tokens.begin(), op);
    made<ReduceLROnPlateau>(what, tokens, sgd, options);
  };
  row("factor 1", {"factor", "[0, 1)", "got 1"}, {.factor = 1});
  row("factor above 1", {"factor", "[0, 1)", "got 2"}, {.factor = 2});
  row("a negative factor", {"factor", "[0, 1)", "got -0.1"}, {.factor = -0.1});
  row("a factor of NaN", {"factor", "[0, 1)", "got nan"}, {.factor = NAN});
  row("patience", {"patience", "got -1"}, {.patience = -1});
  row("threshold", {"threshold", "got -1"}, {.threshold = -1});
  row("cooldown", {"cooldown", "got -1"}, {.cooldown = -1});
  row("min_lr", {"min_lr", "got -1"}, {.min_lr = -1});
  row("eps", {"eps", "got -1"}, {.eps = -1});
  row("too many min_lr", {"2 values of min_lr", "1 parameter groups"}, {.min_lr = {0.1, 0.2}});
  ReduceLROnPlateau plateau(sgd), listed(two, {.min_lr = {0.1, 0.2}});
  watch(plateau), watch(listed);
  table.row<ValueError>("a step without a metric", {op, "metric"}, [&] { static_cast<LRScheduler&>(plateau).step(); });
  two.add_param_group({.params = {ones(1)}});
  table.row<ValueError>("another number of groups than of min_lr", {op, "2 parameter groups", "3 now"},
                        [&] { listed.step(1); });
}

TEST_CASE_FIXTURE(Fixture, "errors of schedules: several") {
  StepLR step(sgd, 2), foreign(adam, 2);
  ExponentialLR falls(sgd, 0.9);
  ReduceLROnPlateau plateau(sgd);
  watch(step), watch(foreign), watch(falls), watch(plateau);
  const std::string op = "sequential_lr: ", chained = "chained_scheduler: ";
  auto sequence = [&](const char* what, std::vector<std::string> tokens, const LRSchedulers& parts,
                      const std::vector<std::int64_t>& milestones) {
    tokens.insert(tokens.begin(), op);
    made<SequentialLR>(what, tokens, sgd, parts, milestones);
  };
  sequence("no schedule", {"no schedule"}, {}, {});
  sequence("too few milestones", {"expected 1 milestones", "2 schedules", "got 0"}, {step, falls}, {});
  sequence("too many milestones", {"expected 1 milestones", "2 schedules", "got 2"}, {step, falls}, {3, 5});
  sequence("milestones that fall", {"ascending", "2 after 5"}, {step, falls, step}, {5, 2});
  sequence("a negative milestone", {"milestones", "got -1"}, {step, falls}, {-1});
  sequence("a schedule of another optimizer", {"schedule 1", "step_lr", "another optimizer"}, {step, foreign}, {3});
  sequence("a schedule that needs a metric", {"schedule 1", "reduce_lr_on_plateau", "metric"}, {step, plateau}, {3});
  auto chain = [&](const char* what, std::vector<std::string> tokens, const LRSchedulers& parts) {
    tokens.insert(tokens.begin(), chained);
    table.row<ValueError>(what, tokens, [&] { ChainedScheduler made(parts); });
  };
  chain("no schedule", {"no schedule"}, {});
  chain("a schedule of another optimizer", {"schedule 1", "step_lr", "another optimizer"}, {step, foreign});
  chain("a schedule that needs a metric", {"schedule 0", "reduce_lr_on_plateau", "metric"}, {plateau, step});

  LambdaLR raises(sgd, [](std::int64_t epoch) -> double {
    if (epoch >= 1) throw ValueError("function: 1 of 2");
    return 1;
  });
  ChainedScheduler both({falls, raises});
  watch(raises), watch(both);
  table.row<ValueError>("the second of a chain raises", {"function", "1 of 2"}, [&] { both.step(); });
}

TEST_CASE_FIXTURE(Fixture, "errors of schedules: state_dict and groups") {
  StepLR step(sgd, 2);
  ExponentialLR falls(sgd, 0.9);
  SequentialLR sequence(sgd, {step, falls}, {3});
  watch(step), watch(falls), watch(sequence);
  auto load = [](LRScheduler& schedule, auto change) {
    return [&schedule, change] {
      LRScheduler::StateDict state = schedule.state_dict();
      change(state);
      schedule.load_state_dict(state);
    };
  };
  using State = LRScheduler::StateDict&;
  table.row<ValueError>("nothing", {"step_lr: ", "state has no"}, load(step, [](State s) { s.clear(); }));
  table.row<ValueError>("a number too few", {"step_lr: ", "no 'gamma'"}, load(step, [](State s) { s.erase("gamma"); }));
  table.row<ValueError>("a number too many", {"step_lr: ", "unknown 'T_max'"},
                        load(step, [](State s) { s["T_max"] = {1}; }));
  table.row<ValueError>("a rate too many", {"step_lr: ", "2 values of 'last_lr'", "1"},
                        load(step, [](State s) { s["last_lr"].push_back(1); }));
  table.row<ValueError>("no number in a list", {"step_lr: ", "0 values of 'gamma'"},
                        load(step, [](State s) { s["gamma"].clear(); }));
  table.row<ValueError>("a step_size that is a fraction", {"step_lr: ", "whole step_size", "got 1.5"},
                        load(step, [](State s) { s["step_size"] = {1.5}; }));
  table.row<ValueError>("a negative epoch", {"step_lr: ", "last_epoch", "got -1"},
                        load(step, [](State s) { s["last_epoch"] = {-1}; }));
  table.row<ValueError>("the state of another schedule", {"exponential_lr: ", "'step_size'"},
                        [&] { falls.load_state_dict(step.state_dict()); });
  table.row<ValueError>("a part of a sequence is wrong", {"exponential_lr: ", "gamma", "got -1"},
                        load(sequence, [](State s) { s["1.gamma"] = {-1}; }));
  table.row<ValueError>("a part of a sequence is missing", {"exponential_lr: ", "no 'gamma'"},
                        load(sequence, [](State s) { s.erase("1.gamma"); }));
  table.row<ValueError>("another number of milestones", {"sequential_lr: ", "expected 1 milestones", "got 2"},
                        load(sequence, [](State s) {
                          s["milestones"] = {3, 4};
                        }));
  sgd.add_param_group({.params = {ones(1)}});
  table.row<ValueError>("a group that came later", {"step_lr: ", "1 parameter groups", "2 now"}, [&] { step.step(); });
  table.row<ValueError>("a group that came later, in a sequence", {"step_lr: ", "1 parameter groups", "2 now"},
                        [&] { sequence.step(); });
}
