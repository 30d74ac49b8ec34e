#include <fmt/format.h>
#include <unroll/autograd/anomaly.h>
#include <unroll/autograd/node.h>
#include <unroll/core/kernels/copy.h>

#include <algorithm>
#include <cmath>

namespace unroll {

// -- Where

namespace {
thread_local bool quiet = false;
}  // namespace

namespace detail {

constinit thread_local const Where* innermost_of_thread = nullptr;

std::string Where::join(bool parts_only) {
  std::vector<std::string> pieces;  // innermost first
  for (const Where* where = innermost_of_thread; where; where = where->outer_) {
    if (parts_only && !where->is_part()) continue;
    std::string piece = where->text();
    auto is_within = [&](const std::string& later) { return later == piece || later.starts_with(piece + '.'); };
    if (std::ranges::none_of(pieces, is_within)) pieces.push_back(std::move(piece));
  }
  std::reverse(pieces.begin(), pieces.end());
  return fmt::format("{}", fmt::join(pieces, ", "));
}

std::string Where::path() {
  std::string all = join(false);
  return all.empty() ? "no module" : all;
}

std::string whereabouts() {
  const std::string parts = Where::parts();
  return parts.empty() ? parts : fmt::format(" (in {})", parts);
}

GradientScope::GradientScope(const Node& node) noexcept : node_(node), quiet_before_(std::exchange(quiet, true)) {}

GradientScope::~GradientScope() { quiet = quiet_before_; }

std::string GradientScope::text() const { return fmt::format("the gradient of {}", node_.name()); }

}  // namespace detail

std::string AnomalyScope::text() const {
  std::string text = index_ < 0 ? label_ : fmt::format("{} {}", label_, index_);
  if (!file_) return text;
  std::string_view file = file_;
  file.remove_prefix(file.find_last_of('/') + 1);
  return fmt::format("{} ({}:{})", text, file, line_);
}

// -- NaN

namespace {
// The row-major number of the first NaN, or −1.
std::int64_t first_nan(const Tensor& x) {
  if (!x.defined() || !x.is_floating_point()) return -1;
  const Tensor row_major = kernels::contiguous(x);
  return dispatch_float("anomaly", x.dtype(), [&]<class T>() -> std::int64_t {
    const T *begin = row_major.raw<T>(), *end = begin + row_major.numel();
    const T* found = std::find_if(begin, end, [](T v) { return std::isnan(v); });
    return found == end ? -1 : found - begin;
  });
}
}  // namespace

namespace detail {

std::string find_nan(const Tensor& x) {
  const std::int64_t number = first_nan(x);
  return number < 0 ? std::string() : to_string(index_of(x.shape(), number));
}

void check_forward(const char* op, std::span<const Arg> inputs, std::span<const Tensor> outputs) {
  if (quiet) return;
  for (std::size_t j = 0; j < outputs.size(); ++j) {
    const Tensor& y = outputs[j];
    auto shared = [&](const Arg& x) { return x.tensor->defined() && x.tensor->shares_memory(y); };
    if (!y.defined() || std::ranges::any_of(inputs, shared) || first_nan(y) < 0) continue;

    std::string source;
    for (std::size_t i = 0; i < inputs.size(); ++i)
      if (std::string at = find_nan(*inputs[i].tensor); !at.empty())
        source += fmt::format("{}input {} at {}", source.empty() ? "; it came in by " : " and ", i, at);
    // Not fail(), which would name the place once more.
    throw GradError(fmt::format("{}: output {} has a NaN at {}{}; in {}", op, j, find_nan(y),
                                source.empty() ? "; no input has one" : source, Where::path()));
  }
}

}  // namespace detail
}  // namespace unroll
