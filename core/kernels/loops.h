#pragma once
#include <unroll/core/parallel.h>
#include <unroll/core/tensor.h>

#include <algorithm>
#include <array>

/// The ways to walk over elements, and over tensors of any geometry.
namespace unroll::kernels {

/// Calls f(first, count) for parts of n elements, maybe at the same time; with fewer than a thread is worth waking for,
/// once for all of them.
template <class F>
void in_parts(std::int64_t n, const F& f) {
  constexpr std::int64_t kLeast = 1 << 16;  // elements of a part: some 20 microseconds
  if (n < 2 * kLeast) [[likely]]
    return f(std::int64_t{0}, n);
  const std::int64_t parts = std::min<std::int64_t>(get_num_threads(), n / kLeast);
  parallel(parts, [&](std::int64_t i) { f(n * i / parts, n * (i + 1) / parts - n * i / parts); });
}

/// Walks K operands of the same `shape` (broadcast ones have stride 0) in row-major order, in rows along which all of
/// them advance evenly: row(offsets, n, steps) is to visit offset[k] + i · step[k] for i < n, counted in elements from
/// each operand's first. Neighbouring dimensions are merged where all operands allow it, so contiguous operands are one
/// row.
template <std::size_t K, class Row>
void for_rows(const Shape& shape, const std::array<const Strides*, K>& strides, Row row) {
  // Merged dimensions, innermost first. Each has two elements at least and all together fewer than 2^63. Not Shapes:
  // a walk must not fail for want of memory, for it is what others do when all that can fail is done.
  constexpr std::size_t kMost = 62;
  std::size_t rank = 0;
  std::array<std::int64_t, kMost> sizes, index;
  std::array<std::array<std::int64_t, kMost>, K> steps;
  for (std::size_t d = shape.size(); d-- > 0;) {
    if (shape[d] == 0) return;
    if (shape[d] == 1) continue;
    bool merges = rank > 0;
    for (std::size_t k = 0; k < K && merges; ++k) merges = (*strides[k])[d] == steps[k][rank - 1] * sizes[rank - 1];
    if (!merges) {
      for (std::size_t k = 0; k < K; ++k) steps[k][rank] = (*strides[k])[d];
      index[rank] = 0;
      sizes[rank++] = shape[d];
    } else {
      sizes[rank - 1] *= shape[d];
    }
  }
  std::array<std::int64_t, K> offset{}, step{};
  for (std::size_t k = 0; k < K; ++k) step[k] = rank > 0 ? steps[k][0] : 0;
  for (std::int64_t n = rank > 0 ? sizes[0] : 1;;) {
    row(offset, n, step);
    std::size_t d = 1;  // an odometer over the outer dimensions
    for (; d < rank; ++d) {
      if (++index[d] < sizes[d]) {
        for (std::size_t k = 0; k < K; ++k) offset[k] += steps[k][d];
        break;
      }
      index[d] = 0;
      for (std::size_t k = 0; k < K; ++k) offset[k] -= steps[k][d] * (sizes[d] - 1);
    }
    if (d >= rank) return;
  }
}

}  // namespace unroll::kernels
