#pragma once
#include <unroll/autograd/node.h>

#include <span>

namespace unroll::detail {

using alloc::Vector;

/// What a backward pass is to do: which nodes run, in which order, and where each gradient goes. It is all the pass
/// knows of the graph; in the graph nothing is marked but what is freed, so passes may run inside each other and in
/// several threads at once.
class Plan {
 public:
  static constexpr std::uint32_t kNowhere = ~std::uint32_t{0};
  static constexpr std::uint32_t kWanted = std::uint32_t{1} << 31;  // a target from here on is a place in wanted()

  struct Visit {
    Node* node;
    std::uint32_t first_grad;  // of its outputs, among the gradients of all nodes
    std::uint32_t first_edge;  // of its inputs, in targets_
    bool needed = true;        // something wanted lies behind it
  };

  /// Collects what lies behind the outputs, and asks for all leaves and all tensors that retain their gradient, if
  /// `all`. Nodes earlier than `first`, a sequence number, are left out: nothing wanted lies behind them.
  Plan(TensorList outputs, bool all, std::uint64_t first);

  /// Asks for the gradient of a tensor; returns its place in wanted().
  std::uint32_t want(const Ref<GradSlot>& slot);
  /// Once all is asked for.
  void find_needed();

  /// In the order in which they run: every op after all ops that read its outputs.
  std::span<const Visit> visits() const noexcept { return visits_; }
  std::span<const Ref<GradSlot>> wanted() const noexcept { return wanted_; }
  /// Of all nodes' outputs.
  std::size_t grads() const noexcept { return grads_; }
  /// The most that a node has.
  std::size_t inputs() const noexcept { return inputs_; }
  /// One an input of the node: the number of the visit that computed it, kWanted + a place in wanted(), or kNowhere if
  /// nothing wanted lies there.
  const std::uint32_t* targets(const Visit& visit) const noexcept { return targets_.data() + visit.first_edge; }
  /// Where the gradient of such an input goes: the number of a gradient instead of the visit's.
  std::uint32_t grad_of(std::uint32_t target, const GradSlot& slot) const {
    return target < kWanted ? visits_[target].first_grad + slot.output : target;
  }
  /// The same of output `i` of the pass.
  std::uint32_t grad_of_output(std::size_t i, const GradSlot& slot) const {
    return grad_of(wanted_target(slot, targets_[i]), slot);
  }
  /// Whether the gradient of anything but leaves is asked for.
  bool wants_computed() const noexcept { return !places_of_grads_.empty(); }
  /// Where in wanted() a gradient is asked for, or kNowhere.
  std::uint32_t place_of_grad(std::size_t grad) const noexcept {
    return places_of_grads_.empty() ? kNowhere : places_of_grads_[grad];
  }

 private:
  // From addresses to small numbers; open addressing with at most half the places taken.
  class Numbering {
   public:
    std::uint32_t& operator[](const void* key);
    std::uint32_t get(const void* key) const;

   private:
    struct Place {
      const void* key = nullptr;
      std::uint32_t value = kNowhere;
    };
    Place& find(const void* key);
    void grow();
    Vector<Place> places_;
    std::size_t count_ = 0;
  };

  // An edge to a node. It is handed on in registers; Pending would be written as numbers and read as vectors.
  struct Met {
    Node* node;
    std::uint32_t edge;
  };
  // One to a node that has not been visited yet.
  struct Pending {
    std::uint64_t sequence;
    Met met;
    // Numbers are equal only across threads; which of two such nodes comes first does not matter.
    bool operator<(const Pending& other) const noexcept {
      return sequence != other.sequence ? sequence < other.sequence : met.node < other.met.node;
    }
  };

  void meet(const Ref<GradSlot>& slot);
  void put_off(std::uint64_t sequence, Met met);
  Met next_pending();
  Met next_put_off();
  std::uint32_t want_at(std::uint32_t& place, const Ref<GradSlot>& slot);
  // What becomes of the target of an edge to the tensor when it is known what is wanted.
  std::uint32_t wanted_target(const GradSlot& slot, std::uint32_t target) const;
  const Visit* visit_of(const Node& node) const noexcept;

  const bool all_;
  const std::uint64_t first_;
  Vector<Visit> visits_;
  // One an output of the pass, then one an edge: the number of the visit that the tensor was computed by, kWanted + a
  // place, or kNowhere.
  Vector<std::uint32_t> targets_;
  // What is met is most often later than all that waits: it goes to the end of `rising_`, where it is taken again. The
  // rest is a heap.
  Vector<Pending> rising_, pending_;
  std::uint32_t grads_ = 0;
  std::size_t inputs_ = 0;
  bool all_needed_;                        // nothing was met that nobody asks for
  Vector<std::uint32_t> places_of_grads_;  // in wanted_; none while nothing computed is wanted
  Vector<Ref<GradSlot>> wanted_;
  Numbering places_;                 // of leaves in wanted_
  Vector<Ref<GradSlot>> retaining_;  // tensors that were met, maybe more than once
};

}  // namespace unroll::detail
