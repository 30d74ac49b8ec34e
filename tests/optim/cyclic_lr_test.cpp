#include "optim/rates.h"

#include <doctest/doctest.h>
#include <unroll/optim/adam.h>
#include <unroll/optim/cyclic_lr.h>
#include <unroll/optim/sgd.h>

using namespace unroll;
using namespace unroll::optim;
using golden::rate;

namespace {

// The rates that PyTorch gives from lr = 1 and, unless empty, the momenta.
void check_cycle(LRScheduler& schedule, const std::vector<double>& rates, const std::vector<double>& momenta = {}) {
  const ParamGroup& group = schedule.optimizer().param_groups()[0];
  auto momentum = [&] { return group[group.options.contains("beta1") ? "beta1" : "momentum"]; };
  std::vector<double> seen = {momentum()};
  golden::check_rates(rates, schedule, [&](std::size_t) {
    schedule.step();
    seen.push_back(momentum());
  });
  for (std::size_t t = 0; t < momenta.size(); ++t) {
    CAPTURE(t);
    CHECK(std::abs(seen[t] - momenta[t]) <= 1e-15);
  }
}

struct Fixture {
  SGD sgd{{golden::parameter()}, {.lr = 1}};
  Adam adam{{golden::parameter()}, {.lr = 1}};
};

}  // namespace

TEST_CASE_FIXTURE(Fixture, "cosine_annealing_warm_restarts: rates as PyTorch's") {
  CosineAnnealingWarmRestarts doubled(sgd, 3, 2);
  golden::check_rates({1.0, 0.75, 0.2500000000000001, 1.0, 0.9330127018922194, 0.75, 0.5, 0.2500000000000001,
                       0.06698729810778065, 1.0, 0.9829629131445341},
                      doubled);
  adam.param_groups()[0]["lr"] = 0.7;
  CosineAnnealingWarmRestarts even(adam, 2, 1, 0.1);
  golden::check_rates({0.7, 0.4, 0.7, 0.4, 0.7}, even);
  adam.param_groups()[0]["lr"] = 100;  // comes from the base rate, so what is set by hand is lost
  even.step();
  CHECK(rate(adam) == doctest::Approx(0.4));
}

TEST_CASE_FIXTURE(Fixture, "cosine_annealing_warm_restarts: to an epoch or between two, as PyTorch") {
  struct Row {
    double to, lr, last_epoch, T_cur, T_i;  // to < 0: step()
  };
  CosineAnnealingWarmRestarts schedule(sgd, 3, 2);
  for (const Row& row :
       {Row{0.5, 0.9330127018922194, 0, 0.5, 3}, Row{4, 0.9330127018922194, 4, 1.0, 6},
        Row{2.25, 0.14644660940672627, 2, 2.25, 3}, Row{9, 1.0, 9, 0.0, 12}, Row{-1, 0.9829629131445341, 10, 1.0, 12},
        Row{21.5, 0.9989294616193017, 21, 0.5, 24}, Row{-1, 0.9903926402016152, 22, 1.5, 24}}) {
    row.to < 0 ? schedule.step() : schedule.step(row.to);
    CHECK(std::abs(rate(sgd) - row.lr) <= 1e-15);
    auto state = schedule.state_dict();
    CHECK(state.at("last_epoch")[0] == row.last_epoch);
    CHECK(state.at("T_cur")[0] == row.T_cur);
    CHECK(state.at("T_i")[0] == row.T_i);
  }
  // Where a logarithm to base 3, as torch takes it, is just below 5.
  CosineAnnealingWarmRestarts tripled(adam, 1, 3);
  tripled.step((243 - 1) / 2.0);
  CHECK(rate(adam) == 1);
  CHECK(tripled.state_dict().at("T_i")[0] == 243);
}

TEST_CASE_FIXTURE(Fixture, "cosine_annealing_warm_restarts: a step that another group forbids changes nothing") {
  CosineAnnealingWarmRestarts schedule(sgd, 3, 2);
  sgd.add_param_group({{golden::parameter()}});
  const auto before = schedule.state_dict();
  CHECK_RAISES(ValueError, "made for 1 parameter groups, the optimizer has 2 now", schedule.step());
  CHECK(schedule.state_dict() == before);
  CHECK_RAISES(ValueError, "made for 1 parameter groups, the optimizer has 2 now", schedule.step(2.5));
  CHECK(schedule.state_dict() == before);
}

