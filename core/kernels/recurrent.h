#pragma once
#include <unroll/core/alloc.h>

#include <algorithm>
#include <cstdint>
#include <span>
#include <utility>

/// The sequence kernels: one layer in one direction over all its steps, forward and backward, on raw pointers.
///
/// Rows of all steps stand one below the other, R = ΣB_t of them; dense, B_t = N. In a workspace they may stand in
/// groups of sequences instead (RecurrentSteps::kept). Sequences come longest first, so those that run at a step are
/// the first rows of the state. What is called padded has rows of pad(…) elements.
///
/// A layer's gates are kept as slabs of H units side by side, (R, slabs · pad(H)): i f g o of an LSTM; n r z m of a
/// GRU, m = W_hn h + b_hn, so that what comes from x is the first three and what comes from h the last three; those of
/// an RNN are not kept. The gradients of the sums take their places: GRU's dm = dn · r.
namespace unroll::detail {
struct Storage;
}  // namespace unroll::detail

namespace unroll::kernels {

enum class RecurrentKind : std::uint8_t { LSTM, GRU, RNN };

/// Of `all`, what comes before part i of so many equal ones.
constexpr std::int64_t cut(std::int64_t all, std::int64_t i, std::int64_t parts) {
  return parts == 1 ? all * i : all * i / parts;  // a division takes as long as a small net's row
}

struct RecurrentSteps {
  std::int64_t steps, batch;                                // T, N
  std::span<const std::int64_t> packed = {}, offsets = {};  // the B_t, and the rows before step t; empty when dense
  bool reverse = false;
  std::int64_t groups = 1;  // of sequences in a workspace; 1 if packed
  std::int64_t rows(std::int64_t t) const { return packed.empty() ? batch : packed[static_cast<std::size_t>(t)]; }
  std::int64_t first(std::int64_t t) const {
    return packed.empty() ? t * batch : offsets[static_cast<std::size_t>(t)] - offsets[0];
  }
  std::int64_t all() const { return steps == 0 ? 0 : first(steps - 1) + rows(steps - 1); }
  /// Group g has the sequences from group_begin(g) to before group_begin(g + 1).
  std::int64_t group_begin(std::int64_t g) const { return cut(batch, g, groups); }
  std::int64_t group_of(std::int64_t n) const { return groups == 1 ? 0 : ((n + 1) * groups - 1) / batch; }
  /// In a workspace row n of step t is kept(t, n) + n, a group's rows of all steps before those of the next group; in x
  /// and y it is first(t) + n. For all n of one group kept() is the same.
  [[gnu::always_inline]] std::int64_t kept(std::int64_t t, std::int64_t n) const {
    return groups == 1 ? first(t) : kept_of_group(t, group_of(n));
  }
  std::int64_t kept_of_group(std::int64_t t, std::int64_t g) const {
    const std::int64_t begin = group_begin(g), count = group_begin(g + 1) - begin;
    return steps * begin + t * count - begin;
  }
  /// The step that is the k-th to be computed.
  std::int64_t at(std::int64_t k) const { return reverse ? steps - 1 - k : k; }
  /// The rows of the steps that are the k0-th to the (k1 − 1)-th to be computed: from .first to before .second.
  std::pair<std::int64_t, std::int64_t> rows_of(std::int64_t k0, std::int64_t k1) const {
    const auto [t0, t1] = std::minmax({at(k0), at(k1 - 1)});
    return {first(t0), first(t1) + rows(t1)};
  }
  /// From chunk(i) to before chunk(i + 1) are the i-th of so many runs of steps, as they are computed, which have about
  /// as many rows; none, if one step has the rows of several.
  std::int64_t chunk(std::int64_t i, std::int64_t chunks) const {
    if (packed.empty()) return cut(steps, i, chunks);
    if (reverse) i = chunks - i;
    const auto begin = std::ranges::lower_bound(offsets, offsets[0] + cut(all(), i, chunks));
    const std::int64_t before = i < chunks ? begin - offsets.begin() : steps;
    return reverse ? steps - before : before;
  }
  /// Sequences from share(i) to before share(i + 1) are the i-th of `parts` which have about as many rows in those
  /// steps: not as many sequences, as the shorter ones are over sooner.
  std::int64_t share(std::int64_t k0, std::int64_t k1, std::int64_t i, std::int64_t parts) const {
    if (packed.empty()) return cut(batch, i, parts);  // a group, if there are as many
    if (i == parts) return batch;
    const auto [first, last] = rows_of(k0, k1);
    const std::int64_t t0 = std::min(at(k0), at(k1 - 1));
    std::int64_t before = cut(last - first, i, parts), n = 0;  // the rows that are not yet those of a sequence before n
    for (std::int64_t length = k1 - k0;; ++n, before -= length) {
      while (length > 0 && rows(t0 + length - 1) <= n) --length;
      if (2 * before <= length) return n;
    }
  }
  /// How many rows have a step before the k-th.
  std::int64_t continued(std::int64_t k) const { return k == 0 ? 0 : std::min(rows(at(k)), rows(at(k - 1))); }
  /// The steps that are the k0-th to the (k1 − 1)-th to be computed, as a sequence of their own, in one group.
  RecurrentSteps part(std::int64_t k0, std::int64_t k1) const {
    RecurrentSteps result{k1 - k0, batch, packed, offsets, reverse};
    if (packed.empty()) return result;
    const auto from = static_cast<std::size_t>(std::min(at(k0), at(k1 - 1))), count = static_cast<std::size_t>(k1 - k0);
    result.packed = packed.subspan(from, count), result.offsets = offsets.subspan(from, count);
    return result;
  }
};

struct RecurrentSizes {
  RecurrentKind kind;
  std::int64_t input, hidden, projected;  // I, H, P or 0
  bool relu = false;                      // an RNN, of max(0, sum) instead of tanh
  std::int64_t output() const { return projected > 0 ? projected : hidden; }
  std::int64_t gates() const { return kind == RecurrentKind::LSTM ? 4 : kind == RecurrentKind::GRU ? 3 : 1; }
  std::int64_t slabs() const { return kind == RecurrentKind::LSTM || kind == RecurrentKind::GRU ? 4 : 1; }
};

/// Elements of one slab: whole cache lines.
template <class T>
constexpr std::int64_t pad(std::int64_t elements) {
  constexpr std::int64_t kLine = alloc::kAlignment / sizeof(T);
  return (elements + kLine - 1) / kLine * kLine;
}
/// Elements from one padded row to the next: no multiple of 1024 bytes, since what such rows have in one column would
/// share a few sets of the first cache.
template <class T>
constexpr std::int64_t padded_row(std::int64_t elements) {
  constexpr std::int64_t kAlike = 1024 / sizeof(T);
  const std::int64_t row = pad<T>(elements);
  return row > 0 && row % kAlike == 0 ? row + pad<T>(1) : row;
}
template <class T>
std::int64_t gate_row(const RecurrentSizes& sizes) {
  return padded_row<T>(sizes.slabs() * pad<T>(sizes.hidden));
}

/// A layer's tensors, row-major; biases, h0, c0 and hr may be null: none, zeros, no projection.
template <class T>
struct RecurrentInputs {
  const T *x, *h0, *c0;                       // (R, I), (N, Ho), (N, H)
  const T *ih, *hh, *bias_ih, *bias_hh, *hr;  // (G·H, I), (G·H, Ho), (G·H), (G·H), (P, H)
  // The storage of each weight matrix, where its panels may stay; null if other tensors lie there as well.
  detail::Storage *ih_home = nullptr, *hh_home = nullptr, *hr_home = nullptr;
};

/// What forward writes. States may be null, and the workspace is when there will be no backward.
template <class T>
struct RecurrentOutputs {
  T* y;  // (R, Ho), the next row y_row elements on
  std::int64_t y_row;
  T *h_n, *c_n;  // (N, Ho), (N, H)
  // Padded (R, slabs·H), and of an LSTM c (R, H), with P o·tanh c (R, H); their rows are where steps.kept() says.
  T *gates, *cells, *unprojected;
};

/// Gradients of the outputs, null for zero.
template <class T>
struct RecurrentCotangents {
  const T* y;  // (R, Ho), the next row y_row elements on
  std::int64_t y_row;
  const T *h_n, *c_n;  // (N, Ho), (N, H)
};

/// Gradients of the inputs, null for those that nobody wants.
template <class T>
struct RecurrentGradients {
  T* x;  // (R, I); added to it if x_add
  bool x_add;
  T *h0, *c0, *ih, *hh, *bias_ih, *bias_hh, *hr;
  bool add = false;  // to the weights and biases
};

template <class T>
void recurrent_forward(const RecurrentSizes& sizes, const RecurrentSteps& steps, const RecurrentInputs<T>& in,
                       const RecurrentOutputs<T>& out);

/// The gates once more, and an LSTM's outputs before the projection, of forward's y and cells; in one group.
template <class T>
void recurrent_gates(const RecurrentSizes& sizes, const RecurrentSteps& steps, const RecurrentInputs<T>& in,
                     const RecurrentOutputs<T>& out);

/// `out` as forward left it. Gradients of the gates go to `grad_gates`, padded (R, slabs·H), rows as those of
/// out.gates, which it may be.
template <class T>
void recurrent_backward(const RecurrentSizes& sizes, const RecurrentSteps& steps, const RecurrentInputs<T>& in,
                        const RecurrentOutputs<T>& out, T* grad_gates, const RecurrentCotangents<T>& dy,
                        const RecurrentGradients<T>& dx);

}  // namespace unroll::kernels
