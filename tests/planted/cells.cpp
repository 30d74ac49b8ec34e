#include "cells.h"

#include "bugs.h"

#include <cmath>
#include <utility>

namespace planted {
namespace {

double sigmoid(double a) { return 1 / (1 + std::exp(-a)); }
/// What candidates go through, and its slope told by its value.
double squash(double a) { return bug(88) ? sigmoid(a) : std::tanh(a); }
double squash_slope(double y) { return bug(88) ? y * (1 - y) : 1 - y * y; }

/// The first of a gate's rows.
std::int64_t rows_of(const Cell& cell, std::int64_t gate) { return block_of(cell.mode, gate) * cell.H; }

void rnn_forward(const Cell& cell, const double* from_x, const double* from_h, const Step& out) {
  for (std::int64_t j = 0; j < cell.H; ++j) {
    const double a = from_x[j] + from_h[j];
    out.gates[j] = out.h[j] = cell.mode == Mode::RNN ? squash(a) : a > 0 ? a : 0;
  }
}

void rnn_backward(const Cell& cell, const Step& done, GateGradients& d, Array<double>& dh) {
  for (std::int64_t j = 0; j < cell.H; ++j) {
    // forward was h' = tanh a, so da = dh' (1 − h'²); or h' = max(a, 0), so da = dh' where a > 0.
    const double h = done.gates[j];
    double slope = squash_slope(h);
    if (bug(51)) slope = 1 - h;
    if (bug(52)) slope = 1 - std::tanh(h) * std::tanh(h);
    if (cell.mode == Mode::ReLU) slope = bug(63) ? h >= 0 : h > 0;
    d.from_x[j] = d.from_h[j] = dh[j] * slope;
    dh[j] = 0;
  }
}

void lstm_forward(const Cell& cell, const double* from_x, const double* from_h, const double* c, const Step& out) {
  const std::int64_t H = cell.H;
  for (std::int64_t j = 0; j < H; ++j) {
    auto a = [&](std::int64_t gate) { return from_x[rows_of(cell, gate) + j] + from_h[rows_of(cell, gate) + j]; };
    const double i = sigmoid(a(0)), f = sigmoid(a(1) + (bug(87) ? 1 : 0)), g = squash(a(2)), o = sigmoid(a(3));
    out.gates[j] = i, out.gates[H + j] = f, out.gates[2 * H + j] = g, out.gates[3 * H + j] = o;
    out.c[j] = f * c[j] + i * g;
    out.inner[j] = o * std::tanh(out.c[j]);
  }
  for (std::int64_t p = 0; p < cell.P; ++p) out.h[p] = cell.w_hr ? 0 : out.inner[p];
  if (cell.w_hr) add_product(out.h, cell.w_hr, out.inner, cell.P, H);
}

void lstm_backward(const Cell& cell, const double* c_before, const Step& done, const CellGradient& grad,
                   GateGradients& d, Array<double>& dh, Array<double>& dc) {
  const std::int64_t H = cell.H;
  Array<double> dm = dh;
  if (cell.w_hr) {
    // forward was h' = W_hr m, so dW_hr = dh' mᵀ and dm = W_hrᵀ dh'.
    add_outer(grad.w_hr, dh.data(), done.inner, cell.P, bug(65) ? 0 : H);
    if (bug(65))
      for (std::int64_t p = 0; p < cell.P; ++p) add_outer(grad.w_hr + p * H, &dh[p], done.h, 1, cell.P);
    dm.assign(H, 0);
    add_transposed(dm.data(), cell.w_hr, dh.data(), cell.P, H);
  }
  for (std::int64_t j = 0; j < H; ++j) {
    const double i = done.gates[j], f = done.gates[H + j], g = done.gates[2 * H + j], o = done.gates[3 * H + j];
    const double tanh_c = std::tanh(done.c[j]);
    // forward was m = o tanh c', so do = dm tanh c', and dc' gains dm o (1 − tanh² c').
    const double d_o = dm[j] * (bug(36) ? done.c[j] : tanh_c);
    const double d_c = (bug(35) ? 0 : dc[j]) + dm[j] * o * (bug(33) ? 1 : 1 - tanh_c * tanh_c);
    // forward was c' = f c + i g, so di = dc' g, df = dc' c, dg = dc' i, dc = dc' f.
    const double d_i = d_c * g, d_f = d_c * (bug(32) ? done.c[j] : c_before[j]), d_g = d_c * i;
    dc[j] = bug(34) ? d_c : d_c * f;
    // forward was σ(a), of slope σ (1 − σ), and g = tanh(a), of slope 1 − g².
    double da[] = {d_i * i * (1 - i), d_f * (bug(37) ? i * (1 - i) : f * (1 - f)), d_g * squash_slope(g),
                   d_o * o * (1 - o)};
    if (bug(38)) da[2] = d_g * (1 - g);
    if (bug(31)) std::swap(da[2], da[3]);
    for (std::int64_t gate = 0; gate < 4; ++gate)
      d.from_x[rows_of(cell, gate) + j] = d.from_h[rows_of(cell, gate) + j] = da[gate];
  }
  dh.assign(cell.P, 0);
}

void gru_forward(const Cell& cell, const double* from_x, const double* from_h, const double* h, const Step& out) {
  const std::int64_t H = cell.H, n_rows = rows_of(cell, 2);
  double *r = out.gates, *z = out.gates + H, *n = out.gates + 2 * H;
  for (std::int64_t j = 0; j < H; ++j) {
    r[j] = sigmoid(from_x[rows_of(cell, 0) + j] + from_h[rows_of(cell, 0) + j]);
    z[j] = sigmoid(from_x[rows_of(cell, 1) + j] + from_h[rows_of(cell, 1) + j]);
    out.inner[j] = from_h[n_rows + j];
  }
  Array<double> outside(H);  // what is added to r·inner
  if (bug(83) || bug(82))
    for (std::int64_t j = 0; cell.b_hh && j < H; ++j) outside[j] = cell.b_hh[n_rows + j];
  if (bug(83))
    for (std::int64_t j = 0; j < H; ++j) out.inner[j] -= outside[j];
  if (bug(82)) {
    Array<double> reset(H);
    for (std::int64_t j = 0; j < H; ++j) reset[j] = r[j] * h[j], out.inner[j] = 0;
    add_product(out.inner, cell.w_hh + n_rows * H, reset.data(), H, H);
  }
  for (std::int64_t j = 0; j < H; ++j) {
    n[j] = squash(from_x[n_rows + j] + (bug(82) ? 1 : r[j]) * out.inner[j] + outside[j]);
    out.h[j] = (1 - z[j]) * n[j] + z[j] * h[j];
  }
}

void gru_backward(const Cell& cell, const double* h, const Step& done, const CellGradient& grad, GateGradients& d,
                  Array<double>& dh) {
  const std::int64_t H = cell.H, r_rows = rows_of(cell, 0), z_rows = rows_of(cell, 1), n_rows = rows_of(cell, 2);
  Array<double> d_reset(H), reset(H);  // of r·h, for bug 82 only
  for (std::int64_t j = 0; j < H; ++j) {
    const double r = done.gates[j], z = done.gates[H + j], n = done.gates[2 * H + j];
    // forward was h' = (1 − z) n + z h, so dn = dh' (1 − z), dz = dh' (h − n), dh = dh' z.
    const double d_n = dh[j] * (1 - z), d_z = dh[j] * (bug(44) ? n - h[j] : h[j] - n);
    dh[j] = bug(43) ? 0 : dh[j] * z;
    // forward was n = tanh(from_x + r from_h), so with da = dn (1 − n²): dr = da from_h, and from_h gets da r.
    const double da = d_n * squash_slope(n);
    const double d_r = da * (bug(45) ? h[j] : done.inner[j]);
    d.from_x[n_rows + j] = da;
    d.from_h[n_rows + j] = bug(41) ? da : da * r;
    d.from_x[r_rows + j] = d.from_h[r_rows + j] = d_r * r * (1 - r);
    d.from_x[z_rows + j] = d.from_h[z_rows + j] = d_z * z * (1 - z);
    reset[j] = r * h[j];
  }
  if (bug(82)) {
    // forward was n = tanh(from_x + W_hn (r h) + b_hn), so d(r h) = W_hnᵀ da, of which r gets d(r h) h, and h r d(r h).
    const double* da = d.from_x.data() + n_rows;
    add_transposed(d_reset.data(), cell.w_hh + n_rows * H, da, H, H);
    add_outer(grad.w_hh + n_rows * H, da, reset.data(), H, H);
    for (std::int64_t j = 0; j < H; ++j) {
      const double r = done.gates[j];
      d.from_x[r_rows + j] = d.from_h[r_rows + j] = d_reset[j] * h[j] * r * (1 - r);
      dh[j] += d_reset[j] * r;
      if (grad.b_hh) grad.b_hh[n_rows + j] += da[j];
      d.from_h[n_rows + j] = 0;
    }
  }
  if (bug(83) && grad.b_hh)  // the sequence adds da r for b_hn, which stood outside r
    for (std::int64_t j = 0; j < H; ++j) grad.b_hh[n_rows + j] += d.from_x[n_rows + j] - d.from_h[n_rows + j];
}

}  // namespace

std::int64_t block_of(Mode mode, std::int64_t gate) {
  if (bug(81) && mode == Mode::LSTM && gate >= 2) return 5 - gate;
  if (bug(81) && mode == Mode::GRU && gate <= 1) return 1 - gate;
  return gate;
}

void add_product(double* out, const double* w, const double* x, std::int64_t R, std::int64_t C) {
  for (std::int64_t r = 0; r < R; ++r)
    for (std::int64_t c = 0; c < C; ++c) out[r] += w[r * C + c] * x[c];
}

void add_transposed(double* out, const double* w, const double* d, std::int64_t R, std::int64_t C) {
  for (std::int64_t r = 0; r < R; ++r)
    for (std::int64_t c = 0; c < C; ++c) out[c] += w[r * C + c] * d[r];
}

void add_outer(double* out, const double* d, const double* x, std::int64_t R, std::int64_t C) {
  for (std::int64_t r = 0; r < R; ++r)
    for (std::int64_t c = 0; c < C; ++c) out[r * C + c] += d[r] * x[c];
}

void step_forward(const Cell& cell, const double* x, const double* h, const double* c, const Step& out) {
  const std::int64_t R = cell.G() * cell.H;
  Array<double> from_x(R), from_h(R);
  if (cell.b_ih) from_x.assign(cell.b_ih, cell.b_ih + R);
  if (cell.b_hh && !bug(84)) from_h.assign(cell.b_hh, cell.b_hh + R);
  add_product(from_x.data(), cell.w_ih, x, R, cell.F);
  add_product(from_h.data(), cell.w_hh, h, R, cell.P);
  if (cell.mode == Mode::LSTM)
    lstm_forward(cell, from_x.data(), from_h.data(), c, out);
  else if (cell.mode == Mode::GRU)
    gru_forward(cell, from_x.data(), from_h.data(), h, out);
  else
    rnn_forward(cell, from_x.data(), from_h.data(), out);
}

GateGradients step_backward(const Cell& cell, const double* h, const double* c, const Step& done,
                            const CellGradient& grad, Array<double>& dh, Array<double>& dc) {
  GateGradients d{Array<double>(cell.G() * cell.H), Array<double>(cell.G() * cell.H)};
  if (cell.mode == Mode::LSTM)
    lstm_backward(cell, c, done, grad, d, dh, dc);
  else if (cell.mode == Mode::GRU)
    gru_backward(cell, h, done, grad, d, dh);
  else
    rnn_backward(cell, done, d, dh);
  return d;
}

}  // namespace planted