TEST_CASE_FIXTURE(Fixture, "cosine_annealing_warm_restarts: made with last_epoch, it is where it would be") {
  for (std::int64_t T_mult : {1, 2, 3})
    for (std::int64_t last_epoch = 0; last_epoch < 30; ++last_epoch) {
      SGD whole({golden::parameter()}, {.lr = 0.7}), resumed({golden::parameter()}, {.lr = 0.7});
      CosineAnnealingWarmRestarts first(whole, 2, T_mult, 0.1);
      for (std::int64_t t = 0; t < last_epoch; ++t) first.step();
      resumed.load_state_dict(whole.state_dict());
      CosineAnnealingWarmRestarts second(resumed, 2, T_mult, 0.1, last_epoch);
      first.step();
      CHECK(first.state_dict() == second.state_dict());
    }
}

TEST_CASE_FIXTURE(Fixture, "cyclic_lr: rates and momentum as PyTorch's") {
  SUBCASE("triangular") {
    CyclicLR schedule(sgd, 0.1, 1, {.step_size_up = 2});
    const double middle = 0.8500000000000001;
    check_cycle(schedule, {0.1, 0.55, 1, 0.55, 0.1, 0.55, 1, 0.55, 0.1},
                {0.9, middle, 0.8, middle, 0.9, middle, 0.8, middle, 0.9});
    CHECK(sgd.param_groups()[0]["initial_lr"] == 0.1);
  }
  SUBCASE("triangular2, unequal sides, beta1") {
    CyclicLR schedule(adam, 0.1, 1, {.step_size_up = 2, .step_size_down = 1, .mode = CyclicMode::Triangular2});
    check_cycle(schedule,
                {0.1, 0.5499999999999999, 0.9999999999999998, 0.1, 0.32499999999999984, 0.5499999999999996, 0.1,
                 0.21250000000000008},
                {0.9, 0.8500000000000001, 0.8, 0.9, 0.875, 0.8500000000000001, 0.9, 0.8875000000000001});
    CHECK(adam.param_groups()[0]["beta2"] == 0.999);
  }
  SUBCASE("exp_range, without momentum") {
    CyclicLR schedule(
        sgd, 0.1, 1,
        {.step_size_up = 2, .step_size_down = 3, .mode = CyclicMode::ExpRange, .gamma = 0.9, .cycle_momentum = false});
    check_cycle(
        schedule,
        {0.1, 0.5049999999999999, 0.8289999999999998, 0.5374, 0.2968299999999999, 0.1, 0.33914845000000027, 0.53046721},
        std::vector<double>(8, 0.0));
  }
  SUBCASE("a function of the cycle, and of the epoch") {
    auto inverse = [](double x) { return 1 / x; };
    CyclicLR cycle(sgd, 0.1, 1, {.step_size_up = 2, .scale_fn = inverse, .cycle_momentum = false});
    check_cycle(cycle, {0.1, 0.55, 1, 0.55, 0.1, 0.325, 0.55, 0.325});
    auto ninth = [](double x) { return x / 9; };
    CyclicLR epoch(adam, 0, 9, {.step_size_up = 2, .scale_fn = ninth, .scale_mode = ScaleMode::Iterations});
    check_cycle(epoch, {0, 0.5, 2, 1.5, 0, 2.5});
  }
  SUBCASE("a list has one value a group") {
    Tensor a = golden::parameter(), b = golden::parameter();
    SGD opt({{.params = {a}}, {.params = {b}}});
    CyclicLR schedule(opt, {0, 1}, {1, 3}, {.step_size_up = 2, .base_momentum = {0.5, 0.25}, .max_momentum = 1});
    schedule.step();
    CHECK(schedule.get_last_lr() == std::vector{0.5, 2.0});
    CHECK(opt.param_groups()[0]["momentum"] == 0.75);
    CHECK(opt.param_groups()[1]["momentum"] == 0.625);
  }
}

TEST_CASE_FIXTURE(Fixture, "cyclic_lr: after another schedule it begins with that one's first rate, as PyTorch's") {
  ExponentialLR first(sgd, 0.5);
  CyclicLR schedule(sgd, 0.1, 1, {.step_size_up = 2});
  golden::check_rates({1, 0.55, 1, 0.55, 0.1}, schedule);
}

