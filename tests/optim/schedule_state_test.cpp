#include "io/temporary_folder.h"
#include "optim/rates.h"

#include <doctest/doctest.h>
#include <unroll/io/checkpoint.h>
#include <unroll/optim/adam.h>
#include <unroll/optim/cyclic_lr.h>
#include <unroll/optim/reduce_lr_on_plateau.h>
#include <unroll/optim/sequential_lr.h>
#include <unroll/optim/sgd.h>

#include <cmath>
#include <functional>
#include <limits>
#include <memory>

using namespace unroll;
using namespace unroll::optim;

namespace {

struct Made {
  std::vector<std::unique_ptr<LRScheduler>> parts;
  std::unique_ptr<LRScheduler> schedule;
};
// A schedule of each kind, whose constants come from x in (0, 1).
using Make = std::function<Made(Optimizer& opt, double x)>;

template <class Schedule, class... Args>
Made made(Optimizer& opt, const Args&... args) {
  return {{}, std::make_unique<Schedule>(opt, args...)};
}

const std::vector<Make> kKinds = {
    [](Optimizer& o, double x) { return made<StepLR>(o, 3, x); },
    [](Optimizer& o, double x) {
      return made<MultiStepLR>(o, std::vector<std::int64_t>{2, x < 0.5 ? 8 : 7, 7}, x);
    },
    [](Optimizer& o, double x) { return made<ExponentialLR>(o, x); },
    [](Optimizer& o, double x) { return made<ConstantLR>(o, ConstantLROptions{.factor = x, .total_iters = 7}); },
    [](Optimizer& o, double x) { return made<LinearLR>(o, LinearLROptions{.end_factor = x, .total_iters = 7}); },
    [](Optimizer& o, double x) { return made<PolynomialLR>(o, PolynomialLROptions{.total_iters = 7, .power = x}); },
    [](Optimizer& o, double x) { return made<CosineAnnealingLR>(o, 4, x / 100); },
    [](Optimizer& o, double) { return made<LambdaLR>(o, [](std::int64_t t) { return std::pow(0.9, double(t)); }); },
    [](Optimizer& o, double) { return made<MultiplicativeLR>(o, [](std::int64_t) { return 0.9; }); },
    [](Optimizer& o, double x) { return made<CosineAnnealingWarmRestarts>(o, x < 0.5 ? 3 : 2, 2, x / 100); },
    [](Optimizer& o, double x) {
      return made<CyclicLR>(o, x / 10, PerGroup{x, 1},
                            CyclicLROptions{.step_size_up = 3, .mode = CyclicMode::ExpRange});
    },
    [](Optimizer& o, double x) {
      return made<OneCycleLR>(o, x, OneCycleLROptions{.total_steps = 30, .three_phase = x < 0.5});
    },
    [](Optimizer& o, double x) {
      return made<ReduceLROnPlateau>(o, ReduceLROnPlateauOptions{.factor = x, .patience = 1, .cooldown = 1});
    },
    [](Optimizer& o, double x) {
      Made m;
      m.parts.push_back(std::make_unique<LinearLR>(o, LinearLROptions{.start_factor = x, .total_iters = 6}));
      m.parts.push_back(std::make_unique<CosineAnnealingWarmRestarts>(o, 3, 2));
      m.schedule = std::make_unique<SequentialLR>(o, LRSchedulers{*m.parts[0], *m.parts[1]},
                                                  std::vector<std::int64_t>{x < 0.5 ? 7 : 4});
      return m;
    },
    [](Optimizer& o, double x) {
      Made m;
      for (double gamma : {x, 0.9}) m.parts.push_back(std::make_unique<ExponentialLR>(o, gamma));
      m.schedule = std::make_unique<ChainedScheduler>(LRSchedulers{*m.parts[0], *m.parts[1]});
      return m;
    },
};

// Two groups and a schedule.
struct Run {
  Run(const Make& make, double x) : made(make(opt, x)) {}
  void step() {
    auto* plateau = dynamic_cast<ReduceLROnPlateau*>(made.schedule.get());
    plateau ? plateau->step(1) : made.schedule->step();
  }

  Tensor a = golden::parameter(), b = golden::parameter();
  Adam opt{{{.params = {a}}, {.params = {b}, .options = {{"lr", 0.5}}}}, {.lr = 0.7}};
  Made made;
};

bool equal(const Run& a, const Run& b) {
  return a.made.schedule->state_dict() == b.made.schedule->state_dict() &&
         golden::everything(a.opt) == golden::everything(b.opt);
}

}  // namespace

