#pragma once
#include "case.h"

namespace conformance {

/// What the library computed for expect.NAME.
struct Answer {
  std::string name;
  Tensor value;
  /// Where the kind asks for every bit: by how many units in the last place an element may still be off.
  std::int64_t ulps = 0;
};
using Answers = std::vector<Answer>;

struct Verdict {
  /// The largest error of any tensor: max |got − expected| / max(1e-3, max |expected|).
  double error = 0;
  /// Why the case fails: which tensors, and the worst element. Empty if it passes.
  std::string failure;
};

/// Holds the answers against the case, within the bounds of its kind. Each expected tensor must be answered, each
/// answer expected, and each option and given tensor must have been read.
Verdict judge(Case& c, const Answers& answers);

}  // namespace conformance
