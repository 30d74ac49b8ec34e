#pragma once
#include <unroll/optim/lr_scheduler.h>

#pragma GCC visibility push(default)
namespace unroll::optim {

/// Half a cosine from the base rate down to eta_min, then from the top again (Loshchilov and Hutter,
/// arXiv:1608.03983). The first descent takes T_0 epochs, each later one T_mult times as many:
///
///     lr = eta_min + (base_lr − eta_min) (1 + cos(π T_cur / T_i)) / 2
///
/// with T_cur epochs of T_i gone. Begun at a last_epoch, or moved to a restart by step(epoch), it is where so many
/// steps lead, which torch is not always. Raises ValueError unless T_0 ≥ 1, T_mult ≥ 1, both whole, and eta_min is
/// finite.
class CosineAnnealingWarmRestarts final : public LRScheduler {
 public:
  CosineAnnealingWarmRestarts(Optimizer& optimizer, std::int64_t T_0, std::int64_t T_mult = 1, double eta_min = 0,
                              std::int64_t last_epoch = -1);

  void step() override;
  /// Goes to an epoch or between two: step(epoch + batch / batches). Raises ValueError for a negative one.
  void step(double epoch);

 private:
  void validate(const StateDict& numbers) const override;
  double next_lr(const Moment& m) const override;
  void begin(bool again) override;
  void turn_to(double epoch) noexcept;
};

/// How a cycle of CyclicLR is scaled: not at all; by ½ for each cycle; by gamma for each epoch.
enum class CyclicMode : std::uint8_t { Triangular, Triangular2, ExpRange };
/// What a scale_fn is asked for: the number of the cycle, from 1, or the epoch.
enum class ScaleMode : std::uint8_t { Cycle, Iterations };

struct CyclicLROptions {
  std::int64_t step_size_up = 2000;
  std::optional<std::int64_t> step_size_down = {};  // as step_size_up
  CyclicMode mode = CyclicMode::Triangular;
  double gamma = 1;
  std::function<double(double)> scale_fn = {};  // instead of mode
  ScaleMode scale_mode = ScaleMode::Cycle;      // with scale_fn only
  bool cycle_momentum = true;
  PerGroup base_momentum = 0.8, max_momentum = 0.9;
  std::int64_t last_epoch = -1;
};

/// Up from base_lr to max_lr in step_size_up epochs, down in step_size_down, and so on (Smith, arXiv:1506.01186). With
/// cycle_momentum the option "momentum", or "beta1" of Adam, goes the other way between max_momentum and base_momentum.
///
///     CyclicLR schedule(opt, 0.1, 1, {.step_size_up = 2, .mode = CyclicMode::Triangular2});
///
/// Raises ValueError for a rate, gamma or momentum < 0, a beta1 ≥ 1, step_size_up < 1, step_size_down < 0, a list of
/// another length than there are groups, or cycle_momentum with an optimizer that has none.
class CyclicLR final : public LRScheduler {
 public:
  CyclicLR(Optimizer& optimizer, const PerGroup& base_lr, const PerGroup& max_lr, const CyclicLROptions& options = {});

 private:
  void validate(const StateDict& numbers) const override;
  void prepare() override;
  double next_lr(const Moment& m) const override;
  std::optional<double> next_momentum(const Moment& m) const override;
  double height(std::int64_t epoch, double low, double high) const;

  std::vector<double> base_lrs_;  // what the groups begin with
  std::function<double(double)> scale_fn_;
};

/// The curve between two rates of OneCycleLR.
enum class AnnealStrategy : std::uint8_t { Cos, Linear };

struct OneCycleLROptions {
  std::optional<std::int64_t> total_steps = {};  // else epochs · steps_per_epoch
  std::optional<std::int64_t> epochs = {}, steps_per_epoch = {};
  double pct_start = 0.3;
  AnnealStrategy anneal_strategy = AnnealStrategy::Cos;
  bool cycle_momentum = true;
  PerGroup base_momentum = 0.85, max_momentum = 0.95;
  double div_factor = 25, final_div_factor = 1e4;
  bool three_phase = false;
  std::int64_t last_epoch = -1;
};

/// One cycle for a whole training (Smith and Topin, arXiv:1708.07120): from max_lr / div_factor up to max_lr in the
/// first pct_start of total_steps, then down to max_lr / div_factor / final_div_factor; with three_phase first down as
/// long as up, to where it began. With cycle_momentum the option "momentum", or "beta1" of Adam, goes the other way
/// between max_momentum and base_momentum. To be stepped once a batch.
///
///     OneCycleLR schedule(opt, 0.1, {.total_steps = 1000});
///
/// step() raises ValueError past the end. Raises ValueError when neither total_steps nor epochs and steps_per_epoch are
/// given, for one of them < 1, pct_start outside [0, 1], a rate or momentum < 0, a beta1 ≥ 1, a factor ≤ 0, a list of
/// another length than there are groups, or cycle_momentum with an optimizer that has none.
class OneCycleLR final : public LRScheduler {
 public:
  OneCycleLR(Optimizer& optimizer, const PerGroup& max_lr, const OneCycleLROptions& options = {});

 private:
  void validate(const StateDict& numbers) const override;
  void prepare() override;
  double next_lr(const Moment& m) const override;
  std::optional<double> next_momentum(const Moment& m) const override;
  double anneal(std::int64_t epoch, std::initializer_list<double> stations) const;
};

}  // namespace unroll::optim
#pragma GCC visibility pop
