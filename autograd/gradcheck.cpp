#include <unroll/autograd/engine.h>
#include <unroll/autograd/grad_mode.h>
#include <unroll/autograd/gradcheck.h>
#include <unroll/autograd/ops/arithmetic.h>
#include <unroll/core/alloc.h>
#include <unroll/core/kernels/copy.h>
#include <unroll/core/random.h>
#include <unroll/core/view.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <optional>

// Jacobians are float64 matrices (numel(input), numel(output)), both sides counted in row-major order.
namespace unroll::detail {
namespace {

using Tensors = std::vector<Tensor>;

Tensors differentiable(const Tensors& xs) {
  Tensors result;
  std::copy_if(xs.begin(), xs.end(), std::back_inserter(result), [](const Tensor& x) { return x.requires_grad(); });
  return result;
}

std::vector<double> values(const Tensor& x) { return kernels::cast(x, DType::Float64).to_vector<double>(); }

Shape index_of(const Shape& shape, std::int64_t element) {
  Shape index = shape;
  for (std::size_t d = shape.size(); d-- > 0; element /= shape[d]) index[d] = element % shape[d];
  return index;
}

// An element of x, moved for the time of a scope and behind the version counter: what f saves of x stays valid.
class Moved {
 public:
  Moved(const Tensor& x, std::int64_t element, double step) : x_(x) {
    Shape index = index_of(x.shape(), element);
    for (std::size_t d = 0; d < index.size(); ++d) offset_ += index[d] * x.strides()[d];
    dispatch_float("gradcheck", x.dtype(), [&]<class T>() {
      T& value = x.data<T>()[offset_];
      before_ = value;
      value = static_cast<T>(before_ + step);
    });
  }
  ~Moved() {
    if (x_.dtype() == DType::Float32)
      x_.data<float>()[offset_] = static_cast<float>(before_);
    else
      x_.data<double>()[offset_] = before_;
  }
  Moved(const Moved&) = delete;
  Moved& operator=(const Moved&) = delete;

 private:
  const Tensor& x_;
  std::int64_t offset_ = 0;
  double before_ = 0;
};

// Of f itself and those of its outputs that are looked at: the ones that require a gradient, or all when none does.
struct Subject {
  const CheckedFunction& f;
  const Tensors& inputs;
  Tensors xs;                        // the inputs that require a gradient
  std::vector<std::size_t> x_index;  // their places among all
  Tensors ys;
  std::vector<std::size_t> y_index;
  bool any_gradient;

  Subject(const CheckedFunction& function, const Tensors& all_inputs) : f(function), inputs(all_inputs) {
    for (std::size_t i = 0; i < inputs.size(); ++i)
      if (inputs[i].requires_grad()) {
        xs.push_back(inputs[i]);
        x_index.push_back(i);
      }
    check<ValueError>(!xs.empty(), "gradcheck: none of the {} inputs requires a gradient", inputs.size());
    for (const Tensor& x : xs)
      for (std::size_t d = 0; d < x.shape().size(); ++d)
        check<ValueError>(x.shape()[d] <= 1 || x.strides()[d] != 0,
                          "gradcheck: elements of the expanded input of shape {} share memory; clone() it first",
                          x.shape());
    Tensors outputs = f(inputs);
    any_gradient = !differentiable(outputs).empty();
    for (std::size_t j = 0; j < outputs.size(); ++j)
      if (any_gradient ? outputs[j].requires_grad() : outputs[j].defined() && outputs[j].is_floating_point()) {
        ys.push_back(outputs[j]);
        y_index.push_back(j);
      }
  }

