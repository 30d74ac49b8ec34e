// Gradients of weights and biases: products over all rows of all steps, some hundred rows at a time.
#if defined(UNROLL_RECURRENT_WEIGHTS_INL_H) == defined(HWY_TARGET_TOGGLE)
#ifdef UNROLL_RECURRENT_WEIGHTS_INL_H
#undef UNROLL_RECURRENT_WEIGHTS_INL_H
#else
#define UNROLL_RECURRENT_WEIGHTS_INL_H
#endif

#include <unroll/core/kernels/product-inl.h>
#include <unroll/core/kernels/recurrent_cells-inl.h>
#include <unroll/core/kernels/scratch.h>
#include <unroll/core/parallel.h>

HWY_BEFORE_NAMESPACE();
namespace unroll::kernels::HWY_NAMESPACE {

/// to = from, or to += from.
template <class T>
void give(const T* from, std::int64_t n, T* to, bool add) {
  for_vectors(Full<T>(), n, [=](auto d, std::int64_t i) HWY_ATTR {
    const auto v = hn::LoadU(d, from + i);
    hn::StoreU(add ? hn::Add(hn::LoadU(d, to + i), v) : v, d, to + i);
  });
}

/// Some columns of some rows of dG as the tiles of dW read them: block after block of up to kRows columns, in each k
/// after k. Where they lie, one line of the cache would be fetched for six numbers; who reads them only once or twice
/// does not pack. Nor is a single row packed: an outer product reads it as it lies.
template <class T>
class PackedColumns {
 public:
  void take(const T* grads, std::int64_t row, std::int64_t deep, std::int64_t columns, bool pack) {
    grads_ = grads, row_ = row, deep_ = deep, packed_ = pack && deep > 1 && columns > 0;
    if (packed_) copy(columns);
  }
  std::int64_t deep() const { return deep_; }
  /// The block of `count` columns from m on. Tiles count its rows from column 0: packed, it is described from m numbers
  /// before it.
  Left<T> block(std::int64_t m, std::int64_t count) const {
    return packed_ ? Left<T>{data_.data() + m * (apart() - 1), 1, count, deep_} : Left<T>{grads_, 1, row_, deep_};
  }

 private:
  // Some rows at a time, whose lines stay in the first cache until every block has had its columns of them.
  void copy(std::int64_t columns) {
    if (apart() * columns > capacity_) data_ = Scratch<T>(capacity_ = apart() * columns);
    const std::int64_t row = row_, row_bytes = columns * static_cast<std::int64_t>(sizeof(T)),
                       at_once = std::max<std::int64_t>(8, detail::caches().l1 / 2 / row_bytes);
    for (std::int64_t k0 = 0; k0 < deep_; k0 += at_once)
      for_row_blocks(0, columns, [&, rows = std::min(at_once, deep_ - k0)](std::int64_t m, std::int64_t count) {
        T* to = data_.data() + m * apart() + k0 * count;
        const T* from = grads_ + k0 * row + m;
        if (m + kWide <= columns)  // whole vectors; what is too much lies where the next row comes, or in the gap
          for (std::int64_t k = 0; k < rows; ++k, from += row, to += count) std::memcpy(to, from, kWide * sizeof(T));
        else
          for (std::int64_t k = 0; k < rows; ++k, from += row, to += count) std::copy_n(from, count, to);
      });
  }
  // Numbers a column takes: the block from m on begins at m · apart(). Behind it is a gap, so that its last vector does
  // not reach the next block.
  std::int64_t apart() const { return deep_ + kWide; }

  static constexpr std::int64_t kWide = kRows > 4 ? 8 : 4;
  const T* grads_ = nullptr;
  std::int64_t row_ = 0, deep_ = 0, capacity_ = 0;
  bool packed_ = false;
  Scratch<T> data_;
};

/// Some rows of B, the x or h that the same rows of dG met, as panels of the tiles.
template <class T>
class PackedRows {
  using D = Full<T>;

 public:
  static constexpr std::int64_t kLanes = hn::MaxLanes(D());

  explicit PackedRows(std::int64_t columns) : columns_(columns), vectors_(vectors_of<T>(columns)) {}

