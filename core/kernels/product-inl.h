// Matrix products C = A·B, B packed into panels, on the vectors of one target.
#if defined(UNROLL_PRODUCT_INL_H) == defined(HWY_TARGET_TOGGLE)
#ifdef UNROLL_PRODUCT_INL_H
#undef UNROLL_PRODUCT_INL_H
#else
#define UNROLL_PRODUCT_INL_H
#endif

#include <unroll/core/kernels/simd-inl.h>
#include <unroll/core/parallel.h>

#include <algorithm>
#include <array>
#include <limits>
#include <utility>

HWY_BEFORE_NAMESPACE();
namespace unroll::kernels::HWY_NAMESPACE {

// A panel is at most four vectors wide, and a tile of C has as many rows as the registers then hold: 24 accumulators
// of 32 registers, 12 of 16, beside a column of A and a vector of B.
constexpr std::int64_t kPanel = 4;
constexpr std::int64_t kRows = HWY_TARGET == HWY_SCALAR ? 1 : HWY_TARGET <= HWY_AVX3 || HWY_ARCH_ARM ? 6 : 3;

// Of many rows, as many are taken at a time where something else follows on the product: enough for whole tiles, and so
// few that they are still near.
constexpr std::int64_t kRowsAtOnce = 16 * kRows;

/// In how many vectors so many numbers lie.
template <class T>
constexpr std::int64_t vectors_of(std::int64_t numbers) {
  constexpr std::int64_t kLanes = hn::MaxLanes(Full<T>());
  return (numbers + kLanes - 1) / kLanes;
}

/// A, read where it lies: element (m, k) at data[m · row + k · step]. With more than one segment, k runs through
/// `length` elements of each: segment s begins at data[s · next], and K = segments · length.
template <class T>
struct Left {
  const T* data;
  std::int64_t row, step, length;
  std::int64_t segments = 1, next = 0;
};

/// C, where a product goes: row m begins at data[m · row], its vector j at data[m · row + j · vector]; of the last
/// vector there are `last` elements, the others are neither read nor written. The sums begin as C is, as zeros, or as a
/// vector that all rows share (as wide as the panel).
template <class T>
struct Into {
  T* data;
  std::int64_t row, vector;
  bool add = false;
  const T* bias = nullptr;
  std::int64_t last = std::numeric_limits<std::int64_t>::max();
};

/// Fetches a tile of C, from row `first` on. It is needed a whole tile's products later, and lies in rows too short for
/// the processor to have guessed it.
template <class T>
HWY_INLINE void prefetch(const Into<T>& c, std::int64_t first, std::int64_t rows, std::int64_t vectors) {
  for (std::int64_t m = first; m < first + rows; ++m)
    for (std::int64_t j = 0; j < vectors; ++j) hwy::Prefetch(c.data + m * c.row + j * c.vector);
}

/// Of how many sums an element of a panel of that width is one: of a narrow one, as many as there are registers for.
/// They do not wait for each other, as the terms of one sum do: with one row, that is all that takes time.
constexpr std::size_t sums_of(std::size_t vectors) { return vectors == 1 ? 4 : vectors == 2 ? 2 : 1; }

/// Whether tiles on a panel of that width have time to fetch what is not their own; narrow ones have more to load than
/// to multiply.
constexpr bool fetches_ahead(std::int64_t vectors) { return vectors > 2; }

/// Rows [first, first + M) of C = begin + A (…, K) · panel (K, J vectors).
///
/// Every element is sums_of(J) sums, in the order of k, whatever M is: a row of a batch has the bits of that row alone.
/// Of several rows and a panel that fetches_ahead, a vector of `ahead` for each k goes to the second cache. It is
/// never looked at and may lie anywhere; who knows of nothing gives the panel itself. It takes A and C as the caller
/// has described them, and all on the way here pass that on, but for pieces: a copy, written by numbers and read by
/// vectors, would wait until all that was computed before has reached the cache.
template <std::size_t M, std::size_t J, class D, class T = hn::TFromD<D>>
HWY_INLINE void tile(D d, const Left<T>& a, std::int64_t first_row, const T* HWY_RESTRICT panel, const Into<T>& c,
                     const T* ahead) {
  using V = hn::Vec<D>;
  constexpr std::size_t S = sums_of(J);
  const auto lanes = static_cast<std::int64_t>(hn::Lanes(d));
  T* const rows = c.data + first_row * c.row;
  auto at = [&c, rows](std::size_t m, std::size_t j) {
    return rows + static_cast<std::int64_t>(m) * c.row + static_cast<std::int64_t>(j) * c.vector;
  };
  V sum[M][J][S];
#pragma GCC unroll 8
  for (std::size_t j = 0; j < J; ++j) {
    const V first = c.bias != nullptr ? hn::LoadU(d, c.bias + static_cast<std::int64_t>(j) * lanes) : hn::Zero(d);
#pragma GCC unroll 8
    for (std::size_t m = 0; m < M; ++m) {
      sum[m][j][0] = !c.add ? first : j + 1 < J ? hn::LoadU(d, at(m, j)) : load_part(d, at(m, j), c.last);
#pragma GCC unroll 4
      for (std::size_t s = 1; s < S; ++s) sum[m][j][s] = hn::Zero(d);
    }
  }
  constexpr bool fetches = M > 1;  // one row alone has no time to spare
  if (fetches && !c.add) prefetch(c, first_row, M, J);
  const T* from[M];
  auto add = [&](std::size_t s, std::int64_t step, const T* b_at) HWY_ATTR {
    if (fetches && fetches_ahead(J)) __builtin_prefetch(ahead, 0, 2), ahead += lanes;
    V x[M];
#pragma GCC unroll 8
    for (std::size_t m = 0; m < M; ++m) x[m] = hn::Set(d, from[m][step]);
#pragma GCC unroll 8
    for (std::size_t j = 0; j < J; ++j) {
      const V b = hn::LoadU(d, b_at + static_cast<std::int64_t>(j) * lanes);
#pragma GCC unroll 8
      for (std::size_t m = 0; m < M; ++m) sum[m][j][s] = hn::MulAdd(x[m], b, sum[m][j][s]);
    }
  };
  const std::int64_t wide = static_cast<std::int64_t>(J) * lanes;
  // A large tile takes four k a turn: where another thread shares the core, half as many instructions are begun a
  // cycle, and each of the loop's own delays a multiply-add.
  constexpr std::int64_t kAtOnce = M > 3 && J == 4 ? 4 : static_cast<std::int64_t>(S);
  for (std::int64_t segment = 0; segment < a.segments; ++segment) {
#pragma GCC unroll 8
    for (std::size_t m = 0; m < M; ++m)
      from[m] = a.data + segment * a.next + (first_row + static_cast<std::int64_t>(m)) * a.row;
    std::int64_t k = 0, step = 0;
    for (; k + kAtOnce <= a.length; k += kAtOnce) {
#pragma GCC unroll 4
      for (std::size_t s = 0; s < kAtOnce; ++s, step += a.step, panel += wide) add(s % S, step, panel);
    }
    if constexpr (kAtOnce > 1) {
#pragma GCC unroll 1
      for (; k < a.length; ++k, step += a.step, panel += wide) add(0, step, panel);
    }
  }
#pragma GCC unroll 8
  for (std::size_t m = 0; m < M; ++m) {
#pragma GCC unroll 8
    for (std::size_t j = 0; j < J; ++j) {
      V& total = sum[m][j][0];
      if constexpr (S == 2) total = hn::Add(total, sum[m][j][1]);
      if constexpr (S == 4) total = hn::Add(hn::Add(total, sum[m][j][1]), hn::Add(sum[m][j][2], sum[m][j][3]));
    }
#pragma GCC unroll 8
    for (std::size_t j = 0; j + 1 < J; ++j) hn::StoreU(sum[m][j][0], d, at(m, j));
    store_part(sum[m][J - 1][0], d, at(m, J - 1), c.last);
  }
}

template <std::size_t M, class D, class T = hn::TFromD<D>>
HWY_INLINE void tile_of(D d, std::int64_t vectors, const Left<T>& a, std::int64_t first, const T* panel,
                        const Into<T>& c, const T* ahead) {
  switch (vectors) {
    case 1:
      return tile<M, 1>(d, a, first, panel, c, ahead);
    case 2:
      return tile<M, 2>(d, a, first, panel, c, ahead);
    case 3:
      return tile<M, 3>(d, a, first, panel, c, ahead);
    default:
      return tile<M, 4>(d, a, first, panel, c, ahead);
  }
}

/// The same of up to kRows rows and kPanel vectors.
template <class D, class T = hn::TFromD<D>>
HWY_NOINLINE void tile_of(D d, std::int64_t rows, std::int64_t vectors, const Left<T>& a, std::int64_t first,
                          const T* panel, const Into<T>& c, const T* ahead) {
  if constexpr (kRows >= 6) {
    if (rows == 6) return tile_of<6>(d, vectors, a, first, panel, c, ahead);
    if (rows == 5) return tile_of<5>(d, vectors, a, first, panel, c, ahead);
    if (rows == 4) return tile_of<4>(d, vectors, a, first, panel, c, ahead);
  }
  if constexpr (kRows >= 3) {
    if (rows == 3) return tile_of<3>(d, vectors, a, first, panel, c, ahead);
    if (rows == 2) return tile_of<2>(d, vectors, a, first, panel, c, ahead);
  }
  tile_of<1>(d, vectors, a, first, panel, c, ahead);
}

/// Calls f(first, count) for blocks of at most kMost of the rows [begin, end), as even as can be: 16 are 6 + 5 + 5.
template <std::int64_t kMost = kRows, class F>
HWY_INLINE void for_row_blocks(std::int64_t begin, std::int64_t end, F f) {
  const std::int64_t rows = end - begin, blocks = (rows + kMost - 1) / kMost;
  for (std::int64_t i = 0, first = begin; i < blocks; ++i) {
    const std::int64_t count = (end - first + (blocks - i) - 1) / (blocks - i);
    f(first, count);
    first += count;
  }
}

/// Calls f(i) for each i of [begin, end), at odd steps from the last one to the first: of panels that do not fit into
/// the second cache together, those that were read last are still there.
template <class F>
HWY_INLINE void there_and_back(std::int64_t step, std::int64_t begin, std::int64_t end, F f) {
  for (std::int64_t i = begin; i < end; ++i) f(step % 2 == 0 ? i : begin + (end - 1 - i));
}

/// How many k of a panel to use on all rows before the next ones. A piece a third larger than the first cache comes
/// from the second again and again; one that fits was no faster, since each tile of C is then touched twice as often.
template <class T>
HWY_INLINE std::int64_t depth(std::int64_t vectors, std::int64_t lanes) {
  return std::max<std::int64_t>(32,
                                detail::caches().l1 * 4 / 3 / (vectors * lanes * static_cast<std::int64_t>(sizeof(T))));
}

/// Whether A's columns are taken in pieces.
template <class T>
HWY_INLINE bool is_split(std::int64_t k_all, std::int64_t vectors, std::int64_t lanes) {
  const std::int64_t deep = depth<T>(vectors, lanes);
  return k_all > deep + deep / 2;
}

/// What is read soon, but not by this product, in some runs of elements. Tiles fetch it instead of the next panel.
template <class T>
class Soon {
 public:
  void add(const T* from, std::int64_t elements) {
    if (from == nullptr || elements <= 0) return;
    runs_[count_++] = {from, elements};
    left_ += elements;
  }
  std::int64_t left() const { return left_; }
  /// The next `elements` of a run, at whose end they may reach beyond it. There must be some left.
  const T* take(std::int64_t elements) {
    Run& run = runs_[next_];
    elements = std::min(elements, run.elements);
    left_ -= elements;
    if ((run.elements -= elements) == 0) ++next_;
    return std::exchange(run.from, run.from + elements);
  }

