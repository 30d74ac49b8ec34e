#pragma once
#include <unroll/optim/optimizer.h>

#include <functional>
#include <limits>
#include <optional>

#pragma GCC visibility push(default)
namespace unroll::optim {

/// A number for all groups or, as a list, one for each.
class PerGroup {
 public:
  PerGroup(double for_all) : values_{for_all}, for_all_(true) {}
  PerGroup(std::initializer_list<double> values) : values_(values) {}
  PerGroup(std::vector<double> values) : values_(std::move(values)) {}

  bool is_for_all() const noexcept { return for_all_; }
  /// As many as the optimizer has groups. Raises ValueError, which says `schedule` and `name`, for a list of another
  /// length.
  std::vector<double> of(const Optimizer& optimizer, std::string_view schedule, std::string_view name) const;

 private:
  std::vector<double> values_;
  bool for_all_ = false;
};

/// Sets the learning rate of each of an optimizer's groups, epoch by epoch (whatever the caller counts as one): call
/// step() after the optimizer's. The rates are torch's to the last bit. Most follow from one another, so that one which
/// is changed by hand is taken up from there.
///
/// A schedule refers to its optimizer, which is to outlive it. The rate a group had when the first schedule was made
/// for it stays in its option "initial_lr" (OneCycleLR and CyclicLR put the rate there that they begin with). A
/// schedule that is made with last_epoch = n goes on after epoch n of an earlier run: it raises ValueError unless the
/// groups have an "initial_lr", which the optimizer's state_dict brings, and begins as torch's does, mostly with the
/// rates that they have. To go on exactly, load the schedule's state_dict.
class LRScheduler {
 public:
  /// Every number that the schedule consists of, by torch's names; "base_lrs", "last_lr" and the like have one a group.
  /// A flag is 0 or 1, an enumerator its place in its enum.
  using StateDict = std::map<std::string, std::vector<double>, std::less<>>;

  virtual ~LRScheduler();
  LRScheduler(const LRScheduler&) = delete;
  LRScheduler& operator=(const LRScheduler&) = delete;

  /// "step_lr", "exponential_lr", …
  const char* name() const noexcept { return name_; }
  Optimizer& optimizer() const noexcept { return optimizer_; }

  /// Goes on to the next epoch. Raises ValueError when the optimizer has got groups since the schedule was made.
  virtual void step();
  /// The epoch it is at: how often step() has been called, counted on from the constructor's last_epoch.
  std::int64_t last_epoch() const { return static_cast<std::int64_t>(number("last_epoch")); }
  /// The rates it set last, one a group.
  const std::vector<double>& get_last_lr() const { return list("last_lr"); }

  virtual StateDict state_dict() const;
  /// Goes on from there. Raises ValueError, and changes nothing, unless the names and how many values they have are
  /// those of this schedule. The optimizer's rates are part of the optimizer's state_dict.
  void load_state_dict(StateDict state);
  /// load_state_dict in two halves, for those who load several things or none.
  virtual void check_state_dict(const StateDict& state) const;
  virtual void load(StateDict&& checked) noexcept;

 protected:
  /// A group on its way to an epoch.
  struct Moment {
    std::int64_t epoch;
    std::size_t group;
    double lr, base_lr;  // now, and when the schedule was made
    bool first;          // on the way to where the schedule begins
    bool again;          // and it has begun before: SequentialLR has come to it
  };

  /// In epoch 0, with the groups' rates as they are.
  LRScheduler(const char* name, Optimizer& optimizer, StateDict numbers);
  /// For the end of the constructor: checks the numbers and goes to epoch last_epoch + 1. If it raises, the optimizer
  /// is as before.
  void start(std::int64_t last_epoch);

  /// Raises ValueError for a number outside its domain.
  virtual void validate(const StateDict&) const {}
  /// Whether that list gets longer, at the next step, with groups that the optimizer has got.
  virtual bool takes_groups(std::string_view) const { return false; }
  /// Sets what the groups begin with, unless the schedule goes on after an earlier run.
  virtual void prepare() {}
  /// The rate of a group in an epoch, and its momentum if the schedule is for that too.
  virtual double next_lr(const Moment& m) const { return m.lr; }
  virtual std::optional<double> next_momentum(const Moment&) const { return {}; }
  /// Begins in epoch 0: with the rates that the groups have or, `again`, with those that they began with.
  virtual void begin(bool again);

  void go_to(std::int64_t epoch, bool first, bool again);
  /// Notes the groups' rates as those of this epoch.
  void arrive(std::int64_t epoch);

  /// change() of the schedule, those it consists of, and the groups' options; if it raises, all are as before.
  void all_or_none(const std::function<void()>& change);

  void check_groups() const;
  /// Of a schedule that cycles the momentum too: that the optimizer has one, and its bounds.
  void check_momentum(const StateDict& numbers) const;
  void check_least(const StateDict& numbers, std::string_view name, double least) const {
    check_between(numbers, name, least, std::numeric_limits<double>::infinity());
  }
  void check_between(const StateDict& numbers, std::string_view name, double least, double most) const;
  void check_whole(const StateDict& numbers, std::string_view name, double least, double most = 0x1p53) const;

  /// A whole number as a StateDict holds it, exact up to 2⁵³ (check_whole).
  static double as_number(std::int64_t whole) noexcept { return static_cast<double>(whole); }
  double& number(std::string_view name) { return list(name)[0]; }
  double number(std::string_view name) const { return list(name)[0]; }
  std::vector<double>& list(std::string_view name) { return numbers_.find(name)->second; }
  const std::vector<double>& list(std::string_view name) const { return numbers_.find(name)->second; }

