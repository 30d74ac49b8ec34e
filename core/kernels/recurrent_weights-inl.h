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
                       at_once = std::max<std::int64_t>(8, caches().l1 / 2 / row_bytes);
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

/// dW = dGᵀ B, or dW += dGᵀ B, for rows [m0, m1) of each block of `height` rows of W: W (blocks · height, columns),
/// B (R, columns). Without W it does nothing.
template <class T>
class WeightGradient {
  using D = Full<T>;
  static constexpr auto kLanes = static_cast<std::int64_t>(hn::MaxLanes(D()));

 public:
  WeightGradient() = default;
  WeightGradient(T* w, std::int64_t columns, std::int64_t height, std::int64_t m0, std::int64_t m1)
      : w_(w), columns_(columns), height_(height), m0_(m0), m1_(m1), vectors_((columns + kLanes - 1) / kLanes) {}

  /// Takes rows [r0, r1) of B.
  template <class Rows>
  void pack(Rows&& row, std::int64_t r0, std::int64_t r1) {
    if (w_ == nullptr) return;
    const std::int64_t deep = r1 - r0;
    if (deep > capacity_) panels_ = Scratch<T>(vectors_ * kLanes * (capacity_ = deep));
    for (std::int64_t r = r0; r < r1; ++r) {
      const T* from = row(r);
      for (std::int64_t v = 0; v < vectors_; ++v) {
        const std::int64_t p = v / kPanel, wide = width(p), at = v * kLanes;
        hn::StoreU(from == nullptr ? hn::Zero(D()) : load_part(D(), from + at, columns_ - at), D(),
                   panels_.data() + p * kPanel * kLanes * deep + ((r - r0) * wide + v % kPanel) * kLanes);
      }
    }
  }

  /// What these rows bring to a block; `grads` are the block's columns [m0, m1) of theirs.
  void sum(const PackedColumns<T>& grads, std::int64_t block, bool add) const {
    if (w_ == nullptr) return;
    const std::int64_t deep = grads.deep();
    if (deep == 1) {
      const T* row = grads.block(0, 1).data;
      return vectors_ <= 4 ? outer_product<8>(row, block, add) : outer_product<1>(row, block, add);
    }
    for (std::int64_t p = 0; p * kPanel < vectors_; ++p) {
      const std::int64_t wide = width(p), at = p * kPanel * kLanes;
      const Into<T> c{.data = w_ + (block * height_ + m0_) * columns_ + at,
                      .row = columns_,
                      .vector = kLanes,
                      .add = add,
                      .last = columns_ - at - (wide - 1) * kLanes};
      const T* panel = panels_.data() + at * deep;
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
  void outer_product(const T* grads, std::int64_t block, bool add) const {
    const std::int64_t rows = m1_ - m0_, columns = columns_;
    T* to = w_ + (block * height_ + m0_) * columns;
    for (std::int64_t m = 0; m < rows; m += kAtOnce, to += kAtOnce * columns, grads += kAtOnce)
      for_vectors(D(), columns, [=, this, count = std::min(kAtOnce, rows - m)](auto d, std::int64_t i) HWY_ATTR {
        const auto of_row = hn::LoadU(d, panels_.data() + i);
        T* at = to + i;
        for (std::int64_t r = 0; r < count; ++r, at += columns)
          hn::StoreU(hn::MulAdd(hn::Set(d, grads[r]), of_row, add ? hn::LoadU(d, at) : hn::Zero(d)), d, at);
      });
  }

  std::int64_t width(std::int64_t p) const { return std::min(kPanel, vectors_ - p * kPanel); }

  T* w_ = nullptr;
  std::int64_t columns_ = 0, height_ = 0, m0_ = 0, m1_ = 0, vectors_ = 0, capacity_ = 0;
  Scratch<T> panels_;
};

/// Sums of the gates' gradients over all rows, in the units [u0, u1) of each slab.
template <class T>
class BiasGradient {
  using D = Full<T>;

 public:
  BiasGradient(std::int64_t slabs, std::int64_t u0, std::int64_t u1)
      : slabs_(slabs), u0_(u0), u1_(u1), width_(pad<T>(u1 - u0)), sums_(slabs * width_) {
    sums_.zero();
  }
  /// `grads` are unit u0 of the first of these rows.
  void add(const T* grads, std::int64_t row, std::int64_t slab, std::int64_t deep) {
    const D d;
    const auto lanes = static_cast<std::int64_t>(hn::Lanes(d));
    for (std::int64_t r = 0; r < deep; r += 4, grads += 4 * row)
      for (std::int64_t s = 0; s < slabs_; ++s)
        for (std::int64_t u = 0; u < u1_ - u0_; u += lanes) {
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
    if (bias != nullptr && slabs_ > 0) HWY_NAMESPACE::give(sums_.data() + slab * width_, u1_ - u0_, bias + u0_, add);
  }

 private:
  std::int64_t slabs_, u0_, u1_, width_;
  Scratch<T> sums_;
};

}  // namespace unroll::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();
#endif
