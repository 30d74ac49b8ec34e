#pragma once
#include <cstdint>

#include "array.h"

namespace planted {

enum class Mode : std::uint8_t { RNN, ReLU, LSTM, GRU };

/// A cell's sizes and parameters, row-major: w_ih (G·H, F), w_hh (G·H, P), b_ih and b_hh (G·H), w_hr (P, H), the last
/// three of them null where there are none.
struct Cell {
  Mode mode;
  std::int64_t F, H, P;  // features of x, of a gate, of h; P = H unless h is projected
  const double *w_ih, *w_hh, *b_ih, *b_hh, *w_hr;
  std::int64_t G() const { return mode == Mode::LSTM ? 4 : mode == Mode::GRU ? 3 : 1; }
};

/// Where the gradients of the parameters are summed, in the same layout.
struct CellGradient {
  double *w_ih, *w_hh, *b_ih, *b_hh, *w_hr;
};

/// Which block of H rows of the parameters a gate has; i f g o, r z n are in that order.
std::int64_t block_of(Mode mode, std::int64_t gate);

/// What one step of one sequence has computed.
struct Step {
  double* gates;  // (G, H), after their nonlinearities: i f g o, r z n, or h' itself
  double* inner;  // (H): LSTM o·tanh c', GRU W_hn h + b_hn
  double* h;      // (P)
  double* c;      // (H), LSTM only
};

/// One step from h and c.
void step_forward(const Cell& cell, const double* x, const double* h, const double* c, const Step& out);

/// Gradients on both sides of the sum that goes into each gate, from_x = W_ih x + b_ih and from_h = W_hh h + b_hh.
struct GateGradients {
  Array<double> from_x, from_h;  // (G·H), in the order of the parameters' rows
};

/// The same step backward. `dh` and `dc` come in as gradients of h' and c' and leave as those of h and c, but for what
/// flows through W_hh. Adds to the gradient of w_hr.
GateGradients step_backward(const Cell& cell, const double* h, const double* c, const Step& done,
                            const CellGradient& grad, Array<double>& dh, Array<double>& dc);

/// out (R) += w (R, C) · x (C)
void add_product(double* out, const double* w, const double* x, std::int64_t R, std::int64_t C);
/// out (C) += wᵀ · d (R)
void add_transposed(double* out, const double* w, const double* d, std::int64_t R, std::int64_t C);
/// out (R, C) += d (R) xᵀ (C)
void add_outer(double* out, const double* d, const double* x, std::int64_t R, std::int64_t C);

}  // namespace planted
