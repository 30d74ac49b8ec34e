#pragma once
#include <unroll/autograd/grad_mode.h>
#include <unroll/autograd/gradcheck_time.h>
#include <unroll/autograd/ops/arithmetic.h>
#include <unroll/core/random.h>
#include <unroll/nn/recurrent.h>

#pragma GCC visibility push(default)
/// gradcheck of modules: their parameters are checked as well as inputs and states, and the report names them.
namespace unroll::nn {

namespace detail {
using unroll::detail::CheckedFunction;

/// The names a module gives to its blocks of rows: kGates of a cell, or of the cell that it is a layer of.
template <class M>
std::vector<std::string> gates_of(const M& module) {
  if constexpr (requires { M::kGates; })
    return {std::begin(M::kGates), std::end(M::kGates)};
  else if constexpr (requires { module.cell(0, 0); })
    return gates_of(module.cell(0, 0));
  else
    return {};
}

/// What a module is checked as: a function of x, of the tensors of its state, and of its parameters.
struct CheckedModule {
  std::vector<Tensor> inputs;
  GradcheckLabels labels;

  /// Inputs as leaves of their own, which require a gradient where they can; `module`'s parameters by name, cut into
  /// `gates` blocks where they have gates · hidden_size rows.
  CheckedModule(const Module& module, const std::vector<Tensor>& arguments, std::vector<std::string> names,
                const std::vector<std::string>& gates, std::int64_t hidden_size);
  bool gradgradcheck(const CheckedFunction& f, const GradcheckOptions& options) const {
    return unroll::detail::passed(unroll::detail::gradgradcheck_report(f, inputs, {}, options, labels), options);
  }
};

/// A module that takes a state: a cell or a layer of cells.
template <class M>
concept Stateful = std::derived_from<M, Module> && CellState<typename M::State> &&
    requires(const M& module, const Tensor& x, const typename M::State& state) {
  module(x, state);
};

/// A module of x alone.
template <class M>
concept Stateless = std::derived_from<M, Module> && !Stateful<M> && std::invocable<const M&, const Tensor&>;

/// f(inputs), whatever it computes.
template <class F>
concept OfInputs = requires(F& f, const std::vector<Tensor>& inputs) {
  f(inputs);
};

template <CellState S>
std::vector<std::string> state_names() {
  if constexpr (std::same_as<S, Tensor>) {
    return {"h0"};
  } else if constexpr (requires(S s) { s.h, s.c; } && state_size<S> == 2) {
    return {"h0", "c0"};
  } else {
    std::vector<std::string> names;
    for (std::size_t i = 0; i < state_size<S>; ++i) names.push_back("state " + std::to_string(i));
    return names;
  }
}

/// `state`, or random numbers for one that is left out: from zeros, errors in the carry would not show. Raises
/// ValueError when it cannot tell the shape of a state.
template <Stateful M>
typename M::State state_to_check(const M& module, const Tensor& x, const typename M::State& state) {
  using State = typename M::State;
  for (const Tensor* given : state_tensors(state))
    if (given->defined()) return state;  // one that is given in part is the module's to refuse
  Generator numbers;
  if constexpr (requires { module(x); }) {
    NoGrad guard;
    std::vector<Tensor> last = tensors_of(module(x));
    last.erase(last.begin(), last.end() - static_cast<std::ptrdiff_t>(state_size<State>));
    return make_state<State>([&](std::size_t i) { return randn_like(last[i], numbers) * 0.5; });
  } else {
    Shape widths;
    if constexpr (requires { module.state_widths(); })
      widths = module.state_widths();
    else if constexpr (requires { module.hidden_size; })
      widths = Shape(state_size<State>, module.hidden_size);
    check<ValueError>(!widths.empty(),
                      "gradcheck: a cell without state_widths() or hidden_size needs its state as an argument");
    return make_state<State>([&](std::size_t i) {
      Shape shape = x.shape();
      shape.back() = widths[i];
      return randn(shape, x.dtype(), numbers) * 0.5;
    });
  }
}

template <Stateful M>
CheckedFunction function_of(const M& module) {
  return [&module](const std::vector<Tensor>& in) {
    return tensors_of(module(in[0], make_state<typename M::State>([&](std::size_t i) { return in[i + 1]; })));
  };
}

template <Stateless M>
CheckedFunction function_of(const M& module) {
  return [&module](const std::vector<Tensor>& in) { return tensors_of(module(in[0])); };
}

template <Stateless M>
CheckedModule checked(const M& module, const Tensor& x) {
  return {module, {x}, {"x"}, gates_of(module), 0};
}

template <Stateful M>
CheckedModule checked(const M& module, const Tensor& x, const typename M::State& given) {
  typename M::State state = state_to_check(module, x, given);
  std::vector<Tensor> arguments{x};
  std::vector<std::string> names = state_names<typename M::State>();
  names.insert(names.begin(), "x");
  for (const Tensor* s : state_tensors(state)) arguments.push_back(*s);
  std::int64_t hidden_size = arguments.back().size(-1);
  if constexpr (requires { module.hidden_size; }) hidden_size = module.hidden_size;
  CheckedModule result(module, arguments, std::move(names), gates_of(module), hidden_size);
  if constexpr (requires { module.batch_first; }) {
    const bool batched = x.dim() == 3;
    result.labels.steps = x.size(batched && module.batch_first ? 1 : 0);
    result.labels.batch = batched ? x.size(module.batch_first ? 0 : 1) : 1;
    if (module.training()) result.labels.dropout = module.dropout;
  } else {
    result.labels.batch = x.dim() == 2 ? x.size(0) : 1;
  }
  return result;
}
}  // namespace detail

/// What gradcheck finds of a cell or a layer of cells, `module(x, state)`, by x, by every tensor of the state and by
/// every parameter that requires a gradient. Where the cell names its gates (kGates), a row for each block of
/// hidden_size rows follows the parameter's. A state that is left out is drawn at random. float32 modules are converted
/// for the time of the check (not by torch's procedure), and are as before afterwards; x and the state need not require
/// gradients, and are not touched. Raises what unroll::gradcheck_report does.
template <detail::Stateful M>
GradcheckReport gradcheck_report(const M& module, const Tensor& x, const typename M::State& state = {},
                                 const GradcheckOptions& options = {}) {
  detail::CheckedModule checked = detail::checked(module, x, state);
  return unroll::detail::gradcheck_report(detail::function_of(module), checked.inputs, options, checked.labels);
}

/// The same for a module of x alone: Linear, LayerNorm, Sequential.
template <detail::Stateless M>
GradcheckReport gradcheck_report(const M& module, const Tensor& x, const GradcheckOptions& options = {}) {
  detail::CheckedModule checked = detail::checked(module, x);
  return unroll::detail::gradcheck_report(detail::function_of(module), checked.inputs, options, checked.labels);
}

/// The same for whatever `f` computes with the module: f(inputs) is a Tensor or a std::vector<Tensor>. The inputs that
/// are floating, and all parameters, are checked.
template <detail::OfInputs F>
GradcheckReport gradcheck_report(const Module& module, F f, const std::vector<Tensor>& inputs,
                                 const GradcheckOptions& options = {}) {
  detail::CheckedModule checked(module, inputs, {}, {}, 0);
  return unroll::detail::gradcheck_report(unroll::detail::checked_function(std::move(f)), checked.inputs, options,
                                          checked.labels);
}

/// Whether gradcheck_report of the same arguments finds nothing; raises GradcheckError with its text otherwise.
template <detail::Stateful M>
bool gradcheck(const M& module, const Tensor& x, const typename M::State& state = {},
               const GradcheckOptions& options = {}) {
  return unroll::detail::passed(gradcheck_report(module, x, state, options), options);
}
template <detail::Stateless M>
bool gradcheck(const M& module, const Tensor& x, const GradcheckOptions& options = {}) {
  return unroll::detail::passed(gradcheck_report(module, x, options), options);
}
template <detail::OfInputs F>
bool gradcheck(const Module& module, F f, const std::vector<Tensor>& inputs, const GradcheckOptions& options = {}) {
  return unroll::detail::passed(gradcheck_report(module, std::move(f), inputs, options), options);
}

/// The same of second derivatives, as unroll::gradgradcheck: what a gradient written by hand has wrong most easily.
template <detail::Stateful M>
bool gradgradcheck(const M& module, const Tensor& x, const typename M::State& state = {},
                   const GradcheckOptions& options = {}) {
  return detail::checked(module, x, state).gradgradcheck(detail::function_of(module), options);
}
template <detail::Stateless M>
bool gradgradcheck(const M& module, const Tensor& x, const GradcheckOptions& options = {}) {
  return detail::checked(module, x).gradgradcheck(detail::function_of(module), options);
}
template <detail::OfInputs F>
bool gradgradcheck(const Module& module, F f, const std::vector<Tensor>& inputs, const GradcheckOptions& options = {}) {
  return detail::CheckedModule(module, inputs, {}, {}, 0)
      .gradgradcheck(unroll::detail::checked_function(std::move(f)), options);
}

/// Where in time the gradient of a layer of cells goes wrong: a cotangent at one step of the output at a time.
template <Cell C>
GradcheckTimeProfile gradcheck_time(const Recurrent<C>& layer, const Tensor& x, const typename C::State& state = {},
                                    const GradcheckOptions& options = {}) {
  detail::CheckedModule checked = detail::checked(layer, x, state);
  checked.inputs.resize(1 + state_size<typename C::State>);
  return unroll::detail::gradcheck_time(
      detail::function_of(layer), checked.inputs,
      {.time_dim = x.dim() == 3 && layer.batch_first ? 1 : 0, .directions = layer.num_directions(), .check = options},
      layer.parameters());
}

}  // namespace unroll::nn
#pragma GCC visibility pop
