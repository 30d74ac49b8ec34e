// A layer in one direction, forward: the products with x of some steps at once, then step by step the products with h
// and at once what the cell does with the sums. Or the gates alone, for a backward that did not keep them.
#if defined(UNROLL_RECURRENT_FORWARD_INL_H) == defined(HWY_TARGET_TOGGLE)
#ifdef UNROLL_RECURRENT_FORWARD_INL_H
#undef UNROLL_RECURRENT_FORWARD_INL_H
#else
#define UNROLL_RECURRENT_FORWARD_INL_H
#endif

#include <unroll/core/kernels/panels.h>
#include <unroll/core/kernels/product-inl.h>
#include <unroll/core/kernels/recurrent_cells-inl.h>
#include <unroll/core/kernels/scratch.h>

HWY_BEFORE_NAMESPACE();
namespace unroll::kernels::HWY_NAMESPACE {

template <RecurrentKind kind, class T>
class Forward {
  using L = Layout<kind>;
  using D = Full<T>;
  using V = hn::Vec<D>;
  static constexpr std::int32_t kLanes = hn::MaxLanes(D());

 public:
  Forward(const RecurrentSizes& sizes, const RecurrentSteps& steps, const RecurrentInputs<T>& in,
          const RecurrentOutputs<T>& out)
      : s_(sizes), steps_(steps), in_(in), out_(out), plan_(plan_threads<T>(sizes, steps)) {}

  void run() {
    pack();
    const std::int64_t per_chunk = steps_ahead();
    const bool keep = L::keeps_gates && out_.gates != nullptr;
    if (!keep) chunk_.make(steps_, std::min(per_chunk, steps_.steps) * gate_row_);
    auto for_chunks = [&](auto f) {
      for (std::int64_t k = 0; k < steps_.steps; k += per_chunk) f(k, std::min(steps_.steps, k + per_chunk));
    };
    if (steps_.groups > 1)
      parallel(steps_.groups, [&](std::int64_t g) {
        for_chunks([&](std::int64_t k, std::int64_t end) {
          const Own own = own_of(g, k, end);
          project(k, end, g, own.gates);
          recur_rows(k, end, steps_.group_begin(g), steps_.group_begin(g + 1), own);
        });
      });
    else
      for_chunks([&](std::int64_t k, std::int64_t end) {
        const Own own = own_of(0, k, end);
        parallel(plan_.all_parts, [&](std::int64_t i) { project(k, end, i, own.gates); });
        recur(k, end, own);
      });
    // Sequences of no steps end as they begin.
    for (std::int64_t n = steps_.rows(0); n < steps_.batch; ++n) {
      give_state(in_.h0, s_.output(), n, out_.h_n);
      if (L::has_cells) give_state(in_.c0, s_.hidden, n, out_.c_n);
    }
  }

  /// The gates from the states that forward computed: no step waits for the one before, so that many of them are one
  /// product. The sums are taken in forward's order, to its very bits.
  void rebuild() {
    pack();
    const std::int64_t all = steps_.all();
    parallel(plan_.all_parts, [&](std::int64_t i) {
      const std::int64_t begin = cut(all, i, plan_.all_parts), end = cut(all, i + 1, plan_.all_parts);
      project(0, steps_.steps, i, out_.gates);
      for_states_before([&](std::int64_t first, std::int64_t last, const T* states, std::int64_t row) {
        first = std::max(first, begin), last = std::min(last, end);
        for (std::int64_t u = 0; u < unit_panels_; ++u)
          for_row_blocks<kRowsAtOnce>(first, last, [&](std::int64_t r, std::int64_t count) {
            if (states != nullptr) product_with_h(Left<T>{states, row, 1, s_.output()}, r, r + count, u, out_.gates);
            activate_rows(r, r + count, u * kLanes);
          });
      });
    });
  }

 private:
  // How many steps x's product goes ahead of the others: far enough for whole tiles, not so far that its sums have left
  // the second caches. Threads meet each time, so that they go as far as that allows.
  std::int64_t steps_ahead() const {
    if (steps_.steps == 1) return 1;
    const std::int64_t row_bytes = std::max<std::int64_t>(1, gate_row_ * static_cast<std::int64_t>(sizeof(T)));
    const std::int64_t reach = detail::caches().l2 / 2 * plan_.parts / row_bytes;
    const bool meets = plan_.all_parts > steps_.groups;
    const std::int64_t rows = std::max<std::int64_t>(1, meets ? reach : std::min(reach, kRowsAtOnce * plan_.all_parts));
    const std::int64_t chunks = std::max<std::int64_t>(1, (steps_.all() + rows - 1) / rows);
    return std::max<std::int64_t>(1, (steps_.steps + chunks - 1) / chunks);
  }