  // The looked-at outputs of another run.
  Tensors run() const {
    Tensors outputs = f(inputs), result;
    for (std::size_t k = 0; k < ys.size(); ++k) {
      std::size_t j = y_index[k];
      check<GradcheckError>(j < outputs.size() && outputs[j].defined() && outputs[j].shape() == ys[k].shape() &&
                                outputs[j].dtype() == ys[k].dtype(),
                            "gradcheck: output {} is not always there with shape {} and dtype {}; it may not depend on "
                            "the elements of an input",
                            j, ys[k].shape(), to_string(ys[k].dtype()));
      result.push_back(outputs[j]);
    }
    return result;
  }
};

Tensors zero_jacobians(const Tensors& xs, const Tensors& ys) {
  Tensors result;
  for (const Tensor& y : ys)
    for (const Tensor& x : xs) result.push_back(zeros({x.numel(), y.numel()}, DType::Float64));
  return result;
}

// d y / d x for each output y, by central differences.
Tensors numeric_jacobians(const Subject& subject, const Tensor& x, double eps) {
  Tensors jacobians = zero_jacobians({x}, subject.ys);
  for (std::int64_t i = 0; i < x.numel(); ++i) {
    auto outputs_at = [&](double step) {
      Moved moved(x, i, step);
      std::vector<std::vector<double>> result;
      for (const Tensor& y : subject.run()) result.push_back(values(y));
      return result;
    };
    auto right = outputs_at(eps), left = outputs_at(-eps);
    for (std::size_t j = 0; j < jacobians.size(); ++j) {
      double* row = jacobians[j].data<double>() + i * subject.ys[j].numel();
      for (std::size_t k = 0; k < right[j].size(); ++k) row[k] = (right[j][k] - left[j][k]) / (2 * eps);
    }
  }
  return jacobians;
}

// d y / d x for each input x, one backward an element of y.
Tensors analytic_jacobians(const Tensor& y, const Tensors& xs, bool create_graph) {
  Tensors jacobians = zero_jacobians(xs, {y});
  for (std::int64_t k = 0; k < y.numel(); ++k) {
    Tensor one_hot = zeros_like(y);
    kernels::fill(views::as_strided(one_hot, {}, {}, k), 1);
    Tensors dx = grad(
        {y}, xs, {.grad_outputs = {one_hot}, .retain_graph = true, .create_graph = create_graph, .allow_unused = true});
    for (std::size_t i = 0; i < xs.size(); ++i) {
      if (!dx[i].defined()) continue;
      std::vector<double> column = values(dx[i]);
      for (std::size_t e = 0; e < column.size(); ++e)
        jacobians[i].data<double>()[static_cast<std::int64_t>(e) * y.numel() + k] = column[e];
    }
  }
  return jacobians;
}

struct Mismatch {
  std::int64_t element, count;  // the worst one, how many there are
  double got, expected;
};

// The elements with |got − expected| > atol + rtol·|expected|. NaN is never close.
std::optional<Mismatch> compare(const Tensor& got, const Tensor& expected, double atol, double rtol) {
  const double *a = got.data<double>(), *b = expected.data<double>();
  std::optional<Mismatch> found;
  double worst = 0;
  for (std::int64_t e = 0; e < got.numel(); ++e) {
    double error = std::abs(a[e] - b[e]), allowed = atol + rtol * std::abs(b[e]);
    if (a[e] == b[e] || error <= allowed) continue;
    if (!found) found = Mismatch{e, 0, a[e], b[e]};
    ++found->count;
    double badness = std::isnan(error) ? HUGE_VAL : error / allowed;
    if (badness <= worst) continue;
    worst = badness;
    found = Mismatch{e, found->count, a[e], b[e]};
  }
  return found;
}

// Raises unless two Jacobians of output j by input i agree.
void check_close(const Subject& subject, std::size_t j, std::size_t i, const Tensor& got, const Tensor& expected,
                 double atol, double rtol, const char* what_got, const char* what_expected) {
  std::optional<Mismatch> bad = compare(got, expected, atol, rtol);
  if (!bad) return;
  const Tensor &x = subject.xs[i], &y = subject.ys[j];
  double error = std::abs(bad->got - bad->expected);
  fail<GradcheckError>(
      "gradcheck: the gradient of output {} by input {} does not match in {} of {} elements; the worst is d output{} / "
      "d input{}: {} is {}, {} is {} "
      "(absolute difference {}, relative {}){}",
      subject.y_index[j], subject.x_index[i], bad->count, got.numel(), index_of(y.shape(), bad->element % y.numel()),
      index_of(x.shape(), bad->element / y.numel()), what_got, bad->got, what_expected, bad->expected, error,
      error / std::abs(bad->expected),
      x.dtype() == DType::Float64 && y.dtype() == DType::Float64
          ? ""
          : "; differences of float32 values are coarse, use float64");
}

// With a zero gradient of the outputs, dx is a sum of zeros.
void check_zero_gradient(const Subject& subject) {
  Tensors zeros;
  for (const Tensor& y : subject.ys) zeros.push_back(zeros_like(y));
  Tensors dx = grad(subject.ys, subject.xs, {.grad_outputs = zeros, .retain_graph = true, .allow_unused = true});
  for (std::size_t i = 0; i < dx.size(); ++i) {
    if (!dx[i].defined()) continue;
    for (double v : values(dx[i]))
      check<GradcheckError>(
          v == 0,
          "gradcheck: input {} has a gradient of {} when that of the outputs is 0: backward does not multiply by it",
          subject.x_index[i], v);
  }
}

// Leaving one output out of backward is the same as giving it a zero gradient.
void check_undefined_gradients(const Subject& subject, const GradcheckOptions& options) {
  Generator generator;
  Tensors gradients;
  for (const Tensor& y : subject.ys) gradients.push_back(rand_like(y.detach(), generator));
  for (std::size_t j = 0; subject.ys.size() > 1 && j < subject.ys.size(); ++j) {
    Tensors ys = subject.ys, with_zero = gradients, without = gradients;
    with_zero[j] = zeros_like(ys[j]);
    Tensors expected = grad(ys, subject.xs, {.grad_outputs = with_zero, .retain_graph = true, .allow_unused = true});
    ys.erase(ys.begin() + static_cast<std::ptrdiff_t>(j));
    without.erase(without.begin() + static_cast<std::ptrdiff_t>(j));
    Tensors got = grad(ys, subject.xs, {.grad_outputs = without, .retain_graph = true, .allow_unused = true});
    for (std::size_t i = 0; i < got.size(); ++i) {
      auto or_zero = [&](const Tensor& dx) {
        return kernels::cast(dx.defined() ? kernels::contiguous(dx) : zeros_like(subject.xs[i]), DType::Float64);
      };
      check<GradcheckError>(!compare(or_zero(got[i]), or_zero(expected[i]), options.atol, options.rtol),
                            "gradcheck: the gradient by input {} is another one when output {} has no gradient than "
                            "when it has a zero one",
                            subject.x_index[i], subject.y_index[j]);
    }
  }
}

void check_leaks(const Subject& subject) {
  auto left_behind = [&] {
    {
      Tensors ys = subject.run(), gradients;
      for (const Tensor& y : ys) gradients.push_back(ones_like(y));
      grad(ys, subject.xs, {.grad_outputs = gradients, .allow_unused = true});
    }
    return alloc::counters();
  };
  alloc::Counters first = left_behind(), second = left_behind();
  check<GradcheckError>(second.live_nodes <= first.live_nodes && second.live_tensors <= first.live_tensors,
                        "gradcheck: a run leaves {} nodes and {} tensors behind; a gradient function that captures a "
                        "tensor of its own op owns itself",
                        second.live_nodes - first.live_nodes, second.live_tensors - first.live_tensors);
}

void run_checks(const CheckedFunction& f, const Tensors& inputs, const GradcheckOptions& options) {
  GradMode mode(true);
  Subject subject(f, inputs);
  std::vector<std::vector<double>> elements;
  for (const Tensor& x : subject.xs) elements.push_back(values(x));

  std::vector<Tensors> numeric;  // [input][output]
  for (const Tensor& x : subject.xs) numeric.push_back(numeric_jacobians(subject, x, options.eps));
  if (!subject.any_gradient) {
    for (std::size_t i = 0; i < numeric.size(); ++i)
      for (std::size_t j = 0; j < numeric[i].size(); ++j)
        check_close(subject, j, i, zeros_like(numeric[i][j]), numeric[i][j], 0, 0, "no output requires one, so it",
                    "the numeric one");
    return;
  }
  for (std::size_t j = 0; j < subject.ys.size(); ++j) {
    Tensors analytic = analytic_jacobians(subject.ys[j], subject.xs, false),
            again = analytic_jacobians(subject.ys[j], subject.xs, false);
    Tensors recorded = options.check_create_graph ? analytic_jacobians(subject.ys[j], subject.xs, true) : Tensors();
    for (std::size_t i = 0; i < subject.xs.size(); ++i) {
      check_close(subject, j, i, again[i], analytic[i], options.nondet_tol, 0, "not reentrant: a second backward",
                  "the first");
      check_close(subject, j, i, analytic[i], numeric[i][j], options.atol, options.rtol, "analytic", "numeric");
      if (options.check_create_graph)
        check_close(subject, j, i, recorded[i], analytic[i], options.atol, options.rtol, "under create_graph it",
                    "without");
    }
  }
  check_zero_gradient(subject);
  if (options.check_undefined_grad) check_undefined_gradients(subject, options);
  if (options.check_leaks) check_leaks(subject);

  for (std::size_t i = 0; i < subject.xs.size(); ++i) {
    std::vector<double> after = values(subject.xs[i]);
    check<GradcheckError>(
        after.empty() || std::memcmp(after.data(), elements[i].data(), after.size() * sizeof(double)) == 0,
        "gradcheck: the function or its gradient wrote to input {}", subject.x_index[i]);
  }
}
}  // namespace

bool gradcheck(const CheckedFunction& f, const Tensors& inputs, const GradcheckOptions& options) {
  try {
    run_checks(f, inputs, options);
    return true;
  } catch (const GradcheckError&) {
    if (options.raise_exception) throw;
    return false;
  }
}

bool gradgradcheck(const CheckedFunction& f, const Tensors& inputs, const Tensors& grad_outputs,
                   const GradcheckOptions& options) {
  GradMode mode(true);
  Tensors all = inputs;
  if (grad_outputs.empty()) {
    Generator generator;
    for (const Tensor& y : differentiable(f(inputs)))
      all.push_back((rand_like(y.detach(), generator) * 2 - 1).requires_grad_());
  } else {
    all.insert(all.end(), grad_outputs.begin(), grad_outputs.end());
  }
  check<ValueError>(all.size() > inputs.size(), "gradgradcheck: none of the outputs requires a gradient");
  auto gradient = [&f, n = static_cast<std::ptrdiff_t>(inputs.size())](const Tensors& in) {
    Tensors xs(in.begin(), in.begin() + n), gradients(in.begin() + n, in.end());
    return grad(differentiable(f(xs)), differentiable(xs),
                {.grad_outputs = gradients, .create_graph = true, .allow_unused = true});
  };
  return gradcheck(gradient, all, options);
}

}  // namespace unroll::detail
