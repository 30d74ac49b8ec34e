#include <unroll/autograd/anomaly.h>
#include <unroll/autograd/grad_mode.h>
#include <unroll/autograd/node.h>
#include <unroll/core/view.h>

#include <algorithm>

namespace unroll {
namespace {
// Every thread counts for itself. A node that reads another thread's node starts behind it (edge_to), as Lamport's
// clocks do, so sequence numbers order every graph without a shared counter.
thread_local std::uint64_t clock_of_thread = 0;
}  // namespace

Node::Node(const char* name, std::uint32_t outputs) : name_(name), sequence_(++clock_of_thread), outputs_(outputs) {
  if (AnomalyMode::enabled()) [[unlikely]]
    extras_to_write().recorded = detail::Where::path();
  alloc::count_node(1);
}

Node::~Node() { alloc::count_node(-1); }

detail::NodeExtras& Node::extras_to_write() {
  if (!extras_) extras_ = std::make_unique<detail::NodeExtras>();
  return *extras_;
}

void retain(Node* node) noexcept { node->refs.fetch_add(1, std::memory_order_relaxed); }

// A node owns the nodes it reads from, through its edges, its saved tensors and whatever a gradient function captured.
// Deleting them from within each other would nest as deep as the graph; instead a node that dies while another is being
// deleted waits in a list.
void release(Node* node) noexcept {
  thread_local Node* waiting = nullptr;
  thread_local bool deleting = false;
  if (!node->drop()) return;
  node->next_dead_ = waiting;
  waiting = node;
  if (deleting) return;
  deleting = true;
  while (waiting) delete std::exchange(waiting, waiting->next_dead_);
  deleting = false;
}

Ref<detail::GradSlot> Node::edge_to(const Tensor& input) {
  if (!detail::wants_grad(input)) return {};
  const Ref<detail::GradSlot>& slot = input.body().grad_slot;
  if (slot->grad_fn && slot->grad_fn->sequence() >= sequence_)
    sequence_ = clock_of_thread = slot->grad_fn->sequence() + 1;
  return slot;
}

void Node::keep(detail::SavedTensor& saved, const Tensor& value, std::span<const Tensor> outputs) {
  if (!value.defined()) return;
  saved.elements = Ref<detail::Elements>(&value.body());
  saved.version = value.version();
  auto own = std::find_if(outputs.begin(), outputs.end(), [&](const Tensor& y) { return y.is_same(value); });
  if (own != outputs.end())
    saved.output = static_cast<std::int32_t>(own - outputs.begin());
  else if (detail::wants_grad(value))
    saved.history = value.body().grad_slot;
}

const Tensor& Saved::operator[](std::size_t i) const {
  const detail::SavedTensor& saved = saved_[i];
  Tensor& x = unpacked_[i];
  if (!saved.elements) return x;
  const detail::Elements& e = *saved.elements;
  check<GradError>(e.storage->version == saved.version,
                   "{}: a tensor of shape {} that backward needs was modified in place by {}: it is at version {}, "
                   "version {} was saved; "
                   "write a new tensor instead",
                   node_.name(), e.shape, e.storage->last_write, e.storage->version, saved.version);
  if (!x.defined() && saved.output < 0) x = detail::handle_of(*saved.elements);
  if (!x.defined()) {
    x = detail::new_tensor(e);
    x.body().grad_slot = saved.history;
  }
  if (saved.output >= 0 && GradMode::enabled() && !x.grad_slot())
    detail::attach(x, Ref<Node>(&node_), static_cast<std::uint32_t>(saved.output));
  return x;
}

namespace detail {

void retain(GradSlot* slot) noexcept { slot->refs.fetch_add(1, std::memory_order_relaxed); }

void release(GradSlot* slot) noexcept {
  if (slot->drop()) delete slot;
}

void attach(const Tensor& y, Ref<Node> node, std::uint32_t output) {
  auto slot = Ref<GradSlot>::adopt(new GradSlot(y));
  slot->grad_fn = std::move(node);
  slot->output = output;
  slot->requires_grad = true;
  Body& b = y.body();
  b.grad_slot = std::move(slot);
  if (b.is_view && !b.base && !std::exchange(b.is_pinned, true))
    b.storage->pins.fetch_add(1, std::memory_order_relaxed);
}

}  // namespace detail
}  // namespace unroll
