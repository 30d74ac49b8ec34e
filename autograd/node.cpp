#include <unroll/autograd/anomaly.h>
#include <unroll/autograd/detail/sole_owner.h>
#include <unroll/autograd/grad_mode.h>
#include <unroll/autograd/node.h>
#include <unroll/core/view.h>

#include <algorithm>

namespace unroll {
namespace {
// Every thread counts for itself. A node that reads another thread's node starts behind it, as Lamport's clocks
// do, so sequence numbers order every graph without a shared counter.
[[gnu::tls_model("initial-exec")]] thread_local std::uint64_t clock_of_thread = 0;

// Nodes of this thread that have died while another is being deleted; see release.
struct Dead {
  Node* first = nullptr;
  bool deleting = false;
};
[[gnu::tls_model("initial-exec")]] thread_local Dead dead;
}  // namespace

Node::Node(const char* name, std::uint32_t outputs, std::uint64_t after)
    : outputs_(outputs), name_(name), sequence_(clock_of_thread = std::max(clock_of_thread, after) + 1) {
  if (AnomalyMode::enabled()) [[unlikely]]
    extras_to_write().recorded = detail::Where::path();
}

detail::NodeExtras& Node::extras_to_write() {
  if (!extras_) extras_ = std::make_unique<detail::NodeExtras>();
  return *extras_;
}

void retain(Node* node) noexcept { detail::add_to(node->refs, 1); }

// A node owns the nodes it reads from, through its edges, its saved tensors and whatever a gradient function captured.
// Deleting them from within each other would nest as deep as the graph; instead a node that dies while another is being
// deleted waits in a list.
void release(Node* node) noexcept {
  if (!node->drop()) return;
  if (dead.deleting) {
    node->next_dead_ = std::exchange(dead.first, node);
    return;
  }
  dead.deleting = true;
  delete node;
  while (dead.first) delete std::exchange(dead.first, dead.first->next_dead_);
  dead.deleting = false;
}

void Node::keep(detail::SavedTensor& saved, const Tensor& value, std::span<const Tensor> outputs,
                std::span<const Ref<detail::GradSlot>> edges) {
  if (!value.defined()) return;
  saved.elements = Ref<detail::Elements>(&value.body());
  saved.version = value.version();
  for (std::size_t j = 0; j < outputs.size(); ++j)
    if (outputs[j].is_same(value)) {
      saved.place = static_cast<std::int32_t>(j);
      return;
    }
  detail::GradSlot* history = detail::edge_of(value);
  if (!history) return;
  for (std::size_t i = 0; i < std::min<std::size_t>(edges.size(), 4); ++i)  // of many it is not worth the search
    if (edges[i].get() == history) {
      saved.place = ~static_cast<std::int32_t>(i);
      return;
    }
  saved.history = Ref<detail::GradSlot>(history);
}

namespace {
void set_history(const Tensor& y, Ref<detail::GradSlot> slot, Ref<Node> node, std::uint32_t output) {
  slot->grad_fn = std::move(node);
  slot->output = output;
  slot->requires_grad = true;
  y.body().grad_slot = std::move(slot);
}
}  // namespace

const detail::Elements* Saved::elements(std::size_t i) const {
  const detail::SavedTensor& saved = saved_[i];
  if (!saved.elements) return nullptr;
  const detail::Elements& e = *saved.elements;
  check<GradError>(e.storage->version == saved.version,
                   "{}: a tensor of shape {} that backward needs was modified in place by {}: it is at version {}, "
                   "version {} was saved; "
                   "write a new tensor instead",
                   node_.name(), e.shape, e.storage->last_write, e.storage->version, saved.version);
  return &e;
}

const Tensor& Saved::operator[](std::size_t i) const {
  const detail::SavedTensor& saved = saved_[i];
  Tensor& x = unpacked_[i];
  if (elements(i) == nullptr) return x;
  if (!x.defined() && !saved.is_output()) x = detail::handle_of(*saved.elements);
  if (!x.defined()) {
    // Who frees the node is alone with it, so the tensor may be the one that was.
    if (last_) x = detail::new_handle_of(*saved.elements);
    if (!x.defined()) x = detail::new_tensor(*saved.elements);
    x.body().grad_slot = saved.is_input() ? node_.inputs()[static_cast<std::size_t>(~saved.place)] : saved.history;
  }
  if (saved.is_output() && GradMode::enabled() && !x.grad_slot())
    set_history(x, Ref<detail::GradSlot>::adopt(new detail::GradSlot(x)), Ref<Node>(&node_),
                static_cast<std::uint32_t>(saved.place));
  return x;
}

Tensor Saved::take_sum(std::size_t input) const {
  Tensor& sum = *sums_[input];
  // AnomalyMode looks at what each node brings by itself.
  if (!sum.defined() || GradMode::enabled() || AnomalyMode::enabled() || !detail::sole_owner(sum)) return {};
  return std::move(sum);
}

namespace detail {

void retain(GradSlot* slot) noexcept { add_to(slot->refs, 1); }

void release(GradSlot* slot) noexcept {
  if (!slot->drop()) return;
  if (!slot->in_node) return delete slot;
  slot->grad = {};
  slot->grad_fn = {};  // the last line: with the node goes the slot
}

void attach(const Tensor& y, Ref<Node> node, std::uint32_t output) {
  if (output == 0) {
    GradSlot& slot = node->slot_;
    slot.shape = y.shape();
    slot.dtype = y.dtype();
    slot.in_node = true;
    set_history(y, Ref<GradSlot>::adopt(&slot), std::move(node), 0);
  } else {
    set_history(y, Ref<GradSlot>::adopt(new GradSlot(y)), std::move(node), output);
  }
  Body& b = y.body();
  if (b.is_view && !b.base && !std::exchange(b.is_pinned, true))
    b.storage->pins.fetch_add(1, std::memory_order_relaxed);
}

}  // namespace detail
}  // namespace unroll
