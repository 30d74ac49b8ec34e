#pragma once
#include <unroll/autograd/anomaly.h>
#include <unroll/autograd/detail/sole_owner.h>
#include <unroll/autograd/grad_mode.h>
#include <unroll/autograd/hooks.h>
#include <unroll/core/alloc.h>
#include <unroll/core/tensor.h>

#include <algorithm>
#include <atomic>
#include <limits>
#include <memory>
#include <span>

#pragma GCC visibility push(default)
namespace unroll {

class Node;
void retain(Node*) noexcept;
void release(Node*) noexcept;

namespace detail {
struct Dead;

/// Makes `y` output number `output` of `node`, which is new.
void attach(const Tensor& y, Ref<Node> node, std::uint32_t output);

/// Every thread counts its nodes for itself. A node that reads another thread's node starts behind it, as Lamport's
/// clocks do, so sequence numbers order every graph without a shared counter.
[[gnu::tls_model("initial-exec")]] extern constinit thread_local std::uint64_t clock_of_thread;

/// A tensor's place in the graph. The tensor owns it, and so does every op that reads the tensor: it is the edge from
/// the op to where the tensor came from. For a leaf it holds the gradient; otherwise it names the op and which of its
/// outputs the tensor is. That of an op's first output lies in the node: one block less an op.
struct GradSlot : RefCounted {
  union {
    Ref<Node> grad_fn;    // none for a leaf
    GradSlot* next_dead;  // of a leaf that nobody holds any more; see Dead
  };
  std::uint32_t output = 0;  // of grad_fn
  bool requires_grad = false;
  bool retains_grad = false;  // keep `grad` although the tensor was computed
  bool in_node = false;       // it lies in grad_fn
  DType dtype = DType::Float32;
  Shape shape;
  Tensor grad;
  // Of a leaf that has some; those of computed tensors are on the node.
  std::unique_ptr<Hooks<GradHook>, Dispose> hooks;
  GradSlot() noexcept : grad_fn() {}
  explicit GradSlot(const Tensor& like) : grad_fn(), dtype(like.dtype()), shape(like.shape()) {}
  ~GradSlot() { grad_fn.~Ref<Node>(); }
  static void* operator new(std::size_t bytes) { return alloc::allocate(bytes); }
  static void operator delete(void* p, std::size_t bytes) noexcept { alloc::deallocate(p, bytes); }
};
/// Nobody holds it any more.
void destroy(GradSlot*) noexcept;
inline void retain(GradSlot* slot) noexcept { add_to(slot->refs, 1); }
inline void release(GradSlot* slot) noexcept {
  if (slot->drop()) destroy(slot);
}

/// The slot that an op which reads x has an edge to; null if x needs no gradient.
inline GradSlot* edge_of(const Tensor& x) {
  auto* slot = const_cast<GradSlot*>(x.grad_slot());
  return slot && slot->requires_grad ? slot : nullptr;
}
inline bool wants_grad(const Tensor& x) { return edge_of(x); }

/// A tensor kept for backward: its elements and the history it had then, not the tensor itself. What is written in
/// place later belongs to a node that may own this one, and node and tensor would own each other.
struct SavedTensor {
  Ref<Elements> elements;
  Ref<GradSlot> history;      // none for an own output, for the same reason, nor for an input
  std::uint32_t version = 0;  // of the memory when it was saved
  // The number of the node's output that it is, or ~ that of the node's input whose history it has, if any.
  std::int32_t place = kElsewhere;
  static constexpr std::int32_t kElsewhere = std::numeric_limits<std::int32_t>::min();

  /// Its place is not known yet. Undefined ones have none.
  explicit SavedTensor(const Tensor& value)
      : elements(value.defined() ? &value.body() : nullptr), version(elements ? elements->storage->version : 0) {}
  /// Its place is known if it is an element of `inputs`, by its address.
  SavedTensor(const Tensor& value, std::span<const Tensor> inputs) : SavedTensor(value) {
    // Pointers into different arrays have no difference.
    const auto bytes = reinterpret_cast<std::uintptr_t>(&value) - reinterpret_cast<std::uintptr_t>(inputs.data());
    if (bytes < inputs.size_bytes()) place = ~static_cast<std::int32_t>(bytes / sizeof(Tensor));
  }
  /// Where `value`, which is defined, stands in its node otherwise: one of the outputs, or what one of the edges leads
  /// to.
  void find_place(const Tensor& value, std::span<const Tensor> outputs, std::span<const Ref<GradSlot>> edges);

