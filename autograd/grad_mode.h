#pragma once
#include <utility>

#pragma GCC visibility push(default)
namespace unroll {

namespace detail {
// A thread's switches. Functions, because a thread_local variable cannot be shared with a dynamic library everywhere.
bool& grad_mode() noexcept;
bool& fused_mode() noexcept;

/// Sets a switch of this thread until the end of the scope, exceptions included.
template <bool& (*Switch)() noexcept>
class ScopedSwitch {
 public:
  explicit ScopedSwitch(bool on) noexcept : before_(std::exchange(Switch(), on)) {}
  ~ScopedSwitch() { Switch() = before_; }
  ScopedSwitch(const ScopedSwitch&) = delete;
  ScopedSwitch& operator=(const ScopedSwitch&) = delete;
  static bool enabled() noexcept { return Switch(); }

 private:
  bool before_;
};
}  // namespace detail

/// Whether ops of this thread are recorded: `GradMode guard(false);` stops it until the end of the scope. On to begin
/// with.
using GradMode = detail::ScopedSwitch<detail::grad_mode>;

/// Whether layers may use their fused kernels; off, they run the ops they are defined by, and the whole graph can be
/// seen. On to begin with.
using FusedMode = detail::ScopedSwitch<detail::fused_mode>;

/// Records nothing until the end of the scope.
class NoGrad : public GradMode {
 public:
  NoGrad() noexcept : GradMode(false) {}
};

}  // namespace unroll
#pragma GCC visibility pop
