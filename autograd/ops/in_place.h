#pragma once
#include <unroll/core/tensor.h>

/// What every in-place op asks before it writes.
namespace unroll::detail {

/// Raises GradError when a view shares x's memory: writing x with a recorded op would leave the view with a history that is no longer
/// true. (before_write, which core declares, raises ValueError for memory that several elements share, and GradError for a leaf that
/// requires a gradient while ops are recorded.)
void check_unshared(const Tensor& x, const char* op);

}  // namespace unroll::detail
