#pragma once
#include <unroll/optim/lr_scheduler.h>

#pragma GCC visibility push(default)
namespace unroll::optim {

/// Schedules as an argument: `{warmup, cosine}`. They stay their owner's and are to outlive what refers to them.
using LRSchedulers = std::vector<std::reference_wrapper<LRScheduler>>;

/// What SequentialLR and ChainedScheduler share. The state_dict has that of schedule i under "i.NAME". Raises
/// ValueError for no schedule, one of another optimizer, or a ReduceLROnPlateau, whose step needs a metric.
class CompositeScheduler : public LRScheduler {
 public:
  StateDict state_dict() const override;
  void check_state_dict(const StateDict& state) const override;
  void load(StateDict&& checked) noexcept override;

 protected:
  CompositeScheduler(const char* name, Optimizer& optimizer, LRSchedulers schedulers, StateDict numbers);

  /// The groups' rates as they were first.
  void reset_rates();
  static void begin_one(LRScheduler& schedule, bool again) { schedule.begin(again); }

  LRSchedulers schedulers_;
};

/// One schedule after the other: the next one begins, in its epoch 0, at each milestone.
///
///     LinearLR warmup(opt, {.start_factor = 0.1, .total_iters = 5});
///     CosineAnnealingLR cosine(opt, 95);
///     SequentialLR schedule(opt, {warmup, cosine}, {5});
///
/// Raises ValueError unless there is one milestone less than schedules, in ascending order.
class SequentialLR final : public CompositeScheduler {
 public:
  SequentialLR(Optimizer& optimizer, LRSchedulers schedulers, const std::vector<std::int64_t>& milestones);

  void step() override;

 private:
  void validate(const StateDict& numbers) const override;
  void begin(bool again) override;
  std::size_t index_at(double epoch) const;
};

/// Several schedules at once: a step is one of each, in order.
class ChainedScheduler final : public CompositeScheduler {
 public:
  explicit ChainedScheduler(const LRSchedulers& schedulers);

  void step() override;

 private:
  void begin(bool again) override;
};

}  // namespace unroll::optim
#pragma GCC visibility pop