  // -- Panels: of G > 1 gates, all of one vector of units; else four vectors of units.
  static constexpr std::int64_t kUnits = L::gates > 1 ? 1 : kPanel;
  std::int64_t panel_width(std::int64_t u) const { return std::min(kUnits, unit_vectors_ - u * kUnits); }
  std::int64_t panel_vectors(std::int64_t u) const { return L::gates > 1 ? L::gates : panel_width(u); }
  std::int64_t gate_stride() const { return L::gates > 1 ? slab_ : kLanes; }

  void pack_weights(const T* w, std::int64_t depth, const std::int64_t* order, T* panels) const {
    parallel(plan_.all_parts, [&](std::int64_t part) {
      for (std::int64_t u = cut(unit_panels_, part, plan_.all_parts); u < cut(unit_panels_, part + 1, plan_.all_parts);
           ++u)
        for (std::int64_t j = 0; j < panel_vectors(u); ++j) {
          const std::int64_t unit = (u * kUnits + (L::gates > 1 ? 0 : j)) * kLanes;
          const std::int64_t block = L::gates > 1 ? order[j] : 0;
          pack_transposed(D(), w + (block * s_.hidden + unit) * depth, s_.hidden - unit, depth,
                          panels + u * kUnits * L::gates * kLanes * depth + j * kLanes, panel_vectors(u) * kLanes);
        }
    });
  }

  // Elements of the panels of a W with so many columns.
  std::int64_t panels_size(std::int64_t columns) const { return unit_vectors_ * L::gates * kLanes * columns; }

  PanelKey key(PanelKey::Weight weight, std::int64_t columns) const {
    return {PanelKey::Forward, weight, kind, kLanes, columns};
  }

  void pack() {
    ih_.take(in_.ih_home, key(PanelKey::Input, s_.input), panels_size(s_.input),
             [&](T* panels) { pack_weights(in_.ih, s_.input, L::x_order, panels); });
    if (steps_.steps > 1 || in_.h0 != nullptr)
      hh_.take(in_.hh_home, key(PanelKey::Hidden, s_.output()), panels_size(s_.output()),
               [&](T* panels) { pack_weights(in_.hh, s_.output(), L::h_order, panels); });
    if (in_.bias_ih != nullptr || in_.bias_hh != nullptr) pack_bias();
    if (s_.projected > 0) {
      hr_.take(in_.hr_home, key(PanelKey::Projection, s_.hidden), out_vectors_ * kLanes * s_.hidden, [&](T* panels) {
        for (std::int64_t p = 0; p < out_vectors_; ++p) {
          const std::int64_t at = p % kPanel, width = std::min(kPanel, out_vectors_ - (p - at));
          pack_transposed(D(), in_.hr + p * kLanes * s_.hidden, s_.projected - p * kLanes, s_.hidden,
                          panels + (p - at) * kLanes * s_.hidden + at * kLanes, width * kLanes);
        }
      });
      if (out_.unprojected == nullptr) unprojected_.make(steps_, slab_);
    }
    h_.make(steps_, h_row_, 2);
    h_.zero();
    if (L::has_cells) c_.make(steps_, slab_);
  }

  // The bias of each panel of x, in its order; behind them, of a GRU, that of m.
  void pack_bias() {
    bias_ = Scratch<T>((L::gates + 1) * slab_);
    for (std::int64_t g = 0; g < L::gates; ++g)
      for (std::int64_t v = 0; v < unit_vectors_; ++v) {
        const std::int64_t unit = v * kLanes;
        auto part = [&](const T* bias) HWY_ATTR {
          return bias == nullptr ? hn::Zero(D())
                                 : load_part(D(), bias + L::x_order[g] * s_.hidden + unit, s_.hidden - unit);
        };
        const bool apart = kind == RecurrentKind::GRU && g == 0;
        const V x = part(in_.bias_ih), h = part(in_.bias_hh);
        hn::StoreU(apart ? x : hn::Add(x, h), D(), bias_.data() + (v * L::gates + g) * kLanes);
        if (apart) hn::StoreU(h, D(), bias_.data() + L::gates * slab_ + unit);
      }
  }

  // Whether the panels of W_ih are in the second cache for all rows of x, some of which come and go beside them.
  bool stays_near() const {
    const std::int64_t read = panels_size(s_.input) + kRowsAtOnce * s_.input;
    return fetches_ahead(panel_vectors(0)) && read * static_cast<std::int64_t>(sizeof(T)) <= detail::caches().l2 / 2;
  }

