#pragma once
#include <unroll/core/tensor.h>

#include <functional>
#include <type_traits>

#pragma GCC visibility push(default)
/// Derivatives of functions: torch.autograd.functional.
///
///     auto f = [](const Tensor& x) { return sum(exp(x), 1); };
///     Tensor J = jacobian(f, x);                              // f(x).shape + x.shape
///     auto [y, g] = vjp(f, x, v);                             // vᵀJ
///     Tensor H = hessian([](const Tensor& x) { return sum(x * x * x); }, x);
///     auto hv = hvp([&](const std::vector<Tensor>& in) { return loss(in[0], in[1]); }, {a, b}, {u, v}).product;
///
/// A function takes one Tensor, or several as a std::vector<Tensor> or a span, and returns one Tensor or a vector of
/// them; what is said of its inputs and outputs here has the same form.
///
/// It is called once, with tensors that share the memory of the inputs and have no other history. What it reaches in
/// other ways, a module's parameters or a captured x, is constant. No grad() is touched. Where nothing flows, the
/// derivative is zero.
namespace unroll {

struct FunctionalOptions {
  /// Record what is computed, so that the results can be differentiated by those inputs that require a gradient, and by
  /// all that the function reaches. Else results have no history, and the graph is gone when the call returns.
  bool create_graph = false;
  /// Raise GradError, naming the input or output, where a derivative is zero because there is no path at all.
  bool strict = false;
};

namespace detail {
using Tensors = std::vector<Tensor>;

template <class F>
concept OfOneTensor = std::invocable<F&, const Tensor&>;
template <class F>
concept OfTensors = OfOneTensor<F> || std::invocable<F&, const Tensors&>;

/// Tensor or std::vector<Tensor>: what F takes, and what it returns.
template <OfTensors F>
using InputsOf = std::conditional_t<OfOneTensor<F>, Tensor, std::vector<Tensor>>;
template <OfTensors F>
using OutputsOf = std::conditional_t<std::is_convertible_v<std::invoke_result_t<F&, const InputsOf<F>&>, Tensor>,
                                     Tensor, std::vector<Tensor>>;
template <class F>
concept WithOneOutput = OfTensors<F> && std::same_as<OutputsOf<F>, Tensor>;

using TensorFunction = std::function<Tensors(const Tensors&)>;

inline Tensors listed(const Tensor& x) { return {x}; }
inline const Tensors& listed(const Tensors& xs) { return xs; }

/// T, if need be instead of a list of one.
template <class T, class List>
T unlisted(List list) {
  if constexpr (std::same_as<T, List>)
    return list;
  else
    return std::move(list[0]);
}

template <class F>
TensorFunction listed_function(F& f) {
  return [&f](const Tensors& inputs) -> Tensors {
    if constexpr (OfOneTensor<F>)
      return listed(OutputsOf<F>(f(inputs[0])));
    else
      return listed(OutputsOf<F>(f(inputs)));
  };
}

struct Product {
  Tensors output, product;
};
enum class Along : std::uint8_t { Outputs, Inputs };  // what v is a vector of

/// [output][input]
std::vector<Tensors> jacobian(const TensorFunction& f, const Tensors& inputs, bool batched,
                              const FunctionalOptions& options);
std::vector<Tensors> hessian(const TensorFunction& f, const Tensors& inputs, const FunctionalOptions& options);
Product product(const TensorFunction& f, const Tensors& inputs, const Tensors& v, Along along,
                const FunctionalOptions& options);
Product hessian_product(const TensorFunction& f, const Tensors& inputs, const Tensors& v, Along along,
                        const FunctionalOptions& options);

/// [output][input], each level left out where there is one Tensor.
template <class Outer, class Inner>
auto unlisted_matrix(std::vector<Tensors> matrix) {
  std::vector<Inner> rows;
  for (Tensors& row : matrix) rows.push_back(unlisted<Inner>(std::move(row)));
  return unlisted<std::conditional_t<std::same_as<Outer, Tensor>, Inner, std::vector<Inner>>>(std::move(rows));
}
}  // namespace detail

/// f(inputs), and a product with one of its derivatives.
template <class Output, class Product>
struct FunctionalProduct {
  Output output;
  Product product;
};

/// Jacobians ∂yᵢ/∂xⱼ of shape yᵢ.shape + xⱼ.shape: J for one output y and one input x, J[i] or J[j] for several of
/// either, J[i][j] for several of both. One backward pass for each element of the outputs.
///
/// Raises GradError for no inputs, DTypeError for one that is not floating, ValueError for one that is undefined; this
/// holds for all that follow.
template <detail::OfTensors F>
auto jacobian(F&& f, const detail::InputsOf<F>& inputs, const FunctionalOptions& options = {}) {
  return detail::unlisted_matrix<detail::OutputsOf<F>, detail::InputsOf<F>>(
      detail::jacobian(detail::listed_function(f), detail::listed(inputs), false, options));
}

/// Jacobians of tensors that have been computed already, by tensors that they were computed from: y.shape + x.shape for
/// each x. Gradients of single samples, for one, (N, …) for each parameter:
///
///     std::vector<Tensor> g = jacobian(cross_entropy(model(x), t, {.reduction = Reduction::None}),
///     model.parameters());
///
/// The graph stays. Raises GradError unless all require a gradient.
std::vector<Tensor> jacobian(const Tensor& output, TensorList inputs, const FunctionalOptions& options = {});

/// Jacobians of a function whose row n depends on row n of its inputs only: from x (N, …) and y (N, …) to (N,
/// y.shape[1:], x.shape[1:]). As many backward passes as a row of the outputs has elements, whatever N is; rows that do
/// depend on each other are not noticed, and their contributions are added up. Raises ShapeError unless the first
/// dimension of all inputs and outputs is N.
template <detail::OfTensors F>
auto jacobian_batched(F&& f, const detail::InputsOf<F>& inputs, const FunctionalOptions& options = {}) {
  return detail::unlisted_matrix<detail::OutputsOf<F>, detail::InputsOf<F>>(
      detail::jacobian(detail::listed_function(f), detail::listed(inputs), true, options));
}

/// Second derivatives ∂²y/∂xᵢ∂xⱼ of a function with one output y of one element, of shape xᵢ.shape + xⱼ.shape: H, or
/// H[i][j] for several inputs. Raises ShapeError for an output of another number of elements; so do vhp and hvp.
template <detail::WithOneOutput F>
auto hessian(F&& f, const detail::InputsOf<F>& inputs, const FunctionalOptions& options = {}) {
  return detail::unlisted_matrix<detail::InputsOf<F>, detail::InputsOf<F>>(
      detail::hessian(detail::listed_function(f), detail::listed(inputs), options));
}

/// f(inputs) and vᵀJ, of the inputs' shapes, for v of the outputs' shapes; v may be left out for a single output of one
/// element: 1. One backward pass.
///
/// Raises GradError when v is missing, ShapeError or DTypeError when it does not fit; so do all that follow.
template <detail::OfTensors F>
FunctionalProduct<detail::OutputsOf<F>, detail::InputsOf<F>> vjp(F&& f, const detail::InputsOf<F>& inputs,
                                                                 const detail::OutputsOf<F>& v = {},
                                                                 const FunctionalOptions& options = {}) {
  auto [y, g] = detail::product(detail::listed_function(f), detail::listed(inputs), detail::listed(v),
                                detail::Along::Outputs, options);
  return {detail::unlisted<detail::OutputsOf<F>>(std::move(y)), detail::unlisted<detail::InputsOf<F>>(std::move(g))};
}

/// f(inputs) and Jv, of the outputs' shapes, for v of the inputs' shapes; v may be left out for a single input of one
/// element. Two backward passes: vᵀJ is linear in v, and Jv is its derivative.
template <detail::OfTensors F>
FunctionalProduct<detail::OutputsOf<F>, detail::OutputsOf<F>> jvp(F&& f, const detail::InputsOf<F>& inputs,
                                                                  const detail::InputsOf<F>& v = {},
                                                                  const FunctionalOptions& options = {}) {
  auto [y, d] = detail::product(detail::listed_function(f), detail::listed(inputs), detail::listed(v),
                                detail::Along::Inputs, options);
  return {detail::unlisted<detail::OutputsOf<F>>(std::move(y)), detail::unlisted<detail::OutputsOf<F>>(std::move(d))};
}

/// f(inputs) and vᵀH, of the inputs' shapes, for a function with one output of one element and v of the inputs' shapes.
/// Two backward passes.
template <detail::WithOneOutput F>
FunctionalProduct<Tensor, detail::InputsOf<F>> vhp(F&& f, const detail::InputsOf<F>& inputs,
                                                   const detail::InputsOf<F>& v = {},
                                                   const FunctionalOptions& options = {}) {
  auto [y, g] = detail::hessian_product(detail::listed_function(f), detail::listed(inputs), detail::listed(v),
                                        detail::Along::Outputs, options);
  return {std::move(y[0]), detail::unlisted<detail::InputsOf<F>>(std::move(g))};
}

/// f(inputs) and Hv. The same as vhp where second derivatives are continuous, which makes H symmetric; vhp is faster,
/// for this takes three backward passes.
template <detail::WithOneOutput F>
FunctionalProduct<Tensor, detail::InputsOf<F>> hvp(F&& f, const detail::InputsOf<F>& inputs,
                                                   const detail::InputsOf<F>& v = {},
                                                   const FunctionalOptions& options = {}) {
  auto [y, g] = detail::hessian_product(detail::listed_function(f), detail::listed(inputs), detail::listed(v),
                                        detail::Along::Inputs, options);
  return {std::move(y[0]), detail::unlisted<detail::InputsOf<F>>(std::move(g))};
}

}  // namespace unroll
#pragma GCC visibility pop
