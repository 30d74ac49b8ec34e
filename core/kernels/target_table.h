#pragma once

#include <type_traits>

/// How a file of vector code hands its functions to the rest of the library: as a table of pointers, of which there is
/// one a target and element type.
///
///     namespace unroll::kernels::HWY_NAMESPACE {
///     template <class T>
///     constexpr SoftmaxRow<T> kSoftmaxRow = {row_max<T>, exp_sum<T>};
///     UNROLL_TABLE_OF_TARGET(SoftmaxRow)
///     }
///     #if HWY_ONCE
///     namespace unroll::kernels {
///     UNROLL_CHOOSE_TABLE(SoftmaxRow)
///     // … chosen_SoftmaxRow<T>().max(x, n)
///
/// The table's type is declared before the first namespace, once: in the file's header, or between an include guard.
#define UNROLL_TABLE_OF_TARGET(Table)                           \
  const Table<float>* Table##F32() { return &k##Table<float>; } \
  const Table<double>* Table##F64() { return &k##Table<double>; }

#define UNROLL_CHOOSE_TABLE(Table)                \
  HWY_EXPORT(Table##F32);                         \
  HWY_EXPORT(Table##F64);                         \
  template <class T>                              \
  static const Table<T>& chosen_##Table() {       \
    if constexpr (std::is_same_v<T, float>)       \
      return *HWY_DYNAMIC_DISPATCH(Table##F32)(); \
    else                                          \
      return *HWY_DYNAMIC_DISPATCH(Table##F64)(); \
  }