TEST_CASE("schedules: one goes on from its state_dict, and from a checkpoint, as if it had never stopped") {
  TemporaryFolder folder;
  const auto path = folder.path / "run.ckpt";
  for (const Make& make : kKinds)
    for (int stop : {0, 1, 5, 9}) {
      Run whole(make, 0.25), resumed(make, 0.75), loaded(make, 0.75);
      CAPTURE(whole.made.schedule->name());
      for (int t = 0; t < stop; ++t) whole.step();
      whole.opt.param_groups()[0]["lr"] *= 0.5;
      resumed.step();
      resumed.opt.load_state_dict(whole.opt.state_dict());
      resumed.made.schedule->load_state_dict(whole.made.schedule->state_dict());
      io::save_checkpoint(path, {.optimizer = &whole.opt, .scheduler = whole.made.schedule.get()});
      io::load_checkpoint(path, {.optimizer = &loaded.opt, .scheduler = loaded.made.schedule.get()});
      for (int t = 0; t < 12; ++t) {
        REQUIRE(equal(resumed, whole));
        REQUIRE(equal(loaded, whole));
        for (Run* run : {&whole, &resumed, &loaded}) run->step();
      }
      Run other(make, 0.75);
      CHECK_FALSE(equal(other, whole));
    }
}

TEST_CASE("schedules: a run whose rate has gone below 0 can be loaded") {
  Tensor p = golden::parameter();
  Adam opt({p});
  OneCycleLR schedule(opt, 1, {.total_steps = 4, .anneal_strategy = AnnealStrategy::Linear});
  for (int t = 0; t < 4; ++t) schedule.step();  // one a batch, as everybody calls it
  CHECK(golden::rate(opt) < 0);
  opt.load_state_dict(opt.state_dict());
  CHECK(golden::rate(opt) < 0);
}

TEST_CASE("schedules: a run whose momentum has come to 0 can be loaded") {
  Tensor p = golden::parameter();
  SGD opt({p}, {.lr = 1, .momentum = 0.9, .nesterov = true});
  CyclicLR schedule(opt, 0.1, 1, {.step_size_up = 3, .base_momentum = 0, .max_momentum = 0.9});
  for (int t = 0; t < 3; ++t) schedule.step();
  REQUIRE(opt.param_groups()[0]["momentum"] == 0);
  opt.load_state_dict(opt.state_dict());
  CHECK(opt.param_groups()[0]["momentum"] == 0);
  CHECK(opt.param_groups()[0]["nesterov"] == 1);
}

TEST_CASE("schedules: a state that does not fit changes nothing") {
  for (const Make& make : kKinds) {
    Run run(make, 0.25), other(make, 0.75);
    LRScheduler& schedule = *run.made.schedule;
    run.step();
    const auto before = schedule.state_dict(), fits = other.made.schedule->state_dict();
    CAPTURE(schedule.name());
    auto rejects = [&](const std::string& text, auto change) {
      auto state = fits;
      change(state);
      CHECK_RAISES(ValueError, text.c_str(), schedule.load_state_dict(state));
      CHECK(schedule.state_dict() == before);
    };
    for (const auto& entry : fits) {  // clang 14 captures no binding
      const std::string& name = entry.first;
      rejects("the state has no '" + name.substr(name.rfind('.') + 1) + "'", [&](auto& s) { s.erase(name); });
      if (name != "milestones" || fits.contains("1.last_epoch")) rejects("", [&](auto& s) { s[name].push_back(0); });
    }
    rejects("unknown 'hue'", [](auto& s) { s["hue"] = {1}; });
    rejects("last_epoch", [](auto& s) { s["last_epoch"] = {-1}; });
    rejects("a whole last_epoch, got 0.5", [](auto& s) { s["last_epoch"] = {0.5}; });
  }
}

TEST_CASE("schedules: a state with a number outside its domain changes nothing") {
  Run step(kKinds[0], 0.25), warm(kKinds[9], 0.25), cycle(kKinds[10], 0.25), chained(kKinds[14], 0.25);
  auto rejects = [](Run& run, const std::string& name, double value, const char* text) {
    const auto before = run.made.schedule->state_dict();
    auto state = before;
    for (double& x : state.at(name)) x = value;
    CHECK_RAISES(ValueError, text, run.made.schedule->load_state_dict(state));
    CHECK(run.made.schedule->state_dict() == before);
  };
  rejects(step, "step_size", 0, "step_lr: expected step_size ≥ 1, got 0");
  rejects(step, "step_size", 1.5, "step_lr: expected a whole step_size, got 1.5");
  rejects(step, "gamma", std::nan(""), "gamma ≥ 0, got nan");
  rejects(warm, "T_cur", -1, "T_cur ≥ 0, got -1");
  rejects(warm, "T_cur", std::numeric_limits<double>::infinity(), "finite T_cur");
  rejects(cycle, "mode", 3, "cyclic_lr: expected mode ≤ 2, got 3");
  rejects(cycle, "max_momentums", 1, "max_momentums < 1 for beta1, got 1");
  rejects(chained, "1.gamma", -1, "exponential_lr: expected gamma ≥ 0, got -1");
}