  bool is_output() const noexcept { return place >= 0; }
  bool is_input() const noexcept { return place < 0 && place != kElsewhere; }
};

/// What one run of Node::backward reads and writes.
struct GradFlow {
  std::span<Tensor> grad_out;     // one an output; undefined where no gradient arrived. Who reads it last may take it
  std::span<Tensor> grad_in;      // one an input; left undefined means zero
  std::span<Tensor* const> sums;  // where this pass sums that input's gradient; null if it is not wanted
  bool last = false;              // whether the node is freed afterwards
};
}  // namespace detail

/// What a gradient function reads: `s[0]`, the first saved tensor, and `s.needs(1)`, whether input 1 wants its
/// gradient.
class Saved {
 public:
  Saved(Node& node, std::span<const detail::SavedTensor> saved, Tensor* unpacked, const detail::GradFlow& flow)
      : node_(node), saved_(saved), unpacked_(unpacked), flow_(flow) {}
  /// Raises GradError when the tensor was written in place since it was saved. Good until the gradient function
  /// returns.
  const Tensor& operator[](std::size_t i) const {
    Tensor& x = unpacked_[i];
    if (elements(i) != nullptr && (!x.defined() || GradMode::enabled())) unpack(saved_[i], x);
    return x;
  }
  /// The same for a kernel that reads numbers and needs no tensor: null for an undefined one.
  const detail::Elements* elements(std::size_t i) const {
    const detail::SavedTensor& saved = saved_[i];
    if (saved.elements && saved.elements->storage->version != saved.version) [[unlikely]]
      fail_stale(saved);
    return saved.elements.get();
  }
  /// The same for who reads its geometry alone: its elements may have been written since, or converted to another
  /// dtype.
  const detail::Elements* layout(std::size_t i) const noexcept { return saved_[i].elements.get(); }
  const Shape& shape(std::size_t i) const noexcept { return layout(i)->shape; }
  std::size_t size() const noexcept { return saved_.size(); }
  bool needs(std::size_t input) const { return flow_.sums[input] != nullptr; }
  /// What others have brought of a needed gradient up to now, if it has that shape and dtype and may be overwritten:
  /// who takes it adds to it and returns the sum. Undefined where there is nothing yet, or somebody else sees it.
  /// Spares a weight that is read at every step a new tensor a step.
  Tensor take_sum(std::size_t input, const Shape& shape, DType dtype) const {
    Tensor& sum = *flow_.sums[input];
    return sum.defined() ? take_defined_sum(sum, shape, dtype) : Tensor();
  }
  /// For the gradient functions of record(): the gradient g that came in, if it may be overwritten and returned as that
  /// of `input`, since nobody else sees it and the functions of the inputs before, which run later, need not read it.
  /// Else undefined. Who takes it has it alone: g itself is undefined from then on.
  Tensor take_grad(const Tensor& g, std::size_t input) const {
    if (&g != flow_.grad_out.data() || GradMode::enabled() || !detail::sole_owner(g)) return {};
    for (std::size_t i = 0; i < input; ++i)
      if (needs(i)) return {};
    return std::move(flow_.grad_out[0]);
  }
  /// Whether nobody reads what is saved after this time, so that a kernel may write to what only it has seen.
  bool last() const noexcept { return flow_.last; }

 private:
  [[noreturn, gnu::cold]] void fail_stale(const detail::SavedTensor& saved) const;
  void unpack(const detail::SavedTensor& saved, Tensor& x) const;
  static Tensor take_defined_sum(Tensor& sum, const Shape& shape, DType dtype);

  Node& node_;
  std::span<const detail::SavedTensor> saved_;
  Tensor* unpacked_;  // tensors again; here, not in the node, which would own itself
  const detail::GradFlow& flow_;
};

/// A recorded op: edges to the tensors it read, and how to turn gradients of its outputs into gradients of its inputs.
/// Nodes are made by record() and its siblings (autograd/record.h), never by hand.
class Node : public RefCounted {
 public:
  Node(const Node&) = delete;
  Node& operator=(const Node&) = delete;
  virtual ~Node() = default;

  const char* name() const noexcept { return name_; }
  /// Greater than that of any node it reads from: descending order is an order to run backward in.
  std::uint64_t sequence() const noexcept { return sequence_; }
  std::uint32_t outputs() const noexcept { return outputs_; }
  /// One an input; null where the input needs no gradient.
  virtual std::span<const Ref<detail::GradSlot>> inputs() const noexcept = 0;
  /// Fills flow.grad_in where it is needed.
  virtual void backward(const detail::GradFlow& flow) = 0;

