#pragma once
#include <unroll/optim/lr_scheduler.h>

#pragma GCC visibility push(default)
namespace unroll::optim {

/// Which way a metric gets better.
enum class PlateauMode : std::uint8_t { Min, Max };
/// A threshold that is a share of the best metric, or a difference from it.
enum class ThresholdMode : std::uint8_t { Rel, Abs };

struct ReduceLROnPlateauOptions {
  PlateauMode mode = PlateauMode::Min;
  double factor = 0.1;
  std::int64_t patience = 10;
  double threshold = 1e-4;
  ThresholdMode threshold_mode = ThresholdMode::Rel;
  std::int64_t cooldown = 0;
  PerGroup min_lr = 0;
  double eps = 1e-8;
};

/// lr ← max(lr · factor, min_lr) when a metric has not got better, by more than the threshold, in more than `patience`
/// epochs; then waits `cooldown` epochs before it counts again. A rate that would change by eps or less stays.
///
///     schedule.step(validation_loss);
///
/// Groups that the optimizer gets later are taken in, unless min_lr is a list. Raises ValueError unless 0 ≤ factor < 1
/// and the other numbers are ≥ 0, and for a list of another length than there are groups.
class ReduceLROnPlateau final : public LRScheduler {
 public:
  explicit ReduceLROnPlateau(Optimizer& optimizer, const ReduceLROnPlateauOptions& options = {});

  /// Ends an epoch with this metric. A NaN is no better than anything.
  void step(double metric);

 private:
  /// Raises ValueError: there is no step without a metric.
  void step() override;
  void validate(const StateDict& numbers) const override;
  bool takes_groups(std::string_view list) const override {
    return takes_groups_ && (list == "last_lr" || list == "min_lrs");
  }
  bool is_better(double metric) const;

  bool takes_groups_;  // that the optimizer gets later
};

}  // namespace unroll::optim
#pragma GCC visibility pop
