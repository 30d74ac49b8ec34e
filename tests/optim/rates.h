#pragma once
#include "optim/golden.h"

#include <doctest/doctest.h>
#include <unroll/optim/lr_scheduler.h>

namespace golden {

inline double rate(const unroll::optim::Optimizer& opt, std::size_t group = 0) {
  return opt.param_groups()[group]["lr"];
}

/// The rates of the first epochs, one more at each step(). What is expected is PyTorch 2.15's: the same operations in
/// the same order give the same bits but for the last, which is the math library's.
template <class Step>
void check_rates(const std::vector<double>& expected, unroll::optim::LRScheduler& schedule, Step step) {
  unroll::optim::Optimizer& opt = schedule.optimizer();
  const std::int64_t begin = schedule.last_epoch();
  for (std::size_t t = 0; t < expected.size(); ++t) {
    if (t > 0) step(t - 1);
    CAPTURE(t);
    CHECK(std::abs(rate(opt) - expected[t]) <= 1e-15);
    CHECK(schedule.get_last_lr() == std::vector{rate(opt)});
    CHECK(schedule.last_epoch() == begin + static_cast<std::int64_t>(t));
  }
}
inline void check_rates(const std::vector<double>& expected, unroll::optim::LRScheduler& schedule) {
  check_rates(expected, schedule, [&](std::size_t) { schedule.step(); });
}

}  // namespace golden
