#include "optim/rates.h"

#include <doctest/doctest.h>
#include <unroll/optim/cyclic_lr.h>
#include <unroll/optim/lr_scheduler.h>
#include <unroll/optim/sequential_lr.h>
#include <unroll/optim/sgd.h>

using namespace unroll;
using namespace unroll::optim;
using golden::rate;

TEST_CASE("sequential_lr: rates as PyTorch's") {
  SUBCASE("warm up, then a cosine") {
    SGD opt({golden::parameter()}, {.lr = 0.7});
    LinearLR warmup(opt, {.start_factor = 0.1, .total_iters = 3});
    CosineAnnealingLR cosine(opt, 4);
    SequentialLR schedule(opt, {warmup, cosine}, {3});
    golden::check_rates({0.06999999999999999, 0.2799999999999999, 0.4899999999999999, 0.7, 0.5974873734152916, 0.35,
                         0.10251262658470839, 0.0, 0.10251262658470835},
                        schedule);
    CHECK(warmup.last_epoch() == 2);
    CHECK(cosine.last_epoch() == 5);
  }
  SUBCASE("three") {
    SGD opt({golden::parameter()}, {.lr = 0.7});
    ConstantLR constant(opt, {.factor = 0.1, .total_iters = 2});
    ExponentialLR exponential(opt, 0.9);
    CosineAnnealingWarmRestarts warm(opt, 2);
    SequentialLR schedule(opt, {constant, exponential, warm}, {2, 5});
    golden::check_rates({0.06999999999999999, 0.06999999999999999, 0.7, 0.63, 0.5670000000000001, 0.7, 0.35, 0.7, 0.35},
                        schedule);
  }
  SUBCASE("a product goes on from the rate before") {
    SGD opt({golden::parameter()}, {.lr = 1});
    ExponentialLR half(opt, 0.5);
    MultiplicativeLR shrink(opt, [](std::int64_t) { return 0.9; });
    SequentialLR schedule(opt, {half, shrink}, {2});
    golden::check_rates({1.0, 0.5, 0.45, 0.405, 0.36450000000000005}, schedule);
  }
  SUBCASE("a milestone named twice skips a schedule, one at 0 the first") {
    SGD opt({golden::parameter()}, {.lr = 1});
    ExponentialLR first(opt, 0.1), second(opt, 0.5), third(opt, 0.25), last(opt, 2);
    SequentialLR schedule(opt, {first, second, third, last}, {0, 2, 2});
    golden::check_rates({1, 0.5, 1, 2, 4}, schedule);
    CHECK(first.last_epoch() == 0);
    CHECK(third.last_epoch() == 0);
  }
}

TEST_CASE("chained_scheduler: rates as PyTorch's") {
  SGD opt({golden::parameter()}, {.lr = 1});
  ConstantLR constant(opt, {.factor = 0.1, .total_iters = 2});
  ExponentialLR exponential(opt, 0.9);
  ChainedScheduler schedule({constant, exponential});
  golden::check_rates({0.1, 0.09000000000000001, 0.8100000000000002, 0.7290000000000002, 0.6561000000000002}, schedule);
  CHECK(constant.last_epoch() == 4);
}

TEST_CASE("sequential_lr: a schedule of schedules begins where each of them would") {
  SGD opt({golden::parameter()}, {.lr = 1});
  ConstantLR constant(opt, {.factor = 0.5, .total_iters = 2});
  ExponentialLR half(opt, 0.5), quarter(opt, 0.25), tenth(opt, 0.1);
  ChainedScheduler both({constant, half});
  SequentialLR inner(opt, {half, quarter}, {1});
  SUBCASE("at once, and at a milestone") {
    SequentialLR schedule(opt, {both, tenth, both}, {3, 5});
    golden::check_rates({0.5, 0.25, 0.25, 1, 0.1, 0.5, 0.25, 0.25}, schedule);
  }
  SUBCASE("nested twice") {
    SequentialLR schedule(opt, {tenth, inner}, {2});
    golden::check_rates({1, 0.1, 1, 1, 0.25}, schedule);
  }
  SUBCASE("beside a schedule whose rate they begin at") {
    ChainedScheduler only({half}), chains({constant, only});
    ChainedScheduler chain_and_sequence({constant, inner});
    for (ChainedScheduler* beside : {&chains, &chain_and_sequence}) {
      SequentialLR schedule(opt, {tenth, *beside}, {1});
      golden::check_rates({1, 0.5}, schedule);
    }
  }
}

