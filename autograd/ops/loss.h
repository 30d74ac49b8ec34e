#pragma once
#include <unroll/core/tensor.h>

#pragma GCC visibility push(default)
/// Losses with torch's names and numbers: `cross_entropy(input, target, {.ignore_index = 0, .label_smoothing = 0.1})`.
/// They are differentiable in every floating argument. Shapes that do not fit raise ShapeError that names both; nothing
/// broadcasts but weights.
namespace unroll {

/// What becomes of the losses of single elements: themselves, their mean, their sum; for kl_div also their sum divided
/// by the size of the first dimension, which raises ValueError elsewhere.
enum class Reduction : std::uint8_t { None, Mean, Sum, BatchMean };

// -- Regression: input and target have one shape

struct LossOptions {
  Reduction reduction = Reduction::Mean;
};

/// (x − t)²
Tensor mse_loss(const Tensor& input, const Tensor& target, const LossOptions& options = {});
/// |x − t|; its derivative at 0 is 0.
Tensor l1_loss(const Tensor& input, const Tensor& target, const LossOptions& options = {});

struct SmoothL1LossOptions {
  Reduction reduction = Reduction::Mean;
  /// Where the parabola turns into lines. 0 is l1_loss; raises ValueError below.
  double beta = 1;
};

/// (x − t)² / 2β where |x − t| < β, else |x − t| − β/2
Tensor smooth_l1_loss(const Tensor& input, const Tensor& target, const SmoothL1LossOptions& options = {});

struct HuberLossOptions {
  Reduction reduction = Reduction::Mean;
  /// Where the parabola turns into lines. Raises ValueError unless it is positive.
  double delta = 1;
};

/// (x − t)² / 2 where |x − t| < δ, else δ (|x − t| − δ/2)
Tensor huber_loss(const Tensor& input, const Tensor& target, const HuberLossOptions& options = {});

// -- Probabilities

struct KLDivLossOptions {
  Reduction reduction = Reduction::Mean;
  /// Whether target holds logarithms too.
  bool log_target = false;
};

/// t (ln t − x) for probabilities t and logarithms of probabilities x of one shape; with log_target eᵗ (t − x). 0 ln 0
/// is 0, and so is its derivative. The divergence itself is the sum, or BatchMean over the samples.
Tensor kl_div(const Tensor& input, const Tensor& target, const KLDivLossOptions& options = {});

struct BCELossOptions {
  /// Factor of each element's loss; broadcasts to input's shape.
  Tensor weight = {};
  Reduction reduction = Reduction::Mean;
};

/// −t ln x − (1 − t) ln(1 − x) for probabilities x and t of one shape. Logarithms end at −100, so that the loss is
/// finite; binary_cross_entropy_with_logits needs no such end. Raises ValueError for an input or target
/// outside [0, 1].
Tensor binary_cross_entropy(const Tensor& input, const Tensor& target, const BCELossOptions& options = {});

struct BCEWithLogitsLossOptions {
  /// Factor of each element's loss; broadcasts to input's shape.
  Tensor weight = {};
  Reduction reduction = Reduction::Mean;
  /// Factor of the first term, which weighs positive answers; broadcasts to input's shape.
  Tensor pos_weight = {};
};

/// −t ln σ(x) − (1 − t) ln(1 − σ(x)) for probabilities t of input's shape.
Tensor binary_cross_entropy_with_logits(const Tensor& input, const Tensor& target,
                                        const BCEWithLogitsLossOptions& options = {});

// -- Classes

struct NLLLossOptions {
  /// (C,), factor of each class's loss.
  Tensor weight = {};
  /// Targets of this value count for nothing, not even in the mean.
  std::int64_t ignore_index = -100;
  Reduction reduction = Reduction::Mean;
};

/// −weight[t] · input[t], where input holds logarithms of probabilities and target, Int64, the class t.
///
/// input is (C), (N, C) or (N, C, d1, …), and target the same without C. The mean is weighted: Σ losses / Σ weight[t],
/// NaN if every target is ignored. Raises IndexError for a target outside [0, C) that is not ignore_index, DTypeError
/// for one that is not Int64.
Tensor nll_loss(const Tensor& input, const Tensor& target, const NLLLossOptions& options = {});

struct CrossEntropyLossOptions {
  /// (C,), factor of each class's loss.
  Tensor weight = {};
  /// Targets of this value count for nothing, not even in the mean. Only for targets that are classes.
  std::int64_t ignore_index = -100;
  Reduction reduction = Reduction::Mean;
  /// ε in [0, 1]: the target's probabilities are mixed with ε of the uniform distribution.
  double label_smoothing = 0;
};

/// nll_loss of log_softmax(input) over the classes: input holds unnormalized logits. Shapes and errors are those of
/// nll_loss.
///
/// A floating target has input's shape and holds probabilities p of all classes; the loss is −Σ weight · p ·
/// log_softmax(input), and the mean divides by the number of samples. It goes with no ignore_index ≥ 0 (ValueError).
///
/// Fused (autograd/fused.h) for classes of samples without further dimensions and without smoothing: the input is kept,
/// and no probabilities.
Tensor cross_entropy(const Tensor& input, const Tensor& target, const CrossEntropyLossOptions& options = {});

}  // namespace unroll
#pragma GCC visibility pop
