// A layer in one direction, backward: against the order of the steps what the cell makes of dh and the product with
// W_hh, and after some hundred rows of steps their part of the gradients of the weights and of x, each one product.
#if defined(UNROLL_RECURRENT_BACKWARD_INL_H) == defined(HWY_TARGET_TOGGLE)
#ifdef UNROLL_RECURRENT_BACKWARD_INL_H
#undef UNROLL_RECURRENT_BACKWARD_INL_H
#else
#define UNROLL_RECURRENT_BACKWARD_INL_H
#endif

#include <unroll/core/kernels/panels.h>
#include <unroll/core/kernels/recurrent_weights-inl.h>

HWY_BEFORE_NAMESPACE();
namespace unroll::kernels::HWY_NAMESPACE {

template <RecurrentKind kind, class T>
class Backward {
  using L = Layout<kind>;
  using D = Full<T>;
  using V = hn::Vec<D>;
  static constexpr std::int32_t kLanes = hn::MaxLanes(D());

 public:
  Backward(const RecurrentSizes& sizes, const RecurrentSteps& steps, const RecurrentInputs<T>& in,
           const RecurrentOutputs<T>& out, T* grad_gates, const RecurrentCotangents<T>& dy,
           const RecurrentGradients<T>& dx)
      : s_(sizes), steps_(steps), in_(in), out_(out), grads_(grad_gates), dy_(dy), dx_(dx),
        plan_(plan_threads<T>(sizes, steps)) {}

  void run() {
    begin();
    LayerGradients<kind, T> weights(s_, steps_, in_, out_, grads_, outputs_.data(), dx_, plan_.all_parts);
    const std::int64_t chunks = chunks_of_steps();
    for (std::int64_t i = chunks; i-- > 0;) {
      const std::int64_t k0 = steps_.chunk(i, chunks), k1 = steps_.chunk(i + 1, chunks);
      if (k0 == k1) continue;
      recur(k0, k1);
      const auto [first, last] = steps_.rows_of(k0, k1);
      weights.sum(first, last, dx_.add || k1 < steps_.steps);
      if (dx_.x != nullptr) input(k0, k1);
    }
    for (std::int64_t n = 0; n < steps_.batch; ++n) {
      if (dx_.h0 != nullptr) std::copy_n(dh_.row(n), s_.output(), dx_.h0 + n * s_.output());
      if (dx_.c0 != nullptr) std::copy_n(dc_.row(n), s_.hidden, dx_.c0 + n * s_.hidden);
    }
  }

 private:
  // As even as can be: none of few rows. Not more rows for more threads: it is the order in which the weights'
  // gradients are summed.
  std::int64_t chunks_of_steps() const {
    if (steps_.steps <= 1) return steps_.steps;
    const std::int64_t row_bytes = std::max<std::int64_t>(1, gate_row_) * static_cast<std::int64_t>(sizeof(T)),
                       rows = std::max(rows_at_a_time<T>(s_), detail::caches().l2 / 2 / row_bytes);
    const std::int64_t of_step = (steps_.all() + steps_.steps - 1) / steps_.steps;
    const std::int64_t per_chunk = std::max<std::int64_t>(1, rows / std::max<std::int64_t>(1, of_step));
    return (steps_.steps + per_chunk - 1) / per_chunk;
  }

  void begin() {
    dh_.make(steps_, h_row_);
    dh_.zero();
    if (L::has_cells) dc_.make(steps_, slab_);
    dc_.zero();
    for (std::int64_t n = 0; n < steps_.batch; ++n) {
      if (dy_.h_n != nullptr) std::copy_n(dy_.h_n + n * s_.output(), s_.output(), dh_.row(n));
      if (dy_.c_n != nullptr) std::copy_n(dy_.c_n + n * s_.hidden, s_.hidden, dc_.row(n));
    }
    if (s_.projected > 0) {
      outputs_ = Scratch<T>(steps_.all() * h_row_);
      unprojected_.make(steps_, slab_);
      pack(in_.hr_home, PanelKey::Projection, StridedRows<T>{in_.hr, s_.hidden}, s_.projected, s_.hidden, hr_);
    }
    if (steps_.steps > 1 || dx_.h0 != nullptr)
      pack(in_.hh_home, PanelKey::Hidden, StridedRows<T>{in_.hh, s_.output()}, L::gates * s_.hidden, s_.output(), hh_);
    if (dx_.x != nullptr) {
      auto in_order_of_slabs = [this](std::int64_t k) {
        return in_.ih + (L::x_order[k / s_.hidden] * s_.hidden + k % s_.hidden) * s_.input;
      };
      pack(in_.ih_home, PanelKey::Input, in_order_of_slabs, L::gates * s_.hidden, s_.input, ih_);
    }
  }

