#include <unroll/autograd/anomaly.h>
#include <unroll/autograd/engine.h>
#include <unroll/autograd/grad_mode.h>
#include <unroll/autograd/node.h>
#include <unroll/autograd/ops/arithmetic.h>
#include <unroll/autograd/ops/reduce.h>
#include <unroll/core/kernels/copy.h>
#include <unroll/core/kernels/elementwise.h>

#include <fmt/format.h>

#include <algorithm>
#include <numeric>

namespace unroll {
namespace {

using detail::GradSlot;

template <class T>
using Vector = std::vector<T, alloc::Allocator<T>>;

constexpr std::uint32_t kNowhere = ~std::uint32_t{0};

// From addresses to small numbers; open addressing with at most half the places taken.
class Numbering {
 public:
  std::uint32_t& operator[](const void* key) {
    if (2 * (count_ + 1) > places_.size()) grow();
    Place& place = find(key);
    if (!place.key) {
      place.key = key;
      ++count_;
    }
    return place.value;
  }
  std::uint32_t get(const void* key) const {
    return places_.empty() ? kNowhere : const_cast<Numbering*>(this)->find(key).value;
  }

 private:
  struct Place {
    const void* key = nullptr;
    std::uint32_t value = kNowhere;
  };
  Place& find(const void* key) {
    std::size_t mask = places_.size() - 1;
    // Blocks are 64-byte aligned: the low bits say nothing. The product's high half mixes the rest (Fibonacci hashing).
    std::size_t at = (reinterpret_cast<std::uintptr_t>(key) >> 6) * 0x9E3779B97F4A7C15u >> 32;
    for (;; ++at)
      if (Place& place = places_[at & mask]; !place.key || place.key == key) return place;
  }
  void grow() {
    Vector<Place> old(std::max<std::size_t>(64, 2 * places_.size()));
    old.swap(places_);
    for (const Place& place : old)
      if (place.key) find(place.key) = place;
  }
  Vector<Place> places_;
  std::size_t count_ = 0;
};

// Whether nobody else can see the elements, so that they may be overwritten.
bool sole_owner(const Tensor& x) {
  const detail::Body& b = x.body();
  return b.refs.load(std::memory_order_acquire) == 1 && b.storage->refs.load(std::memory_order_acquire) == 1 &&
         b.contiguous && !b.is_view && !b.grad_slot;
}

void add_in_place(const Tensor& sum, const Tensor& more) {
  dispatch_float("backward", sum.dtype(),
                 [&]<class T>() { kernels::zip_into<T, T>(sum, sum, more, [](T a, T b) { return a + b; }); });
}

void accumulate(Tensor& sum, Tensor more) {
  if (!sum.defined()) {
    sum = std::move(more);
  } else if (!GradMode::enabled() && sole_owner(sum)) {
    add_in_place(sum, more);
  } else {
    sum = sum + more;
  }
}

// What a pass of this thread runs just now. A gradient function may run a pass of its own inside.
struct Running {
  static constexpr int kMaxDepth = 128;

  const Node* node = nullptr;
  const Running* outer;
  int depth;
  Running() : outer(innermost), depth(outer ? outer->depth + 1 : 1) {
    check<GradError>(depth <= kMaxDepth, "backward: more than {} passes run inside each other", kMaxDepth);
    innermost = this;
  }
  ~Running() { innermost = outer; }
  inline static thread_local const Running* innermost = nullptr;
};

// One backward pass. Everything it needs is its own, so passes may run inside each other and in several threads at
// once.
class Pass {
 public:
  struct Wanted {
    Ref<GradSlot> slot;
    Tensor grad;
  };

  // Collects what lies behind the outputs, and asks for all leaves and all tensors that retain their gradient, if
  // `all`.
  Pass(TensorList outputs, bool keep_graph, bool all) : keep_graph_(keep_graph), all_(all) {
    discover(outputs);
    put_in_order();
    for (const Ref<GradSlot>& slot : retaining_) want(slot);
  }

