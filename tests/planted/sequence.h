#pragma once
#include "cells.h"

namespace planted {

/// The sizes of one run of a layer. Sequences are in the order of falling length.
struct Plan {
  Mode mode;
  std::int64_t T, N, I, H, P, L, D;
  double dropout;  // 0 when no mask is applied
  bool bias, projected;
  Array<std::int64_t> lengths;

  std::int64_t gates() const { return mode == Mode::LSTM ? 4 : mode == Mode::GRU ? 3 : 1; }
  std::int64_t features(std::int64_t layer) const { return layer == 0 ? I : D * P; }
  /// Where a state lies in h0, h_n, …
  std::int64_t state_index(std::int64_t layer, std::int64_t direction) const;
  /// The number of masks.
  std::int64_t masks() const;
};

/// What a layer keeps for its gradient; all of it is indexed by step, then sequence.
struct Tape {
  double *in, *out, *mask;  // (T, N, F), (T, N, D·P), and the same again for what dropout multiplies `out` with
  struct Direction {
    double *gates, *inner, *c;  // (T, N, G·H), (T, N, H), (T, N, H)
  } direction[2];
};

/// The tapes of all layers in one piece of memory, or how much that is for null.
Array<Tape> lay_out(const Plan& plan, double* memory, std::int64_t* size);

/// Initial, final states or their gradients: (L·D, N, P) and (L·D, N, H), the latter of an LSTM only.
struct States {
  Array<double> h, c;
};

/// Runs the layers on tapes[0].in, with the masks that the tapes hold. Returns the final states; the output is
/// tapes.back().out. Beyond a sequence's end it is zero.
States run_forward(const Plan& plan, const Array<Cell>& cells, const States& initial, const Array<Tape>& tapes);

/// The same backward. `dy` (T, N, D·P) and `d_states` are gradients of the output and the final states, and d_states
/// becomes that of the initial ones. Returns the gradient of the input, (T, N, I); adds to those of the parameters.
Array<double> run_backward(const Plan& plan, const Array<Cell>& cells, const States& initial, const Array<Tape>& tapes,
                           Array<double> dy, States& d_states, const Array<CellGradient>& grads);

}  // namespace planted