  void make(std::int64_t rows) {
    rows_ = rows;
    if (rows > capacity_) data_ = Scratch<T>(vectors_ * kLanes * (capacity_ = rows));
  }
  /// Rows [i0, i1) of them, of which `row(i)` is where row i lies, or null for zeros.
  template <class Row>
  void take(std::int64_t i0, std::int64_t i1, Row&& row) {
    for (std::int64_t i = i0; i < i1; ++i) {
      const T* from = row(i);
      for (std::int64_t v = 0; v < vectors_; ++v) {
        const std::int64_t p = v / kPanel, at = v * kLanes;
        hn::StoreU(from == nullptr ? hn::Zero(D()) : load_part(D(), from + at, columns_ - at), D(),
                   data_.data() + (p * kPanel * rows_ + i * width(p) + v % kPanel) * kLanes);
      }
    }
  }
  std::int64_t columns() const { return columns_; }
  std::int64_t rows() const { return rows_; }
  std::int64_t panels() const { return (vectors_ + kPanel - 1) / kPanel; }
  std::int64_t width(std::int64_t p) const { return std::min(kPanel, vectors_ - p * kPanel); }
  const T* panel(std::int64_t p) const { return data_.data() + p * kPanel * kLanes * rows_; }

 private:
  std::int64_t columns_, vectors_, rows_ = 0, capacity_ = 0;
  Scratch<T> data_;
};

/// dW = dGᵀ B, or dW += dGᵀ B, for rows [m0, m1) of each block of `height` rows of W: W (blocks · height, columns of
/// B).
template <class T>
class WeightGradient {
  using D = Full<T>;
  static constexpr std::int64_t kLanes = PackedRows<T>::kLanes;

 public:
  WeightGradient(T* w, const PackedRows<T>& b, std::int64_t height, std::int64_t m0, std::int64_t m1)
      : w_(w), b_(b), height_(height), m0_(m0), m1_(m1) {}

  /// What the rows of B bring to a block of W; `grads` are columns [m0, m1) of the same rows of its gradient.
  void sum(const PackedColumns<T>& grads, std::int64_t block, bool add) const {
    const std::int64_t columns = b_.columns();
    T* const w = w_ + (block * height_ + m0_) * columns;
    if (b_.rows() == 1) {
      const T* row = grads.block(0, 1).data;
      return columns <= 4 * kLanes ? outer_product<8>(row, w, add) : outer_product<1>(row, w, add);
    }
    for (std::int64_t p = 0; p < b_.panels(); ++p) {
      const std::int64_t wide = b_.width(p), at = p * kPanel * kLanes;
      const Into<T> c{
          .data = w + at, .row = columns, .vector = kLanes, .add = add, .last = columns - at - (wide - 1) * kLanes};
      const T* panel = b_.panel(p);
      for_row_blocks(0, m1_ - m0_, [&](std::int64_t m, std::int64_t count) {
        if (add && m + count < m1_ - m0_) prefetch(c, m + count, std::min(kRows, m1_ - m0_ - m - count), wide);
        tile_of(D(), count, wide, grads.block(m, count), m, panel, c, panel);
      });
    }
  }

 private:
  // Of one row, as of a cell that is called with one sequence: tiles would take longer to begin than to sum. kAtOnce
  // rows of W for each vector, for where they are short: to come to a vector takes longer than to add it.
  template <std::int64_t kAtOnce>
  void outer_product(const T* grads, T* w, bool add) const {
    const std::int64_t rows = m1_ - m0_, columns = b_.columns();
    const T* const b = b_.panel(0);
    for (std::int64_t m = 0; m < rows; m += kAtOnce, w += kAtOnce * columns, grads += kAtOnce)
      for_vectors(D(), columns, [=, count = std::min(kAtOnce, rows - m)](auto d, std::int64_t i) HWY_ATTR {
        const auto of_row = hn::LoadU(d, b + i);
        T* at = w + i;
        for (std::int64_t r = 0; r < count; ++r, at += columns)
          hn::StoreU(hn::MulAdd(hn::Set(d, grads[r]), of_row, add ? hn::LoadU(d, at) : hn::Zero(d)), d, at);
      });
  }

