#include <unroll/autograd/anomaly.h>
#include <unroll/autograd/detail/common_lock.h>
#include <unroll/autograd/detail/plan.h>
#include <unroll/autograd/detail/sole_owner.h>
#include <unroll/autograd/engine.h>
#include <unroll/autograd/grad_mode.h>
#include <unroll/autograd/node.h>
#include <unroll/autograd/ops/arithmetic.h>
#include <unroll/autograd/ops/reduce.h>
#include <unroll/autograd/ops/shape.h>
#include <unroll/core/kernels/copy.h>
#include <unroll/core/kernels/elementwise.h>

#include <fmt/format.h>

#include <algorithm>
#include <limits>

namespace unroll {
namespace {

using detail::GradSlot;
using detail::Plan;
using detail::sole_owner;
using detail::Vector;

// `more` lies elsewhere.
void add_in_place(const Tensor& sum, const Tensor& more) {
  dispatch_float("backward", sum.dtype(),
                 [&]<class T>() { kernels::update<T>(sum, more, [](T a, T b) { return a + b; }); });
}

// A call, since most gradients are the first to arrive.
[[gnu::noinline]] void add_to_sum(Tensor& sum, const Tensor& more) {
  if (sum.dtype() != more.dtype()) [[unlikely]]  // a hook has converted a module meanwhile
    sum = sum.to(more.dtype());
  if (!GradMode::enabled() && sole_owner(sum))
    add_in_place(sum, more);
  else
    sum = sum + more;
}

inline void accumulate(Tensor& sum, Tensor&& more) {
  if (!sum.defined())
    sum = std::move(more);
  else
    add_to_sum(sum, more);
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

// One backward pass.
class Pass {
 public:
  Pass(TensorList outputs, bool keep_graph, bool all, std::uint64_t first)
      : keep_graph_(keep_graph), plan_(outputs, all, first) {
    for (const Tensor& y : outputs) held_.push_back(y.body().grad_slot);
  }
  ~Pass() {
    if (claimed_ != nullptr) claimed_->disclaim();  // its function raised
  }
  Pass(const Pass&) = delete;
  Pass& operator=(const Pass&) = delete;

  /// Asks for the gradient of a tensor; returns its place among the results.
  std::size_t want(const Tensor& x) { return plan_.want(x.body().grad_slot); }

  void run(TensorList outputs, TensorList gradients) {
    plan_.find_needed();
    grads_.resize(plan_.grads());
    results_.resize(plan_.wanted().size());
    grad_in_.resize(plan_.inputs());
    sums_.resize(plan_.inputs());
    Running running;
    for (std::size_t i = 0; i < outputs.size(); ++i) {
      Tensor g =
          gradients.empty() || !gradients[i].defined() ? ones_like(outputs[i]) : gradients[i].to(outputs[i].dtype());
      if (std::string at = anomaly_ ? detail::find_nan(g) : std::string(); !at.empty())
        detail::fail<GradError>("backward: the gradient given for output {} has a NaN at {}", i, at);
      if (std::uint32_t target = plan_.grad_of_output(i, *outputs[i].grad_slot()); target != Plan::kNowhere)
        accumulate(sum_at(target), std::move(g));
    }
    for (const Plan::Visit& visit : plan_.visits()) {
      const std::span<Tensor> grad_out(grads_.data() + visit.first_grad, visit.node->outputs());
      if (std::ranges::none_of(grad_out, [](const Tensor& g) { return g.defined(); })) continue;
      for (std::size_t j = 0; anomaly_ && j < grad_out.size(); ++j)
        check_sum(grad_out[j],
                  [&] { return fmt::format("output {} of {}, {}", j, visit.node->name(), origin(*visit.node)); });
      if (visit.node->extras()) run_hooks(visit, grad_out, running);
      if (plan_.wants_computed()) hand_out(visit, grad_out);
      if (visit.needed) step(visit, grad_out, running);
      for (Tensor& g : grad_out) g = Tensor();  // memory for what comes next
    }
    running.node = nullptr;
    for (std::size_t i = 0; i < results_.size(); ++i) {
      const GradSlot& slot = *plan_.wanted()[i];
      if (slot.grad_fn || !results_[i].defined()) continue;
      const auto leaf = [&] { return fmt::format("a leaf of shape {}", slot.shape); };
      if (anomaly_) check_sum(results_[i], leaf);
      if (slot.hooks) detail::run_hooks(*slot.hooks, results_[i], leaf());
    }
    for (std::size_t i = 0; i < results_.size(); ++i)  // once no hook can convert a module any more
      if (results_[i].defined() && results_[i].dtype() != plan_.wanted()[i]->dtype)
        results_[i] = results_[i].to(plan_.wanted()[i]->dtype);
  }

  std::span<const Ref<GradSlot>> wanted() const noexcept { return plan_.wanted(); }
  std::span<Tensor> results() noexcept { return results_; }  // parallel to it

 private:
  // Gives wanted gradients of the node's outputs, complete by now, to those who asked.
  void hand_out(const Plan::Visit& visit, std::span<const Tensor> grad_out) {
    for (std::size_t j = 0; j < grad_out.size(); ++j)
      if (std::uint32_t place = plan_.place_of_grad(visit.first_grad + j); place != Plan::kNowhere)
        results_[place] = grad_out[j];
  }

  void begin(const Node& node, const char* what, Running& running) const {
    running.node = &node;
    if (!running.outer || keep_graph_) return;
    for (const Running* r = running.outer; r; r = r->outer)
      check<GradError>(r->node != &node,
                       "{}: {} runs backward through its own graph and would free what it reads; "
                       "pass retain_graph = true there",
                       node.name(), what);
  }

  void run_hooks(const Plan::Visit& visit, std::span<Tensor> grad_out, Running& running) {
    begin(*visit.node, "a hook on its output", running);
    for (std::size_t j = 0; j < std::min(visit.node->extras()->hooks.size(), grad_out.size()); ++j) {
      bool computed = visit.needed || plan_.place_of_grad(visit.first_grad + j) != Plan::kNowhere;
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
      if (std::string at = sums_[i] != nullptr ? detail::find_nan(flow.grad_in[i]) : std::string(); !at.empty())
        detail::fail<GradError>("{}: its gradient function gave input {} a NaN at {}; {}", node.name(), i, at,
                                origin(node));
  }

  [[noreturn, gnu::noinline, gnu::cold]] static void fail_freed(const Node& node) {
    detail::fail<GradError>(
        "{}: backward through the graph a second time: what it needs was freed by the first; "
        "pass retain_graph = true there, or detach() what is carried over from an earlier step",
        node.name());
  }

  void step(const Plan::Visit& visit, std::span<Tensor> grad_out, Running& running) {
    Node& node = *visit.node;
    begin(node, "its gradient function", running);
    if (keep_graph_ ? node.freed() : !node.claim()) [[unlikely]]
      fail_freed(node);
    if (!keep_graph_) claimed_ = &node;
    const std::span<const Ref<GradSlot>> inputs = node.inputs();
    const std::uint32_t* const targets = plan_.targets(visit);
    const std::span<Tensor> grad_in(grad_in_.data(), inputs.size());
    const std::span<Tensor*> sums(sums_.data(), inputs.size());
    for (std::size_t i = 0; i < inputs.size(); ++i)
      sums[i] = targets[i] != Plan::kNowhere ? &sum_at(plan_.grad_of(targets[i], *inputs[i])) : nullptr;
    const detail::GradFlow flow{grad_out, grad_in, sums, !keep_graph_};
    if (anomaly_) [[unlikely]]
      run_watched(node, flow);
    else
      node.backward(flow);
    for (std::size_t i = 0; i < inputs.size(); ++i) {
      Tensor& g = grad_in[i];
      if (!g.defined()) continue;
      if (sums[i] != nullptr) {
        const GradSlot& slot = *inputs[i];
        if (g.dtype() != slot.dtype || g.shape() != slot.shape) [[unlikely]]
          g = fit(node, i, slot, std::move(g));
        accumulate(*sums[i], std::move(g));
      }
      g = Tensor();  // none is left for the next node
    }
    if (!keep_graph_) {
      node.free();
      claimed_ = nullptr;
    }
  }

  Tensor& sum_at(std::uint32_t target) {
    return target < Plan::kWanted ? grads_[target] : results_[target - Plan::kWanted];
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
    if (g.numel() == numel(slot.shape)) return reshape(g, slot.shape);  // sums of one number each
    return sum_to(g, slot.shape);
  }

  const bool keep_graph_, anomaly_ = AnomalyMode::enabled();
  Plan plan_;
  Vector<Ref<GradSlot>> held_;  // the graph as it is now: a hook may drop the outputs or give them another history
  Vector<Tensor> grads_;        // of all nodes' outputs
  Vector<Tensor> results_;      // gradients that were asked for
  Vector<Tensor> grad_in_;      // of the running node
  Vector<Tensor*> sums_;        // where they go
  Node* claimed_ = nullptr;     // the running node, if it is to be freed
};

// The earliest node that one of the tensors was computed by; 0 if one is a leaf.
std::uint64_t first_node(TensorList wanted) {
  std::uint64_t first = std::numeric_limits<std::uint64_t>::max();
  for (const Tensor& x : wanted) {
    const GradSlot& slot = *x.grad_slot();
    first = std::min(first, slot.grad_fn ? slot.grad_fn->sequence() : 0);
  }
  return first;
}

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

// Adds the pass's results to .grad: all that can fail first, then all or none. One thread at a time, for passes of
// several threads may end in the same leaves. What a grad was before goes with the pass, not under the lock.
void commit(Pass& pass, bool create_graph) {
  const detail::CommonLock lock;
  const auto slots = pass.wanted();
  const auto grads = pass.results();
  Vector<const detail::Storage*> written;  // by what follows, so that no gradient yet to be added may lie there
  for (std::size_t i = 0; i < slots.size() && !create_graph; ++i)
    if (grads[i].defined() && slots[i]->grad.defined()) written.push_back(slots[i]->grad.body().storage.get());
  std::ranges::sort(written);
  for (std::size_t i = 0; i < slots.size(); ++i) {
    Tensor& g = grads[i];
    if (!g.defined()) continue;
    const Tensor& before = slots[i]->grad;
    // What is stored is never the caller's tensor, nor another leaf's.
    if (create_graph) {
      g = before.defined() ? before + g : g.clone();
    } else if (!before.defined()) {
      if (!sole_owner(g)) g = kernels::clone(g);
    } else {
      detail::before_write(before, "backward");
      if (std::ranges::binary_search(written, g.body().storage.get())) g = kernels::clone(g);
    }
  }
  for (std::size_t i = 0; i < slots.size(); ++i) {
    Tensor& sum = slots[i]->grad;
    if (!grads[i].defined()) continue;
    if (create_graph || !sum.defined()) {
      std::swap(sum, grads[i]);
    } else {
      add_in_place(sum, grads[i]);
      kernels::wrote(sum, "backward");
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
  TensorList wanted = std::span<const Tensor>();
  if (options.inputs) {
    wanted = *options.inputs;
    check<GradError>(!wanted.empty(),
                     "backward: the list of inputs is empty; leave it out to accumulate into all leaves");
    for (const Tensor& x : wanted)
      check<GradError>(x.requires_grad(), "backward: one of the inputs does not require a gradient");
  }
  Pass pass(outputs, options.retain_graph.value_or(options.create_graph), !options.inputs,
            options.inputs ? first_node(wanted) : 0);
  for (const Tensor& x : wanted) pass.want(x);
  pass.run(outputs, gradients);
  commit(pass, options.create_graph);
}

std::vector<Tensor> grad(TensorList outputs, TensorList inputs, const GradOptions& options) {
  check_outputs("grad", outputs, options.grad_outputs);
  check<GradError>(!inputs.empty(), "grad: no inputs to differentiate with respect to");
  GradMode mode(options.create_graph);
  for (std::size_t i = 0; i < inputs.size(); ++i)
    check<GradError>(inputs[i].requires_grad(), "grad: input {} does not require a gradient", i);
  const Vector<Tensor> wanted(inputs.begin(), inputs.end());  // the list may be gone after a hook has run
  Pass pass(outputs, options.retain_graph.value_or(options.create_graph), false, first_node(inputs));
  std::vector<std::size_t> places;
  for (const Tensor& x : wanted) places.push_back(pass.want(x));
  pass.run(outputs, options.grad_outputs);
  std::vector<Tensor> result;
  for (std::size_t i = 0; i < wanted.size(); ++i) {
    result.push_back(pass.results()[places[i]]);
    if (options.materialize_grads && !result.back().defined())
      result.back() = zeros_like(wanted[i]).requires_grad_(options.create_graph);
    check<GradError>(result.back().defined() || options.allow_unused,
                     "grad: the outputs do not depend on input {}; pass allow_unused = true if that is meant", i);
  }
  return result;
}

}  // namespace unroll
