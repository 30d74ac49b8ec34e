#pragma once
#include <unroll/core/tensor.h>

#include <iosfwd>
#include <limits>
#include <optional>
#include <string>
#include <vector>

#pragma GCC visibility push(default)
namespace unroll {

/// What a check of gradients can find to be wrong.
enum class GradcheckFault : std::uint8_t {
  Nondeterministic,  // two runs of the function differ; nothing is checked then
  Value,             // the analytic derivative is not the numeric one
  NotReentrant,      // a second backward through the same graph gives another gradient
  Cotangent,         // the gradient is not linear in the cotangent: zero does not give exactly zero
  Layout,            // a cotangent that is not contiguous gives another gradient
  Undefined,         // an output that is left out of backward does not count as zero
  Subset,            // the gradient depends on which inputs require one
  CreateGraph,       // the gradient is another one under create_graph
  Accumulation,      // two backwards do not add up in grad()
  Leak,              // nodes or tensors are left behind
  Written,           // the function or its gradient wrote to an input
  Float32,           // the gradient in float32 is not that in float64
  Skipped            // more than 5 % of the elements could not be measured, because f is not smooth there
};
const char* to_string(GradcheckFault fault);

enum class GradcheckVerdict : std::uint8_t {
  Passed,
  NothingTested,  // all derivatives are zero, which is what a function that ignores its inputs has as well
  Failed
};

/// One element of an input: its derivative as backward says it and as differences measured it, which is right to about
/// `uncertainty`.
struct GradcheckElement {
  Shape index;
  double analytic = 0, numeric = 0, uncertainty = 0;
};

/// What was found of one input, or of one block of its rows. The derivatives are those of v·y for random v.
struct GradcheckRow {
  std::string name;   // "weight_hh_l0"
  std::string block;  // "f"; empty for the whole input
  std::size_t input = 0;
  Shape shape;
  std::int64_t elements = 0, wrong = 0, skipped = 0;
  double max_abs_error = 0, max_rel_error = 0;
  double scale = 0;  // the largest numeric derivative
  /// Of analytic to numeric, by least squares, and the cosine of the angle between them. NaN when the numeric ones are
  /// all zero.
  double ratio = std::numeric_limits<double>::quiet_NaN(), cosine = ratio;
  bool zero = false;      // every analytic derivative is exactly 0
  bool untested = false;  // every numeric derivative is 0 but for rounding
  GradcheckElement worst;
};

/// One derivative, of an element of an output by an element of an input.
struct GradcheckPair {
  std::string input;
  std::size_t output = 0;
  Shape output_index, input_index;
  double analytic = 0, numeric = 0;
};

/// What gradcheck_report found. `to_string` makes it a table for a terminal.
struct GradcheckReport {
  struct Finding {
    GradcheckFault fault;
    std::string text;
  };

  GradcheckVerdict verdict = GradcheckVerdict::Passed;
  std::vector<Finding> findings;      // what is wrong
  std::vector<GradcheckRow> rows;     // an input, then its blocks, then the next input
  std::optional<GradcheckPair> pair;  // the derivative that is most wrong
  std::vector<std::string> hints;     // what such an error usually comes from
  std::vector<std::string> notes;     // what could not be tested

  bool ok() const noexcept { return findings.empty(); }
  bool has(GradcheckFault fault) const noexcept;
  /// The row of that input or block. Raises ValueError when there is none.
  const GradcheckRow& row(std::string_view name, std::string_view block = {}) const;
};
std::string to_string(const GradcheckReport& report);
std::ostream& operator<<(std::ostream& stream, const GradcheckReport& report);

/// How a report names what it speaks of, and what its hints may reckon with. All of it may be left out.
struct GradcheckLabels {
  struct Input {
    std::string name;
    /// Names of as many equal blocks of rows: "i", "f", "g", "o" of a weight (4H, I).
    std::vector<std::string> blocks = {};
  };
  std::vector<Input> inputs = {};
  std::int64_t batch = 0, steps = 0;  // N and T
  double dropout = 0;
};

}  // namespace unroll
#pragma GCC visibility pop