TEST_CASE_FIXTURE(Fixture, "cyclic_lr: a scale_fn that raises changes nothing") {
  auto before = golden::everything(sgd);
  auto bad = [](double) -> double { throw 7; };
  CHECK_THROWS_AS(CyclicLR(sgd, 0.1, 1, {.scale_fn = bad}).step(), int);
  CHECK(golden::everything(sgd) == before);
}

TEST_CASE_FIXTURE(Fixture, "one_cycle_lr: rates and momentum as PyTorch's") {
  SUBCASE("cos") {
    OneCycleLR schedule(sgd, 1, {.total_steps = 9});
    check_cycle(schedule,
                {0.040000000000000036, 0.6513582352345999, 0.9944154354509117, 0.8985666593464469, 0.7056447289910996,
                 0.46263710266697505, 0.22872995315964806, 0.060892969758032406, 4e-06, 0.06089296975803235},
                {0.95, 0.8863168504963959, 0.8505584586887436, 0.8601433746388538, 0.8794356448434694,
                 0.9037365046793212, 0.9271273131932879, 0.9439110786685114, 0.95, 0.9439110786685114});
    CHECK(sgd.param_groups()[0]["initial_lr"] == 0.04);
    auto before = golden::everything(sgd);
    auto state = schedule.state_dict();
    CHECK_RAISES(ValueError, "one_cycle_lr: step 10 is past the end, total_steps = 9", schedule.step());
    CHECK(golden::everything(sgd) == before);
    CHECK(schedule.state_dict() == state);
  }
  SUBCASE("linear, three phases, beta1") {
    OneCycleLR schedule(adam, 0.3,
                        {.epochs = 2,
                         .steps_per_epoch = 5,
                         .pct_start = 0.4,
                         .anneal_strategy = AnnealStrategy::Linear,
                         .base_momentum = 0.7,
                         .max_momentum = 0.9,
                         .div_factor = 10,
                         .final_div_factor = 100,
                         .three_phase = true});
    check_cycle(
        schedule,
        {0.03, 0.12, 0.21, 0.30000000000000004, 0.21, 0.12, 0.02999999999999997, 0.0201, 0.0102,
         0.00030000000000000165},
        {0.9, 0.8333333333333334, 0.7666666666666666, 0.7, 0.7666666666666666, 0.8333333333333333, 0.9, 0.9, 0.9, 0.9});
  }
  SUBCASE("without momentum") {
    sgd.param_groups()[0]["momentum"] = 0.3;
    OneCycleLR schedule(sgd, 1, {.total_steps = 4, .pct_start = 0.5, .cycle_momentum = false});
    check_cycle(schedule, {0.040000000000000036, 1.0, 0.500002, 4e-06}, std::vector<double>(4, 0.3));
  }
  SUBCASE("a way up of a single step, where torch divides 0 by 0") {
    OneCycleLR schedule(sgd, 1, {.total_steps = 10, .pct_start = 0.1});
    CHECK(rate(sgd) == 1);
    for (int t = 0; t < 9; ++t) schedule.step();
    CHECK(rate(sgd) == doctest::Approx(4e-6));
  }
  SUBCASE("a list has one value a group") {
    Tensor a = golden::parameter(), b = golden::parameter();
    SGD opt({{.params = {a}}, {.params = {b}}});
    OneCycleLR schedule(opt, {1, 4}, {.total_steps = 4, .pct_start = 0.5, .max_momentum = {0.9, 0.8}});
    CHECK(opt.param_groups()[1]["momentum"] == 0.8);
    schedule.step();
    CHECK(schedule.get_last_lr() == std::vector{1.0, 4.0});
  }
}

TEST_CASE_FIXTURE(Fixture, "one_cycle_lr: made with last_epoch, it goes on as PyTorch's") {
  StateDict state = sgd.state_dict();
  state.param_groups[0].options["initial_lr"] = 0.04;
  sgd.load_state_dict(state);
  OneCycleLR schedule(sgd, 1, {.total_steps = 9, .last_epoch = 3});
  check_cycle(schedule, {0.7056447289910996, 0.46263710266697505, 0.22872995315964806},
              {0.8794356448434694, 0.9037365046793212, 0.9271273131932879});
}

