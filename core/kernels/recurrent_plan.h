#pragma once
#include <unroll/core/kernels/float_mode.h>
#include <unroll/core/kernels/recurrent.h>
#include <unroll/core/parallel.h>

namespace unroll::kernels {

/// While it lives this thread's denormal results are zeros: gates that saturate make them, and one costs as much as a
/// hundred others. The host's mode comes back at the end.
struct FlushDenormals : FloatModeScope {
  FlushDenormals() noexcept : FloatModeScope(float_mode() | kFlushDenormals) {}
};

/// How many threads do what. Nothing of it can be seen in a result: every element is computed by one thread, as by any
/// other.
struct ThreadPlan {
  std::int64_t all_parts = 1;  // of what all steps do at once
  std::int64_t parts = 1;      // of a step
  bool by_rows = true;         // a step's parts are rows of the batch, which need not wait for each other; else units
};

template <class T>
ThreadPlan plan_threads(const RecurrentSizes& sizes, const RecurrentSteps& steps) {
  ThreadPlan plan;
  const std::int64_t threads = get_num_threads();
  const std::int64_t step_work = steps.batch * sizes.gates() * sizes.hidden * sizes.output();  // multiply-adds
  const std::int64_t work = steps.all() * sizes.gates() * sizes.hidden * (sizes.input + sizes.output());
  // Waking a thread takes some microseconds, in which one does some 10⁵ multiply-adds.
  if (threads == 1 || work < 1'000'000) return plan;
  plan.all_parts = threads;
  const std::int64_t weights = sizes.gates() * sizes.hidden * sizes.output() * static_cast<std::int64_t>(sizeof(T));
  plan.by_rows = weights <= caches().l2 * 3 / 4 || step_work < 300'000 * threads;
  const std::int64_t blocks = steps.batch / 3;  // rows below which a tile of C is too low
  plan.parts = plan.by_rows ? std::max<std::int64_t>(1, std::min(threads, blocks)) : threads;
  return plan;
}

}  // namespace unroll::kernels
