#include <unroll/optim/reduce_lr_on_plateau.h>
#include <unroll/optim/sequential_lr.h>

#include <algorithm>

namespace unroll::optim {
namespace {

std::string prefix_of(std::size_t i) { return fmt::format("{}.", i); }

// Takes the numbers whose names begin with the prefix out of the state, under the rest of the name.
LRScheduler::StateDict take(LRScheduler::StateDict& state, const std::string& prefix) {
  LRScheduler::StateDict part;
  for (auto at = state.lower_bound(prefix); at != state.end() && at->first.starts_with(prefix);) {
    auto node = state.extract(at++);
    node.key().erase(0, prefix.size());
    part.insert(std::move(node));
  }
  return part;
}

Optimizer& optimizer_of_first(const LRSchedulers& schedulers) {
  check<ValueError>(!schedulers.empty(), "chained_scheduler: got no schedule");
  return schedulers[0].get().optimizer();
}

}  // namespace

// -- CompositeScheduler

CompositeScheduler::CompositeScheduler(const char* name, Optimizer& optimizer, LRSchedulers schedulers,
                                       StateDict numbers)
    : LRScheduler(name, optimizer, std::move(numbers)), schedulers_(std::move(schedulers)) {
  check<ValueError>(!schedulers_.empty(), "{}: got no schedule", name);
  for (std::size_t i = 0; i < schedulers_.size(); ++i) {
    LRScheduler& schedule = schedulers_[i];
    check<ValueError>(dynamic_cast<ReduceLROnPlateau*>(&schedule) == nullptr,
                      "{}: schedule {} is reduce_lr_on_plateau, whose step needs a metric", name, i);
    check<ValueError>(&schedule.optimizer() == &optimizer, "{}: schedule {}, {}, belongs to another optimizer", name, i,
                      schedule.name());
  }
}

LRScheduler::StateDict CompositeScheduler::state_dict() const {
  StateDict state = LRScheduler::state_dict();
  for (std::size_t i = 0; i < schedulers_.size(); ++i)
    for (auto& [name, values] : schedulers_[i].get().state_dict()) state.emplace(prefix_of(i) + name, values);
  return state;
}

void CompositeScheduler::check_state_dict(const StateDict& state) const {
  StateDict own = state;
  for (std::size_t i = 0; i < schedulers_.size(); ++i) schedulers_[i].get().check_state_dict(take(own, prefix_of(i)));
  LRScheduler::check_state_dict(own);
}

void CompositeScheduler::load(StateDict&& state) noexcept {
  for (std::size_t i = 0; i < schedulers_.size(); ++i) schedulers_[i].get().load(take(state, prefix_of(i)));
  LRScheduler::load(std::move(state));
}

void CompositeScheduler::reset_rates() {
  for (ParamGroup& group : optimizer().param_groups()) group["lr"] = group["initial_lr"];
}

// -- SequentialLR

SequentialLR::SequentialLR(Optimizer& optimizer, LRSchedulers schedulers, const std::vector<std::int64_t>& milestones)
    : CompositeScheduler("sequential_lr", optimizer, std::move(schedulers),
                         {{"milestones", {milestones.begin(), milestones.end()}}}) {
  validate(LRScheduler::state_dict());  // NOLINT(bugprone-parent-virtual-call): this schedule's own numbers alone
  all_or_none([&] { begin(true); });
}

void SequentialLR::validate(const StateDict& numbers) const {
  const std::vector<double>& milestones = numbers.find("milestones")->second;
  check<ValueError>(milestones.size() + 1 == schedulers_.size(),
                    "{}: expected {} milestones between {} schedules, got {}", name(), schedulers_.size() - 1,
                    schedulers_.size(), milestones.size());
  for (std::size_t i = 1; i < milestones.size(); ++i)
    check<ValueError>(milestones[i] >= milestones[i - 1], "{}: expected ascending milestones, got {} after {}", name(),
                      milestones[i], milestones[i - 1]);
  check_whole(numbers, "milestones", 0);
}

std::size_t SequentialLR::index_at(double epoch) const {
  const std::vector<double>& milestones = list("milestones");
  return static_cast<std::size_t>(std::upper_bound(milestones.begin(), milestones.end(), epoch) - milestones.begin());
}

void SequentialLR::begin(bool again) {
  if (again) reset_rates();
  begin_one(schedulers_[index_at(0)], false);
  arrive(0);
}

void SequentialLR::step() {
  const std::int64_t epoch = last_epoch() + 1;
  const std::size_t i = index_at(as_number(epoch));
  all_or_none([&] {
    if (i > 0 && list("milestones")[i - 1] == as_number(epoch))
      begin_one(schedulers_[i], true);
    else
      schedulers_[i].get().step();
    arrive(epoch);
  });
}

// -- ChainedScheduler

ChainedScheduler::ChainedScheduler(const LRSchedulers& schedulers)
    : CompositeScheduler("chained_scheduler", optimizer_of_first(schedulers), schedulers, {}) {}

void ChainedScheduler::begin(bool again) {
  if (again) reset_rates();
  for (LRScheduler& schedule : schedulers_) begin_one(schedule, false);
  arrive(0);
}

void ChainedScheduler::step() {
  all_or_none([&] {
    for (LRScheduler& schedule : schedulers_) schedule.step();
    arrive(last_epoch() + 1);
  });
}

}  // namespace unroll::optim
