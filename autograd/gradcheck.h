#pragma once
#include <unroll/autograd/gradcheck_report.h>

#include <functional>
#include <type_traits>

#pragma GCC visibility push(default)
namespace unroll {

/// What a gradient that does not pass a check raises. The text is the report.
class GradcheckError : public Error {
 public:
  using Error::Error;
};

/// An element is wrong when |analytic − numeric| > atol + nondet_tol + 10 u + scale_tol·max |numeric| + rtol·|numeric|,
/// with u the measured uncertainty of the numeric derivative and the maximum taken over the input's elements.
struct GradcheckOptions {
  /// torch.autograd.gradcheck's procedure with its defaults, meant for float64: whole Jacobians by central differences
  /// at eps = 1e-6, and |analytic − numeric| ≤ 1e-5 + 1e-3·|numeric|. A gradient below 1e-5 passes whatever it is.
  static GradcheckOptions torch() { return {.eps = 1e-6, .atol = 1e-5, .rtol = 1e-3, .torch_procedure = true}; }

  double eps = 1e-5;  // step of the central difference, times max(1, |x|) but in torch's procedure
  double atol = 0;
  double rtol = 1e-7;
  double scale_tol = 1e-9;
  /// How far two runs of the same backward may lie apart. Nothing is compared more sharply than that, but for torch's
  /// procedure, whose other comparisons have atol and rtol.
  double nondet_tol = 0;
  /// Return false instead of raising GradcheckError.
  bool raise_exception = true;
  /// Measure along three random directions an input instead of every element; an input that fails is then measured in
  /// full.
  bool fast_mode = false;
  /// Let every run draw the same numbers from the default generator, as if f began with manual_seed: this is how
  /// dropout is checked.
  bool fix_random = false;
  /// Outputs that are left out of backward must count as zeros.
  bool check_undefined_grad = true;
  /// The gradient must be the same under create_graph. (Not in torch; a fused op takes another way there.)
  bool check_create_graph = true;
  /// A second run must leave no more nodes and tensors behind than the first. (Not in torch. Counts those of all
  /// threads: switch it off when others compute at the same time.)
  bool check_leaks = true;
  /// The gradient must not depend on which inputs require one. Functions that take derivatives themselves, and cannot
  /// without those of some input, are let off where they raise an Error.
  bool check_subsets = true;
  bool torch_procedure = false;
};

namespace detail {
using CheckedFunction = std::function<std::vector<Tensor>(const std::vector<Tensor>&)>;

GradcheckReport gradcheck_report(const CheckedFunction& f, const std::vector<Tensor>& inputs,
                                 const GradcheckOptions& options, const GradcheckLabels& labels);
GradcheckReport gradgradcheck_report(const CheckedFunction& f, const std::vector<Tensor>& inputs,
                                     const std::vector<Tensor>& grad_outputs, const GradcheckOptions& options,
                                     const GradcheckLabels& labels);
/// Whether it passed; raises what the options ask for otherwise.
bool passed(const GradcheckReport& report, const GradcheckOptions& options);

template <class F>
CheckedFunction checked_function(F f) {
  if constexpr (std::is_convertible_v<std::invoke_result_t<F&, const std::vector<Tensor>&>, Tensor>)
    return [f = std::move(f)](const std::vector<Tensor>& inputs) { return std::vector<Tensor>{f(inputs)}; };
  else
    return f;
}
}  // namespace detail

/// Compares the gradients of `f` with differences.
///
/// `f` takes the inputs as a std::vector<Tensor> or a span and returns a Tensor or a std::vector<Tensor>. Checked are
/// the inputs that require a gradient, against the outputs that do; when none does, all derivatives must be zero.
///
/// - Values: v·y for a random v on each output. Every element of every input is moved by ±eps·max(1, |x|); one that
///   does not agree is measured again, by stencils of 6 points at three step sizes whose differences tell the
///   uncertainty. Elements at which f has a kink or a jump are reported and skipped; more than 5 % of them fail.
/// - Laws: f is deterministic; two backwards through one graph are equal to the bit; zero cotangents give exactly zero,
///   scaled ones scaled gradients; strided and expanded cotangents, outputs left out, inputs that require no gradient,
///   and create_graph change nothing (of up to four outputs or inputs in any combination, of more each alone and each
///   left out); two backwards add up in grad(); nothing is written to an input or left behind.
/// - float32 inputs are converted for the time of the check, where they are, and measured in float64; then the gradient
///   in float32 is compared with that in float64, which it may be off by rounding, or, where f magnifies that, by as
///   much as rounding its inputs moves it.
///
/// Elements are moved in the inputs' own memory, so `f` may also reach them in other ways, and are put back; grad(),
/// version() and the default generator stay as they are.
///
/// Raises GradcheckError with the text of the report; ValueError when no input requires a gradient, when one is
/// expanded, or when inputs are float32 and f does not take float64; and whatever `f` raises.
template <class F>
bool gradcheck(F f, const std::vector<Tensor>& inputs, const GradcheckOptions& options = {}) {
  return detail::passed(detail::gradcheck_report(detail::checked_function(std::move(f)), inputs, options, {}), options);
}

/// The same for the gradient itself: checks inputs, grad_outputs ↦ grad(f(inputs), inputs, grad_outputs), second
/// derivatives that is. `grad_outputs` is one for each output that requires a gradient; left out, random in [−1, 1)
/// (and the same ones every time). A second derivative that agrees with a wrong first one passes, so run gradcheck too.
template <class F>
bool gradgradcheck(F f, const std::vector<Tensor>& inputs, const std::vector<Tensor>& grad_outputs = {},
                   const GradcheckOptions& options = {}) {
  return detail::passed(
      detail::gradgradcheck_report(detail::checked_function(std::move(f)), inputs, grad_outputs, options, {}), options);
}

/// What gradcheck found, be it right or wrong. Raises no GradcheckError.
template <class F>
GradcheckReport gradcheck_report(F f, const std::vector<Tensor>& inputs, const GradcheckOptions& options = {},
                                 const GradcheckLabels& labels = {}) {
  return detail::gradcheck_report(detail::checked_function(std::move(f)), inputs, options, labels);
}

/// What gradgradcheck found.
template <class F>
GradcheckReport gradgradcheck_report(F f, const std::vector<Tensor>& inputs,
                                     const std::vector<Tensor>& grad_outputs = {}, const GradcheckOptions& options = {},
                                     const GradcheckLabels& labels = {}) {
  return detail::gradgradcheck_report(detail::checked_function(std::move(f)), inputs, grad_outputs, options, labels);
}

}  // namespace unroll
#pragma GCC visibility pop