  // The panels of a matrix of `depth` rows.
  template <class Rows>
  void pack(detail::Storage* home, PanelKey::Weight weight, const Rows& row, std::int64_t depth, std::int64_t columns,
            Panels<T>& to) const {
    const PanelKey key{PanelKey::Backward, weight, kind, kLanes, columns};
    to.take(home, key, vectors_of<T>(columns) * kLanes * depth, [&](T* panels) {
      const std::int64_t count = (vectors_of<T>(columns) + kPanel - 1) / kPanel, parts = plan_.all_parts;
      parallel(parts, [&](std::int64_t i) {
        for (std::int64_t p = cut(count, i, parts); p < cut(count, i + 1, parts); ++p)
          pack_rows(D(), row, 0, depth, p * kPanel * kLanes, columns, width(columns, p),
                    panels + p * kPanel * kLanes * depth);
      });
    });
  }
  std::int64_t width(std::int64_t columns, std::int64_t p) const {
    return std::min(kPanel, vectors_of<T>(columns) - p * kPanel);
  }

  // -- The recurrence

  // What is handed from step to step, for the rows of one group: row n is n rows on from each.
  struct Own {
    T *dh, *dc, *unprojected;
  };

  void recur(std::int64_t k0, std::int64_t k1) const {
    auto own_of = [this](std::int64_t n) { return Own{dh_.of(n), dc_.of(n), unprojected_.of(n)}; };
    const std::int64_t parts = plan_.parts, panels = (vectors_of<T>(s_.output()) + kPanel - 1) / kPanel,
                       units = vectors_of<T>(s_.hidden), unit_panels = (units + kPanel - 1) / kPanel;
    if (parts == 1 || plan_.by_rows) {
      parallel(parts, [&](std::int64_t i) {
        const std::int64_t n0 = steps_.share(k0, k1, i, parts), n1 = steps_.share(k0, k1, i + 1, parts);
        const Own own = own_of(n0);
        for (std::int64_t k = k1 - 1; k >= k0; --k) {
          if (s_.projected > 0) {
            complete(k, n0, n1, own);
            unproject(k, n0, n1, 0, unit_panels, own);
          }
          cells(k, n0, n1, 0, units, own);
          previous(k, n0, n1, 0, panels, own);
        }
      });
      return;
    }
    auto each = [&](std::int64_t count, auto f) {
      parallel(parts, [&](std::int64_t i) { f(cut(count, i, parts), cut(count, i + 1, parts)); });
    };
    const std::int64_t n = steps_.batch;
    const Own own = own_of(0);
    for (std::int64_t k = k1 - 1; k >= k0; --k) {
      if (s_.projected > 0) {
        complete(k, 0, n, own);  // all parts read all of it
        each(unit_panels, [&](auto p0, auto p1) { unproject(k, 0, n, p0, p1, own); });
      }
      each(units, [&](auto u0, auto u1) { cells(k, 0, n, u0, u1, own); });
      each(panels, [&](auto p0, auto p1) { previous(k, 0, n, p0, p1, own); });
    }
  }

