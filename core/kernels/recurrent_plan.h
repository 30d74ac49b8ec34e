#pragma once
#include <unroll/core/kernels/float_mode.h>
#include <unroll/core/kernels/recurrent.h>
#include <unroll/core/kernels/scratch.h>
#include <unroll/core/parallel.h>

namespace unroll::kernels {

/// While it lives this thread's denormal results are zeros: gates that saturate make them, and one costs as much as a
/// hundred others. So do the pool's threads meanwhile, as they compute in the caller's mode. The host's comes back at
/// the end.
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

/// How many threads so many multiply-adds are worth. To wake one takes microseconds, in which it does 10⁵ of them. And
/// what one has written comes to the other a line at a time: across a chip, gradients of weights waited so long for it
/// that an LSTM of 4.9 million (T 50, N 16, H 32) was no faster with two threads.
inline std::int64_t threads_for(std::int64_t work) {
  constexpr std::int64_t kNear = 500'000, kFar = 3'000'000, kFarTrip = 300;  // multiply-adds a thread; ns
  const std::int64_t most = get_num_threads(), if_near = std::min(most, work / kNear),
                     if_far = std::max<std::int64_t>(1, std::min(most, work / kFar));
  return if_near > if_far && detail::round_trip() <= kFarTrip ? if_near : if_far;
}

/// The plan of a layer, or, where what is kept of its sequences is in groups, of those who made them.
template <class T>
ThreadPlan plan_threads(const RecurrentSizes& sizes, const RecurrentSteps& steps) {
  ThreadPlan plan;
  if (steps.groups > 1) return {steps.groups, steps.groups, true};
  const std::int64_t step_work = steps.batch * sizes.gates() * sizes.hidden * sizes.output();  // multiply-adds
  const std::int64_t work = steps.all() * sizes.gates() * sizes.hidden * (sizes.input + sizes.output());
  const std::int64_t threads = threads_for(work);
  if (threads == 1) return plan;
  plan.all_parts = threads;
  const std::int64_t weights = sizes.gates() * sizes.hidden * sizes.output() * static_cast<std::int64_t>(sizeof(T));
  plan.by_rows = weights <= detail::caches().l2 * 3 / 4 || step_work < 300'000 * threads;
  const std::int64_t blocks = steps.batch / 3;  // rows below which a tile of C is too low
  plan.parts = plan.by_rows ? std::max<std::int64_t>(1, std::min(threads, blocks)) : threads;
  return plan;
}

/// In how many groups to keep the rows of a layer's sequences: one for each thread, if each has sequences of its own
/// from the first step to the last. In the order of steps, rows of two threads are neighbours in each step, and the
/// processor that reads on beyond one thread's takes lines from the other who is about to write them, or has: with
/// cores that share no cache, that takes longer than the step. (y keeps its order, and something of that.)
template <class T>
std::int64_t sequence_groups(const RecurrentSizes& sizes, const RecurrentSteps& steps) {
  constexpr std::int64_t kFewest = 6;  // rows that are one tile, or two
  if (steps.steps == 1 || !steps.packed.empty()) return 1;
  const ThreadPlan plan = plan_threads<T>(sizes, steps);
  const bool own = plan.by_rows && plan.parts == plan.all_parts;
  return own && steps.batch >= kFewest * plan.parts ? plan.parts : 1;
}

/// Rows of the sequences, some `copies` of each. Those of two groups are far from each other, as what the processor
/// fetches on its own is to be of one group: 64 KiB were better than a page, and cost addresses only.
template <class T>
class States {
 public:
  /// Once, in place: a copy, written by numbers and read by vectors, would wait until they have reached the cache.
  void make(const RecurrentSteps& steps, std::int64_t row, std::int64_t copies = 1) {
    steps_ = &steps, row_ = row, copies_ = copies;
    data_ = Scratch<T>(copies * steps.batch * row + (steps.groups - 1) * kApart);
  }
  /// From where the row of sequence n is n rows on, for all n of one group; null if there are none.
  T* of(std::int64_t n, std::int64_t copy = 0) const {
    if (data_.data() == nullptr) return nullptr;
    return steps_->groups == 1 ? data_.data() + copy * steps_->batch * row_ : of_group(steps_->group_of(n), copy);
  }
  T* row(std::int64_t n) const { return of(n) + n * row_; }
  void zero() { data_.data() == nullptr || steps_->groups == 1 ? data_.zero() : zero_groups(); }

 private:
  T* of_group(std::int64_t g, std::int64_t copy) const {
    const std::int64_t begin = steps_->group_begin(g), count = steps_->group_begin(g + 1) - begin;
    return data_.data() + g * kApart + (copies_ * begin + copy * count - begin) * row_;
  }
  void zero_groups() {
    for (std::int64_t g = 0; g < steps_->groups; ++g)
      std::fill_n(row(steps_->group_begin(g)), copies_ * (steps_->group_begin(g + 1) - steps_->group_begin(g)) * row_,
                  T{0});
  }

  static constexpr std::int64_t kApart = (64 << 10) / sizeof(T);
  const RecurrentSteps* steps_ = nullptr;
  std::int64_t row_ = 0, copies_ = 1;
  Scratch<T> data_;
};

}  // namespace unroll::kernels
