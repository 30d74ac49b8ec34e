#include <unroll/autograd/record.h>
#include <unroll/core/view.h>
#include <unroll/nn/module.h>

#include <algorithm>

namespace unroll::nn {

namespace {
template <class Hook>
Hook checked(const char* op, Hook hook) {
  check<ValueError>(hook != nullptr, "{}: the hook is empty", op);
  return hook;
}
}  // namespace

HookHandle Module::register_forward_pre_hook(ForwardPreHook hook) {
  return hooks().forward_pre.add(checked("register_forward_pre_hook", std::move(hook)));
}
HookHandle Module::register_forward_hook(ForwardHook hook) {
  return hooks().forward.add(checked("register_forward_hook", std::move(hook)));
}
HookHandle Module::register_full_backward_hook(BackwardHook hook) {
  return hooks().backward.add(checked("register_full_backward_hook", std::move(hook)));
}

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
bool CallScope::is_part() const { return !module_.path_.empty(); }

// The module's inputs and its outputs each pass through a node that changes nothing. Backward meets that of the outputs
// first, and the hooks are called in that of the inputs, or where the pass does not go on to the inputs at once. On the
// way from the one to the other the gradients of the outputs are the load of another gradient, that of the empty tensor
// `way`: so they belong to the pass alone, however it ends, and not to the graph, which under create_graph would own
// itself.
struct HookedCall::Backward {
  const Module& module;
  const unroll::detail::Hooks<BackwardHook> hooks;
  const std::vector<bool> wanted;  // of the inputs

  Backward(const Module& module_, unroll::detail::Hooks<BackwardHook> hooks_, std::vector<bool> wanted_)
      : module(module_), hooks(std::move(hooks_)), wanted(std::move(wanted_)) {}

  void run(std::vector<Tensor>& grad_input, const std::vector<Tensor>& grad_output) const {
    hooks.for_each([&](const BackwardHook& hook) {
      const std::vector<Tensor> before = grad_input;
      const std::vector<std::uint32_t> versions = versions_of(before, grad_output);
      hook(module, grad_input, grad_output);
      check<GradError>(versions_of(before, grad_output) == versions,
                       "{}: a backward hook wrote a gradient in place, which others may hold; put a new tensor there",
                       module.path());
      check<ShapeError>(grad_input.size() == before.size(), "{}: a backward hook left {} gradients of {} inputs",
                        module.path(), grad_input.size(), before.size());
      for (std::size_t i = 0; i < before.size(); ++i)
        if (before[i].defined() && grad_input[i].defined())
          check<ShapeError>(grad_input[i].shape() == before[i].shape(),
                            "{}: a backward hook gave input {} a gradient of shape {}, expected {}", module.path(), i,
                            grad_input[i].shape(), before[i].shape());
    });
  }

 private:
  static std::vector<std::uint32_t> versions_of(const std::vector<Tensor>& a, const std::vector<Tensor>& b) {
    std::vector<std::uint32_t> versions;
    for (const std::vector<Tensor>* list : {&a, &b})
      for (const Tensor& x : *list) versions.push_back(x.defined() ? x.version() : 0);
    return versions;
  }
};

namespace {
Tensor loaded(const std::vector<Tensor>& gradients) {
  Tensor way = zeros(0).requires_grad_();
  for (const Tensor& g : gradients) way.register_hook([g](const Tensor&) { return g; });
  return way;
}

std::vector<Tensor> load_of(const Tensor& way) {
  std::vector<Tensor> gradients;
  if (const auto& hooks = way.grad_slot()->hooks)
    hooks->for_each([&](const GradHook& hook) { gradients.push_back(hook(way)); });
  return gradients;
}

// Those of the tensors that require a gradient, each a new tensor from here on; which they are.
struct Renewed {
  std::vector<Tensor> before, after;
  std::vector<bool> which;

  explicit Renewed(std::vector<Tensor>& tensors) : which(tensors.size()) {
    for (std::size_t i = 0; GradMode::enabled() && i < tensors.size(); ++i)
      if (tensors[i].requires_grad()) {
        which[i] = true;
        before.push_back(tensors[i]);
        tensors[i] = views::view(tensors[i], tensors[i].shape());
        after.push_back(tensors[i]);
      }
  }
};

// One for each place, undefined where `which` is false.
std::vector<Tensor> spread(Gradients g, const std::vector<bool>& which) {
  std::vector<Tensor> gradients(which.size());
  for (std::size_t i = 0, k = 0; i < which.size(); ++i)
    if (which[i]) gradients[i] = g[k++];
  return gradients;
}
}  // namespace

void HookedCall::before(std::vector<Tensor>& inputs) {
  const std::size_t count = inputs.size();
  hooks_.forward_pre.for_each([&](const ForwardPreHook& hook) { hook(module_, inputs); });
  check<ShapeError>(inputs.size() == count, "{}: a forward-pre hook left {} inputs of {}", module_.path(),
                    inputs.size(), count);
  inputs_ = inputs;
  if (hooks_.backward.empty()) return;
  Renewed renewed(inputs);
  backward_ = std::make_shared<Backward>(module_, hooks_.backward, renewed.which);
  way_ = empty(0);
  renewed.after.push_back(way_);
  record_all("module_inputs", renewed.before, renewed.after, {},
             [hooked = backward_](Gradients g, const Saved&, std::span<Tensor> dx) {
               std::vector<Tensor> gradients = spread(g, hooked->wanted);
               // No load: the pass came by another way than through the outputs, as a second derivative does.
               if (g.back().defined()) hooked->run(gradients, load_of(g.back()));
               for (std::size_t i = 0, k = 0; i < gradients.size(); ++i)
                 if (hooked->wanted[i]) dx[k++] = gradients[i];
             });
}

void HookedCall::after(std::vector<Tensor>& outputs) {
  const std::size_t count = outputs.size();
  hooks_.forward.for_each([&](const ForwardHook& hook) { hook(module_, inputs_, outputs); });
  check<ShapeError>(outputs.size() == count, "{}: a forward hook left {} outputs of {}", module_.path(), outputs.size(),
                    count);
  if (!backward_) return;
  Renewed renewed(outputs);
  renewed.before.push_back(way_);
  record_all("module_outputs", renewed.before, renewed.after, {},
             [hooked = backward_, which = renewed.which](Gradients g, const Saved& s, std::span<Tensor> dx) {
               const std::vector<Tensor> gradients = spread(g, which);
               std::ranges::copy(g, dx.begin());
               if (s.needs(g.size())) {
                 dx.back() = loaded(gradients);
               } else {
                 std::vector<Tensor> none(hooked->wanted.size());
                 hooked->run(none, gradients);
               }
             });
}

}  // namespace detail
}  // namespace unroll::nn
