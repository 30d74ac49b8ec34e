#include <unroll/autograd/record.h>
#include <unroll/core/view.h>
#include <unroll/nn/module.h>

#include <algorithm>
#include <mutex>

namespace unroll::nn {

HookHandle Module::register_forward_pre_hook(ForwardPreHook hook) { return hooks().forward_pre.add(std::move(hook)); }
HookHandle Module::register_forward_hook(ForwardHook hook) { return hooks().forward.add(std::move(hook)); }
HookHandle Module::register_full_backward_hook(BackwardHook hook) { return hooks().backward.add(std::move(hook)); }

detail::ModuleHooks& Module::hooks() {
  if (!hooks_) hooks_ = std::make_unique<detail::ModuleHooks>();
  return *hooks_;
}

std::string Module::path() const { return path_.empty() ? type_name() : path_; }

void Module::set_path(const std::string& path) {
  path_ = path;
  for (const Member& m : members_)
    if (m.module) m.module->set_path(path + (m.merged ? "" : ".") + m.name);
}

namespace detail {

std::string CallScope::text() const { return module_.path(); }

// The module's inputs and its outputs each pass through a node that changes nothing. Backward meets that of the outputs
// first, which keeps their gradients for that of the inputs, where the hooks are called.
struct HookedCall::Backward {
  const Module& module;
  const unroll::detail::Hooks<BackwardHook> hooks;
  std::vector<bool> wanted;  // of the inputs
  std::size_t outputs = 0;
  std::mutex mutex;
  std::vector<Tensor> grad_output;  // of the pass that is under way

  Backward(const Module& module_, unroll::detail::Hooks<BackwardHook> hooks_)
      : module(module_), hooks(std::move(hooks_)) {}

  void run(std::vector<Tensor>& grad_input) {
    std::vector<Tensor> grads(outputs);
    {
      std::lock_guard lock(mutex);
      if (!grad_output.empty()) grads = std::exchange(grad_output, {});
    }
    hooks.for_each([&](const BackwardHook& hook) {
      const std::vector<Tensor> before = grad_input;
      hook(module, grad_input, grads);
      check<ShapeError>(grad_input.size() == before.size(), "{}: a backward hook left {} gradients of {} inputs",
                        module.path(), grad_input.size(), before.size());
      for (std::size_t i = 0; i < before.size(); ++i)
        if (before[i].defined() && grad_input[i].defined())
          check<ShapeError>(grad_input[i].shape() == before[i].shape(),
                            "{}: a backward hook gave input {} a gradient of shape {}, expected {}", module.path(), i,
                            grad_input[i].shape(), before[i].shape());
    });
  }
};

namespace {
// Gives each tensor that wants a gradient a node `name` of its own in the graph. `f` is its gradient function, of the
// gradients of all `tensors`. Which they were.
template <class F>
std::vector<bool> pass_through(const char* name, std::vector<Tensor>& tensors, F f) {
  std::vector<bool> wanted(tensors.size());
  std::vector<Tensor> inputs, outputs;
  if (!GradMode::enabled()) return wanted;
  for (std::size_t i = 0; i < tensors.size(); ++i)
    if (tensors[i].requires_grad()) {
      wanted[i] = true;
      inputs.push_back(tensors[i]);
      tensors[i] = views::view(tensors[i], tensors[i].shape());
      outputs.push_back(tensors[i]);
    }
  record_all(name, inputs, outputs, {}, [wanted, f](Gradients g, const Saved&, std::span<Tensor> dx) {
    std::vector<Tensor> gradients(wanted.size());
    for (std::size_t i = 0, k = 0; i < wanted.size(); ++i)
      if (wanted[i]) gradients[i] = g[k++];
    f(gradients);
    for (std::size_t i = 0, k = 0; i < wanted.size(); ++i)
      if (wanted[i]) dx[k++] = gradients[i];
  });
  return wanted;
}
}  // namespace

void HookedCall::before(std::vector<Tensor>& inputs) {
  const std::size_t count = inputs.size();
  hooks_.forward_pre.for_each([&](const ForwardPreHook& hook) { hook(module_, inputs); });
  check<ShapeError>(inputs.size() == count, "{}: a forward-pre hook left {} inputs of {}", module_.path(),
                    inputs.size(), count);
  inputs_ = inputs;
  if (hooks_.backward.empty()) return;
  backward_ = std::make_shared<Backward>(module_, hooks_.backward);
  backward_->wanted = pass_through("module_inputs", inputs,
                                   [state = backward_](std::vector<Tensor>& gradients) { state->run(gradients); });
}

void HookedCall::after(std::vector<Tensor>& outputs) {
  const std::size_t count = outputs.size();
  hooks_.forward.for_each([&](const ForwardHook& hook) { hook(module_, inputs_, outputs); });
  check<ShapeError>(outputs.size() == count, "{}: a forward hook left {} outputs of {}", module_.path(), outputs.size(),
                    count);
  if (!backward_) return;
  backward_->outputs = outputs.size();
  const bool reaches_inputs = std::ranges::count(backward_->wanted, true) > 0;
  pass_through("module_outputs", outputs, [state = backward_, reaches_inputs](const std::vector<Tensor>& gradients) {
    {
      std::lock_guard lock(state->mutex);
      state->grad_output = gradients;
    }
    if (reaches_inputs) return;
    std::vector<Tensor> none(state->wanted.size());
    state->run(none);
  });
}

}  // namespace detail
}  // namespace unroll::nn