  // The cells of rows [n0, n1) and vectors [u0, u1) of units.
  HWY_NOINLINE void cells(std::int64_t k, std::int64_t n0, std::int64_t n1, std::int64_t u0, std::int64_t u1,
                          const Own& own) const {
    const D d;
    const std::int64_t t = steps_.at(k), row = steps_.first(t);
    n1 = std::min(n1, steps_.rows(t));
    if (n0 >= n1) return;
    const std::int64_t kept = steps_.kept(t, n0);
    const T* before = nullptr;  // c or h of the step before, and how many rows of it there are
    std::int64_t continued = 0;
    if (k > 0) {
      const std::int64_t t_before = steps_.at(k - 1);
      continued = steps_.rows(t_before);
      before =
          L::has_cells ? out_.cells + steps_.kept(t_before, n0) * slab_ : out_.y + steps_.first(t_before) * out_.y_row;
    }
    T* const dh_of = s_.projected > 0 ? own.unprojected : own.dh;
    const std::int64_t dh_row = s_.projected > 0 ? slab_ : h_row_;
    for (std::int64_t n = n0; n < n1; ++n) {
      const T* gates = out_.gates != nullptr ? out_.gates + (kept + n) * gate_row_ : nullptr;
      const T* y = s_.projected > 0 ? out_.unprojected + (kept + n) * slab_ : out_.y + (row + n) * out_.y_row;
      const T* dy = dy_.y != nullptr && s_.projected == 0 ? dy_.y + (row + n) * dy_.y_row : nullptr;
      const T* c_before = L::has_cells && n < continued ? before + n * slab_ : nullptr;
      const T* h_before = nullptr;
      if constexpr (kind == RecurrentKind::GRU)
        h_before = n < continued ? before + n * out_.y_row : in_.h0 != nullptr ? in_.h0 + n * s_.output() : nullptr;
      for (std::int64_t u = u0; u < u1; ++u) {
        const std::int64_t unit = u * kLanes, left = s_.hidden - unit;
        T* dh_at = dh_of + n * dh_row + unit;
        V dh = hn::LoadU(d, dh_at), from = hn::Zero(d), dc = from;
        if (dy != nullptr) dh = hn::Add(dh, load_part(d, dy + unit, left));
        if constexpr (L::has_cells) {
          if (c_before != nullptr)
            from = hn::LoadU(d, c_before + unit);
          else if (in_.c0 != nullptr)
            from = load_part(d, in_.c0 + n * s_.hidden + unit, left);
          dc = hn::LoadU(d, own.dc + n * slab_ + unit);
        } else if constexpr (kind == RecurrentKind::GRU) {
          if (h_before != nullptr) from = load_part(d, h_before + unit, left);
        }
        cell_backward<kind>(d, Unit<const T>{gates + unit, slab_}, s_.relu, grads_ + (kept + n) * gate_row_ + unit, dh,
                            from, load_part(d, y + unit, left), dc);
        if constexpr (L::has_cells) hn::StoreU(dc, d, own.dc + n * slab_ + unit);
        if constexpr (kind == RecurrentKind::GRU) hn::StoreU(dc, d, dh_at);
      }
    }
  }

  // What rows [n0, n1) of a step will read, in the cells and for W_ih's gradient, and of a long sequence has gone from
  // the caches since forward.
  void read_at(std::int64_t k, std::int64_t n0, std::int64_t n1, Soon<T>& soon) const {
    auto add = [&](const T* data, std::int64_t row, std::int64_t of_step, bool in_workspace) {
      const std::int64_t t = steps_.at(of_step), rows = std::min(n1, steps_.rows(t)) - n0;
      if (data != nullptr)
        soon.add(data + ((in_workspace ? steps_.kept(t, n0) : steps_.first(t)) + n0) * row, rows * row);
    };
    add(out_.gates, gate_row_, k, true);
    add(dy_.y, dy_.y_row, k, false);
    if (s_.projected > 0)
      add(out_.unprojected, slab_, k, true);
    else if (kind != RecurrentKind::GRU)
      add(out_.y, out_.y_row, k, false);
    else if (k > 0)
      add(out_.y, out_.y_row, k - 1, false);
    if (L::has_cells && k > 0) add(out_.cells, slab_, k - 1, true);
    if (dx_.ih != nullptr) add(in_.x, s_.input, k, false);
  }

  // dh of the step before, what the products with h bring; panels [p0, p1) of it.
  void previous(std::int64_t k, std::int64_t n0, std::int64_t n1, std::int64_t p0, std::int64_t p1,
                const Own& own) const {
    const std::int64_t t = steps_.at(k);
    n1 = std::min(n1, dx_.h0 != nullptr ? steps_.rows(t) : steps_.continued(k));
    if (n0 >= n1) return;
    const Left<T> a{
        grads_ + steps_.kept(t, n0) * gate_row_ + L::h_slab * slab_, gate_row_, 1, s_.hidden, L::gates, slab_};
    Soon<T> soon;
    if (k > 0 && n1 - n0 > kRows) read_at(k - 1, n0, n1, soon);  // a single tile has no time for it
    // Fetched as late as there are tiles enough, or the panels of a large W_hh would be in its way.
    const std::int64_t of_panel = (n1 - n0 + kRows - 1) / kRows * L::gates * s_.hidden * kLanes;
    auto fetches = [&](std::int64_t p) { return fetches_ahead(width(s_.output(), p)); };
    std::int64_t to_come = p1 - p0 - (fetches(p1 - 1) ? 0 : 1);
    there_and_back(k, p0, p1, [&](std::int64_t p) {
      if (fetches(p)) --to_come;
      panel_product(D(), a, n0, n1, hh_.data() + p * kPanel * kLanes * L::gates * s_.hidden, width(s_.output(), p),
                    Into<T>{own.dh + p * kPanel * kLanes, h_row_, kLanes, kind == RecurrentKind::GRU},
                    fetches(p) && to_come * of_panel < soon.left() ? &soon : nullptr);
    });
  }

