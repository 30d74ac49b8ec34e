#pragma once
#include <unroll/autograd/anomaly.h>
#include <unroll/autograd/hooks.h>

#include <functional>
#include <memory>
#include <tuple>

#pragma GCC visibility push(default)
/// What may be called around a module's forward and backward. See Module::register_forward_hook and its siblings.
namespace unroll::nn {

class Module;

/// May replace inputs. Inputs are the tensors of the call's arguments, those of a state included, in order; undefined
/// where an argument was left out.
using ForwardPreHook = std::function<void(const Module& module, std::vector<Tensor>& inputs)>;
/// May replace outputs: the tensors that the call returns, those of a state included.
using ForwardHook =
    std::function<void(const Module& module, const std::vector<Tensor>& inputs, std::vector<Tensor>& outputs)>;
/// May replace gradients of the inputs, by ones of the same shape. Undefined: of an input that needs none, or where
/// none arrived.
using BackwardHook =
    std::function<void(const Module& module, std::vector<Tensor>& grad_input, const std::vector<Tensor>& grad_output)>;

namespace detail {
struct ModuleHooks {
  unroll::detail::Hooks<ForwardPreHook> forward_pre;
  unroll::detail::Hooks<ForwardHook> forward;
  unroll::detail::Hooks<BackwardHook> backward;
};

/// One call of a module that has hooks.
class HookedCall {
 public:
  HookedCall(const Module& module, const ModuleHooks& hooks) noexcept : module_(module), hooks_(hooks) {}
  void before(std::vector<Tensor>& inputs);
  void after(std::vector<Tensor>& outputs);

 private:
  struct Backward;
  const Module& module_;
  const ModuleHooks& hooks_;
  std::vector<Tensor> inputs_;
  std::shared_ptr<Backward> backward_;
  Tensor way_;  // from the outputs' node to that of the inputs
};

/// Names the module in errors.
class CallScope final : unroll::detail::Where {
 public:
  explicit CallScope(const Module& module) noexcept : module_(module) {}

 private:
  std::string text() const override;
  bool is_part() const override;
  const Module& module_;
};

/// f of each tensor in a value: a Tensor, the data of a PackedSequence, a state with `fields`, {output, state} or
/// {output, states}, a container or tuple of such.
template <class T, class F>
void for_each_tensor(T& value, const F& f) {
  if constexpr (std::same_as<T, Tensor>) {
    f(value);
  } else if constexpr (requires { value = value.with_data(value.data()); }) {
    Tensor data = value.data();
    f(data);
    value = value.with_data(std::move(data));
  } else if constexpr (requires { T::fields; }) {
    std::apply([&](auto... field) { (for_each_tensor(value.*field, f), ...); }, T::fields);
  } else if constexpr (requires { value.output, value.state; }) {
    for_each_tensor(value.output, f);
    for_each_tensor(value.state, f);
  } else if constexpr (requires { value.output, value.states; }) {
    for_each_tensor(value.output, f);
    for_each_tensor(value.states, f);
  } else if constexpr (requires { std::tuple_size<T>::value; }) {
    std::apply([&](auto&... part) { (for_each_tensor(part, f), ...); }, value);
  } else if constexpr (
      requires { *value.begin(); } && !requires { value.data(), value.c_str(); }) {
    for (auto&& part : value) for_each_tensor(part, f);
  }
}

template <class T>
std::vector<Tensor> tensors_of(T value) {
  std::vector<Tensor> tensors;
  for_each_tensor(value, [&](Tensor& x) { tensors.push_back(x); });
  return tensors;
}

template <class T>
void put_tensors(T& value, const std::vector<Tensor>& tensors) {
  std::size_t i = 0;
  for_each_tensor(value, [&](Tensor& x) { x = tensors[i++]; });
}
}  // namespace detail

}  // namespace unroll::nn
#pragma GCC visibility pop
