#pragma once
#include <unroll/core/tensor.h>

#include <functional>
#include <memory>

#pragma GCC visibility push(default)
namespace unroll {

namespace detail {
/// Functions of one type, in the order in which they came.
struct HookList {
  std::vector<std::shared_ptr<const void>> hooks;
};
}  // namespace detail

/// Takes a hook away again. Copies stand for the same hook; it stays when they are gone.
class HookHandle {
 public:
  HookHandle() = default;
  HookHandle(const std::shared_ptr<detail::HookList>& list, const std::shared_ptr<const void>& hook)
      : list_(list), hook_(hook) {}
  /// The hook runs no more. Does nothing the second time, or when what it was on is gone.
  void remove() noexcept;

 private:
  std::weak_ptr<detail::HookList> list_;
  std::weak_ptr<const void> hook_;
};

namespace detail {
/// Hooks of type F: nothing but a null pointer before the first is added.
template <class F>
class Hooks {
 public:
  bool empty() const noexcept { return !list_ || list_->hooks.empty(); }
  HookHandle add(F f) {
    if (!list_) list_ = std::make_shared<HookList>();
    list_->hooks.push_back(std::make_shared<const F>(std::move(f)));
    return {list_, list_->hooks.back()};
  }
  /// Calls visit(hook) in the order of add(). Hooks that are added or removed meanwhile count from the next time on.
  template <class Visit>
  void for_each(Visit visit) const {
    if (empty()) return;
    for (const auto& hook : std::vector(list_->hooks)) visit(*static_cast<const F*>(hook.get()));
  }

 private:
  std::shared_ptr<HookList> list_;
};

template <class F>
bool is_empty(const F&) {
  return false;
}
template <class Signature>
bool is_empty(const std::function<Signature>& f) {
  return !f;
}
template <class Signature>
bool is_empty(Signature* f) {
  return !f;
}
}  // namespace detail

/// What Tensor::register_hook takes: a function of the gradient that returns what shall take its place, or nothing.
///
///     HookHandle handle = h.register_hook([](const Tensor& g) { return clamp(g, -1, 1); });
///     loss.backward();
///     handle.remove();
///
/// It runs in every backward that computes the tensor's gradient, once, on the whole of it: on that of a computed
/// tensor before it flows on, on that of a leaf at the end, before it is added to grad(). Hooks of a tensor run in the
/// order of their registration, each on what the one before left; grad() of a tensor that retains it, and what grad()
/// returns, are the last one's. What they compute is recorded under create_graph only. A hook that was on a tensor
/// before it was written in place stays with what the tensor was then.
///
/// Raises what the hook raises, ShapeError or DTypeError when it returns another shape or dtype, GradError when it has
/// written its argument in place; then all grad() are as before. A hook must not capture the tensor it is on, which
/// would keep both alive.
class GradHook {
 public:
  /// Raises ValueError for a std::function or a function pointer that holds none.
  template <class F>
  requires(!std::same_as<F, GradHook> && std::invocable<const F&, const Tensor&>) GradHook(F f) {
    check<ValueError>(!detail::is_empty(f), "register_hook: the hook is empty");
    if constexpr (std::is_void_v<std::invoke_result_t<const F&, const Tensor&>>)
      f_ = [f = std::move(f)](const Tensor& g) {
        f(g);
        return Tensor();
      };
    else
      f_ = std::move(f);
  }
  /// The replacement; undefined where there is none.
  Tensor operator()(const Tensor& g) const { return f_(g); }

 private:
  std::function<Tensor(const Tensor&)> f_;
};

namespace detail {
/// g ← what the hooks make of it. `what` tells errors whose gradient it is.
void run_hooks(const Hooks<GradHook>& hooks, Tensor& g, const std::string& what);

/// What few nodes have: hooks on their outputs, and where they were recorded, if that was under AnomalyMode.
struct NodeExtras {
  std::vector<Hooks<GradHook>> hooks;  // one an output, or fewer
  std::string recorded;
};

/// Deletes what few nodes and leaves have, in a function of its own: the code of all others stays short.
struct Dispose {
  void operator()(Hooks<GradHook>* hooks) const noexcept;
  void operator()(NodeExtras* extras) const noexcept;
};
}  // namespace detail

}  // namespace unroll
#pragma GCC visibility pop