  // Asks for the gradient of a tensor; returns its place in wanted().
  std::size_t want(const Ref<GradSlot>& slot) {
    std::uint32_t& place = places_[slot.get()];
    if (place != kNowhere) return place;
    place = static_cast<std::uint32_t>(wanted_.size());
    wanted_.push_back({slot, {}});
    if (slot->grad_fn)
      if (std::uint32_t producer = numbers_.get(slot->grad_fn.get()); producer != kNowhere)
        places_of_grads_[visits_[producer].first_grad + slot->output] = place;
    return place;
  }

  void run(TensorList outputs, TensorList gradients) {
    find_needed();
    Running running;
    for (std::size_t i = 0; i < outputs.size(); ++i) {
      Tensor g =
          gradients.empty() || !gradients[i].defined() ? ones_like(outputs[i]) : gradients[i].to(outputs[i].dtype());
      if (std::string at = anomaly_ ? detail::find_nan(g) : std::string(); !at.empty())
        detail::fail<GradError>("backward: the gradient given for output {} has a NaN at {}", i, at);
      deliver(*outputs[i].grad_slot(), std::move(g));
    }
    for (std::uint32_t number : order_) {
      const Visit& visit = visits_[number];
      std::span<Tensor> grad_out = std::span(grads_).subspan(visit.first_grad, visit.node->outputs());
      bool reached = std::any_of(grad_out.begin(), grad_out.end(), [](const Tensor& g) { return g.defined(); });
      for (std::size_t j = 0; anomaly_ && j < grad_out.size(); ++j)
        check_sum(grad_out[j],
                  [&] { return fmt::format("output {} of {}, {}", j, visit.node->name(), origin(*visit.node)); });
      if (reached && visit.node->extras()) run_hooks(visit, grad_out, running);
      if (reached) hand_out(visit, grad_out);
      if (reached && visit.needed) step(visit, grad_out, running);
      for (Tensor& g : grad_out) g = Tensor();  // memory for what comes next
    }
    running.node = nullptr;
    for (Wanted& w : wanted_) {
      if (w.slot->grad_fn || !w.grad.defined()) continue;
      const auto leaf = [&] { return fmt::format("a leaf of shape {}", w.slot->shape); };
      if (anomaly_) check_sum(w.grad, leaf);
      if (!w.slot->hooks.empty()) detail::run_hooks(w.slot->hooks, w.grad, leaf());
    }
  }

  Vector<Wanted>& wanted() noexcept { return wanted_; }

 private:
  struct Visit {
    Node* node;
    std::uint32_t first_grad;  // of its outputs, in grads_
    std::uint32_t first_edge;  // of its inputs, in targets_
    bool needed = true;        // something wanted lies behind it
  };

  // Collects the nodes behind the outputs: visits_ is the queue as well, for graphs are as deep as sequences are long.
  void discover(TensorList outputs) {
    for (const Tensor& y : outputs) meet(y.body().grad_slot);
    for (std::size_t next = 0; next < visits_.size(); ++next) {
      visits_[next].first_edge = static_cast<std::uint32_t>(targets_.size());
      for (const Ref<GradSlot>& slot : visits_[next].node->inputs()) targets_.push_back(slot ? meet(slot) : kNowhere);
    }
    grads_.resize(grads_met_);
    places_of_grads_.resize(grads_met_, kNowhere);
  }

  // The number of the visit that makes the tensor; kNowhere for a leaf.
  std::uint32_t meet(const Ref<GradSlot>& slot) {
    Node* node = slot->grad_fn.get();
    if (!node) {
      if (all_ && slot->requires_grad) want(slot);
      return kNowhere;
    }
    if (all_ && slot->retains_grad) retaining_.push_back(slot);
    std::uint32_t& number = numbers_[node];
    if (number == kNowhere) {
      number = static_cast<std::uint32_t>(visits_.size());
      visits_.push_back({node, std::exchange(grads_met_, grads_met_ + node->outputs()), 0});
    }
    return number;
  }

