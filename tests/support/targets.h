#pragma once
#include <hwy/targets.h>
#include <unroll/core/kernels/target_table.h>

#include <string>

/// Calls f(name) with each instruction set in turn that the library was compiled for and this CPU has, the best first.
template <class F>
void for_targets(F f) {
  struct Restore {
    ~Restore() { unroll::kernels::allow_targets(0); }
  } restore;
  for (std::int64_t left = unroll::kernels::supported_targets(); left != 0; left &= left - 1) {
    const std::int64_t best = left & -left;
    unroll::kernels::allow_targets(best);
    f(std::string(hwy::TargetName(best)));
  }
}