  T* const w_;
  const PackedRows<T>& b_;
  const std::int64_t height_, m0_, m1_;
};

/// Sums of the gates' gradients over all rows, in the units [u0, u1) of each slab. It reads whole vectors, from the one
/// in which u0 lies.
template <class T>
class BiasGradient {
  using D = Full<T>;
  static constexpr std::int64_t kLanes = hn::MaxLanes(D());

 public:
  BiasGradient(std::int64_t slabs, std::int64_t u0, std::int64_t u1)
      : slabs_(slabs), u0_(u0), u1_(u1), before_(u0 % kLanes), width_(pad<T>(before_ + u1 - u0)),
        sums_(slabs * width_) {
    sums_.zero();
  }
  /// `grads` are unit u0 of the first of these rows.
  void add(const T* grads, std::int64_t row, std::int64_t slab, std::int64_t deep) {
    const D d;
    grads -= before_;
    for (std::int64_t r = 0; r < deep; r += 4, grads += 4 * row)
      for (std::int64_t s = 0; s < slabs_; ++s)
        for (std::int64_t u = 0; u < before_ + u1_ - u0_; u += kLanes) {
          const T* from = grads + s * slab + u;
          auto sum = hn::LoadU(d, from);
          if (r + 4 <= deep) {  // pairs: of sums one after the other, each would wait for the one before
            sum = hn::Add(sum, hn::LoadU(d, from + row));
            sum = hn::Add(sum, hn::Add(hn::LoadU(d, from + 2 * row), hn::LoadU(d, from + 3 * row)));
          } else {
            for (std::int64_t i = 1; i < deep - r; ++i) sum = hn::Add(sum, hn::LoadU(d, from + i * row));
          }
          T* sum_at = sums_.data() + s * width_ + u;
          hn::StoreU(hn::Add(hn::LoadU(d, sum_at), sum), d, sum_at);
        }
  }
  /// One slab's sums to where the gradient of a block of the bias begins; nothing if that is null.
  void give(std::int64_t slab, T* bias, bool add) const {
    if (bias != nullptr) HWY_NAMESPACE::give(sums_.data() + slab * width_ + before_, u1_ - u0_, bias + u0_, add);
  }

 private:
  std::int64_t slabs_, u0_, u1_, before_, width_;
  Scratch<T> sums_;
};

/// So many rows the gradients of weights take at once, if there are no more.
constexpr std::int64_t kFewestRows = 256;

/// How many rows they take at a time. Sums come and go with each time; but the columns of a slab and the panel that
/// they meet, which are read again and again, stay in the second cache. Sums that are many times as large come from
/// afar: then fewer times are worth more. All columns, whatever a thread's share of them: the number of threads must
/// not show.
template <class T>
std::int64_t rows_at_a_time(const RecurrentSizes& s) {
  constexpr std::int64_t kLanes = hn::MaxLanes(Full<T>()), kBytes = sizeof(T);
  const std::int64_t cache = detail::caches().l2, sums = s.gates() * s.hidden * (s.input + s.output()) * kBytes;
  return sums > 4 * cache ? 1024
                          : std::clamp<std::int64_t>(cache / ((s.hidden + kPanel * kLanes) * kBytes), kFewestRows, 512);
}

/// The gradients of all weights and biases of a layer in one direction, of which each chunk of steps brings a part.
template <RecurrentKind kind, class T>
class LayerGradients {
  using L = Layout<kind>;
  using D = Full<T>;
  static constexpr std::int64_t kLanes = hn::MaxLanes(D());

 public:
  /// From the gradients of gates and of projected outputs (null where there are none) to where `to` says.
  LayerGradients(const RecurrentSizes& sizes, const RecurrentSteps& steps, const RecurrentInputs<T>& in,
                 const RecurrentOutputs<T>& out, const T* gates, const T* outputs, const RecurrentGradients<T>& to,
                 std::int64_t parts)
      : s_(sizes), steps_(steps), in_(in), out_(out), gates_(gates), outputs_(outputs), to_(to), parts_(parts) {}

