#include <unroll/autograd/engine.h>
#include <unroll/core/alloc.h>
#include <unroll/core/detail/text.h>
#include <unroll/core/kernels/copy.h>
#include <unroll/optim/optimizer.h>

#include <algorithm>
#include <cmath>
#include <set>

namespace unroll::optim {
namespace {

std::string names_of(const Options& options) {
  std::string names;
  for (const auto& [name, value] : options) names += (names.empty() ? "" : ", ") + name;
  return names;
}

// How often the state says that its parameter has been moved.
std::int64_t step_count(const char* op, std::int64_t index, const Tensor& step) {
  check<ShapeError>(step.numel() == 1, "{}: the step of parameter {} has shape {}, expected one element", op, index,
                    step.shape());
  double count = step.item();
  check<ValueError>(count >= 0 && count < 0x1p53 && count == std::floor(count), "{}: the step of parameter {} is {}",
                    op, index, count);
  return static_cast<std::int64_t>(count);
}

}  // namespace

double ParamGroup::operator[](std::string_view name) const {
  for (const auto& [key, value] : options)  // a handful: that lengths differ is seen sooner than which one is greater
    if (key == name) return value;
  detail::fail<ValueError>("param_groups: no option '{}' among {}", name, names_of(options));
}

double& ParamGroup::operator[](std::string_view name) {
  static_cast<void>(std::as_const(*this)[name]);
  return options.find(name)->second;
}

Optimizer::Optimizer(const char* name, std::vector<std::string> state_names, Options defaults)
    : name_(name), state_names_(std::move(state_names)), defaults_(std::move(defaults)) {}

Optimizer::~Optimizer() = default;

void Optimizer::add_param_groups(const std::vector<ParamGroup>& groups) {
  for (const ParamGroup& group : groups) add_param_group(group);
  check<ValueError>(!state_.empty(), "{}: got no parameters", name_);
}

void Optimizer::add_param_group(const ParamGroup& group) {
  std::set<const detail::Body*> known;
  for (const ParamGroup& g : groups_)
    for (const Tensor& param : g.params) known.insert(&param.body());
  for (const Tensor& param : group.params) {
    check<ValueError>(param.defined(), "{}: a parameter is undefined", name_);
    check<ValueError>(param.is_leaf(), "{}: the parameter of shape {} was computed, expected a leaf", name_,
                      param.shape());
    check<ValueError>(known.insert(&param.body()).second, "{}: the parameter of shape {} appears more than once", name_,
                      param.shape());
  }
  ParamGroup complete{group.params, defaults_};
  for (const auto& [option, value] : group.options) {
    check<ValueError>(defaults_.contains(option) || option == "initial_lr", "{}: no option '{}' among {}", name_,
                      option, names_of(defaults_));
    complete.options.insert_or_assign(option, value);
  }
  validate(complete);
  state_.reserve(state_.size() + group.params.size());
  groups_.push_back(std::move(complete));  // the last that may fail
  state_.resize(state_.size() + group.params.size());
}

void Optimizer::zero_grad(bool set_to_none) const {
  for (const ParamGroup& group : groups_)
    for (const Tensor& param : group.params) detail::zero_grad(param, set_to_none);
}

void Optimizer::step() {
  NoGrad no_grad;
  // All that can fail comes before anything moves, taking memory included.
  alloc::Vector<Update> updates;
  alloc::Vector<std::size_t> ends;  // of each group's updates
  updates.reserve(state_.size());
  ends.reserve(groups_.size());
  std::size_t index = 0;
  for (const ParamGroup& group : groups_) {
    if (&group != groups_.data())  // the first group's are read before anything moves
      for (const auto& [option, value] : defaults_) static_cast<void>(group[option]);
    for (const Tensor& param : group.params) {
      State& state = state_[index++];
      Tensor grad = param.grad();
      if (!grad.defined()) continue;
      check<DTypeError>(param.is_floating_point(), "{}: parameter {} is {}, expected floating point", name_, index - 1,
                        param.dtype());
      detail::before_write(param, name_);
      auto check_like = [&](std::string_view what, const Tensor& x) {
        if (!x.defined()) return;
        check<DTypeError>(x.dtype() == param.dtype(), "{}: {} of parameter {} is {}, the parameter {}", name_, what,
                          index - 1, x.dtype(), param.dtype());
        check<ShapeError>(x.shape() == param.shape(), "{}: {} of parameter {} has shape {}, the parameter {}", name_,
                          what, index - 1, x.shape(), param.shape());
      };
      check_like("the gradient", grad);
      for (std::size_t k = 0; k < state_names_.size(); ++k) check_like(state_names_[k], state.tensors[k]);
      Update u{kernels::contiguous(param), kernels::contiguous(grad), state, false, param, state};
      u.first = extend(u.state, group, param);
      updates.push_back(std::move(u));
    }
    ends.push_back(updates.size());
  }
  for (std::size_t g = 0, begin = 0; g < ends.size(); begin = ends[g++])
    update(groups_[g], std::span(updates).subspan(begin, ends[g] - begin));
  for (Update& u : updates) {
    if (!u.param.is_same(u.target)) kernels::copy(u.target, u.param);
    kernels::wrote(u.target, name_);
    for (const Tensor& x : u.state.tensors)  // which state_dict() shares
      if (x.defined()) kernels::wrote(x, name_);
    u.kept = std::move(u.state);
  }
}

StateDict Optimizer::state_dict() const {
  StateDict dict;
  std::int64_t index = 0;
  for (const ParamGroup& group : groups_) {
    StateDict::Group& g = dict.param_groups.emplace_back();
    g.options = group.options;
    for (std::size_t i = 0; i < group.params.size(); ++i) g.params.push_back(index++);
  }
  for (std::size_t i = 0; i < state_.size(); ++i) {
    std::map<std::string, Tensor> named;
    // A float32 scalar, as torch has it, as far as that is exact.
    if (const std::int64_t step = state_[i].step; step > 0)
      named.emplace("step", scalar(static_cast<double>(step), step <= 1 << 24 ? DType::Float32 : DType::Float64));
    for (std::size_t k = 0; k < state_names_.size(); ++k)
      if (state_[i].tensors[k].defined()) named.emplace(state_names_[k], state_[i].tensors[k]);
    if (!named.empty()) dict.state.emplace(static_cast<std::int64_t>(i), std::move(named));
  }
  return dict;
}

void Optimizer::load_state_dict(const StateDict& state) { load(prepare(state)); }

Optimizer::Prepared Optimizer::prepare(const StateDict& dict) const {
  check<ValueError>(dict.param_groups.size() == groups_.size(),
                    "{}: the state has {} parameter groups, the optimizer {}", name_, dict.param_groups.size(),
                    groups_.size());
  Prepared prepared{{}, std::vector<State>(state_.size())};
  // Numbers of parameters in the state may be any; what counts is their order.
  struct Place {
    std::size_t index, group;
    const Tensor& param;
  };
  std::map<std::int64_t, Place> places;
  for (std::size_t g = 0; g < groups_.size(); ++g) {
    const StateDict::Group& saved = dict.param_groups[g];
    check<ValueError>(saved.params.size() == groups_[g].params.size(),
                      "{}: group {} of the state has {} parameters, that of the optimizer {}", name_, g,
                      saved.params.size(), groups_[g].params.size());
    for (const auto& [option, value] : defaults_)
      check<ValueError>(saved.options.contains(option), "{}: group {} of the state has no option '{}'", name_, g,
                        option);
    prepared.options.push_back(saved.options);
    ParamGroup group{{}, saved.options};
    // Schedules lead to where no group may begin: a OneCycleLR ends at a rate below 0, a CyclicLR may pass a momentum
    // of 0.
    for (auto& [option, value] : group.options) {
      if (option == "lr") value = std::abs(value);
      if (option == "momentum" && value == 0) group.options["nesterov"] = 0;
    }
    validate(group);
    for (std::size_t i = 0; i < saved.params.size(); ++i) {
      bool is_new = places.try_emplace(saved.params[i], Place{places.size(), g, groups_[g].params[i]}).second;
      check<ValueError>(is_new, "{}: the state has two parameters of number {}", name_, saved.params[i]);
    }
  }
  for (const auto& [number, named] : dict.state) {
    auto place = places.find(number);
    check<ValueError>(place != places.end(), "{}: the state has a parameter {} that is in none of its groups", name_,
                      number);
    const auto& [index, g, param] = place->second;
    State& state = prepared.state[index];
    for (const auto& [name, tensor] : named) {
      if (name == "step") {
        state.step = step_count(name_, number, tensor);
        continue;
      }
      auto known = std::find(state_names_.begin(), state_names_.end(), name);
      check<ValueError>(known != state_names_.end(), "{}: the state of parameter {} has an unknown {}", name_, number,
                        detail::Quoted{name});
      check<ShapeError>(tensor.shape() == param.shape(), "{}: {} of parameter {} has shape {}, the parameter {}", name_,
                        name, number, tensor.shape(), param.shape());
      Tensor copy = empty_like(param);
      kernels::copy(copy, tensor);
      state.tensors[static_cast<std::size_t>(known - state_names_.begin())] = std::move(copy);
    }
    State complete = state;
    check<ValueError>(!extend(complete, ParamGroup{{}, prepared.options[g]}, param),
                      "{}: the state of parameter {} is incomplete", name_, number);
  }
  return prepared;
}

void Optimizer::load(Prepared&& prepared) noexcept {
  for (std::size_t g = 0; g < groups_.size(); ++g) groups_[g].options = std::move(prepared.options[g]);
  state_ = std::move(prepared.state);
}

}  // namespace unroll::optim