 private:
  friend class CompositeScheduler;  // lets its schedules begin

  const char* name_;
  Optimizer& optimizer_;
  StateDict numbers_;
};

/// lr ← lr · gamma every step_size epochs. Raises ValueError unless step_size ≥ 1 and gamma ≥ 0.
class StepLR final : public LRScheduler {
 public:
  StepLR(Optimizer& optimizer, std::int64_t step_size, double gamma = 0.1, std::int64_t last_epoch = -1);

 private:
  void validate(const StateDict& numbers) const override;
  double next_lr(const Moment& m) const override;
};

/// lr ← lr · gamma at each milestone, twice at one that is named twice. Raises ValueError for a negative milestone or
/// gamma.
class MultiStepLR final : public LRScheduler {
 public:
  MultiStepLR(Optimizer& optimizer, const std::vector<std::int64_t>& milestones, double gamma = 0.1,
              std::int64_t last_epoch = -1);

 private:
  void validate(const StateDict& numbers) const override;
  double next_lr(const Moment& m) const override;
};

/// lr ← lr · gamma every epoch. Raises ValueError unless gamma ≥ 0.
class ExponentialLR final : public LRScheduler {
 public:
  ExponentialLR(Optimizer& optimizer, double gamma, std::int64_t last_epoch = -1);

 private:
  void validate(const StateDict& numbers) const override;
  double next_lr(const Moment& m) const override;
};

struct ConstantLROptions {
  double factor = 1.0 / 3;
  std::int64_t total_iters = 5, last_epoch = -1;
};

/// lr · factor until epoch total_iters, then lr. Raises ValueError unless 0 ≤ factor ≤ 1 and total_iters ≥ 0.
class ConstantLR final : public LRScheduler {
 public:
  explicit ConstantLR(Optimizer& optimizer, const ConstantLROptions& options = {});

 private:
  void validate(const StateDict& numbers) const override;
  double next_lr(const Moment& m) const override;
};

struct LinearLROptions {
  double start_factor = 1.0 / 3, end_factor = 1;
  std::int64_t total_iters = 5, last_epoch = -1;
};

/// From lr · start_factor straight to lr · end_factor in total_iters epochs. Raises ValueError unless
/// 0 < start_factor ≤ 1, 0 ≤ end_factor ≤ 1 and total_iters ≥ 0.
class LinearLR final : public LRScheduler {
 public:
  explicit LinearLR(Optimizer& optimizer, const LinearLROptions& options = {});

 private:
  void validate(const StateDict& numbers) const override;
  double next_lr(const Moment& m) const override;
};

struct PolynomialLROptions {
  std::int64_t total_iters = 5;
  double power = 1;
  std::int64_t last_epoch = -1;
};

/// Down to 0 in total_iters epochs: lr(t) = base_lr (1 − t / total_iters)^power. Raises ValueError unless
/// total_iters ≥ 0 and power ≥ 0.
class PolynomialLR final : public LRScheduler {
 public:
  explicit PolynomialLR(Optimizer& optimizer, const PolynomialLROptions& options = {});

 private:
  void validate(const StateDict& numbers) const override;
  double next_lr(const Moment& m) const override;
};

/// From the base rate down to eta_min along half a cosine in T_max epochs, then up again, and so on:
///
///     lr(t) = eta_min + (base_lr − eta_min) (1 + cos(π t / T_max)) / 2
///
/// (Loshchilov and Hutter, arXiv:1608.03983, without restarts), computed from lr(t − 1) as torch does. Raises
/// ValueError unless T_max ≥ 1 and eta_min is finite.
class CosineAnnealingLR final : public LRScheduler {
 public:
  CosineAnnealingLR(Optimizer& optimizer, std::int64_t T_max, double eta_min = 0, std::int64_t last_epoch = -1);

 private:
  void validate(const StateDict& numbers) const override;
  double next_lr(const Moment& m) const override;
};

/// A factor for the rate in an epoch.
using LRLambda = std::function<double(std::int64_t epoch)>;

/// lr(t) = base_lr · lr_lambda(t), with one function for all groups or one for each. The functions are no part of the
/// state_dict. Raises ValueError for an empty function or another number of them than of groups; what a function raises
/// goes through and nothing has changed.
class LambdaLR final : public LRScheduler {
 public:
  LambdaLR(Optimizer& optimizer, const LRLambda& lr_lambda, std::int64_t last_epoch = -1);
  LambdaLR(Optimizer& optimizer, std::vector<LRLambda> lr_lambdas, std::int64_t last_epoch = -1);

 private:
  double next_lr(const Moment& m) const override;

  std::vector<LRLambda> lr_lambdas_;
};

/// lr ← lr · lr_lambda(t), otherwise as LambdaLR; the function is first asked for epoch 1.
class MultiplicativeLR final : public LRScheduler {
 public:
  MultiplicativeLR(Optimizer& optimizer, const LRLambda& lr_lambda, std::int64_t last_epoch = -1);
  MultiplicativeLR(Optimizer& optimizer, std::vector<LRLambda> lr_lambdas, std::int64_t last_epoch = -1);

 private:
  double next_lr(const Moment& m) const override;

  std::vector<LRLambda> lr_lambdas_;
};

}  // namespace unroll::optim
#pragma GCC visibility pop