  // Part i of what x adds to the sums of those steps. Many rows are taken some at a time where W's panels stay near:
  // then the next rows are what comes from afar, and the first panel's tiles fetch them.
  void project(std::int64_t k0, std::int64_t k1, std::int64_t i, T* gates) const {
    const bool in_blocks = steps_.all() > kRowsAtOnce && stays_near();
    for_row_runs(steps_, k0, k1, i, plan_.all_parts, in_blocks ? kRowsAtOnce : steps_.all(), [&](const RowRuns& rows) {
      const std::int64_t begin = rows.kept, end = begin + rows.runs * rows.count;
      for (std::int64_t u = 0; u < unit_panels_; ++u) {
        const bool fetches = in_blocks && u == 0;
        for (std::int64_t r = begin, x = rows.x; r < end; r += rows.count, x += rows.apart) {
          const std::int64_t at = u * kUnits * kLanes, after = rows.next + x - rows.x;
          Soon<T> next;
          if (fetches) next.add(in_.x + after * s_.input, std::min(rows.end - after, rows.count) * s_.input);
          panel_product(D(), Left<T>{in_.x + x * s_.input, s_.input, 1, s_.input}, 0, rows.count,
                        ih_.data() + at * L::gates * s_.input, panel_vectors(u),
                        Into<T>{.data = gates + r * gate_row_ + L::x_slab * slab_ + at,
                                .row = gate_row_,
                                .vector = gate_stride(),
                                .bias = bias_.data() != nullptr ? bias_.data() + at * L::gates : nullptr},
                        fetches ? &next : nullptr);
        }
      }
      if (kind == RecurrentKind::GRU)
        for (std::int64_t r = begin; r < end; ++r)
          for (std::int64_t h = 0; h < unit_vectors_ * kLanes; h += kLanes)
            hn::StoreU(bias_.data() != nullptr ? hn::LoadU(D(), bias_.data() + L::gates * slab_ + h) : hn::Zero(D()),
                       D(), gates + r * gate_row_ + 3 * slab_ + h);
    });
  }

  // Adds to the sums of rows [n0, n1) and of panel u what h brings.
  void product_with_h(const Left<T>& h, std::int64_t n0, std::int64_t n1, std::int64_t u, T* gates) const {
    panel_product(D(), h, n0, n1, hh_.data() + u * kUnits * L::gates * kLanes * s_.output(), panel_vectors(u),
                  Into<T>{gates + L::h_slab * slab_ + u * kUnits * kLanes, gate_row_, gate_stride(), true});
  }

  // Calls f(first, last, states, row) for all rows, with those together whose states lie together: rows [first, last)
  // began from states + r · row, or from zeros if that is null.
  template <class F>
  void for_states_before(F f) const {
    std::int64_t begin = 0, end = 0, shift = 0;  // rows whose states are the outputs of the rows `shift` further on
    auto give = [&] {
      if (begin < end) f(begin, end, out_.y + shift * out_.y_row, out_.y_row);
    };
    for (std::int64_t t = 0; t < steps_.steps; ++t) {
      const std::int64_t k = steps_.at(t), first = steps_.first(t), continued = steps_.continued(k);
      if (continued > 0) {
        const std::int64_t back = steps_.first(steps_.at(k - 1)) - first;
        if (back != shift || first != end) give(), begin = first;
        shift = back, end = first + continued;
      }
      if (continued < steps_.rows(t))
        f(first + continued, first + steps_.rows(t), in_.h0 != nullptr ? in_.h0 - first * s_.output() : nullptr,
          s_.output());
    }
    give();
  }

  HWY_NOINLINE void activate_rows(std::int64_t first, std::int64_t last, std::int64_t unit) const {
    if constexpr (L::keeps_gates) {
      V gates[4];
      for (std::int64_t r = first; r < last; ++r) {
        activate<kind>(D(), Unit<T>{out_.gates + r * gate_row_ + unit, slab_}, gates);
        if constexpr (L::has_cells)
          if (s_.projected > 0)
            hn::StoreU(hn::Mul(gates[3], Tanh(D(), hn::LoadU(D(), out_.cells + r * slab_ + unit))), D(),
                       out_.unprojected + r * slab_ + unit);
      }
    }
  }

  static void give_state(const T* from, std::int64_t width, std::int64_t n, T* to) {
    if (to == nullptr) return;
    if (from != nullptr)
      std::copy_n(from + n * width, width, to + n * width);
    else
      std::fill_n(to + n * width, width, T{0});
  }