TEST_CASE("sequential_lr: what a schedule raises leaves all of them as they were") {
  SGD opt({golden::parameter()}, {.lr = 1});
  ExponentialLR half(opt, 0.5);
  LambdaLR bad(opt, [](std::int64_t epoch) -> double { return epoch < 2 ? 1 : throw 7; });
  ChainedScheduler both({half, bad});
  SequentialLR after(opt, {half, bad}, {1});
  both.step();
  auto leaves_all_as_it_was = [&](LRScheduler& schedule) {
    auto before = golden::everything(opt);
    auto state = schedule.state_dict();
    CHECK_THROWS_AS(schedule.step(), int);
    CHECK(golden::everything(opt) == before);
    CHECK(schedule.state_dict() == state);
  };
  leaves_all_as_it_was(both);
  for (int t = 0; t < 2; ++t) after.step();
  leaves_all_as_it_was(after);
}

TEST_CASE("sequential_lr: a constant_lr of no iterations is over when it comes") {
  SGD opt({golden::parameter()}, {.lr = 1});
  ExponentialLR first(opt, 0.5);
  ConstantLR second(opt, {.factor = 0.25, .total_iters = 0});
  SequentialLR schedule(opt, {first, second}, {1});
  schedule.step();
  CHECK(rate(opt) == 1);
}

TEST_CASE("sequential_lr: warm restarts that have been stepped begin anew") {
  SGD opt({golden::parameter()}, {.lr = 1});
  CosineAnnealingWarmRestarts warm(opt, 4);
  for (int t = 0; t < 3; ++t) warm.step();
  ExponentialLR rest(opt, 0.5);
  SequentialLR schedule(opt, {warm, rest}, {8});
  CHECK(rate(opt) == 1);
  CHECK(warm.last_epoch() == 0);
  schedule.step();
  CHECK(std::abs(rate(opt) - (1 + std::sqrt(0.5)) / 2) <= 1e-15);
}

TEST_CASE("sequential_lr: a cosine begins with eta_min + (base_lr - eta_min), rounded") {
  SGD opt({golden::parameter()}, {.lr = 0.9});
  ExponentialLR first(opt, 0.5);
  CosineAnnealingLR cosine(opt, 4, 0.2);
  SequentialLR schedule(opt, {first, cosine}, {1});
  schedule.step();
  const double again = 0.2 + (0.9 - 0.2);
  CHECK(again != 0.9);
  CHECK(rate(opt) == again);
}

TEST_CASE("sequential_lr: with a milestone at 0 the first schedule never begins") {
  SGD opt({golden::parameter()}, {.lr = 1});
  ConstantLR first(opt, {.factor = 0.1, .total_iters = 5});
  ExponentialLR second(opt, 0.5);
  SequentialLR schedule(opt, {first, second}, {0});
  golden::check_rates({1, 0.5, 0.25}, schedule);
}

TEST_CASE("chained_scheduler: a step is one of each, in order") {
  SGD together({golden::parameter()}, {.lr = 1}), one_by_one({golden::parameter()}, {.lr = 1});
  ExponentialLR half(together, 0.5), half_alone(one_by_one, 0.5);
  CosineAnnealingLR cosine(together, 8, 0.1), cosine_alone(one_by_one, 8, 0.1);
  ChainedScheduler schedule({half, cosine});
  for (int t = 0; t < 4; ++t) {
    schedule.step();
    half_alone.step();
    cosine_alone.step();
    CHECK(rate(together) == rate(one_by_one));
  }
}
