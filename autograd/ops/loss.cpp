#include <unroll/autograd/fused.h>
#include <unroll/autograd/ops/activation.h>
#include <unroll/autograd/ops/arithmetic.h>
#include <unroll/autograd/ops/compare.h>
#include <unroll/autograd/ops/index.h>
#include <unroll/autograd/ops/loss.h>
#include <unroll/autograd/ops/normalize.h>
#include <unroll/autograd/ops/reduce.h>
#include <unroll/autograd/ops/shape.h>
#include <unroll/autograd/record.h>
#include <unroll/core/kernels/elementwise.h>
#include <unroll/core/kernels/index.h>
#include <unroll/core/kernels/softmax.h>

#include <algorithm>
#include <cmath>
#include <limits>

namespace unroll {
namespace {

Tensor reduce(const char* op, const Tensor& loss, Reduction reduction) {
  switch (reduction) {
    case Reduction::None:
      return loss;
    case Reduction::Mean:
      return mean(loss);
    case Reduction::Sum:
      return sum(loss);
    case Reduction::BatchMean:
      detail::fail<ValueError>("{}: Reduction::BatchMean goes with kl_div alone", op);
  }
  detail::fail<ValueError>("{}: {} is no Reduction", op, static_cast<int>(reduction));
}

void check_alike(const char* op, const Tensor& input, const Tensor& target) {
  check<ShapeError>(input.shape() == target.shape(), "{}: input of shape {} and target of shape {} differ", op,
                    input.shape(), target.shape());
  check<DTypeError>(input.is_floating_point(), "{}: expected float32 or float64, got {}", op, input.dtype());
  kernels::check_same_dtype(op, input, target);
}

Tensor difference(const char* op, const Tensor& input, const Tensor& target) {
  check_alike(op, input, target);
  return input - target;
}

/// x² / 2 where |x| < δ, else δ (|x| − δ/2).   d/dx = x, cut off at −δ and δ
Tensor huber(const Tensor& x, double delta) {
  Tensor y = kernels::map("huber", x, [delta](auto v) {
    auto size = std::abs(v), d = static_cast<decltype(v)>(delta);
    return size < d ? size * size / 2 : d * (size - d / 2);
  });
  return record("huber", {x}, y, save(x),
                [delta](const Tensor& g, const Saved& s) { return g * clamp(s[0], -delta, delta); });
}

/// x² / (2β) where |x| < β, else |x| − β/2: not huber(x, β) / β, whose numerator may be ∞.   d/dx = x/β, cut off at ±1
Tensor smooth_l1(const Tensor& x, double beta) {
  const bool is_abs = dispatch_float("smooth_l1_loss", x.dtype(), [&]<class T>() { return static_cast<T>(beta) == 0; });
  if (is_abs) return abs(x);
  Tensor y = kernels::map("smooth_l1", x, [beta](auto v) {
    auto size = std::abs(v), b = static_cast<decltype(v)>(beta);
    return size < b ? size * size / 2 / b : size - b / 2;
  });
  return record("smooth_l1", {x}, y, save(x),
                [beta](const Tensor& g, const Saved& s) { return g * clamp(s[0] / beta, -1, 1); });
}

}  // namespace

Tensor mse_loss(const Tensor& input, const Tensor& target, const LossOptions& options) {
  return reduce("mse_loss", square(difference("mse_loss", input, target)), options.reduction);
}

Tensor l1_loss(const Tensor& input, const Tensor& target, const LossOptions& options) {
  return reduce("l1_loss", abs(difference("l1_loss", input, target)), options.reduction);
}

Tensor smooth_l1_loss(const Tensor& input, const Tensor& target, const SmoothL1LossOptions& options) {
  check<ValueError>(options.beta >= 0, "smooth_l1_loss: beta = {} must not be negative", options.beta);
  return reduce("smooth_l1_loss", smooth_l1(difference("smooth_l1_loss", input, target), options.beta),
                options.reduction);
}

Tensor huber_loss(const Tensor& input, const Tensor& target, const HuberLossOptions& options) {
  check<ValueError>(options.delta > 0, "huber_loss: delta = {} must be positive", options.delta);
  return reduce("huber_loss", huber(difference("huber_loss", input, target), options.delta), options.reduction);
}

Tensor kl_div(const Tensor& input, const Tensor& target, const KLDivLossOptions& options) {
  check_alike("kl_div", input, target);
  Tensor each;
  if (options.log_target) {
    each = exp(target) * (target - input);
  } else {
    Tensor t = masked_fill(target, eq(target, 0), 1);  // 1 ln 1 stands for 0 ln 0
    each = t * log(t) - target * input;
  }
  if (options.reduction != Reduction::BatchMean) return reduce("kl_div", each, options.reduction);
  return input.dim() == 0 ? each : sum(each) / static_cast<double>(input.size(0));
}

namespace {

void check_factor(const char* op, const Tensor& input, const char* name, const Tensor& factor) {
  if (!factor.defined()) return;
  const Shape &from = factor.shape(), &to = input.shape();
  bool fits = from.size() <= to.size() && std::equal(from.begin(), from.end(), to.end() - from.size(),
                                                     [](auto f, auto t) { return f == 1 || f == t; });
  check<ShapeError>(fits, "{}: {} of shape {} does not broadcast to input's {}", op, name, from, to);
  kernels::check_same_dtype(op, input, factor);
}

void check_probabilities(const char* op, const char* name, const Tensor& p) {
  dispatch_float(op, p.dtype(), [&]<class T>() {
    for (T v : p.to_vector<T>())
      check<ValueError>(v >= 0 && v <= 1, "{}: {} holds {}, expected probabilities in [0, 1]", op, name, v);
  });
}

/// −t ln x − (1 − t) ln(1 − x).   d/dx = (x − t) / x(1 − x), whose denominator torch bounds by the float 1e-12;
/// d/dt = ln(1 − x) − ln x
Tensor cross_entropy_of_probabilities(const Tensor& x, const Tensor& t) {
  Tensor y = kernels::zip("binary_cross_entropy", x, t, [](auto v, auto p) {
    constexpr decltype(v) lowest = -100;
    return (p - 1) * std::max(std::log1p(-v), lowest) - p * std::max(std::log(v), lowest);
  });
  return record(
      "binary_cross_entropy", {x, t}, y, save(x, t),
      [](const Tensor& g, const Saved& s) {
        return g * (s[0] - s[1]) / clamp((1 - s[0]) * s[0], 1e-12f, std::numeric_limits<double>::infinity());
      },
      [](const Tensor& g, const Saved& s) { return g * (log(1 - s[0]) - log(s[0])); });
}

}  // namespace

Tensor binary_cross_entropy(const Tensor& input, const Tensor& target, const BCELossOptions& options) {
  constexpr const char* kOp = "binary_cross_entropy";
  check_alike(kOp, input, target);
  check_factor(kOp, input, "weight", options.weight);
  check_probabilities(kOp, "input", input);
  check_probabilities(kOp, "target", target);
  Tensor loss = cross_entropy_of_probabilities(input, target);
  if (options.weight.defined()) loss = loss * options.weight;
  return reduce(kOp, loss, options.reduction);
}

Tensor binary_cross_entropy_with_logits(const Tensor& input, const Tensor& target,
                                        const BCEWithLogitsLossOptions& options) {
  constexpr const char* kOp = "binary_cross_entropy_with_logits";
  check_alike(kOp, input, target);
  check_factor(kOp, input, "weight", options.weight);
  check_factor(kOp, input, "pos_weight", options.pos_weight);

  // −ln σ(x) = softplus(−x) and −ln(1 − σ(x)) = softplus(x): two terms that do not cancel, nor do their gradients. From
  // 40 on, softplus(x) = x in double too.
  Tensor positive = target * softplus(-input, 1, 40), negative = (1 - target) * softplus(input, 1, 40);
  if (options.pos_weight.defined()) positive = positive * options.pos_weight;
  Tensor loss = positive + negative;
  if (options.weight.defined()) loss = loss * options.weight;
  return reduce(kOp, loss, options.reduction);
}

namespace {

// Dimension of the classes: input is (C), (N, C) or (N, C, d1, …).
std::int64_t class_dim(const Tensor& input) { return input.dim() > 1; }

void check_input(const char* op, const Tensor& input, const Tensor& weight) {
  check<DTypeError>(input.is_floating_point(), "{}: input must be float32 or float64, got {}", op, input.dtype());
  check<ShapeError>(input.dim() > 0, "{}: input is a scalar, expected (C), (N, C) or (N, C, d1, ...)", op);
  if (!weight.defined()) return;
  std::int64_t classes = input.size(class_dim(input));
  check<ShapeError>(weight.shape() == Shape(classes), "{}: weight has shape {}, expected one for each of {} classes",
                    op, weight.shape(), classes);
  kernels::check_same_dtype(op, input, weight);
}

// Raises unless target holds a class, or ignore_index, for each sample of input.
void check_classes(const char* op, const Tensor& input, const Tensor& target, std::int64_t ignore_index) {
  check<DTypeError>(target.dtype() == DType::Int64, "{}: target holds classes, so it must be int64; got {}", op,
                    target.dtype());
  auto dim = static_cast<std::size_t>(class_dim(input));
  Shape expected = input.shape();
  expected.erase(dim);
  check<ShapeError>(target.shape() == expected,
                    "{}: input of shape {} and target of shape {}, expected {} for the target", op, input.shape(),
                    target.shape(), expected);
  Tensor counted = masked_fill(target, eq(target, static_cast<double>(ignore_index)), 0);
  kernels::check_indices(op, "target", counted, dim, input.shape()[dim]);
}

// Σ weight·log_p over the classes.
Tensor weighted_sum(const Tensor& log_p, const Tensor& weight) {
  std::int64_t dim = class_dim(log_p);
  if (!weight.defined()) return sum(log_p, dim);
  Shape shape(static_cast<std::size_t>(log_p.dim() - dim), 1);  // (C, 1, …) broadcasts to (N, C, d1, …)
  shape[0] = weight.size(0);
  return sum(log_p * reshape(weight, shape), dim);
}

// −log p[t] of each sample
Tensor negative_at(const Tensor& log_p, const Tensor& t) {
  std::int64_t dim = class_dim(log_p);
  return -squeeze(gather(log_p, dim, unsqueeze(t, dim)), dim);
}

// −log_softmax(x)[t] of each sample, whose probabilities are never stored. Forward kept max x and ln Σ exp(x − max), so
// dx = g·(exp(x − max − ln Σ) − 1 at t).
Tensor negative_log_softmax_at(const Tensor& x, const Tensor& t) {
  auto definition = [t](std::span<const Tensor> in) {
    return std::vector{negative_at(log_softmax(in[0], class_dim(in[0])), t)};
  };
  if (!FusedMode::enabled() || x.dim() > 2) return definition(std::span(&x, 1)).front();

  Tensor in = kernels::contiguous(x), loss = empty(t.shape(), x.dtype()), max = empty_like(loss),
         log_sum = empty_like(loss);
  dispatch_float("cross_entropy", x.dtype(), [&]<class T>() {
    kernels::cross_entropy(loss.raw<T>(), max.raw<T>(), log_sum.raw<T>(), static_cast<const T*>(in.raw<T>()),
                           t.raw<std::int64_t>(), t.numel(), x.size(-1));
  });
  auto backward = [](Gradients g, const Saved& s, std::span<Tensor> dx) {
    Tensor dloss = kernels::contiguous(g[0]), logits = kernels::contiguous(s[0]);
    dx[0] = empty_like(logits);
    dispatch_float("cross_entropy", logits.dtype(), [&]<class T>() {
      kernels::cross_entropy_backward<T>(dx[0].raw<T>(), dloss.raw<T>(), logits.raw<T>(), s[1].raw<T>(), s[2].raw<T>(),
                                         s[3].raw<std::int64_t>(), dloss.numel(), logits.size(-1));
    });
  };
  record_fused("cross_entropy", {x}, std::span(&loss, 1), {max, log_sum, t}, backward, definition);
  return loss;
}

// The loss of checked class targets. With weight w and smoothing ε a sample's is
//   −(1 − ε)·w[t]·log p[t] − ε/C·Σ w·log p,
// where negative(t) computes −log p[t], and log_p is needed for ε > 0 only.
template <class Negative>
Tensor class_loss(const char* op, Negative negative, const Tensor& log_p, const Tensor& target,
                  const CrossEntropyLossOptions& options) {
  double smoothing = options.label_smoothing;
  Tensor ignored = eq(target, static_cast<double>(options.ignore_index)), t = masked_fill(target, ignored, 0);
  Tensor loss = negative(t), weight;
  if (options.weight.defined()) {
    weight = reshape(index_select(options.weight, 0, reshape(t, {t.numel()})), t.shape());
    loss = loss * weight;
  }
  if (smoothing > 0) {
    double uniform = smoothing / static_cast<double>(log_p.size(class_dim(log_p)));
    loss = (1 - smoothing) * loss - uniform * weighted_sum(log_p, options.weight);
  }
  loss = masked_fill(loss, ignored, 0);
  if (options.reduction != Reduction::Mean) return reduce(op, loss, options.reduction);
  if (weight.defined()) return sum(loss) / sum(masked_fill(weight, ignored, 0));
  return sum(loss) / static_cast<double>(t.numel() - sum(ignored).item<std::int64_t>());
}

}  // namespace

Tensor nll_loss(const Tensor& input, const Tensor& target, const NLLLossOptions& options) {
  check_input("nll_loss", input, options.weight);
  check_classes("nll_loss", input, target, options.ignore_index);
  return class_loss("nll_loss", [&](const Tensor& t) { return negative_at(input, t); }, input, target,
                    {.weight = options.weight, .ignore_index = options.ignore_index, .reduction = options.reduction});
}

Tensor cross_entropy(const Tensor& input, const Tensor& target, const CrossEntropyLossOptions& options) {
  double smoothing = options.label_smoothing;
  check<ValueError>(smoothing >= 0 && smoothing <= 1, "cross_entropy: label_smoothing = {} must be in [0, 1]",
                    smoothing);
  check_input("cross_entropy", input, options.weight);
  if (!target.is_floating_point()) {
    check_classes("cross_entropy", input, target, options.ignore_index);
    if (smoothing == 0)
      return class_loss(
          "cross_entropy", [&](const Tensor& t) { return negative_log_softmax_at(input, t); }, {}, target, options);
    Tensor log_p = log_softmax(input, class_dim(input));
    return class_loss(
        "cross_entropy", [&](const Tensor& t) { return negative_at(log_p, t); }, log_p, target, options);
  }
  check_alike("cross_entropy", input, target);
  check<ValueError>(options.ignore_index < 0,
                    "cross_entropy: ignore_index = {} does not go with targets that are probabilities",
                    options.ignore_index);
  std::int64_t dim = class_dim(input);
  Tensor p = smoothing > 0 ? (1 - smoothing) * target + smoothing / static_cast<double>(input.size(dim)) : target;
  return reduce("cross_entropy", -weighted_sum(p * log_softmax(input, dim), options.weight), options.reduction);
}

}  // namespace unroll