  // Every op after all ops that read its outputs.
  void put_in_order() {
    order_.resize(visits_.size());
    std::iota(order_.begin(), order_.end(), std::uint32_t{0});
    auto later = [&](std::uint32_t a, std::uint32_t b) {
      return visits_[a].node->sequence() > visits_[b].node->sequence();
    };
    if (!std::is_sorted(order_.begin(), order_.end(), later)) std::sort(order_.begin(), order_.end(), later);
  }

  // Makes of each edge's target, a visit, the gradient that it adds to: of a node's output, in grads_, or, behind them,
  // of a wanted leaf. kNowhere if nothing wanted lies there.
  void find_needed() {
    for (std::size_t i = order_.size(); i-- > 0;) {
      Visit& visit = visits_[order_[i]];
      visit.needed = false;
      std::uint32_t* target = targets_.data() + visit.first_edge;
      for (const Ref<GradSlot>& slot : visit.node->inputs()) {
        if (slot) *target = target_of(*slot, *target);
        visit.needed |= *target++ != kNowhere;
      }
    }
  }

  std::uint32_t target_of(const GradSlot& slot, std::uint32_t producer) const {
    if (producer == kNowhere) {
      const std::uint32_t place = places_.get(&slot);
      return place == kNowhere ? kNowhere : static_cast<std::uint32_t>(grads_.size()) + place;
    }
    const std::uint32_t grad = visits_[producer].first_grad + slot.output;
    return visits_[producer].needed || places_of_grads_[grad] != kNowhere ? grad : kNowhere;
  }

  // Gives wanted gradients of the node's outputs, complete by now, to those who asked.
  void hand_out(const Visit& visit, std::span<const Tensor> grad_out) {
    for (std::size_t j = 0; j < grad_out.size(); ++j)
      if (std::uint32_t place = places_of_grads_[visit.first_grad + j]; place != kNowhere)
        wanted_[place].grad = grad_out[j];
  }

  void begin(const Node& node, const char* what, Running& running) const {
    for (const Running* r = running.outer; r && !keep_graph_; r = r->outer)
      check<GradError>(r->node != &node,
                       "{}: {} runs backward through its own graph and would free what it reads; "
                       "pass retain_graph = true there",
                       node.name(), what);
    running.node = &node;
  }

  void run_hooks(const Visit& visit, std::span<Tensor> grad_out, Running& running) {
    begin(*visit.node, "a hook on its output", running);
    for (std::size_t j = 0; j < std::min(visit.node->extras()->hooks.size(), grad_out.size()); ++j) {
      bool computed = visit.needed || places_of_grads_[visit.first_grad + j] != kNowhere;
      const auto hooks = visit.node->extras()->hooks[j];  // more may be added meanwhile
      if (computed && grad_out[j].defined() && !hooks.empty())
        detail::run_hooks(hooks, grad_out[j], fmt::format("output {} of {}", j, visit.node->name()));
    }
  }

  // -- AnomalyMode: what a gradient function returns is looked at at once, so what arrives can be wrong as a sum only.

  static std::string origin(const Node& node) {
    return node.extras() && !node.extras()->recorded.empty() ? "recorded in " + node.extras()->recorded
                                                             : "recorded outside of AnomalyMode";
  }

  template <class What>
  static void check_sum(const Tensor& g, What what) {
    if (std::string at = detail::find_nan(g); !at.empty())
      detail::fail<GradError>("backward: the gradients that arrive at {} add up to a NaN at {}", what(), at);
  }

  void run_watched(Node& node, const detail::GradFlow& flow) {
    {
      detail::GradientScope scope(node);
      node.backward(flow);
    }
    for (std::size_t i = 0; i < flow.grad_in.size(); ++i)
      if (std::string at = needs_[i] ? detail::find_nan(flow.grad_in[i]) : std::string(); !at.empty())
        detail::fail<GradError>("{}: its gradient function gave input {} a NaN at {}; {}", node.name(), i, at,
                                origin(node));
  }