  // -- The recurrence

  // What is handed from step to step, for the rows of one group: row n is n rows on from each.
  struct Own {
    T *gates, *h[2], *c, *unprojected;  // gates: from where kept(t, n) counts, whether or not all steps have theirs
  };
  Own own_of(std::int64_t g, std::int64_t k0, std::int64_t k1) const {
    const std::int64_t n = steps_.group_begin(g), t = std::min(steps_.at(k0), steps_.at(k1 - 1));
    return {chunk_.of(n) == nullptr ? out_.gates : chunk_.row(n) - (steps_.kept(t, n) + n) * gate_row_,
            {h_.of(n), h_.of(n, 1)},
            c_.of(n),
            unprojected_.of(n)};
  }

  void recur_rows(std::int64_t k0, std::int64_t k1, std::int64_t n0, std::int64_t n1, const Own& own) const {
    for (std::int64_t k = k0; k < k1; ++k) {
      join(k, n0, n1, own);
      step(k, n0, n1, 0, unit_panels_, own);
      if (s_.projected > 0) project_output(k, n0, n1, 0, out_panels_, own);
      leave(k, n0, n1, own);
    }
  }

  void recur(std::int64_t k0, std::int64_t k1, const Own& own) const {
    if (plan_.parts == 1 || plan_.by_rows) {
      parallel(plan_.parts, [&](std::int64_t i) {
        recur_rows(k0, k1, steps_.share(k0, k1, i, plan_.parts), steps_.share(k0, k1, i + 1, plan_.parts), own);
      });
      return;
    }
    for (std::int64_t k = k0; k < k1; ++k) {
      join(k, 0, steps_.batch, own);
      parallel(plan_.parts, [&](std::int64_t i) {
        step(k, 0, steps_.batch, cut(unit_panels_, i, plan_.parts), cut(unit_panels_, i + 1, plan_.parts), own);
      });
      if (s_.projected > 0)
        parallel(plan_.parts, [&](std::int64_t i) {
          project_output(k, 0, steps_.batch, cut(out_panels_, i, plan_.parts), cut(out_panels_, i + 1, plan_.parts),
                         own);
        });
      leave(k, 0, steps_.batch, own);
    }
  }

  // Rows of [n0, n1) whose first step is the k-th take up their initial state.
  void join(std::int64_t k, std::int64_t n0, std::int64_t n1, const Own& own) const {
    n0 = std::max(n0, steps_.continued(k)), n1 = std::min(n1, steps_.rows(steps_.at(k)));
    for (std::int64_t n = n0; n < n1; ++n) {
      if (in_.h0 != nullptr) std::copy_n(in_.h0 + n * s_.output(), s_.output(), own.h[k % 2] + n * h_row_);
      if (!L::has_cells) continue;
      T* c = own.c + n * slab_;
      std::fill_n(c, slab_, T{0});
      if (in_.c0 != nullptr) std::copy_n(in_.c0 + n * s_.hidden, s_.hidden, c);
    }
  }

  // Rows of [n0, n1) whose last step was the k-th leave their final state.
  void leave(std::int64_t k, std::int64_t n0, std::int64_t n1, const Own& own) const {
    n0 = std::max(n0, k + 1 < steps_.steps ? steps_.continued(k + 1) : 0);
    n1 = std::min(n1, steps_.rows(steps_.at(k)));
    for (std::int64_t n = n0; n < n1; ++n) {
      if (out_.h_n != nullptr) std::copy_n(own.h[(k + 1) % 2] + n * h_row_, s_.output(), out_.h_n + n * s_.output());
      if (out_.c_n != nullptr) std::copy_n(own.c + n * slab_, s_.hidden, out_.c_n + n * s_.hidden);
    }
  }

  HWY_INLINE void step(std::int64_t k, std::int64_t n0, std::int64_t n1, std::int64_t u0, std::int64_t u1,
                       const Own& own) const {
    const std::int64_t t = steps_.at(k);
    n1 = std::min(n1, steps_.rows(t));
    if (n0 >= n1) return;
    const std::int64_t kept = steps_.kept(t, n0);
    const Rows of_step{.y = out_.y + steps_.first(t) * out_.y_row,
                       .gates = own.gates + kept * gate_row_,
                       .cells = out_.cells != nullptr ? out_.cells + kept * slab_ : nullptr,
                       .unprojected = unprojected(kept, own),
                       .before = own.h[k % 2],
                       .after = own.h[(k + 1) % 2],
                       .c = own.c};
    const Left<T> a{of_step.before, h_row_, 1, s_.output()};
    const bool from_zero = in_.h0 == nullptr && steps_.continued(k) == 0;
    there_and_back(k, u0, u1, [&](std::int64_t u) {
      for_row_blocks<kRowsAtOnce>(n0, n1, [&](std::int64_t n, std::int64_t count) {
        if (!from_zero) product_with_h(a, n, n + count, u, of_step.gates);
        cells(of_step, n, n + count, u);
      });
    });
  }