  // The complete dh of a projected state, kept for W_hr's gradient.
  void complete(std::int64_t k, std::int64_t n0, std::int64_t n1, const Own& own) const {
    const std::int64_t t = steps_.at(k), row = steps_.first(t);
    n1 = std::min(n1, steps_.rows(t));
    if (n0 >= n1) return;
    T* const outputs = outputs_.data() + steps_.kept(t, n0) * h_row_;
    for (std::int64_t n = n0; n < n1; ++n)
      for (std::int64_t i = 0; i < s_.projected; ++i)
        outputs[n * h_row_ + i] = own.dh[n * h_row_ + i] + (dy_.y != nullptr ? dy_.y[(row + n) * dy_.y_row + i] : T{0});
  }

  // Behind the projection d(o·tanh c); panels [p0, p1) of it.
  void unproject(std::int64_t k, std::int64_t n0, std::int64_t n1, std::int64_t p0, std::int64_t p1,
                 const Own& own) const {
    const std::int64_t t = steps_.at(k);
    n1 = std::min(n1, steps_.rows(t));
    if (n0 >= n1) return;
    const Left<T> a{outputs_.data() + steps_.kept(t, n0) * h_row_, h_row_, 1, s_.projected};
    for (std::int64_t p = p0; p < p1; ++p)
      panel_product(D(), a, n0, n1, hr_.data() + p * kPanel * kLanes * s_.projected, width(s_.hidden, p),
                    Into<T>{own.unprojected + p * kPanel * kLanes, slab_, kLanes});
  }

  // dx = dG_x W_ih in those steps
  void input(std::int64_t k0, std::int64_t k1) const {
    const std::int64_t panels = (vectors_of<T>(s_.input) + kPanel - 1) / kPanel;
    parallel(plan_.all_parts, [&](std::int64_t part) {
      for_row_runs(steps_, k0, k1, part, plan_.all_parts, kRowsAtOnce, [&](const RowRuns& rows) {
        for (std::int64_t p = 0; p < panels; ++p)
          for (std::int64_t i = 0; i < rows.runs; ++i) {
            const std::int64_t at = p * kPanel * kLanes, wide = width(s_.input, p);
            const T* grads = grads_ + (rows.kept + i * rows.count) * gate_row_ + L::x_slab * slab_;
            panel_product(D(), Left<T>{grads, gate_row_, 1, s_.hidden, L::gates, slab_}, 0, rows.count,
                          ih_.data() + at * L::gates * s_.hidden, wide,
                          Into<T>{.data = dx_.x + (rows.x + i * rows.apart) * s_.input + at,
                                  .row = s_.input,
                                  .vector = kLanes,
                                  .add = dx_.x_add,
                                  .last = s_.input - at - (wide - 1) * kLanes});
          }
      });
    });
  }

  const RecurrentSizes& s_;
  const RecurrentSteps& steps_;
  const RecurrentInputs<T>& in_;
  const RecurrentOutputs<T>& out_;
  T* const grads_;
  const RecurrentCotangents<T>& dy_;
  const RecurrentGradients<T>& dx_;
  const ThreadPlan plan_;
  const std::int64_t slab_ = pad<T>(s_.hidden), gate_row_ = unroll::kernels::gate_row<T>(s_);
  const std::int64_t h_row_ = padded_row<T>(s_.output());
  Panels<T> ih_, hh_, hr_;
  States<T> dh_, dc_, unprojected_;
  Scratch<T> outputs_;
};

}  // namespace unroll::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();
#endif
