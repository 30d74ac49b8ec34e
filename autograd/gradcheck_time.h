#pragma once
#include <unroll/autograd/gradcheck.h>

#pragma GCC visibility push(default)
namespace unroll {

struct GradcheckTimeOptions {
  std::int64_t time_dim = 0;    // of x and of the output
  std::int64_t directions = 1;  // 2: the output's last dimension is a forward half and one that runs backward in time
  GradcheckOptions check = {};
};

/// Where in time the gradient of a sequence function goes wrong.
enum class TimeVerdict : std::uint8_t {
  Right,
  Local,  // already at the step itself: dx_t for a cotangent at step t (of layers above one that runs both ways, whose
          // steps are mixed, at the first step alone)
  Carry,  // right at the step itself, wrong at steps before it
  Truncated,  // right back to some steps, exactly zero from there on
  Start,      // right for all x, wrong for the initial state only
  Unmeasured  // nothing wrong was found, but f is not the same twice, not smooth or constant where it was looked at
};
const char* to_string(TimeVerdict verdict);

/// For a cotangent at output step t alone: the largest |analytic − numeric| in dx_s and in the initial states, relative
/// to the largest numeric derivative by the same input.
struct GradcheckTimeProfile {
  struct Direction {
    TimeVerdict verdict = TimeVerdict::Right;
    std::vector<std::vector<double>> error;  // [t][s]
    std::vector<std::vector<bool>> wrong;    // [t][s]
    std::vector<double> start_error;         // [t], over all initial states
    std::vector<bool> start_wrong;           // [t]
    /// The first output step with a wrong gradient, and the wrong step nearest to it; the initial state's is −1 (T in
    /// the reverse direction).
    std::int64_t first_t = -1, first_s = -1;
    std::int64_t reach = -1;  // when truncated: over how many steps the gradient gets
  };
  std::vector<Direction> directions;
  std::vector<std::string> hints;

  bool ok() const noexcept;
};
/// A triangle of marks, a row for each t, and the verdict.
std::string to_string(const GradcheckTimeProfile& profile);
std::ostream& operator<<(std::ostream& stream, const GradcheckTimeProfile& profile);

namespace detail {
/// `constants` are what f reads besides: converted with the inputs where they are float32.
GradcheckTimeProfile gradcheck_time(const CheckedFunction& f, const std::vector<Tensor>& inputs,
                                    const GradcheckTimeOptions& options, const std::vector<Tensor>& constants = {});
}  // namespace detail

/// Takes the gradient of a sequence function apart by time. `f` is as for gradcheck; inputs[0] is the sequence x, the
/// others that require a gradient are initial states; output 0 is the outputs over time, the others are not looked at.
/// Raises ValueError when x does not require a gradient or has not as many steps as the output, and when the output
/// cannot be halved for 2 directions.
template <class F>
GradcheckTimeProfile gradcheck_time(F f, const std::vector<Tensor>& inputs, const GradcheckTimeOptions& options = {}) {
  return detail::gradcheck_time(detail::checked_function(std::move(f)), inputs, options);
}

}  // namespace unroll
#pragma GCC visibility pop
