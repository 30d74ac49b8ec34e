#pragma once
#include <hwy/targets.h>

#include <cstdint>
#include <string>

/// Calls f(name) with each instruction set in turn that the library was compiled for and this CPU has, the best first.
template <class F>
void for_targets(F f) {
  struct Restore {
    ~Restore() { allow(0); }
    static void allow(std::int64_t targets) {
      hwy::SetSupportedTargetsForTest(targets);
      hwy::GetChosenTarget().DeInit();
    }
  } restore;
  for (std::int64_t target : hwy::SupportedAndGeneratedTargets()) {
    Restore::allow(target);
    f(std::string(hwy::TargetName(target)));
  }
}