  void step(const Visit& visit, std::span<const Tensor> grad_out, Running& running) {
    Node& node = *visit.node;
    check<GradError>(!node.freed(),
                     "{}: backward through the graph a second time: what it needs was freed by the first; "
                     "pass retain_graph = true there, or detach() what is carried over from an earlier step",
                     node.name());
    begin(node, "its gradient function", running);
    auto inputs = node.inputs();
    const auto targets = std::span(targets_).subspan(visit.first_edge, inputs.size());
    grad_in_.resize(inputs.size());
    needs_.resize(inputs.size());
    for (std::size_t i = 0; i < inputs.size(); ++i) needs_[i] = targets[i] != kNowhere;
    const detail::GradFlow flow{grad_out, grad_in_, needs_, !keep_graph_};
    if (anomaly_) [[unlikely]]
      run_watched(node, flow);
    else
      node.backward(flow);
    for (std::size_t i = 0; i < inputs.size(); ++i) {
      Tensor g = std::move(grad_in_[i]);  // none is left for the next node
      if (needs_[i] && g.defined()) accumulate(sum_at(targets[i]), fit(node, i, *inputs[i], std::move(g)));
    }
    if (!keep_graph_) node.free();
  }

  Tensor& sum_at(std::uint32_t target) {
    return target < grads_.size() ? grads_[target] : wanted_[target - grads_.size()].grad;
  }

  // Sums what broadcasting had spread, converts what another dtype computed.
  static Tensor fit(const Node& node, std::size_t input, const GradSlot& slot, Tensor g) {
    if (g.dtype() != slot.dtype) g = g.to(slot.dtype);
    if (g.shape() == slot.shape) return g;
    std::size_t rank = slot.shape.size(), lead = g.shape().size() - std::min(rank, g.shape().size());
    bool spread = g.shape().size() >= rank;
    for (std::size_t d = 0; spread && d < rank; ++d)
      spread = slot.shape[d] == 1 || slot.shape[d] == g.shape()[lead + d];
    check<ShapeError>(spread, "{}: backward gave input {} a gradient of shape {}, expected {}", node.name(), input,
                      g.shape(), slot.shape);
    return sum_to(g, slot.shape);
  }

  // The gradient of one of the pass's outputs.
  void deliver(const GradSlot& slot, Tensor g) {
    if (slot.grad_fn)
      accumulate(grads_[visits_[numbers_.get(slot.grad_fn.get())].first_grad + slot.output], std::move(g));
    else if (std::uint32_t leaf = places_.get(&slot); leaf != kNowhere)
      accumulate(wanted_[leaf].grad, std::move(g));
  }