TEST_CASE_FIXTURE(Fixture, "cosine_annealing_warm_restarts: a step after one between two epochs keeps the fraction") {
  CosineAnnealingWarmRestarts schedule(sgd, 3);
  schedule.step(2.5);
  schedule.step();
  CHECK(schedule.state_dict().at("T_cur")[0] == 0.5);
}

TEST_CASE("cosine_annealing_warm_restarts: a state whose cycle has no length is refused") {
  SGD opt({golden::parameter()}, {.lr = 1});
  CosineAnnealingWarmRestarts schedule(opt, 4);
  auto state = schedule.state_dict();
  state["T_i"] = {0};
  CHECK_THROWS_AS(schedule.load_state_dict(state), ValueError);
}

TEST_CASE("one_cycle_lr: total_steps goes before epochs and steps_per_epoch") {
  SGD opt({golden::parameter()}, {.lr = 1, .momentum = 0.9});
  OneCycleLR schedule(opt, 1, {.total_steps = 10, .epochs = 2, .steps_per_epoch = 3});
  CHECK(schedule.state_dict()["total_steps"] == std::vector<double>{10});
}

TEST_CASE("one_cycle_lr: the last step of a phase belongs to it, to the bit") {
  SGD opt({golden::parameter()}, {.lr = 1, .momentum = 0.9});
  OneCycleLR schedule(opt, 0.23, {.total_steps = 10, .pct_start = 0.5, .anneal_strategy = AnnealStrategy::Linear});
  for (int t = 0; t < 4; ++t) schedule.step();
  const double low = 0.23 / 25, high = (0.23 - low) * 1 + low;  // as torch computes it
  CHECK(high != 0.23);
  CHECK(rate(opt) == high);
}

TEST_CASE("one_cycle_lr: each group begins at its own greatest rate over div_factor") {
  SGD opt({{.params = {golden::parameter()}}, {.params = {golden::parameter()}}}, {.lr = 1, .momentum = 0.9});
  OneCycleLR schedule(opt, {0.5, 2.0}, {.total_steps = 10, .div_factor = 10});
  CHECK(std::abs(rate(opt, 0) - 0.05) <= 1e-15);
  CHECK(std::abs(rate(opt, 1) - 0.2) <= 1e-15);
  CHECK(opt.param_groups()[0]["initial_lr"] == 0.05);
  CHECK(opt.param_groups()[1]["initial_lr"] == 0.2);
}

TEST_CASE_FIXTURE(Fixture, "cosine_annealing_warm_restarts: back to epoch 0") {
  CosineAnnealingWarmRestarts schedule(sgd, 4);
  schedule.step();
  schedule.step(0);
  CHECK(rate(sgd) == 1);
  CHECK_RAISES(ValueError, "expected epoch ≥ 0", schedule.step(-1));
}

TEST_CASE("cyclic_lr, one_cycle_lr: each group has rates and momenta of its own, from the start") {
  auto two = [] {
    return SGD({{.params = {golden::parameter()}}, {.params = {golden::parameter()}}}, {.lr = 1, .momentum = 0.9});
  };
  auto momenta = [](const SGD& opt) {
    return std::vector{opt.param_groups()[0]["momentum"], opt.param_groups()[1]["momentum"]};
  };
  SGD a = two();
  CyclicLR cycle(a, {0.25, 0.5}, 1, {.step_size_up = 2, .base_momentum = {0.5, 0.25}, .max_momentum = {1, 0.75}});
  CHECK(cycle.get_last_lr() == std::vector{0.25, 0.5});
  CHECK(momenta(a) == std::vector{1, 0.75});
  cycle.step();
  CHECK(cycle.get_last_lr() == std::vector{0.625, 0.75});
  CHECK(momenta(a) == std::vector{0.75, 0.5});
  SGD b = two();
  OneCycleLR one(b, 1, {.total_steps = 4, .pct_start = 0.5, .base_momentum = {0.5, 0.25}, .max_momentum = {1, 0.75}});
  CHECK(momenta(b) == std::vector{1, 0.75});
  one.step();  // the peak
  CHECK(momenta(b) == std::vector{0.5, 0.25});
}
