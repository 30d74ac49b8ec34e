#pragma once
#include <unroll/autograd/grad_mode.h>
#include <unroll/core/tensor.h>

#include <string>

#pragma GCC visibility push(default)
namespace unroll {

class Node;

/// While one lives and is on, this thread looks at the result of every op for a NaN, forward and backward, and raises
/// GradError at the first (what is written in place and not recorded is the next op's input):
///
///     AnomalyMode anomaly;
///     for (int64_t t = 0; t < T; ++t) {
///       AnomalyScope step("step", t);
///       state = cell(x[t], state);
///     }
///     loss.backward();
///
/// The text says which op or which gradient function it was, the output or input concerned, the place in the tensor,
/// whether the NaN came in from outside or arose there, and where that was: modules and AnomalyScopes, outermost first.
/// For a backward it is where the op was recorded, if that was under AnomalyMode. Views compute nothing and are passed
/// over. Layers run the ops they are defined by, as with FusedMode off, so that a step can be told from another. Off,
/// which is the default, NaN flows as IEEE says, and the cost is the test of a flag.
class AnomalyMode {
 public:
  [[nodiscard]] explicit AnomalyMode(bool on = true) noexcept : anomaly_(on), fused_(!on && FusedMode::enabled()) {}
  static bool enabled() noexcept { return detail::switches().anomaly; }

 private:
  detail::ScopedSwitch<&detail::Switches::anomaly> anomaly_;
  FusedMode fused_;
};

namespace detail {
class Where;
[[gnu::tls_model("initial-exec")]] extern constinit thread_local const Where* innermost_of_thread;

/// A piece of the path that errors name, and AnomalyMode. Pieces of a thread form a stack.
class Where {
 public:
  Where(const Where&) = delete;
  Where& operator=(const Where&) = delete;
  virtual std::string text() const = 0;
  /// Whether it tells more than the op's name. A module that is part of no other does not.
  virtual bool is_part() const { return true; }
  /// The pieces that this thread is in, outermost first: "rnn, step 7". A piece that a later one begins with is left
  /// out: "net" before "net.0". "no module" where there are none.
  static std::string path();
  /// Those of them that are parts; "" where there are none.
  static std::string parts() { return join(true); }

 protected:
  Where() noexcept : outer_(std::exchange(innermost_of_thread, this)) {}
  ~Where() { innermost_of_thread = outer_; }

 private:
  static std::string join(bool parts_only);
  const Where* const outer_;
};

/// What a gradient function computes; check_forward leaves it to the engine, which names the function and the input.
class GradientScope final : Where {
 public:
  explicit GradientScope(const Node& node) noexcept;
  ~GradientScope();

 private:
  std::string text() const override;
  const Node& node_;
  const bool quiet_before_;
};

/// An argument of record: refers to the tensor, copies nothing.
struct Arg {
  Arg(const Tensor& x) : tensor(&x) {}
  const Tensor* tensor;
};

/// Raises GradError if an output has a NaN.
void check_forward(const char* op, std::span<const Arg> inputs, std::span<const Tensor> outputs);

/// The index of the first NaN, as "(2, 1)"; "" if there is none.
std::string find_nan(const Tensor& x);
}  // namespace detail

/// Gives a name to what is computed until the end of the scope, "step 7", in the errors raised there and those of
/// AnomalyMode. Modules of the library and those that use Module::hooked name themselves.
class AnomalyScope final : private detail::Where {
 public:
  /// `label` must outlive the scope. A negative index is left out; file and line are the caller's, and left out where
  /// `file` is null.
  [[nodiscard]] explicit AnomalyScope(const char* label, std::int64_t index = -1, const char* file = __builtin_FILE(),
                                      int line = __builtin_LINE()) noexcept
      : label_(label), file_(file), index_(index), line_(line) {}

 private:
  std::string text() const override;
  const char *label_, *file_;
  std::int64_t index_;
  int line_;
};

}  // namespace unroll
#pragma GCC visibility pop
