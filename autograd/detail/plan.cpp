#include <unroll/autograd/detail/plan.h>

#include <algorithm>

namespace unroll::detail {

namespace {
// push_back whose growth is a call: inlined, it takes registers from what happens more often.
template <class T>
[[gnu::noinline]] void grow(Vector<T>& list) {
  list.reserve(2 * list.size() + 16);
}
template <class T>
[[gnu::always_inline]] inline void append(Vector<T>& list, const T& value) {
  if (list.size() == list.capacity()) [[unlikely]]
    grow(list);
  if (list.size() == list.capacity()) __builtin_unreachable();
  list.push_back(value);
}
}  // namespace

// -- Numbering

std::uint32_t& Plan::Numbering::operator[](const void* key) {
  if (2 * (count_ + 1) > places_.size()) grow();
  Place& place = find(key);
  if (!place.key) {
    place.key = key;
    ++count_;
  }
  return place.value;
}

std::uint32_t Plan::Numbering::get(const void* key) const {
  return places_.empty() ? kNowhere : const_cast<Numbering*>(this)->find(key).value;
}

Plan::Numbering::Place& Plan::Numbering::find(const void* key) {
  std::size_t mask = places_.size() - 1;
  // Blocks are 64-byte aligned: the low bits say nothing. The product's high half mixes the rest (Fibonacci hashing).
  std::size_t at = (reinterpret_cast<std::uintptr_t>(key) >> 6) * 0x9E3779B97F4A7C15u >> 32;
  for (;; ++at)
    if (Place& place = places_[at & mask]; !place.key || place.key == key) return place;
}

void Plan::Numbering::grow() {
  Vector<Place> old(std::max<std::size_t>(16, 2 * places_.size()));
  old.swap(places_);
  for (const Place& place : old)
    if (place.key) find(place.key) = place;
}

// -- Plan

inline std::uint32_t Plan::want_at(std::uint32_t& place, const Ref<GradSlot>& slot) {
  if (place != kNowhere) return place;
  const auto next = static_cast<std::uint32_t>(wanted_.size());
  append(wanted_, slot);
  return place = next;
}

// Takes down an edge to the tensor.
inline void Plan::meet(const Ref<GradSlot>& slot) {
  const auto edge = static_cast<std::uint32_t>(targets_.size());
  Node* node = slot->grad_fn.get();
  if (!node) {
    const bool wanted = all_ && slot->requires_grad;
    all_needed_ &= wanted;
    return append(targets_, wanted ? kWanted + want_at(places_[slot.get()], slot) : kNowhere);
  }
  append(targets_, kNowhere);
  const Pending next{node->sequence(), {node, edge}};
  if (next.sequence < first_) return;
  if (rising_.empty() || !(next < rising_.back()))
    append(rising_, next);
  else
    put_off(next.sequence, next.met);
  if (all_ && slot->retains_grad) [[unlikely]]
    append(retaining_, slot);
}

[[gnu::noinline]] void Plan::put_off(std::uint64_t sequence, Met met) {
  pending_.push_back({sequence, met});
  std::push_heap(pending_.begin(), pending_.end());
}

// Takes the latest.
inline Plan::Met Plan::next_pending() {
  if (!pending_.empty() && (rising_.empty() || !(pending_.front() < rising_.back()))) return next_put_off();
  const Met next = rising_.back().met;
  rising_.pop_back();
  return next;
}

[[gnu::noinline]] Plan::Met Plan::next_put_off() {
  std::pop_heap(pending_.begin(), pending_.end());
  const Met next = pending_.back().met;
  pending_.pop_back();
  return next;
}

// Nodes are taken by descending sequence number. A node's number is greater than those behind it, so when
// it is taken all edges to it have been met, and they are taken one after the other: no table of nodes is needed, and
// no sorting afterwards.
Plan::Plan(TensorList outputs, bool all, std::uint64_t first) : all_(all), first_(first), all_needed_(all) {
  visits_.reserve(32);
  targets_.reserve(64);
  for (const Tensor& y : outputs) meet(y.body().grad_slot);
  while (!rising_.empty() || !pending_.empty()) {
    const Met next = next_pending();
    if (visits_.empty() || visits_.back().node != next.node) {
      append(visits_, {next.node, grads_, static_cast<std::uint32_t>(targets_.size())});
      grads_ += next.node->outputs();
      if (all_)
        if (Ref<GradSlot> slot = next.node->retaining_slot()) [[unlikely]]
          append(retaining_, slot);
      const auto inputs = next.node->inputs();
      inputs_ = std::max(inputs_, inputs.size());
      for (const Ref<GradSlot>& slot : inputs)
        if (slot)
          meet(slot);
        else
          append(targets_, kNowhere);
    }
    targets_[next.edge] = static_cast<std::uint32_t>(visits_.size() - 1);
  }
  for (const Ref<GradSlot>& slot : retaining_) want(slot);
}

std::uint32_t Plan::want(const Ref<GradSlot>& slot) {
  const Visit* producer = slot->grad_fn ? visit_of(*slot->grad_fn) : nullptr;
  if (!producer) return want_at(places_[slot.get()], slot);
  if (places_of_grads_.empty()) places_of_grads_.resize(grads_, kNowhere);
  return want_at(places_of_grads_[producer->first_grad + slot->output], slot);
}

const Plan::Visit* Plan::visit_of(const Node& node) const noexcept {
  const Pending sought{node.sequence(), {const_cast<Node*>(&node), 0}};
  auto later = [](const Visit& visit, const Pending& than) {
    return than < Pending{visit.node->sequence(), {visit.node, 0}};
  };
  auto found = std::lower_bound(visits_.begin(), visits_.end(), sought, later);
  return found != visits_.end() && found->node == &node ? &*found : nullptr;
}

void Plan::find_needed() {
  if (all_needed_) return;
  for (std::size_t i = visits_.size(); i-- > 0;) {
    Visit& visit = visits_[i];
    visit.needed = false;
    std::uint32_t* target = targets_.data() + visit.first_edge;
    for (const Ref<GradSlot>& slot : visit.node->inputs()) {
      if (slot) *target = wanted_target(*slot, *target);
      visit.needed |= *target++ != kNowhere;
    }
  }
}

std::uint32_t Plan::wanted_target(const GradSlot& slot, std::uint32_t target) const {
  if (target == kNowhere) {
    const std::uint32_t place = all_ ? kNowhere : places_.get(&slot);
    return place == kNowhere ? kNowhere : kWanted + place;
  }
  if (target >= kWanted || visits_[target].needed) return target;
  return place_of_grad(visits_[target].first_grad + slot.output) != kNowhere ? target : kNowhere;
}

}  // namespace unroll::detail
