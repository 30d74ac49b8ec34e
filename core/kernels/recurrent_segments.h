#pragma once
#include <unroll/core/kernels/recurrent.h>

/// A layer in one direction whose forward keeps less than backward reads: backward computes the rest once more, a
/// segment of some steps at a time.
namespace unroll::kernels {

/// Segments of `every` steps, the last one of what is left.
struct RecurrentSegments {
  std::int64_t every;
  std::int64_t count(const RecurrentSteps& steps) const { return (steps.steps + every - 1) / every; }
};

/// Segments that make least of states and workspace together, if backward runs each of them from the state it began
/// with. Those states take 2T/k floats a unit, the gates, cells and outputs of a segment 6k: k = √(T/3).
RecurrentSegments checkpoint_segments(const RecurrentSteps& steps);
/// Segments for backward to compute the gates of, where h and c are kept.
RecurrentSegments gate_segments(const RecurrentSteps& steps);

/// The states that all segments but the first begin with, (segments − 1, N, Ho) and (segments − 1, N, H).
template <class T>
struct RecurrentCheckpoints {
  T *h = nullptr, *c = nullptr;
};

/// recurrent_forward that leaves checkpoints and no workspace.
template <class T>
void recurrent_forward_in_segments(const RecurrentSizes& sizes, const RecurrentSteps& steps,
                                   const RecurrentInputs<T>& in, const RecurrentOutputs<T>& out,
                                   RecurrentSegments segments, RecurrentCheckpoints<T> checkpoints);

/// recurrent_backward from out.y and out.cells, which are in one group; where out.y is null, from the checkpoints.
template <class T>
void recurrent_backward_in_segments(const RecurrentSizes& sizes, const RecurrentSteps& steps,
                                    const RecurrentInputs<T>& in, const RecurrentOutputs<T>& out,
                                    RecurrentSegments segments, RecurrentCheckpoints<T> checkpoints,
                                    const RecurrentCotangents<T>& dy, const RecurrentGradients<T>& dx);

}  // namespace unroll::kernels
