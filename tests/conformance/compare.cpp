#include "compare.h"

#include <fmt/ranges.h>

#include <bit>
#include <cmath>
#include <limits>

namespace conformance {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();

/// The largest error that a kind allows, by dtype. 0 asks for every bit.
struct Bound {
  std::string_view kind;
  double float64, float32, float32_gradient;
  bool each_element = false;  // against its own magnitude, not that of the largest in the tensor
};

constexpr double kUnheardOf = -1;  // PyTorch's side writes no such case
constexpr Bound kBounds[] = {
    {"module", 1e-11, 1e-5, 3e-5},
    {"packed", 1e-11, 1e-5, 3e-5},
    {"dropout", 1e-11, 1e-5, 3e-5},
    {"loss", 1e-11, 1e-5, 3e-5},
    {"op", 1e-11, 1e-5, 3e-5},
    {"double", 1e-9, kUnheardOf, kUnheardOf},
    {"optim", 1e-13, 1e-6, 1e-6},
    {"schedule", 1e-13, 1e-6, 1e-6},
    {"train", 1e-9, kUnheardOf, kUnheardOf, true},
    {"init", 0, 0, 0},
    {"random", 0, 0, 0},
};

double bound_of(const Bound& row, const Answer& answer) {
  const DType dtype = answer.value.dtype();
  if (!is_floating(dtype)) return 0;
  const double bound = dtype == DType::Float64            ? row.float64
                       : answer.name.starts_with("grad.") ? row.float32_gradient
                                                          : row.float32;
  check<ValueError>(bound != kUnheardOf, "kind {} has no bound for {}", row.kind, dtype);
  return bound;
}

/// Whether a and b have the same bits, are both NaN, or are at most `ulps` apart.
template <class T>
bool same(T a, T b, std::int64_t ulps) {
  if constexpr (std::is_floating_point_v<T>) {
    using Bits = std::conditional_t<sizeof(T) == 8, std::int64_t, std::int32_t>;
    const auto x = std::bit_cast<Bits>(a), y = std::bit_cast<Bits>(b);
    if (x == y || (std::isnan(a) && std::isnan(b))) return true;
    // Numbers of one sign are ordered as their bits are.
    return (x < 0) == (y < 0) && std::abs(std::int64_t{x} - std::int64_t{y}) <= ulps;
  } else {
    return a == b;
  }
}

/// The element that is furthest off.
struct Worst {
  bool allowed = true;
  double error = 0;
  std::size_t index = 0;
};

template <class T>
double magnitude(T x) {
  return std::isfinite(static_cast<double>(x)) ? std::abs(static_cast<double>(x)) : 0;
}

template <class T>
Worst furthest(const std::vector<T>& got, const std::vector<T>& expected, double bound, bool each_element,
               std::int64_t ulps) {
  double largest = 0;
  for (T x : expected) largest = std::max(largest, magnitude(x));
  Worst worst;
  for (std::size_t i = 0; i < got.size(); ++i) {
    if (same<T>(got[i], expected[i], 0)) continue;
    const double apart = std::abs(static_cast<double>(got[i]) - static_cast<double>(expected[i]));
    const double scale = std::max(1e-3, each_element ? magnitude(expected[i]) : largest);
    const double error = std::isfinite(apart) ? apart / scale : kInfinity;
    const bool allowed = bound == 0 ? same<T>(got[i], expected[i], ulps) : error <= bound;
    if (allowed > worst.allowed) continue;
    if (allowed < worst.allowed || error > worst.error) worst = {allowed, error, i};
  }
  return worst;
}

/// "[1, 0, 4]"
std::string place(std::size_t index, const Shape& shape) {
  std::vector<std::int64_t> at(shape.size());
  auto rest = static_cast<std::int64_t>(index);
  for (std::size_t d = shape.size(); d-- > 0; rest /= shape[d]) at[d] = rest % shape[d];
  return fmt::format("{}", at);
}

/// Compares one tensor. Returns what is wrong with it, "" if nothing, and its error.
std::pair<std::string, double> compare(const Bound& row, const Answer& answer, const Tensor& expected) {
  const Tensor& got = answer.value;
  if (!got.defined()) return {answer.name + ": got no tensor", kInfinity};
  if (got.dtype() != expected.dtype())
    return {fmt::format("{}: expected {}, got {}", answer.name, expected.dtype(), got.dtype()), kInfinity};
  if (!(got.shape() == expected.shape()))
    return {fmt::format("{}: expected shape {}, got {}", answer.name, expected.shape(), got.shape()), kInfinity};

  return dispatch(got.dtype(), [&]<class T>() -> std::pair<std::string, double> {
    const auto a = got.to_vector<T>(), b = expected.to_vector<T>();
    const double bound = bound_of(row, answer);
    const Worst worst = furthest<T>(a, b, bound, row.each_element, answer.ulps);
    if (worst.allowed) return {"", worst.error};
    const std::string limit = bound > 0          ? fmt::format("bound {:g}", bound)
                              : answer.ulps == 0 ? "to be equal to the bit"
                                                 : fmt::format("to be within {} ulp", answer.ulps);
    return {fmt::format("{}{}: expected {}, got {}, error {:.2e}, {}", answer.name, place(worst.index, got.shape()),
                        T(b[worst.index]), T(a[worst.index]), worst.error, limit),
            worst.error};
  });
}

}  // namespace

Verdict judge(Case& c, const Answers& answers) {
  const std::string kind = c.option("kind");
  const Bound* row = std::ranges::find(kBounds, kind, &Bound::kind);
  check<ValueError>(row != std::end(kBounds), "kind {} has no bounds", kind);

  Verdict verdict;
  double worst_failure = -1;
  std::size_t failures = 0;
  std::map<std::string, Tensor> unanswered = c.expected();
  for (const Answer& answer : answers) {
    const auto expected = unanswered.find(answer.name);
    check<ValueError>(expected != unanswered.end(), "the case has no tensor expect.{}, or it was computed twice",
                      answer.name);
    const auto [failure, error] = compare(*row, answer, expected->second);
    verdict.error = std::max(verdict.error, error);
    if (!failure.empty()) {
      ++failures;
      if (error > worst_failure) worst_failure = error, verdict.failure = failure;
    }
    unanswered.erase(expected);
  }
  if (failures > 1) verdict.failure += fmt::format(" (and {} more tensors)", failures - 1);
  check<ValueError>(!answers.empty(), "nothing was compared");
  check<ValueError>(unanswered.empty(), "not compared: expect.{}", unanswered.empty() ? "" : unanswered.begin()->first);
  check<ValueError>(c.unread().empty(), "not understood: {}", fmt::format("{}", fmt::join(c.unread(), ", ")));
  return verdict;
}

}  // namespace conformance
