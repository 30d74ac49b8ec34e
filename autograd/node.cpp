#include <unroll/autograd/anomaly.h>
#include <unroll/autograd/detail/sole_owner.h>
#include <unroll/autograd/grad_mode.h>
#include <unroll/autograd/node.h>

#include <algorithm>
#include <memory>

namespace unroll {
// What has died in this thread while something else was being deleted. A node owns the nodes it reads from, through its
// edges, its saved tensors and whatever a gradient function captured; a leaf owns what its grad() and its hooks hold.
// Deleting them from within each other would nest as deep as the graph; instead they wait in a list.
struct detail::Dead {
  Node* nodes = nullptr;
  GradSlot* leaves = nullptr;
  bool deleting = false;

  void add(Node* node) noexcept {
    if (deleting) {
      node->next_dead_ = std::exchange(nodes, node);
      return;
    }
    deleting = true;
    delete node;
    delete_rest();
  }
  void add(GradSlot* leaf) noexcept {
    leaf->next_dead = std::exchange(leaves, leaf);
    if (!std::exchange(deleting, true)) delete_rest();
  }

 private:
  void delete_rest() noexcept {
    while (nodes || leaves)
      if (nodes) {
        delete std::exchange(nodes, nodes->next_dead_);
      } else {
        GradSlot* leaf = std::exchange(leaves, leaves->next_dead);
        std::construct_at(&leaf->grad_fn);
        delete leaf;
      }
    deleting = false;
  }
};

namespace {
[[gnu::tls_model("initial-exec")]] thread_local detail::Dead dead;
}  // namespace

constinit thread_local std::uint64_t detail::clock_of_thread = 0;

void Node::note_where() { extras_to_write().recorded = detail::Where::path(); }

detail::NodeExtras& Node::extras_to_write() {
  if (!extras_) extras_.reset(new detail::NodeExtras);
  return *extras_;
}

Ref<detail::GradSlot> Node::held_slot() noexcept {
  std::int32_t count = slot_.refs.load(std::memory_order_relaxed);
  while (count > 0 && !slot_.refs.compare_exchange_weak(count, count + 1, std::memory_order_acquire)) {}
  return count > 0 ? Ref<detail::GradSlot>::adopt(&slot_) : Ref<detail::GradSlot>();
}

void retain(Node* node) noexcept { detail::add_to(node->refs, 1); }

void release(Node* node) noexcept {
  if (node->drop()) dead.add(node);
}

void Saved::fail_stale(const detail::SavedTensor& saved) const {
  const detail::Elements& e = *saved.elements;
  detail::fail<GradError>(
      "{}: a tensor of shape {} that backward needs was modified in place by {}: it is at version {}, "
      "version {} was saved; "
      "write a new tensor instead, or write after backward (what is carried on from before needs detach())",
      node_.name(), e.shape, e.storage->last_write, e.storage->version, saved.version);
}

void Saved::unpack(const detail::SavedTensor& saved, Tensor& x) const {
  if (!x.defined() && !saved.is_output()) x = detail::handle_of(*saved.elements);
  if (!x.defined()) {
    // Who frees the node is alone with it, so the tensor may be the one that was.
    if (last()) x = detail::new_handle_of(*saved.elements);
    if (!x.defined()) x = detail::new_tensor(*saved.elements);
    x.body().grad_slot =
        saved.is_input() ? node_.inputs()[static_cast<std::size_t>(~std::int64_t{saved.place})] : saved.history;
  }
  // Not only when it is made: it may have been read under NoGrad before.
  if (saved.is_output() && GradMode::enabled() && !x.grad_slot())
    detail::set_history(x, Ref<detail::GradSlot>::adopt(new detail::GradSlot(x)), Ref<Node>(&node_),
                        static_cast<std::uint32_t>(saved.place));
}

Tensor Saved::take_defined_sum(Tensor& sum, const Shape& shape, DType dtype) {
  // AnomalyMode looks at what each node brings by itself.
  if (GradMode::enabled() || AnomalyMode::enabled() || !detail::sole_owner(sum)) return {};
  // The op's input was broadcast, or its dtype is another one by now (Module::to).
  if (sum.shape() != shape || sum.dtype() != dtype) return {};
  return std::move(sum);
}

namespace detail {

void SavedTensor::find_place(const Tensor& value, std::span<const Tensor> outputs,
                             std::span<const Ref<GradSlot>> edges) {
  for (std::size_t j = 0; j < outputs.size(); ++j)
    if (outputs[j].is_same(value)) {
      place = static_cast<std::int32_t>(j);
      return;
    }
  GradSlot* slot = edge_of(value);
  if (!slot) return;
  for (std::size_t i = 0; i < std::min<std::size_t>(edges.size(), 4); ++i)  // of many it is not worth the search
    if (edges[i].get() == slot) {
      place = ~static_cast<std::int32_t>(i);
      return;
    }
  history = Ref<GradSlot>(slot);
}

void destroy(GradSlot* slot) noexcept {
  const bool in_node = slot->in_node;
  // With the node goes the slot; a grad that it retained goes then, lest it take others along from here.
  slot->grad_fn = {};
  if (!in_node) dead.add(slot);
}

}  // namespace detail
}  // namespace unroll