  /// Before a pass that will free the node runs it: false where another pass has done so, in whichever thread.
  bool claim() noexcept {
    std::uint8_t whole = kWhole;
    if (!detail::single_threaded()) return state_.compare_exchange_strong(whole, kClaimed, std::memory_order_acquire);
    if (state_.load(std::memory_order_relaxed) != kWhole) return false;
    state_.store(kClaimed, std::memory_order_relaxed);
    return true;
  }
  /// It did not come to that: the node may run again.
  void disclaim() noexcept { state_.store(kWhole, std::memory_order_release); }
  /// Drops what was saved; backward through the node is an error from then on.
  void free() noexcept {
    state_.store(kFreed, std::memory_order_relaxed);
    release_saved();
  }
  bool freed() const noexcept { return state_.load(std::memory_order_relaxed) == kFreed; }

  /// Null for most nodes.
  const detail::NodeExtras* extras() const noexcept { return extras_.get(); }
  detail::NodeExtras& extras_to_write();

  /// The place of the first output, if that retains its gradient and somebody still has it. An op that saved it leads
  /// to this node by another one.
  Ref<detail::GradSlot> retaining_slot() noexcept { return slot_.retains_grad ? held_slot() : Ref<detail::GradSlot>(); }

  static void* operator new(std::size_t bytes) { return alloc::allocate(bytes, alloc::Kind::Node); }
  static void operator delete(void* p, std::size_t bytes) noexcept { alloc::deallocate(p, bytes, alloc::Kind::Node); }

 protected:
  [[gnu::always_inline]] Node(const char* name, std::span<const Tensor> outputs, std::uint64_t after)
      : outputs_(static_cast<std::uint32_t>(outputs.size())), name_(name),
        sequence_(detail::clock_of_thread = std::max(detail::clock_of_thread, after) + 1),
        slot_(outputs.empty() ? detail::GradSlot() : detail::GradSlot(outputs[0])) {}
  virtual void release_saved() noexcept = 0;
  /// For AnomalyMode; every constructor ends with it. Were this class's own constructor to call it, all that is yet to
  /// be constructed would have to lie in memory, in case it raises.
  void note_where_if_watched() {
    if (AnomalyMode::enabled()) [[unlikely]]
      note_where();
  }

 private:
  Ref<detail::GradSlot> held_slot() noexcept;
  friend struct detail::Dead;
  friend void detail::attach(const Tensor& y, Ref<Node> node, std::uint32_t output);
  void note_where();
  std::uint32_t outputs_;
  static constexpr std::uint8_t kWhole = 0, kClaimed = 1, kFreed = 2;
  std::atomic<std::uint8_t> state_{kWhole};
  const char* name_;
  union {
    std::uint64_t sequence_;
    Node* next_dead_;  // see Dead; a dead node has no place in an order
  };
  std::unique_ptr<detail::NodeExtras, detail::Dispose> extras_;
  detail::GradSlot slot_;  // of the first output, for nearly all nodes have one
};

namespace detail {
/// The sequence number that an op which reads it comes after.
inline std::uint64_t sequence_of(const GradSlot* slot) { return slot && slot->grad_fn ? slot->grad_fn->sequence() : 0; }

/// Makes y that output by a slot of its own.
[[gnu::always_inline]] inline void set_history(const Tensor& y, Ref<GradSlot> slot, Ref<Node> node,
                                               std::uint32_t output) {
  if (slot->grad_fn) __builtin_unreachable();  // a new slot has none to let go
  slot->grad_fn = std::move(node);
  slot->output = output;
  slot->requires_grad = true;
  y.body().grad_slot = std::move(slot);
}

/// What was kept of a tensor's gradient under the history it had goes to the one it has now; either may be none.
inline void hand_on_grad(GradSlot* then, GradSlot* now) noexcept {
  if (!then || !now) return;
  now->retains_grad = std::exchange(then->retains_grad, false);
  now->grad = std::move(then->grad);
}

[[gnu::always_inline]] inline void attach(const Tensor& y, Ref<Node> node, std::uint32_t output) {
  auto slot = Ref<GradSlot>::adopt(output == 0 ? &node->slot_ : new GradSlot(y));
  slot->in_node = output == 0;
  set_history(y, std::move(slot), std::move(node), output);
  Body& b = y.body();
  if (b.is_view && !b.base && !std::exchange(b.is_pinned, true))
    b.storage->pins.fetch_add(1, std::memory_order_relaxed);
}
}  // namespace detail

}  // namespace unroll
#pragma GCC visibility pop