  const bool keep_graph_, all_, anomaly_ = AnomalyMode::enabled();
  Vector<Visit> visits_;           // as they were met
  Vector<std::uint32_t> order_;    // in which they run
  Vector<std::uint32_t> targets_;  // one an edge; see find_needed
  Numbering numbers_;              // of nodes, in visits_
  Numbering places_;               // of slots, in wanted_
  std::uint32_t grads_met_ = 0;
  Vector<Tensor> grads_;                   // of all nodes' outputs
  Vector<std::uint32_t> places_of_grads_;  // of those in wanted_; parallel to grads_
  Vector<Ref<GradSlot>> retaining_;        // tensors that were met, maybe more than once
  Vector<Wanted> wanted_;
  Vector<Tensor> grad_in_;  // of the running node
  Vector<std::uint8_t> needs_;
};

void check_outputs(const char* op, TensorList outputs, TensorList gradients) {
  check<GradError>(!outputs.empty(), "{}: no outputs to differentiate", op);
  check<GradError>(gradients.empty() || gradients.size() == outputs.size(), "{}: {} gradients came for {} outputs", op,
                   gradients.size(), outputs.size());
  for (std::size_t i = 0; i < outputs.size(); ++i) {
    const Tensor& y = outputs[i];
    check<GradError>(y.requires_grad(), "{}: output {} does not require a gradient and has no history", op, i);
    if (gradients.empty() || !gradients[i].defined())
      check<GradError>(y.numel() == 1, "{}: output {} has shape {}; only that of one element may go without a gradient",
                       op, i, y.shape());
    else
      check<ShapeError>(gradients[i].shape() == y.shape(), "{}: the gradient of output {} has shape {}, expected {}",
                        op, i, gradients[i].shape(), y.shape());
  }
}

// Adds the pass's results to .grad: all that can fail first, then all or none.
void commit(Vector<Pass::Wanted>& wanted, bool create_graph) {
  for (Pass::Wanted& w : wanted) {
    if (!w.grad.defined()) continue;
    const Tensor& before = w.slot->grad;
    // What is stored is never the caller's tensor, nor another leaf's.
    if (create_graph) {
      w.grad = before.defined() ? before + w.grad : w.grad.clone();
    } else if (!before.defined()) {
      if (!sole_owner(w.grad)) w.grad = kernels::clone(w.grad);
    } else {
      detail::before_write(before, "backward");
      if (w.grad.shares_memory(before)) w.grad = kernels::clone(w.grad);
    }
  }
  for (Pass::Wanted& w : wanted) {
    if (!w.grad.defined()) continue;
    if (create_graph || !w.slot->grad.defined()) {
      w.slot->grad = std::move(w.grad);
    } else {
      add_in_place(w.slot->grad, w.grad);
      kernels::wrote(w.slot->grad, "backward");
    }
  }
}

}  // namespace

void backward(TensorList outputs, TensorList gradients, const BackwardOptions& options) {
  if (options.gradient.defined()) {
    check<GradError>(gradients.empty(), "backward: gradients came both as an argument and as an option");
    gradients = std::span(&options.gradient, 1);
  }
  check_outputs("backward", outputs, gradients);
  GradMode mode(options.create_graph);
  Pass pass(outputs, options.retain_graph.value_or(options.create_graph), !options.inputs);
  if (options.inputs) {
    check<GradError>(!options.inputs->empty(),
                     "backward: the list of inputs is empty; leave it out to accumulate into all leaves");
    for (const Tensor& x : *options.inputs) {
      check<GradError>(x.requires_grad(), "backward: one of the inputs does not require a gradient");
      pass.want(x.body().grad_slot);
    }
  }
  pass.run(outputs, gradients);
  commit(pass.wanted(), options.create_graph);
}

std::vector<Tensor> grad(TensorList outputs, TensorList inputs, const GradOptions& options) {
  check_outputs("grad", outputs, options.grad_outputs);
  check<GradError>(!inputs.empty(), "grad: no inputs to differentiate with respect to");
  GradMode mode(options.create_graph);
  Pass pass(outputs, options.retain_graph.value_or(options.create_graph), false);
  std::vector<std::size_t> places;
  for (std::size_t i = 0; i < inputs.size(); ++i) {
    check<GradError>(inputs[i].requires_grad(), "grad: input {} does not require a gradient", i);
    places.push_back(pass.want(inputs[i].body().grad_slot));
  }
  pass.run(outputs, options.grad_outputs);
  std::vector<Tensor> result;
  for (std::size_t i = 0; i < inputs.size(); ++i) {
    result.push_back(pass.wanted()[places[i]].grad);
    if (options.materialize_grads && !result.back().defined()) result.back() = zeros_like(inputs[i]);
    check<GradError>(result.back().defined() || options.allow_unused,
                     "grad: the outputs do not depend on input {}; pass allow_unused = true if that is meant", i);
  }
  return result;
}

}  // namespace unroll
