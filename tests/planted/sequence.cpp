#include "sequence.h"

#include <unroll/core/random.h>

#include <algorithm>

#include "bugs.h"

namespace planted {
namespace {

/// One layer in one direction.
struct Lane {
  const Plan& plan;
  std::int64_t layer, direction;

  std::int64_t index() const { return layer * plan.D + direction; }
  /// The time of a sequence's step number s in the order of this direction.
  std::int64_t time(std::int64_t s, std::int64_t length) const { return direction == 0 ? s : length - 1 - s; }
  std::int64_t at(std::int64_t t, std::int64_t n) const { return t * plan.N + n; }
  Step step(const Tape& tape, std::int64_t t, std::int64_t n) const {
    const Tape::Direction& d = tape.direction[direction];
    const std::int64_t row = at(t, n), H = plan.H;
    return {d.gates + row * plan.gates() * H, d.inner + row * H, tape.out + row * plan.D * plan.P + direction * plan.P,
            d.c + row * H};
  }
};

void forward_lane(const Lane& lane, const Cell& cell, const States& initial, const Tape& tape, States& last) {
  const Plan& plan = lane.plan;
  const std::int64_t F = plan.features(lane.layer), state = plan.state_index(lane.layer, lane.direction);
  for (std::int64_t n = 0; n < plan.N; ++n) {
    const std::int64_t length = plan.lengths[n], row = state * plan.N + n;
    const double *h = &initial.h[row * plan.P], *c = initial.c.empty() ? nullptr : &initial.c[row * plan.H];
    for (std::int64_t s = 0; s < length; ++s) {
      const std::int64_t t = lane.time(s, length);
      const Step out = lane.step(tape, t, n);
      step_forward(cell, tape.in + lane.at(t, n) * F, h, c, out);
      h = out.h, c = out.c;
    }
    if (bug(90) && lane.direction == 0 && length < plan.T) continue;
    std::copy_n(h, plan.P, &last.h[row * plan.P]);
    if (!last.c.empty()) std::copy_n(c, plan.H, &last.c[row * plan.H]);
  }
}

/// out[t] is what came of in[t] and of the step before, so the sweep starts where that of forward ended. `d_out`
/// (T, N, D·P) is read, `d_in` (T, N, F) added to.
void backward_lane(const Lane& lane, const Cell& cell, const States& initial, const Tape& tape, const double* read_in,
                   const Array<double>& d_out, Array<double>& d_in, States& d_states, const CellGradient& grad) {
  const Plan& plan = lane.plan;
  const std::int64_t F = plan.features(lane.layer), state = plan.state_index(lane.layer, lane.direction), P = plan.P,
                     H = plan.H, R = plan.gates() * H;
  const std::int64_t half = bug(15) && plan.D == 2 ? 1 - lane.direction : lane.direction;
  for (std::int64_t n = 0; n < plan.N; ++n) {
    const std::int64_t length = bug(18) ? plan.T : plan.lengths[n], row = state * plan.N + n;
    double *dh_end = &d_states.h[row * P], *dc_end = d_states.c.empty() ? nullptr : &d_states.c[row * H];
    const double *h0 = &initial.h[row * P], *c0 = dc_end ? &initial.c[row * H] : nullptr;
    auto d_out_at = [&](std::int64_t t) { return &d_out[lane.at(t, n) * plan.D * P + half * P]; };

    // forward was h_n = h after the last step, so the sweep begins with the gradients of h_n and c_n.
    Array<double> dh(dh_end, dh_end + P), dc(H);
    if (dc_end) dc.assign(dc_end, dc_end + H);
    if (bug(10) || (bug(90) && lane.direction == 0 && length < plan.T)) dh.assign(P, 0);
    if (bug(11) || (bug(90) && lane.direction == 0 && length < plan.T)) dc.assign(H, 0);
    if (bug(67))
      for (std::int64_t t = length; t < plan.T; ++t)
        for (std::int64_t p = 0; p < P; ++p) dh[p] += d_out_at(t)[p];

    for (std::int64_t s = length; s-- > 0;) {
      const std::int64_t t = lane.time(s, length);
      const Step done = lane.step(tape, t, n);
      const Step before = s == 0 ? done : lane.step(tape, lane.time(s - 1, length), n);
      const double *h = s == 0 ? h0 : before.h, *c = s == 0 ? c0 : before.c;
      const double* x = read_in + lane.at(t, n) * F;
      for (std::int64_t p = 0; p < P; ++p) dh[p] += d_out_at(bug(16) ? s : t)[p];

      const GateGradients d = step_backward(cell, h, c, done, grad, dh, dc);

      // forward was from_x = W_ih x + b_ih, so dW_ih = d xᵀ, db_ih = d and dx = W_ihᵀ d, summed over steps and batch.
      if (bug(3)) std::fill_n(grad.w_ih, R * F, 0);
      add_outer(grad.w_ih, d.from_x.data(), x, R, F);
      add_transposed(&d_in[lane.at(t, n) * F], cell.w_ih, d.from_x.data(), R, F);
      // forward was from_h = W_hh h + b_hh, so dW_hh = d hᵀ, db_hh = d, and W_hhᵀ d joins dh.
      if (!(bug(7) && s == 0)) add_outer(grad.w_hh, d.from_h.data(), bug(1) ? done.h : h, R, P);
      if (bug(8) && P == H)
        for (std::int64_t gate = 0; gate < plan.gates(); ++gate)
          add_product(dh.data(), cell.w_hh + gate * H * H, d.from_h.data() + gate * H, H, H);
      else
        add_transposed(dh.data(), cell.w_hh, d.from_h.data(), R, P);
      if (grad.b_ih && !(bug(4) && n != 0)) {
        const double part = bug(5) ? 1 / static_cast<double>(plan.N) : 1;
        for (std::int64_t r = 0; r < R; ++r) grad.b_ih[r] += part * d.from_x[r];
        for (std::int64_t r = 0; r < R && !bug(84); ++r) grad.b_hh[r] += part * (bug(42) ? d.from_x : d.from_h)[r];
      }
      if (bug(9)) dh.assign(P, 0);
      if (bug(22)) std::copy_n(dh.data(), P, done.h);
    }
    std::copy_n(bug(6) ? Array<double>(P).data() : dh.data(), P, dh_end);
    if (dc_end) std::copy_n(bug(39) ? Array<double>(H).data() : dc.data(), H, dc_end);
  }
}

/// forward was in = out · mask, element by element, so d_out = d_in · mask.
void undo_dropout(const Plan& plan, const Tape& tape, Array<double>& d) {
  if (bug(12)) return;
  unroll::Generator other(1);
  for (std::size_t i = 0; i < d.size(); ++i) {
    double m = tape.mask[i];
    if (bug(13)) m *= 1 - plan.dropout;
    if (bug(69)) m = other.random32() % 1024 < 1024 * plan.dropout ? 0 : 1 / (1 - plan.dropout);
    d[i] *= m;
  }
}

}  // namespace

std::int64_t Plan::state_index(std::int64_t layer, std::int64_t direction) const {
  return bug(86) ? direction * L + layer : layer * D + direction;
}

std::int64_t Plan::masks() const { return dropout == 0 ? 0 : bug(85) ? L : L - 1; }

Array<Tape> lay_out(const Plan& plan, double* memory, std::int64_t* size) {
  std::int64_t used = 0;
  auto take = [&](std::int64_t features) {
    double* start = memory ? memory + used : nullptr;
    used += plan.T * plan.N * features;
    return start;
  };
  Array<Tape> tapes(plan.L);
  for (std::int64_t layer = 0; layer < plan.L; ++layer) {
    Tape& tape = tapes[layer];
    tape.in = take(plan.features(layer));
    tape.out = take(plan.D * plan.P);
    tape.mask = layer < plan.masks() ? take(plan.D * plan.P) : nullptr;
    for (std::int64_t d = 0; d < plan.D; ++d)
      tape.direction[d] = {take(plan.gates() * plan.H), take(plan.H), take(plan.H)};
  }
  if (size) *size = used;
  return tapes;
}

States run_forward(const Plan& plan, const Array<Cell>& cells, const States& initial, const Array<Tape>& tapes) {
  States last{Array<double>(initial.h.size()), Array<double>(initial.c.size())};
  const std::int64_t elements = plan.T * plan.N * plan.D * plan.P;
  for (std::int64_t layer = 0; layer < plan.L; ++layer) {
    const Tape& tape = tapes[layer];
    for (std::int64_t direction = 0; direction < plan.D; ++direction) {
      const Lane lane{plan, layer, direction};
      forward_lane(lane, cells[lane.index()], initial, tape, last);
    }
    if (layer + 1 == plan.L) break;
    for (std::int64_t i = 0; i < elements; ++i) tapes[layer + 1].in[i] = tape.out[i] * (tape.mask ? tape.mask[i] : 1);
  }
  return last;
}

Array<double> run_backward(const Plan& plan, const Array<Cell>& cells, const States& initial, const Array<Tape>& tapes,
                           Array<double> dy, States& d_states, const Array<CellGradient>& grads) {
  Array<double> d_out = std::move(dy);
  for (std::int64_t layer = plan.L; layer-- > 0;) {
    const Tape& tape = tapes[layer];
    const double* read_in = bug(17) && layer >= 2 ? tapes[1].in : tape.in;
    if (tape.mask) undo_dropout(plan, tape, d_out);
    Array<double> d_in(plan.T * plan.N * plan.features(layer));
    for (std::int64_t direction = 0; direction < plan.D; ++direction) {
      const Lane lane{plan, layer, direction};
      if (bug(14) && direction == 1) std::fill(d_in.begin(), d_in.end(), 0);
      backward_lane(lane, cells[lane.index()], initial, tape, read_in, d_out, d_in, d_states, grads[lane.index()]);
      if (bug(20) && d_in.size() == d_out.size()) d_out = d_in;  // as where they share a buffer
    }
    d_out = std::move(d_in);
  }
  return d_out;
}

}  // namespace planted
