#pragma once
#include <unroll/core/tensor.h>

#pragma GCC visibility push(default)
namespace unroll::nn {

/// Scales all gradients by min(1, max_norm / (total + 1e-6)) and returns `total`, the norm of all their elements as one
/// vector; ∞ is the norm of the largest |element|. Parameters without a gradient are passed over.
///
/// As in torch, a NaN among the gradients makes all of them NaN, unless error_if_nonfinite: then a total that is not
/// finite raises ValueError. Raises ValueError for a negative max_norm or an expanded gradient; whatever is raised, no
/// gradient has changed.
double clip_grad_norm_(TensorList parameters, double max_norm, double norm_type = 2, bool error_if_nonfinite = false);

/// Clamps every element of every gradient to [−clip_value, clip_value]; a NaN stays. Raises ValueError for a negative
/// clip_value or an expanded gradient; then no gradient has changed.
void clip_grad_value_(TensorList parameters, double clip_value);

}  // namespace unroll::nn
#pragma GCC visibility pop
