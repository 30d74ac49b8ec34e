#include <unroll/core/kernels/recurrent_plan.h>
#include <unroll/core/kernels/recurrent_segments.h>
#include <unroll/core/kernels/scratch.h>

#include <cmath>

namespace unroll::kernels {
namespace {

// What a segment begins with, its weights packed at worst, takes as long as some rows.
RecurrentSegments at_least(const RecurrentSteps& steps, std::int64_t every, std::int64_t rows) {
  const std::int64_t batch = std::max<std::int64_t>(1, steps.batch);
  return {
      std::clamp<std::int64_t>(std::max(every, (rows + batch - 1) / batch), 1, std::max<std::int64_t>(1, steps.steps))};
}

std::int64_t root(std::int64_t x) { return static_cast<std::int64_t>(std::ceil(std::sqrt(static_cast<double>(x)))); }

// One segment: its steps, and its part of what has a row for each step of each sequence.
struct Segment {
  std::int64_t k0;  // its first step in the order of computation
  RecurrentSteps steps;
  std::int64_t row;  // its first

  Segment(const RecurrentSteps& all, RecurrentSegments segments, std::int64_t i)
      : k0(i * segments.every), steps(all.part(k0, std::min(all.steps, k0 + segments.every))),
        row(all.rows_of(k0, k0 + steps.steps).first) {}

  template <class T>
  T* of(T* data, std::int64_t row_size) const {
    return data != nullptr ? data + row * row_size : nullptr;
  }
};

// The state before the k-th step: a row of `from` for the sequences that had a step before, the initial one for others.
template <class T>
void gather(const RecurrentSteps& steps, std::int64_t k, const T* from, std::int64_t row, const T* initial,
            std::int64_t width, T* to) {
  const std::int64_t t = steps.at(k - 1), rows = steps.rows(t), first = steps.first(t);
  for (std::int64_t n = 0; n < steps.batch; ++n) {
    const T* source = n < rows ? from + (first + n) * row : initial != nullptr ? initial + n * width : nullptr;
    if (source != nullptr)
      std::copy_n(source, width, to + n * width);
    else
      std::fill_n(to + n * width, width, T{0});
  }
}

}  // namespace

RecurrentSegments checkpoint_segments(const RecurrentSteps& steps) {
  return at_least(steps, root(steps.steps / 3), 48);
}
RecurrentSegments gate_segments(const RecurrentSteps& steps) { return at_least(steps, root(steps.steps), 256); }

template <class T>
void recurrent_forward_in_segments(const RecurrentSizes& sizes, const RecurrentSteps& steps,
                                   const RecurrentInputs<T>& in, const RecurrentOutputs<T>& out,
                                   RecurrentSegments segments, RecurrentCheckpoints<T> checkpoints) {
  const std::int64_t h_size = steps.batch * sizes.output(), c_size = steps.batch * sizes.hidden;
  RecurrentInputs<T> from = in;
  for (std::int64_t i = 0, count = segments.count(steps); i < count; ++i) {
    Segment segment(steps, segments, i);
    segment.steps.groups = sequence_groups<T>(sizes, segment.steps);
    RecurrentOutputs<T> to = out;
    from.x = segment.of(in.x, sizes.input);
    to.y = segment.of(out.y, out.y_row);
    if (i + 1 < count) {
      to.h_n = checkpoints.h + i * h_size;
      if (checkpoints.c != nullptr) to.c_n = checkpoints.c + i * c_size;
    }
    recurrent_forward(sizes, segment.steps, from, to);
    from.h0 = to.h_n, from.c0 = to.c_n;
  }
}

template <class T>
void recurrent_backward_in_segments(const RecurrentSizes& sizes, const RecurrentSteps& steps,
                                    const RecurrentInputs<T>& in, const RecurrentOutputs<T>& out,
                                    RecurrentSegments segments, RecurrentCheckpoints<T> checkpoints,
                                    const RecurrentCotangents<T>& dy, const RecurrentGradients<T>& dx) {
  const bool has_cells = sizes.kind == RecurrentKind::LSTM, runs_again = out.y == nullptr;
  const std::int64_t h_size = steps.batch * sizes.output(), c_size = steps.batch * sizes.hidden;
  const std::int64_t rows = std::min(steps.all(), segments.every * steps.rows(0));
  const std::int64_t slab = pad<T>(sizes.hidden), count = segments.count(steps);
  const Scratch<T> gates(rows * gate_row<T>(sizes)), unprojected(sizes.projected > 0 ? rows * slab : 0);
  const Scratch<T> y(runs_again ? rows * sizes.output() : 0), cells(runs_again && has_cells ? rows * slab : 0);
  const Scratch<T> h(runs_again ? 0 : h_size), c(runs_again || !has_cells ? 0 : c_size);
  const Scratch<T> dh(h_size), dc(has_cells ? c_size : 0);

  for (std::int64_t i = count - 1; i >= 0; --i) {
    Segment segment(steps, segments, i);
    if (runs_again) segment.steps.groups = sequence_groups<T>(sizes, segment.steps);
    RecurrentInputs<T> from = in;
    from.x = segment.of(in.x, sizes.input);
    RecurrentOutputs<T> kept{.y = y.data(),
                             .y_row = sizes.output(),
                             .h_n = nullptr,
                             .c_n = nullptr,
                             .gates = sizes.slabs() > 1 ? gates.data() : nullptr,
                             .cells = cells.data(),
                             .unprojected = unprojected.data()};
    if (runs_again) {
      if (i > 0) {
        from.h0 = checkpoints.h + (i - 1) * h_size;
        if (has_cells) from.c0 = checkpoints.c + (i - 1) * c_size;
      }
      recurrent_forward(sizes, segment.steps, from, kept);
    } else {
      kept.y = segment.of(out.y, out.y_row), kept.y_row = out.y_row;
      kept.cells = segment.of(out.cells, slab);
      if (i > 0) {
        gather<T>(steps, segment.k0, out.y, out.y_row, in.h0, sizes.output(), h.data());
        from.h0 = h.data();
        if (has_cells) gather<T>(steps, segment.k0, out.cells, slab, in.c0, sizes.hidden, c.data());
        from.c0 = c.data();
      }
      recurrent_gates(sizes, segment.steps, from, kept);
    }
    RecurrentCotangents<T> of_outputs{segment.of(dy.y, dy.y_row), dy.y_row, dy.h_n, dy.c_n};
    RecurrentGradients<T> to = dx;
    to.x = segment.of(dx.x, sizes.input);
    if (i + 1 < count) of_outputs.h_n = dh.data(), of_outputs.c_n = dc.data(), to.add = true;
    if (i > 0) to.h0 = dh.data(), to.c0 = dc.data();
    recurrent_backward(sizes, segment.steps, from, kept, gates.data(), of_outputs, to);
  }
}

#define UNROLL_SEGMENTS_OF(T)                                                                                          \
  template void recurrent_forward_in_segments(const RecurrentSizes&, const RecurrentSteps&, const RecurrentInputs<T>&, \
                                              const RecurrentOutputs<T>&, RecurrentSegments, RecurrentCheckpoints<T>); \
  template void recurrent_backward_in_segments(                                                                        \
      const RecurrentSizes&, const RecurrentSteps&, const RecurrentInputs<T>&, const RecurrentOutputs<T>&,             \
      RecurrentSegments, RecurrentCheckpoints<T>, const RecurrentCotangents<T>&, const RecurrentGradients<T>&);
UNROLL_SEGMENTS_OF(float)
UNROLL_SEGMENTS_OF(double)
#undef UNROLL_SEGMENTS_OF

}  // namespace unroll::kernels
