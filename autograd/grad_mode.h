#pragma once
#include <utility>

#pragma GCC visibility push(default)
namespace unroll {

namespace detail {
/// A thread's switches.
struct Switches {
  bool grad = true, fused = true, anomaly = false;
};
/// Of initial-exec, as ops read them several times: that is a move, where another model of thread_local memory calls a
/// function.
[[gnu::tls_model("initial-exec")]] extern constinit thread_local Switches switches_of_thread;
inline Switches& switches() noexcept { return switches_of_thread; }

/// Sets a switch of this thread until the end of the scope, exceptions included.
template <bool Switches::*Switch>
class ScopedSwitch {
 public:
  [[nodiscard]] explicit ScopedSwitch(bool on) noexcept : before_(std::exchange(switches().*Switch, on)) {}
  ~ScopedSwitch() { switches().*Switch = before_; }
  ScopedSwitch(const ScopedSwitch&) = delete;
  ScopedSwitch& operator=(const ScopedSwitch&) = delete;
  static bool enabled() noexcept { return switches().*Switch; }

 private:
  bool before_;
};
}  // namespace detail

/// Whether ops of this thread are recorded: `GradMode guard(false);` stops it until the end of the scope. On to begin
/// with.
using GradMode = detail::ScopedSwitch<&detail::Switches::grad>;

/// Whether layers may use their fused kernels; off, they run the ops they are defined by, and the whole graph can be
/// seen. On to begin with.
using FusedMode = detail::ScopedSwitch<&detail::Switches::fused>;

/// Records nothing until the end of the scope.
class NoGrad : public GradMode {
 public:
  [[nodiscard]] NoGrad() noexcept : GradMode(false) {}
};

}  // namespace unroll
#pragma GCC visibility pop
