#pragma once
#include <cstddef>
#include <cstdint>

/// How a file of vector code hands its functions to the rest of the library: as a table of pointers, of which there is
/// one a target (instruction set) and element type.
///
///     namespace unroll::kernels::HWY_NAMESPACE {
///     template <class T>
///     constexpr SoftmaxRow<T> kSoftmaxRow = {row_max<T>, exp_sum<T>};
///     }
///     #if HWY_ONCE
///     namespace unroll::kernels {
///     UNROLL_CHOOSE_TABLE(SoftmaxRow)
///     // … chosen_SoftmaxRow<T>().max(x, n)
///
/// The table's type is declared before the first namespace, once: in the file's header, or between an include guard.
/// Not HWY_EXPORT, which needs Highway's library: Debian's calibrates a timer whenever it is loaded, for longer than
/// all the rest of a small program's start. Its headers are enough for this, of x86 and ARM.
#define UNROLL_CHOOSE_TABLE(Table)                                                              \
  template <class T>                                                                            \
  static const Table<T>& chosen_##Table() {                                                     \
    static constexpr const Table<T>* kTables[] = {nullptr, HWY_CHOOSE_TARGET_LIST(k##Table<T>), \
                                                  HWY_CHOOSE_FALLBACK(k##Table<T>)};            \
    return *kTables[chosen_target()];                                                           \
  }

namespace unroll::kernels {

/// Highway's bits (HWY_AVX2, …) of the targets that were compiled and that this CPU and its system can run.
std::int64_t supported_targets();

/// The place of the best of them in a table, as Highway's lists count it: from 1.
std::size_t chosen_target();

/// For tests: as if the CPU had only these of its targets; 0 for all of them again.
void allow_targets(std::int64_t targets);

}  // namespace unroll::kernels
