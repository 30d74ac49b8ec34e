#pragma once
#include <cstdint>

#if defined(__x86_64__)
#include <xmmintrin.h>
#endif

namespace unroll::kernels {

/// How a thread rounds, and what it makes of denormals: the processor's register.
#if defined(__x86_64__)
using FloatMode = unsigned;
constexpr FloatMode kFlushDenormals = 0x8040;  // flush to zero, denormals are zero
inline FloatMode float_mode() noexcept { return _mm_getcsr(); }
inline void set_float_mode(FloatMode mode) noexcept { _mm_setcsr(mode); }
#elif defined(__aarch64__)
using FloatMode = std::uint64_t;
constexpr FloatMode kFlushDenormals = 1u << 24;
inline FloatMode float_mode() noexcept {
  FloatMode mode;
  asm volatile("mrs %0, fpcr" : "=r"(mode));
  return mode;
}
// What is computed before and after stays there: it comes from memory and goes to memory.
inline void set_float_mode(FloatMode mode) noexcept { asm volatile("msr fpcr, %0" : : "r"(mode) : "memory"); }
#else
using FloatMode = unsigned;
constexpr FloatMode kFlushDenormals = 0;
inline FloatMode float_mode() noexcept { return 0; }
inline void set_float_mode(FloatMode) noexcept {}
#endif

/// While it lives this thread computes in that mode.
class FloatModeScope {
 public:
  explicit FloatModeScope(FloatMode mode) noexcept { set_float_mode(mode); }
  ~FloatModeScope() { set_float_mode(before_); }
  FloatModeScope(const FloatModeScope&) = delete;
  FloatModeScope& operator=(const FloatModeScope&) = delete;

 private:
  const FloatMode before_ = float_mode();
};

}  // namespace unroll::kernels
