#include <unroll/core/kernels/target_table.h>

#include <hwy/highway.h>

namespace unroll::kernels {
namespace {

// Ours alone: what a program that uses Highway itself does with its choice changes nothing here.
constinit hwy::ChosenTarget chosen;

}  // namespace

std::int64_t supported_targets() {
  std::int64_t targets = HWY_STATIC_TARGET;
#if HWY_ARCH_X86
  // The features that Highway compiles each target for (hwy/ops/set_macros-inl.h), of which the compiler's library asks
  // the CPU and, for the registers, the system. clang 14 has no name for f16c, which comes with AVX2; no kernel here
  // has half precision.
  __builtin_cpu_init();
  if (__builtin_cpu_supports("sse4.2") && __builtin_cpu_supports("pclmul") && __builtin_cpu_supports("aes")) {
    targets |= HWY_SSE4;
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("bmi") &&
        __builtin_cpu_supports("bmi2")) {
      targets |= HWY_AVX2;
      if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl") &&
          __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512bw"))
        targets |= HWY_AVX3;
    }
  }
#endif
  return targets & HWY_TARGETS;
}

std::size_t chosen_target() {
  if (!chosen.IsInitialized()) chosen.Update(supported_targets());
  return chosen.GetIndex();
}

void allow_targets(std::int64_t targets) {
  const std::int64_t supported = supported_targets();
  chosen.Update(targets == 0 ? supported : targets & supported);
}

}  // namespace unroll::kernels
