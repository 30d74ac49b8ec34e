#pragma once
#include <unroll/core/tensor.h>

#include <functional>
#include <type_traits>

#pragma GCC visibility push(default)
namespace unroll {

/// What a gradient that does not pass a check raises. The text names output, input and the worst element.
class GradcheckError : public Error {
 public:
  using Error::Error;
};

/// torch.autograd.gradcheck's options with its defaults, meant for float64.
struct GradcheckOptions {
  double eps = 1e-6;  // step of the central difference
  double atol = 1e-5;
  double rtol = 1e-3;
  /// Return false instead of raising GradcheckError.
  bool raise_exception = true;
  /// How far two runs of the same backward may lie apart.
  double nondet_tol = 0;
  /// Undefined gradients of outputs must act as zeros.
  bool check_undefined_grad = true;
  /// The gradient must be the same under create_graph. (Not in torch; a fused op takes another way there.)
  bool check_create_graph = true;
  /// A second run must leave no more nodes and tensors behind than the first. (Not in torch. Counts those of all
  /// threads: switch it off when others compute at the same time.)
  bool check_leaks = true;
};

namespace detail {
using CheckedFunction = std::function<std::vector<Tensor>(const std::vector<Tensor>&)>;

bool gradcheck(const CheckedFunction& f, const std::vector<Tensor>& inputs, const GradcheckOptions& options);
bool gradgradcheck(const CheckedFunction& f, const std::vector<Tensor>& inputs, const std::vector<Tensor>& grad_outputs,
                   const GradcheckOptions& options);

template <class F>
CheckedFunction checked_function(F f) {
  if constexpr (std::is_convertible_v<std::invoke_result_t<F&, const std::vector<Tensor>&>, Tensor>)
    return [f = std::move(f)](const std::vector<Tensor>& inputs) { return std::vector<Tensor>{f(inputs)}; };
  else
    return f;
}
}  // namespace detail

/// Compares the gradients of `f` with central differences (f(x + eps) − f(x − eps)) / 2eps, element by element:
/// |analytic − numeric| ≤ atol + rtol·|numeric|.
///
/// `f` takes the inputs as a std::vector<Tensor> or a span and returns a Tensor or a std::vector<Tensor>. Checked are
/// the inputs that require a gradient, against the outputs that do; when no output does, the differences must be
/// exactly 0. Besides: two runs of backward agree, a zero gradient of the output gives exactly zero, undefined ones act
/// as zeros, create_graph changes nothing, nothing is written to an input or left behind. Elements are moved in the
/// inputs' own memory, so `f` may also reach them in other ways, and are put back; no grad() is touched.
///
/// Raises GradcheckError, ValueError when no input requires a gradient or one is expanded, and whatever `f` raises.
template <class F>
bool gradcheck(F f, const std::vector<Tensor>& inputs, const GradcheckOptions& options = {}) {
  return detail::gradcheck(detail::checked_function(std::move(f)), inputs, options);
}

/// The same for the gradient itself: checks inputs, grad_outputs ↦ grad(f(inputs), inputs, grad_outputs), second
/// derivatives that is. `grad_outputs` is one for each output that requires a gradient; left out, random in [−1, 1)
/// (and the same ones every time). A second derivative that agrees with a wrong first one passes, so run gradcheck too.
template <class F>
bool gradgradcheck(F f, const std::vector<Tensor>& inputs, const std::vector<Tensor>& grad_outputs = {},
                   const GradcheckOptions& options = {}) {
  return detail::gradgradcheck(detail::checked_function(std::move(f)), inputs, grad_outputs, options);
}

}  // namespace unroll
#pragma GCC visibility pop