  /// What rows [first, last) bring, in the order of steps. B is packed once, each thread some rows; of the sums each
  /// has some of the units of each gate, and of the projection some outputs.
  void sum(std::int64_t first, std::int64_t last, bool add) {
    if (!to_.ih && !to_.hh && !to_.hr && !to_.bias_ih && !to_.bias_hh) return;
    const std::int64_t rows = last - first;
    std::int64_t blocks = 1;
    if (rows > kFewestRows) {  // a division takes as long as a small net's row
      const std::int64_t deep = rows_at_a_time<T>(s_);
      blocks = (rows + deep - 1) / deep;
    }
    for (std::int64_t i = 0; i < blocks; ++i) {
      const std::int64_t r0 = first + cut(rows, i, blocks), r1 = first + cut(rows, i + 1, blocks);
      if (to_.ih != nullptr) x_.make(r1 - r0);
      if (to_.hh != nullptr) h_.make(r1 - r0);
      if (to_.hr != nullptr) unprojected_.make(r1 - r0);
      parallel(parts_, [&](std::int64_t part) { pack(part, r0, r1); });
      parallel(parts_, [&](std::int64_t part) { sum_part(part, r0, r1, add || i > 0); });
    }
  }

 private:
  // Some columns of each slab of some rows; the first of the first slab is at `data`.
  struct Columns {
    const T* data;
    std::int64_t row, slab;
  };

  void pack(std::int64_t part, std::int64_t r0, std::int64_t r1) {
    auto take = [=, i0 = cut(r1 - r0, part, parts_), i1 = cut(r1 - r0, part + 1, parts_)](PackedRows<T>& to, auto row) {
      to.take(i0, i1, [&](std::int64_t i) { return row(r0 + i); });
    };
    if (to_.ih != nullptr) take(x_, StridedRows<T>{in_.x, s_.input});
    if (to_.hh != nullptr) take(h_, states_before());
    if (to_.hr != nullptr) take(unprojected_, kept_rows(out_.unprojected, slab_));
  }

  void sum_part(std::int64_t part, std::int64_t r0, std::int64_t r1, bool add) const {
    PackedColumns<T> columns;
    const bool pack = vectors_of<T>(s_.input) + vectors_of<T>(s_.output()) > 3 * kPanel;
    Scratch<T> copy;
    const std::int64_t u0 = cut(s_.hidden, part, parts_), u1 = cut(s_.hidden, part + 1, parts_);
    if (u0 < u1 && (to_.ih || to_.hh || to_.bias_ih || to_.bias_hh)) {
      const Columns gates = in_order({gates_, gate_row_, slab_}, s_.slabs(), u0, u1, r0, r1, copy);
      const WeightGradient<T> ih(to_.ih, x_, s_.hidden, u0, u1), hh(to_.hh, h_, s_.hidden, u0, u1);
      for (std::int64_t slab = 0; slab < s_.slabs(); ++slab) {
        const std::int64_t of_x = slab - L::x_slab, of_h = slab - L::h_slab;
        columns.take(gates.data + slab * gates.slab, gates.row, r1 - r0, u1 - u0, pack);
        if (to_.ih && of_x >= 0 && of_x < L::gates) ih.sum(columns, L::x_order[of_x], add);
        if (to_.hh && of_h >= 0 && of_h < L::gates) hh.sum(columns, L::h_order[of_h], add);
      }
      if (to_.bias_ih || to_.bias_hh) biases(gates, u0, u1, r1 - r0, add);
    }
    const std::int64_t o0 = cut(s_.output(), part, parts_), o1 = cut(s_.output(), part + 1, parts_);
    if (o0 < o1 && to_.hr) {
      Scratch<T> copy_of_outputs;
      const Columns outputs = in_order({outputs_, h_row_, 0}, 1, o0, o1, r0, r1, copy_of_outputs);
      columns.take(outputs.data, outputs.row, r1 - r0, o1 - o0, pack);
      WeightGradient<T>(to_.hr, unprojected_, s_.projected, o0, o1).sum(columns, 0, add);
    }
  }
  void biases(const Columns& gates, std::int64_t u0, std::int64_t u1, std::int64_t rows, bool add) const {
    BiasGradient<T> bias(s_.slabs(), u0, u1);
    bias.add(gates.data, gates.row, gates.slab, rows);
    for (std::int64_t g = 0; g < L::gates; ++g) {
      bias.give(L::x_slab + g, to_.bias_ih != nullptr ? to_.bias_ih + L::x_order[g] * s_.hidden : nullptr, add);
      bias.give(L::h_slab + g, to_.bias_hh != nullptr ? to_.bias_hh + L::h_order[g] * s_.hidden : nullptr, add);
    }
  }

