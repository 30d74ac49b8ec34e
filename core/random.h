#pragma once
#include <unroll/core/generator.h>
#include <unroll/core/tensor.h>

#pragma GCC visibility push(default)
/// Random numbers: on every machine those that PyTorch draws on a CPU with AVX2 from the same seed, bit for bit.
/// (Fewer than 16 float64 normals, or strided ones, are PyTorch 1.13's: later ones differ in the last bit of one in
/// twenty.)
namespace unroll {

namespace detail {
/// Elements of undefined value, `like`'s shape and dtype, in memory in `like`'s order without gaps: what
/// torch.empty_like returns.
Tensor laid_out_like(const Tensor& like);
}  // namespace detail

// -- New tensors

/// Uniform in [0, 1), in multiples of 2⁻²⁴ (float32) or 2⁻⁵³ (float64). Raises DTypeError for another dtype.
Tensor rand(const Shape& shape, DType dtype = DType::Float32, Generator& generator = default_generator());
/// Standard normal. Raises DTypeError unless the dtype is floating.
Tensor randn(const Shape& shape, DType dtype = DType::Float32, Generator& generator = default_generator());
/// Int64, uniform in [low, high). Raises ValueError unless low < high. Takes 64 random bits a number where high − low
/// is 2²⁸ or more, as PyTorch 2.15 does (1.13: 2³²), else 32.
Tensor randint(std::int64_t low, std::int64_t high, const Shape& shape, Generator& generator = default_generator());
/// 0, …, n − 1 in random order. Raises ValueError for n < 0.
Tensor randperm(std::int64_t n, Generator& generator = default_generator());
/// rand and randn of `like`'s shape and dtype. They lie in memory in the order in which `like` does, and are drawn in
/// that order.
Tensor rand_like(const Tensor& like, Generator& generator = default_generator());
Tensor randn_like(const Tensor& like, Generator& generator = default_generator());
/// 1 with the probability that stands in its place, else 0; of the same dtype. Raises ValueError for one outside [0,
/// 1].
Tensor bernoulli(const Tensor& probabilities, Generator& generator = default_generator());
/// Int64 (num_samples) or (N, num_samples): indices of categories, each row's drawn by the weights in the row of
/// `probabilities`, (C) or (N, C), whose sum need not be 1. Without replacement an index comes once, the likely ones
/// early; one of weight 0 only where no others are left.
///
///     Tensor next = multinomial(softmax(logits, -1), 1);  // (N, 1): the next symbol of each sequence
///
/// Raises ShapeError for another rank, DTypeError unless floating, ValueError unless num_samples > 0, and without
/// replacement ≤ C, and in each row all weights are finite and ≥ 0, with a sum that is finite and > 0.
Tensor multinomial(const Tensor& probabilities, std::int64_t num_samples, bool replacement = false,
                   Generator& generator = default_generator());

// -- In place
// Elements are drawn in the order in which they lie in memory, whatever the strides. All return x. They raise
// DTypeError unless x is floating (bernoulli_ takes any dtype), ValueError for expanded tensors, and GradError where x
// may not be overwritten.

/// Uniform in [from, to): u (to − from) + from. Raises ValueError unless from ≤ to, and to − from is finite in x's
/// dtype.
const Tensor& uniform_(const Tensor& x, double from = 0, double to = 1, Generator& generator = default_generator());
/// Normal: z std + mean. Raises ValueError unless std ≥ 0.
const Tensor& normal_(const Tensor& x, double mean = 0, double std = 1, Generator& generator = default_generator());
/// 1 with probability p, else 0. Raises ValueError unless p is in [0, 1].
const Tensor& bernoulli_(const Tensor& x, double p = 0.5, Generator& generator = default_generator());

}  // namespace unroll
#pragma GCC visibility pop
