#include <unroll/autograd/anomaly.h>
#include <unroll/autograd/grad_mode.h>
#include <unroll/autograd/hooks.h>
#include <unroll/autograd/node.h>

#include <algorithm>

namespace unroll {

void HookHandle::remove() noexcept {
  auto list = list_.lock();
  // It may be the last to own what it captured, and that may own the list: the hook goes when the list is in order.
  std::shared_ptr<const void> hook = hook_.lock();
  if (list && hook) std::erase(list->hooks, hook);
  list_.reset();
  hook_.reset();
}

HookHandle Tensor::register_hook(GradHook hook) const {
  check<GradError>(requires_grad(), "register_hook: the tensor does not require a gradient");
  detail::GradSlot& slot = *body().grad_slot;
  if (!slot.grad_fn) {
    if (!slot.hooks) slot.hooks.reset(new detail::Hooks<GradHook>);
    return slot.hooks->add(std::move(hook));
  }
  auto& hooks = slot.grad_fn->extras_to_write().hooks;
  if (hooks.size() <= slot.output) hooks.resize(slot.output + 1);
  return hooks[slot.output].add(std::move(hook));
}

void detail::Dispose::operator()(Hooks<GradHook>* hooks) const noexcept { delete hooks; }
void detail::Dispose::operator()(NodeExtras* extras) const noexcept { delete extras; }

void detail::run_hooks(const Hooks<GradHook>& hooks, Tensor& g, const std::string& what) {
  hooks.for_each([&](const GradHook& hook) {
    const Tensor given = g;
    const std::uint32_t version = given.version();
    Tensor instead = hook(given);
    check<GradError>(given.version() == version,
                     "backward: the hook on {} wrote the gradient in place, which others may hold; return a new tensor",
                     what);
    if (!instead.defined()) return;
    check<ShapeError>(instead.shape() == given.shape(),
                      "backward: the hook on {} returned a gradient of shape {}, expected {}", what, instead.shape(),
                      given.shape());
    check<DTypeError>(instead.dtype() == given.dtype(),
                      "backward: the hook on {} returned a gradient of {}, expected {}", what, instead.dtype(),
                      given.dtype());
    g = std::move(instead);
    if (!GradMode::enabled() && g.requires_grad()) g = g.detach();
    if (AnomalyMode::enabled())
      if (std::string at = find_nan(g); !at.empty())
        fail<GradError>("backward: the hook on {} returned a NaN at {}", what, at);
  });
}

}  // namespace unroll
