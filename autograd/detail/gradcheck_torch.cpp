#include <unroll/autograd/detail/gradcheck.h>
#include <unroll/autograd/grad_mode.h>
#include <unroll/core/kernels/copy.h>
#include <unroll/core/random.h>

#include <algorithm>

// torch.autograd.gradcheck. A Jacobian of input i and output j counts both in row-major order: element (x, y) stands at
// x·numel(output) + y.
namespace unroll::detail {
namespace {

using Fault = GradcheckFault;

// (f(x + eps·d) − f(x − eps·d)) / 2eps of all outputs, d over some elements of input i.
std::vector<Values> central_difference(const Subject& s, std::size_t i, std::span<const std::int64_t> offsets,
                                       const Values& d) {
  const double eps = s.options.eps;
  auto outputs_at = [&](double step) {
    Values by = d;
    for (double& n : by) n *= step;
    Moved moved(s.xs[i], offsets, by);
    std::vector<Values> result;
    for (const Tensor& y : s.run()) result.push_back(values(y));
    return result;
  };
  std::vector<Values> right = outputs_at(eps), left = outputs_at(-eps);
  for (std::size_t j = 0; j < right.size(); ++j)
    for (std::size_t k = 0; k < right[j].size(); ++k) right[j][k] = (right[j][k] - left[j][k]) / (2 * eps);
  return right;
}

// Jacobians of input i: [output].
std::vector<Values> numeric_jacobians(const Subject& s, std::size_t i) {
  std::vector<Values> jacobians(s.ys.size());
  for (std::size_t e = 0; e < s.offsets[i].size(); ++e) {
    std::vector<Values> row = central_difference(s, i, std::span(s.offsets[i]).subspan(e, 1), {1});
    for (std::size_t j = 0; j < row.size(); ++j) jacobians[j].insert(jacobians[j].end(), row[j].begin(), row[j].end());
  }
  return jacobians;
}

// Jacobians of output j: [input]; one backward an element.
std::vector<Values> analytic_jacobians(const Subject& s, std::size_t j) {
  const Tensor& y = s.ys[j];
  std::vector<Values> jacobians;
  for (const Tensor& x : s.xs) jacobians.emplace_back(static_cast<std::size_t>(x.numel() * y.numel()));
  for (std::int64_t k = 0; k < y.numel(); ++k) {
    Tensors dx = s.gradients({y}, {one_hot_like(y, k)});
    for (std::size_t i = 0; i < dx.size(); ++i) {
      Values column = values(dx[i]);
      for (std::size_t e = 0; e < column.size(); ++e)
        jacobians[i][e * static_cast<std::size_t>(y.numel()) + static_cast<std::size_t>(k)] = column[e];
    }
  }
  return jacobians;
}

// Raises unless two Jacobians of output j by input i agree to atol + rtol·|expected|. NaN never does, but with that of
// another run.
void check_close(const Subject& s, std::size_t j, std::size_t i, const Values& got, const Values& expected, double atol,
                 double rtol, Fault fault, const char* what_got, const char* what_expected) {
  std::size_t worst = got.size(), count = 0;
  double worst_badness = -1;
  for (std::size_t e = 0; e < got.size(); ++e) {
    const double allowed = atol + rtol * std::abs(expected[e]), error = std::abs(got[e] - expected[e]);
    if (fault == Fault::NotReentrant ? repeats(got[e], expected[e], allowed) : close(got[e], expected[e], allowed))
      continue;
    ++count;
    const double badness = std::isnan(error) ? HUGE_VAL : error / allowed;
    if (badness > worst_badness) worst = e;
    worst_badness = std::max(worst_badness, badness);
  }
  if (count == 0) return;
  const Tensor &x = s.xs[i], &y = s.ys[j];
  const double error = std::abs(got[worst] - expected[worst]);
  const auto at = static_cast<std::int64_t>(worst);
  throw FaultError(
      fault, fmt::format("the gradient of output {} by {} does not match in {} of {} elements; the worst is d output{} "
                         "/ d input{}: {} is {}, {} is {} (absolute difference {}, relative {}){}",
                         s.y_index[j], s.name(i), count, got.size(), index_of(y.shape(), at % y.numel()),
                         index_of(x.shape(), at / y.numel()), what_got, got[worst], what_expected, expected[worst],
                         error, error / std::abs(expected[worst]),
                         x.dtype() == DType::Float64 && y.dtype() == DType::Float64
                             ? ""
                             : "; differences of float32 values are coarse, use float64"));
}

void check_slowly(const Subject& s) {
  std::vector<std::vector<Values>> numeric;  // [input][output]
  for (std::size_t i = 0; i < s.xs.size(); ++i) numeric.push_back(numeric_jacobians(s, i));
  for (std::size_t j = 0; j < s.ys.size(); ++j) {
    if (!s.any_gradient) {
      for (std::size_t i = 0; i < s.xs.size(); ++i)
        check_close(s, j, i, Values(numeric[i][j].size()), numeric[i][j], 0, 0, Fault::Value,
                    "no output requires one, so it", "the numeric one");
      continue;
    }
    std::vector<Values> analytic = analytic_jacobians(s, j), again = analytic_jacobians(s, j);
    for (std::size_t i = 0; i < s.xs.size(); ++i) {
      check_close(s, j, i, again[i], analytic[i], s.options.nondet_tol, 0, Fault::NotReentrant,
                  "not reentrant: a second backward", "the first");
      check_close(s, j, i, analytic[i], numeric[i][j], s.options.atol, s.options.rtol, Fault::Value, "analytic",
                  "numeric");
    }
  }
}

// vᵀJu for one v an output and one u an input, both of length 1 and without negative elements.
void check_quickly(const Subject& s) {
  Generator numbers;
  auto unit_vector = [&](std::int64_t n) {
    Values result = rand(n, DType::Float64, numbers).to_vector<double>();
    double square = 0;
    for (double r : result) square += r * r;
    for (double& r : result) r /= std::sqrt(square);
    return result;
  };
  auto sum = [](const Values& numbers_of) {
    double result = 0;
    for (double n : numbers_of) result += n;
    return result;
  };
  std::vector<Values> u, v;
  for (const Tensor& x : s.xs) u.push_back(unit_vector(x.numel()));
  for (const Tensor& y : s.ys) v.push_back(unit_vector(y.numel()));
  for (std::size_t i = 0; i < s.xs.size(); ++i) {
    std::vector<Values> ju = central_difference(s, i, s.offsets[i], u[i]);
    for (std::size_t j = 0; j < s.ys.size(); ++j) {
      Tensor cotangent = kernels::cast(from_data(v[j], s.ys[j].shape()), s.ys[j].dtype());
      Values dx = values(s.gradients({s.ys[j]}, {cotangent})[i]),
             again = values(s.gradients({s.ys[j]}, {cotangent})[i]);
      double numeric = 0, analytic = 0;
      for (std::size_t k = 0; k < v[j].size(); ++k) numeric += v[j][k] * ju[j][k];
      for (std::size_t e = 0; e < dx.size(); ++e) {
        analytic += dx[e] * u[i][e];
        require(repeats(dx[e], again[e], s.options.nondet_tol), Fault::NotReentrant,
                "not reentrant: a second backward by {} is another one", s.name(i));
      }
      const double atol = s.options.atol * sum(u[i]) * sum(v[j]);
      if (close(analytic, numeric, atol + s.options.rtol * std::abs(numeric))) continue;
      check_slowly(s);  // for a text that says where
      throw FaultError(Fault::Value, fmt::format("the gradient of output {} by {} does not match along a random "
                                                 "direction: analytic is {}, numeric is {}",
                                                 s.y_index[j], s.name(i), analytic, numeric));
    }
  }
}

// With a zero gradient of the outputs, dx is a sum of zeros.
void check_zero_gradient(const Subject& s) {
  Tensors zero;
  for (const Tensor& y : s.ys) zero.push_back(zeros_like(y));
  Tensors dx = s.gradients(s.ys, zero);
  for (std::size_t i = 0; i < dx.size(); ++i)
    for (double n : values(dx[i]))
      require(n == 0, Fault::Cotangent,
              "{} has a gradient of {} when that of the outputs is 0: backward does not multiply by it", s.name(i), n);
}

// Leaving one output out of backward is the same as giving it a zero gradient.
void check_undefined_gradients(const Subject& s) {
  for (std::size_t j = 0; s.ys.size() > 1 && j < s.ys.size(); ++j) {
    Tensors ys = s.ys, with_zero = s.v, without = s.v;
    with_zero[j] = zeros_like(ys[j]);
    Tensors expected = s.gradients(ys, with_zero);
    ys.erase(ys.begin() + static_cast<std::ptrdiff_t>(j));
    without.erase(without.begin() + static_cast<std::ptrdiff_t>(j));
    Tensors got = s.gradients(ys, without);
    for (std::size_t i = 0; i < got.size(); ++i) {
      Values a = values(got[i]), b = values(expected[i]);
      for (std::size_t e = 0; e < a.size(); ++e)
        require(close(a[e], b[e], s.options.atol + s.options.rtol * std::abs(b[e])), Fault::Undefined,
                "the gradient by {} is another one when output {} has no gradient than when it has a zero one",
                s.name(i), s.y_index[j]);
    }
  }
}

}  // namespace

void torch_gradcheck(const CheckedFunction& f, const Tensors& inputs, const GradcheckOptions& options) {
  GradMode mode(true);
  KeptGenerator generator;
  Lent lent(inputs);
  const GradcheckLabels labels;
  Subject subject(f, inputs, options, labels, false);
  if (options.fast_mode && subject.any_gradient)
    check_quickly(subject);
  else
    check_slowly(subject);
  if (!subject.any_gradient) return;
  check_zero_gradient(subject);
  if (options.check_undefined_grad) check_undefined_gradients(subject);
  subject.check_unchanged();
}

}  // namespace unroll::detail
