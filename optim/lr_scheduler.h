#pragma once
#include <unroll/optim/optimizer.h>

#pragma GCC visibility push(default)
namespace unroll::optim {

/// Sets the learning rate of each of an optimizer's groups, epoch by epoch (whatever the caller counts as one): call
/// step() after the optimizer's. The rates follow from one another as torch computes them, so a rate that is changed by
/// hand is taken up from there.
///
/// A schedule refers to its optimizer, which is to outlive it. The rate a group had when the first schedule was made
/// for it stays in its option "initial_lr".
class LRScheduler {
 public:
  /// Every number that the schedule consists of, by torch's names; "base_lrs" and "last_lr" have one a group.
  using StateDict = std::map<std::string, std::vector<double>, std::less<>>;

  virtual ~LRScheduler() = default;
  LRScheduler(const LRScheduler&) = delete;
  LRScheduler& operator=(const LRScheduler&) = delete;

  /// "step_lr", "exponential_lr", …
  const char* name() const noexcept { return name_; }

  /// Goes on to the next epoch. Raises ValueError when the optimizer has got groups since the schedule was made.
  void step();
  /// How often step() has been called.
  std::int64_t last_epoch() const noexcept { return last_epoch_; }
  /// The rates it set last, one a group.
  const std::vector<double>& get_last_lr() const noexcept { return last_lr_; }

  StateDict state_dict() const;
  /// Goes on from there. Raises ValueError, and changes nothing, unless the names and how many values they have are
  /// those of this schedule. The optimizer's rates are part of the optimizer's state_dict.
  void load_state_dict(StateDict state) {
    check_state_dict(state);
    load(std::move(state));
  }
  /// load_state_dict in two halves, for those who load several things or none.
  void check_state_dict(const StateDict& state) const;
  void load(StateDict&& checked) noexcept;

 protected:
  LRScheduler(const char* name, Optimizer& optimizer, Options constants);
  /// For the end of the constructor: checks the constants and goes to epoch 0.
  void start();

  /// Raises ValueError for a constant outside its domain.
  virtual void validate(const Options& constants) const = 0;
  /// The rate in epoch last_epoch() of a group that began with `base_lr` and has `lr` now.
  virtual double next_lr(double lr, double base_lr) const = 0;
  double constant(std::string_view name) const { return constants_.find(name)->second; }

 private:
  const char* name_;
  Optimizer& optimizer_;
  Options constants_;
  std::int64_t last_epoch_ = -1;
  std::vector<double> base_lrs_, last_lr_;
};

/// lr ← lr · gamma every step_size epochs. Raises ValueError unless step_size ≥ 1 and gamma ≥ 0.
class StepLR final : public LRScheduler {
 public:
  StepLR(Optimizer& optimizer, std::int64_t step_size, double gamma = 0.1);

 private:
  void validate(const Options& constants) const override;
  double next_lr(double lr, double base_lr) const override;
};

/// lr ← lr · gamma every epoch. Raises ValueError unless gamma ≥ 0.
class ExponentialLR final : public LRScheduler {
 public:
  ExponentialLR(Optimizer& optimizer, double gamma);

 private:
  void validate(const Options& constants) const override;
  double next_lr(double lr, double base_lr) const override;
};

/// From the base rate down to eta_min along half a cosine in T_max epochs, then up again, and so on:
///
///     lr(t) = eta_min + (base_lr − eta_min) (1 + cos(π t / T_max)) / 2
///
/// (Loshchilov and Hutter, arXiv:1608.03983, without restarts), computed from lr(t − 1) as torch does. Raises
/// ValueError unless T_max ≥ 1 and eta_min is finite.
class CosineAnnealingLR final : public LRScheduler {
 public:
  CosineAnnealingLR(Optimizer& optimizer, std::int64_t T_max, double eta_min = 0);

 private:
  void validate(const Options& constants) const override;
  double next_lr(double lr, double base_lr) const override;
};

}  // namespace unroll::optim
#pragma GCC visibility pop
