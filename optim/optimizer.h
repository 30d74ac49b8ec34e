#pragma once
#include <unroll/autograd/grad_mode.h>
#include <unroll/core/tensor.h>

#include <array>
#include <concepts>
#include <map>

#pragma GCC visibility push(default)
namespace unroll::optim {

/// Numbers by torch's names; a flag is 0 or 1.
using Options = std::map<std::string, double, std::less<>>;

/// Parameters and the options they share, which are read at each step: `optimizer.param_groups()[0]["lr"] *= 0.5`.
struct ParamGroup {
  const std::vector<Tensor> params;
  /// As an argument: those that differ from the optimizer's.
  Options options = {};

  /// Raises ValueError when there is no such option.
  double& operator[](std::string_view name);
  double operator[](std::string_view name) const;
};

/// What an optimizer is besides its parameters, as torch arranges it.
struct StateDict {
  struct Group {
    Options options;
    std::vector<std::int64_t> params;  // parameters are numbered through all groups
  };
  std::map<std::int64_t, std::map<std::string, Tensor>> state;  // of the parameters that have been moved
  std::vector<Group> param_groups;
};

/// What all optimizers share. A parameter without gradient is left alone entirely; a zero gradient is a gradient like
/// any other.
class Optimizer {
 public:
  virtual ~Optimizer();
  Optimizer(const Optimizer&) = delete;  // a copy would share the state
  Optimizer& operator=(const Optimizer&) = delete;

  /// "sgd", "adam", …
  const char* name() const noexcept { return name_; }

  std::span<ParamGroup> param_groups() noexcept { return {groups_.data(), groups_.size()}; }
  std::span<const ParamGroup> param_groups() const noexcept { return {groups_.data(), groups_.size()}; }
  /// More parameters. Raises ValueError for an undefined tensor, one that was computed, one that is here already, an
  /// unknown option or a value outside its domain.
  void add_param_group(const ParamGroup& group);

  /// Drops all gradients, or sets them to zero: in place, but for those that have a history or were set to an expanded
  /// tensor.
  void zero_grad(bool set_to_none = true) const;

  /// Moves every parameter that has a gradient. Either all of them or, when this raises, none.
  void step();
  /// The same after closure(), which computes the loss and its gradients; returns the loss.
  template <std::invocable Closure>
  Tensor step(Closure&& closure) {
    Tensor loss = [&] {
      GradMode recording(true);
      return closure();
    }();
    step();
    return loss;
  }

  /// Shares memory with the optimizer: a later step shows in it.
  StateDict state_dict() const;
  /// Copies `state`, converted to the parameters' dtypes. Options that the optimizer does not know are kept, as a
  /// schedule's are. Raises ValueError when groups, their sizes or names differ, or an option is missing or outside its
  /// domain (but for the sign of lr), ShapeError when a tensor has not its parameter's shape; then nothing has changed.
  void load_state_dict(const StateDict& state);

 protected:
  /// What is kept for a parameter.
  struct State {
    std::int64_t step = 0;
    std::array<Tensor, 3> tensors;  // like the parameter; undefined until needed
  };
  /// One parameter's part of a step: all of it row-major.
  struct Update {
    Tensor param, grad;
    State state;
    bool first;            // extend() has added to the state
    const Tensor& target;  // where param and state go in the end
    State& kept;
  };

  Optimizer(const char* name, std::vector<std::string> state_names, Options defaults);
  /// For the end of the constructor, since it calls validate().
  void add_param_groups(const std::vector<ParamGroup>& groups);

  /// Raises ValueError for options outside their domain.
  virtual void validate(const ParamGroup& group) const = 0;
  /// Adds to the state what these options need, as it is before the first step; returns whether anything was missing.
  virtual bool extend(State& state, const ParamGroup& group, const Tensor& param) const = 0;
  /// Writes param and state of parameters of one group, and cannot fail.
  virtual void update(const ParamGroup& group, std::span<Update> updates) const = 0;

 public:
  /// load_state_dict in two halves, for those who load several things or none.
  struct Prepared {
    std::vector<Options> options;
    std::vector<State> state;
  };
  Prepared prepare(const StateDict& state) const;
  void load(Prepared&& prepared) noexcept;

 private:
  const char* name_;
  std::vector<std::string> state_names_;
  Options defaults_;
  std::vector<ParamGroup> groups_;
  std::vector<State> state_;  // of parameter i, through all groups
};

}  // namespace unroll::optim
#pragma GCC visibility pop
