// What the cells do to each unit once the products are there, how their gates lie, and in what runs their rows are
// taken.
#if defined(UNROLL_RECURRENT_CELLS_INL_H) == defined(HWY_TARGET_TOGGLE)
#ifdef UNROLL_RECURRENT_CELLS_INL_H
#undef UNROLL_RECURRENT_CELLS_INL_H
#else
#define UNROLL_RECURRENT_CELLS_INL_H
#endif

#include <unroll/core/kernels/recurrent.h>
#include <unroll/core/kernels/vector_math-inl.h>

HWY_BEFORE_NAMESPACE();
namespace unroll::kernels::HWY_NAMESPACE {

/// G blocks of rows of the weights, and the slabs their sums stand in: block x_order[s] in slab x_slab + s.
template <RecurrentKind kind>
struct Layout {
  static constexpr std::int64_t gates = 1, x_slab = 0, h_slab = 0;
  static constexpr std::int64_t x_order[] = {0}, h_order[] = {0};
  static constexpr bool keeps_gates = false, has_cells = false;
};
template <>
struct Layout<RecurrentKind::LSTM> {
  static constexpr std::int64_t gates = 4, x_slab = 0, h_slab = 0;
  static constexpr std::int64_t x_order[] = {0, 1, 2, 3}, h_order[] = {0, 1, 2, 3};
  static constexpr bool keeps_gates = true, has_cells = true;
};
template <>
struct Layout<RecurrentKind::GRU> {
  static constexpr std::int64_t gates = 3, x_slab = 0, h_slab = 1;
  static constexpr std::int64_t x_order[] = {2, 0, 1}, h_order[] = {0, 1, 2};
  static constexpr bool keeps_gates = true, has_cells = false;
};

/// Rows that follow each other in x and in a workspace alike: `count` of them `runs` times, in x `apart` rows from one
/// time to the next. The first are followed in x by those from `next` on, if that is before `end`.
struct RowRuns {
  std::int64_t x, kept, count, runs, apart, next, end;
};

/// Calls f(RowRuns) for part i of the rows of all steps from the k0-th to before the k1-th, about `most` rows at a
/// time, as even as can be. Groups are the parts, where there are any.
template <class F>
HWY_INLINE void for_row_runs(const RecurrentSteps& steps, std::int64_t k0, std::int64_t k1, std::int64_t i,
                             std::int64_t parts, std::int64_t most, const F& f) {
  auto for_blocks = [most](std::int64_t all, std::int64_t size, auto block) {
    const std::int64_t blocks = all * size <= most ? 1 : std::min(all, (all * size + most - 1) / most);
    for (std::int64_t b = 0; b < blocks; ++b) block(cut(all, b, blocks), cut(all, b + 1, blocks));
  };
  if (steps.groups == 1) {
    const auto [from, to] = steps.rows_of(k0, k1);
    const std::int64_t rows = to - from, begin = from + cut(rows, i, parts), end = from + cut(rows, i + 1, parts);
    for_blocks(end - begin, 1, [&](std::int64_t r0, std::int64_t r1) {
      const std::int64_t r = begin + r0, count = r1 - r0;
      if (count > 0) f(RowRuns{r, r, count, 1, count, r + count, end});
    });
    return;
  }
  const std::int64_t n = steps.group_begin(i), count = steps.group_begin(i + 1) - n, apart = steps.batch;
  const std::int64_t begin = std::min(steps.at(k0), steps.at(k1 - 1)),
                     last = steps.reverse ? begin + k1 - k0 : steps.steps;
  const std::int64_t end = steps.first(last - 1) + n + count;
  if (count <= most) {  // whole steps
    for_blocks(k1 - k0, count, [&](std::int64_t t0, std::int64_t t1) {
      const std::int64_t t = begin + t0, x = steps.first(t) + n;
      f(RowRuns{x, steps.kept(t, n) + n, count, t1 - t0, apart, x + (t1 - t0) * apart, end});
    });
    return;
  }
  for (std::int64_t t = begin; t < begin + k1 - k0; ++t)
    for_blocks(count, 1, [&](std::int64_t r0, std::int64_t r1) {
      const std::int64_t x = steps.first(t) + n;
      f(RowRuns{x + r0, steps.kept(t, n) + n + r0, r1 - r0, 1, apart, r1 < count ? x + r1 : x + apart, end});
    });
}

/// One vector of units of one row: where its slabs begin, and how far they are apart.
template <class T>
struct Unit {
  T* gates;
  std::int64_t slab;
};

/// From sums to gates in place, which are the result too: i f g o of an LSTM, n r z of a GRU.
template <RecurrentKind kind, class D, class T = hn::TFromD<D>, class V = hn::Vec<D>>
HWY_INLINE void activate(D d, Unit<T> unit, V (&gates)[4]) {
  auto sum = [&](std::int64_t s) { return hn::LoadU(d, unit.gates + s * unit.slab); };
  if constexpr (kind == RecurrentKind::LSTM) {
    gates[0] = Sigmoid(d, sum(0)), gates[1] = Sigmoid(d, sum(1)), gates[2] = Tanh(d, sum(2));
    gates[3] = Sigmoid(d, sum(3));
  } else {
    gates[1] = Sigmoid(d, sum(1)), gates[2] = Sigmoid(d, sum(2));
    gates[0] = Tanh(d, hn::MulAdd(gates[1], sum(3), sum(0)));
  }
  for (std::int64_t s = 0; s < Layout<kind>::gates; ++s) hn::StoreU(gates[s], d, unit.gates + s * unit.slab);
}

/// Forward, from sums to gates in place. h is the state before; of an LSTM, c before on entry and after on return.
template <RecurrentKind kind, class D, class T = hn::TFromD<D>, class V = hn::Vec<D>>
HWY_INLINE V cell_forward(D d, Unit<T> unit, bool relu, V h, V& c) {
  [[maybe_unused]] V gates[4];
  if constexpr (kind == RecurrentKind::LSTM) {
    activate<kind>(d, unit, gates);
    const auto& [i, f, g, o] = gates;
    c = hn::MulAdd(f, c, hn::Mul(i, g));
    return hn::Mul(o, Tanh(d, c));
  } else if constexpr (kind == RecurrentKind::GRU) {
    activate<kind>(d, unit, gates);
    const V n = gates[0], z = gates[2];
    return hn::MulAdd(z, hn::Sub(h, n), n);
  } else {
    const V a = hn::LoadU(d, unit.gates);
    return relu ? hn::IfThenZeroElse(hn::Le(a, hn::Zero(d)), a) : Tanh(d, a);  // NaN stays
  }
}

/// Backward, from dh to the gradients of the sums, which go to `grad`. `before` is c or h of the step before, y the
/// output of this one. dc is that of the step after on entry, of the step before on return; of a GRU, what is left of
/// dh.
///
/// An LSTM's tanh c is not computed again, which would be as many instructions as all the rest: it is y / o, within an
/// ulp or two. Where o is 0, or so small that y is, what it is multiplied by is as small.
template <RecurrentKind kind, class D, class T = hn::TFromD<D>, class V = hn::Vec<D>>
HWY_INLINE void cell_backward(D d, Unit<const T> unit, bool relu, T* grad, V dh, V before, V y, V& dc) {
  [[maybe_unused]] auto gate = [&](std::int64_t s) { return hn::LoadU(d, unit.gates + s * unit.slab); };
  auto give = [&](std::int64_t s, V v) { hn::StoreU(v, d, grad + s * unit.slab); };
  [[maybe_unused]] const V one = hn::Set(d, T{1});
  [[maybe_unused]] auto through_sigmoid = [&](V a) { return hn::NegMulAdd(a, a, a); };  // a (1 − a)
  [[maybe_unused]] auto through_tanh = [&](V a) { return hn::NegMulAdd(a, a, one); };   // 1 − a²
  if constexpr (kind == RecurrentKind::LSTM) {
    const V i = gate(0), f = gate(1), g = gate(2), o = gate(3);
    const V tanh_c = hn::Div(y, hn::IfThenElse(hn::Eq(o, hn::Zero(d)), one, o));
    dc = hn::MulAdd(dh, hn::NegMulAdd(y, tanh_c, o), dc);  // o (1 − tanh² c)
    give(0, hn::Mul(hn::Mul(dc, g), through_sigmoid(i)));
    give(1, hn::Mul(hn::Mul(dc, before), through_sigmoid(f)));
    give(2, hn::Mul(hn::Mul(dc, i), through_tanh(g)));
    give(3, hn::Mul(hn::Mul(dh, y), hn::Sub(one, o)));
    dc = hn::Mul(dc, f);
  } else if constexpr (kind == RecurrentKind::GRU) {
    const V n = gate(0), r = gate(1), z = gate(2), m = gate(3);
    const V dn = hn::Mul(hn::NegMulAdd(dh, z, dh), through_tanh(n));
    give(0, dn);
    give(1, hn::Mul(hn::Mul(dn, m), through_sigmoid(r)));
    give(2, hn::Mul(hn::Mul(dh, hn::Sub(before, n)), through_sigmoid(z)));
    give(3, hn::Mul(dn, r));
    dc = hn::Mul(dh, z);
  } else {
    give(0, relu ? hn::IfThenZeroElse(hn::Le(y, hn::Zero(d)), dh) : hn::Mul(dh, through_tanh(y)));
  }
}

}  // namespace unroll::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();
#endif