  // Row r of the states that the steps began from; null for zeros.
  auto states_before() const {
    return [this, first = std::int64_t{0}, last = std::int64_t{0}, continued = std::int64_t{0},
            before = std::int64_t{0}](std::int64_t r) mutable -> const T* {
      if (r < first || r >= last) {
        std::int64_t t = 0;
        if (steps_.packed.empty())
          t = r / steps_.batch;
        else
          t = std::ranges::upper_bound(steps_.offsets, r + steps_.offsets[0]) - steps_.offsets.begin() - 1;
        const std::int64_t k = steps_.at(t);  // at() is its own inverse
        first = steps_.first(t), last = first + steps_.rows(t);
        continued = steps_.continued(k), before = k > 0 ? steps_.first(steps_.at(k - 1)) : 0;
      }
      const std::int64_t n = r - first;
      if (n < continued) return out_.y + (before + n) * out_.y_row;
      return in_.h0 != nullptr ? in_.h0 + n * s_.output() : nullptr;
    };
  }

  // Row r, in the order of steps, of what is kept: gradients are summed in that order, whatever the groups.
  auto kept_rows(const T* data, std::int64_t row) const {
    return [this, data, row, first = std::int64_t{0}, last = steps_.groups == 1 ? steps_.all() : 0,
            shift = std::int64_t{0}](std::int64_t r) mutable {
      if (r < first || r >= last) {
        const std::int64_t t = r / steps_.batch, n = r - t * steps_.batch, g = steps_.group_of(n);
        first = steps_.first(t) + steps_.group_begin(g), last = steps_.first(t) + steps_.group_begin(g + 1);
        shift = steps_.kept(t, n) - steps_.first(t);
      }
      return data + (r + shift) * row;
    };
  }

  // Columns [c0, c1) of each slab of some rows in the order of steps: where they lie, or else a copy of the vectors
  // that they lie in.
  Columns in_order(Columns from, std::int64_t slabs, std::int64_t c0, std::int64_t c1, std::int64_t r0, std::int64_t r1,
                   Scratch<T>& copy) const {
    if (steps_.groups == 1) return {from.data + r0 * from.row + c0, from.row, from.slab};
    const std::int64_t before = c0 % kLanes, slab = pad<T>(before + c1 - c0), row = padded_row<T>(slabs * slab);
    if (copy.data() == nullptr) copy = Scratch<T>(rows_at_a_time<T>(s_) * row);
    auto rows = kept_rows(from.data + c0 - before, from.row);
    for (std::int64_t r = r0; r < r1; ++r) {
      const T* at = rows(r);
      T* to = copy.data() + (r - r0) * row;
      for (std::int64_t s = 0; s < slabs; ++s, at += from.slab, to += slab)
        for (std::int64_t c = 0; c < before + c1 - c0; c += kLanes) hn::StoreU(hn::LoadU(D(), at + c), D(), to + c);
    }
    return {copy.data() + before, row, slab};
  }

  const RecurrentSizes& s_;
  const RecurrentSteps& steps_;
  const RecurrentInputs<T>& in_;
  const RecurrentOutputs<T>& out_;
  const T *const gates_, *const outputs_;
  const RecurrentGradients<T>& to_;
  const std::int64_t parts_;
  const std::int64_t slab_ = pad<T>(s_.hidden), gate_row_ = unroll::kernels::gate_row<T>(s_);
  const std::int64_t h_row_ = padded_row<T>(s_.output());
  PackedRows<T> x_{s_.input}, h_{s_.output()}, unprojected_{s_.hidden};
};

}  // namespace unroll::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();
#endif