 private:
  struct Run {
    const T* from;
    std::int64_t elements;
  };
  std::array<Run, 5> runs_;
  std::size_t count_ = 0, next_ = 0;
  std::int64_t left_ = 0;
};

/// panel_product of more rows than a tile has, or of pieces of A's columns.
template <class D, class T = hn::TFromD<D>>
HWY_NOINLINE void tiled_product(D d, const Left<T>& a, std::int64_t m0, std::int64_t m1, const T* panel,
                                std::int64_t vectors, const Into<T>& c, Soon<T>* soon) {
  const auto lanes = static_cast<std::int64_t>(hn::Lanes(d));
  const std::int64_t k_all = a.segments * a.length;
  auto piece = [&](const Left<T>& part, std::int64_t k, const Into<T>& to) {
    const std::int64_t deep_here = part.segments * part.length;
    // If nothing else is read soon, what comes next lies behind: the next piece, or the next panel. Each tile fetches a
    // vector's width of it.
    const T* here = panel + k * vectors * lanes;
    std::int64_t fetched = 0;
    for_row_blocks(m0, m1, [&](std::int64_t m, std::int64_t count) {
      const T* ahead = soon != nullptr && soon->left() > 0 ? soon->take(deep_here * lanes)
                       : fetched < vectors                 ? here + (vectors + fetched++) * deep_here * lanes
                                                           : here;
      tile_of(d, count, vectors, part, m, here, to, ahead);
    });
  };
  if (!is_split<T>(k_all, vectors, lanes)) return piece(a, 0, c);
  Into<T> more = c;
  more.add = true;
  const std::int64_t deep = depth<T>(vectors, lanes), pieces = (a.length + deep - 1) / deep;
  for (std::int64_t s = 0; s < a.segments; ++s)
    for (std::int64_t i = 0; i < pieces; ++i) {
      const std::int64_t first = a.length * i / pieces, last = a.length * (i + 1) / pieces;
      piece(Left<T>{a.data + s * a.next + first * a.step, a.row, a.step, last - first}, s * a.length + first,
            s + i == 0 ? c : more);
    }
}

/// Rows [m0, m1) of C (…, vectors) = begin + A·panel, the panel as deep as A and `vectors` wide.
///
/// Few rows are one tile, and of a small net all that a step computes: on the way there, nothing else is done.
template <class D, class T = hn::TFromD<D>>
HWY_INLINE void panel_product(D d, const Left<T>& a, std::int64_t m0, std::int64_t m1, const T* panel,
                              std::int64_t vectors, const Into<T>& c, Soon<T>* soon = nullptr) {
  if (m0 >= m1) return;
  const auto lanes = static_cast<std::int64_t>(hn::Lanes(d));
  const std::int64_t k_all = a.segments * a.length;
  // Where an element is several sums, pieces of K would show, so there are as many for one row as for many.
  const bool pieces_show = sums_of(static_cast<std::size_t>(vectors)) > 1;
  if (m1 - m0 > kRows || (pieces_show && is_split<T>(k_all, vectors, lanes)))
    return tiled_product(d, a, m0, m1, panel, vectors, c, soon);
  tile_of(d, m1 - m0, vectors, a, m0, panel, c, panel + k_all * vectors * lanes);
}

/// Where row k of a matrix begins.
template <class T>
struct StridedRows {
  const T* data;
  std::int64_t step;
  const T* operator()(std::int64_t k) const { return data + k * step; }
};

/// panel[k, j, lane] = row(k)[first + j · lanes + lane] for k in [k0, k1), 0 from column `columns` on and
/// where row(k) is null.
template <class D, class Rows, class T = hn::TFromD<D>>
HWY_INLINE void pack_rows(D d, const Rows& row, std::int64_t k0, std::int64_t k1, std::int64_t first,
                          std::int64_t columns, std::int64_t vectors, T* HWY_RESTRICT panel) {
  const auto lanes = static_cast<std::int64_t>(hn::Lanes(d));
  for (std::int64_t k = k0; k < k1; ++k) {
    const T* from = row(k);
    for (std::int64_t j = 0; j < vectors; ++j, panel += lanes) {
      const std::int64_t at = first + j * lanes;
      hn::StoreU(from == nullptr || at >= columns ? hn::Zero(d) : load_part(d, from + at, columns - at), d, panel);
    }
  }
}

/// panel[k · step + lane] = w[lane · depth + k] for k < depth: one vector of a panel from the rows of W when B = Wᵀ.
/// `count` of the lanes have a row, the others are 0. A line of each row at a time: a line of the panel is written
/// in parts, and is not to leave the first cache in between.
template <class D, class T = hn::TFromD<D>>
HWY_INLINE void pack_transposed(D d, const T* w, std::int64_t count, std::int64_t depth, T* HWY_RESTRICT panel,
                                std::int64_t step) {
  const auto lanes = static_cast<std::int64_t>(hn::Lanes(d));
  count = std::min(count, lanes);
  if (count < lanes)
    for (std::int64_t k = 0; k < depth; ++k) hn::StoreU(hn::Zero(d), d, panel + k * step);
  constexpr std::int64_t kLine = 64 / sizeof(T);
  for (std::int64_t first = 0; first < depth; first += kLine) {
    const std::int64_t end = std::min(depth, first + kLine);
    std::int64_t lane = 0;
#if HWY_TARGET != HWY_SCALAR
    constexpr std::int64_t kSide = 16 / sizeof(T);
    const hn::FixedTag<T, 16 / sizeof(T)> square;
    for (; lane + kSide <= count; lane += kSide) {  // squares of 4 x 4, or 2 x 2, in registers
      const T* from = w + lane * depth;
      T* to = panel + lane;
      std::int64_t k = first;
      for (; k + kSide <= end; k += kSide) {
        const auto r0 = hn::LoadU(square, from + k), r1 = hn::LoadU(square, from + depth + k);
        const auto low = hn::InterleaveLower(square, r0, r1), high = hn::InterleaveUpper(square, r0, r1);
        if constexpr (kSide == 4) {
          const auto r2 = hn::LoadU(square, from + 2 * depth + k), r3 = hn::LoadU(square, from + 3 * depth + k);
          const auto low2 = hn::InterleaveLower(square, r2, r3), high2 = hn::InterleaveUpper(square, r2, r3);
          hn::StoreU(hn::ConcatLowerLower(square, low2, low), square, to + k * step);
          hn::StoreU(hn::ConcatUpperUpper(square, low2, low), square, to + (k + 1) * step);
          hn::StoreU(hn::ConcatLowerLower(square, high2, high), square, to + (k + 2) * step);
          hn::StoreU(hn::ConcatUpperUpper(square, high2, high), square, to + (k + 3) * step);
        } else {
          hn::StoreU(low, square, to + k * step);
          hn::StoreU(high, square, to + (k + 1) * step);
        }
      }
      for (; k < end; ++k)
        for (std::int64_t i = 0; i < kSide; ++i) to[k * step + i] = from[i * depth + k];
    }
#endif
    for (; lane < count; ++lane)
      for (std::int64_t k = first; k < end; ++k) panel[k * step + lane] = w[lane * depth + k];
  }
}

}  // namespace unroll::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();
#endif
