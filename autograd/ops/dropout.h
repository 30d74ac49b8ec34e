#pragma once
#include <unroll/core/random.h>

#pragma GCC visibility push(default)
namespace unroll {

/// Sets each element to 0 with probability p and multiplies the others by 1 / (1 − p), so that the mean stays.
///
/// The mask is drawn by bernoulli_(1 − p) in the order in which x lies in memory; it is PyTorch's for the same state of
/// the generator. Nothing is drawn for p = 0 or out of training, when the result is x itself, nor for p = 1. Raises
/// ValueError unless p is in [0, 1].
Tensor dropout(const Tensor& x, double p = 0.5, bool training = true, Generator& generator = default_generator());

}  // namespace unroll
#pragma GCC visibility pop