  // Row 0 of a step, as seen from the rows of one group.
  struct Rows {
    T *y, *gates, *cells, *unprojected;
    T *before, *after, *c;
  };

  // The cell in rows [n0, n1) of a step and the units of panel u.
  HWY_NOINLINE void cells(const Rows& of, std::int64_t n0, std::int64_t n1, std::int64_t u) const {
    const D d;
    const bool projects = s_.projected > 0;
    for (std::int64_t w = 0; w < panel_width(u); ++w) {
      const std::int64_t unit = (u * kUnits + w) * kLanes, left = s_.hidden - unit;
      for (std::int64_t n = n0; n < n1; ++n) {
        const Unit<T> gates{of.gates + n * gate_row_ + unit, slab_};
        V h_before = hn::Zero(d), c = h_before;
        if constexpr (kind == RecurrentKind::GRU) h_before = hn::LoadU(d, of.before + n * h_row_ + unit);
        if constexpr (L::has_cells) c = hn::LoadU(d, of.c + n * slab_ + unit);
        const V h = cell_forward<kind>(d, gates, s_.relu, h_before, c);
        if constexpr (L::has_cells) {
          hn::StoreU(c, d, of.c + n * slab_ + unit);
          if (of.cells != nullptr) hn::StoreU(c, d, of.cells + n * slab_ + unit);
        }
        if (projects) {
          hn::StoreU(h, d, of.unprojected + n * slab_ + unit);
        } else {
          hn::StoreU(h, d, of.after + n * h_row_ + unit);
          store_part(h, d, of.y + n * out_.y_row + unit, left);
        }
      }
    }
  }

  // Outputs before their projection, of a step whose rows are kept at `kept`.
  T* unprojected(std::int64_t kept, const Own& own) const {
    return out_.unprojected != nullptr ? out_.unprojected + kept * slab_ : own.unprojected;
  }

  // h = W_hr (o · tanh c), panels [p0, p1) of it.
  void project_output(std::int64_t k, std::int64_t n0, std::int64_t n1, std::int64_t p0, std::int64_t p1,
                      const Own& own) const {
    const std::int64_t t = steps_.at(k);
    n1 = std::min(n1, steps_.rows(t));
    if (n0 >= n1) return;
    const Left<T> a{unprojected(steps_.kept(t, n0), own), slab_, 1, s_.hidden};
    T *const h = own.h[(k + 1) % 2], *const y = out_.y + steps_.first(t) * out_.y_row;
    for (std::int64_t p = p0; p < p1; ++p) {
      const std::int64_t at = p * kPanel * kLanes, width = std::min(kPanel, out_vectors_ - p * kPanel);
      panel_product(D(), a, n0, n1, hr_.data() + at * s_.hidden, width, Into<T>{h + at, h_row_, kLanes});
      for (std::int64_t n = n0; n < n1; ++n)
        std::copy_n(h + n * h_row_ + at, std::min(width * kLanes, s_.projected - at), y + n * out_.y_row + at);
    }
  }

  const RecurrentSizes& s_;
  const RecurrentSteps& steps_;
  const RecurrentInputs<T>& in_;
  const RecurrentOutputs<T>& out_;
  const ThreadPlan plan_;
  const std::int64_t slab_ = pad<T>(s_.hidden), gate_row_ = unroll::kernels::gate_row<T>(s_);
  const std::int64_t h_row_ = padded_row<T>(s_.output());
  const std::int64_t unit_vectors_ = vectors_of<T>(s_.hidden);
  const std::int64_t unit_panels_ = (unit_vectors_ + kUnits - 1) / kUnits;
  const std::int64_t out_vectors_ = vectors_of<T>(s_.output());
  const std::int64_t out_panels_ = (out_vectors_ + kPanel - 1) / kPanel;
  Panels<T> ih_, hh_, hr_;
  Scratch<T> bias_;
  States<T> h_, c_, chunk_, unprojected_;
};

}  // namespace unroll::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();
#endif
