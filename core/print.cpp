#include <fmt/format.h>
#include <unroll/core/print.h>

#include <algorithm>
#include <cmath>
#include <ostream>
#include <string_view>

namespace unroll {

namespace {

constexpr std::int64_t kThreshold = 1000, kEdge = 3;
constexpr std::size_t kLineWidth = 80;
constexpr std::string_view kPrefix = "tensor(";

// What separates two parts that do not stand on one line.
std::string line_break(std::size_t lines, std::size_t indent) {
  std::string text = ",";
  return text.append(lines, '\n').append(indent, ' ');
}

// Calls element(i) for the indices of a dimension of `size` that are shown, and dots() for those left out in between.
template <class Element, class Dots>
void for_shown(std::int64_t size, bool summarize, Element element, Dots dots) {
  bool cut = summarize && size > 2 * kEdge;
  for (std::int64_t i = 0; i < (cut ? kEdge : size); ++i) element(i);
  if (!cut) return;
  dots();
  for (std::int64_t i = size - kEdge; i < size; ++i) element(i);
}

// How one element is written; found from all that are shown, so that columns align.
class Format {
 public:
  void see(double value) {
    if (!std::isfinite(value) || value == 0) return;
    any_ = true;
    whole_ &= value == std::ceil(value);
    smallest_ = std::min(smallest_, std::abs(value));
    largest_ = std::max(largest_, std::abs(value));
  }
  void see(std::int64_t) {}
  void see(bool) {}

  void choose() { scientific_ = any_ && (largest_ / smallest_ > 1000 || largest_ > 1e8 || smallest_ < 1e-4); }

  // Zeros, NaN and infinities do not widen a column of reals: torch leaves them out, and they overflow it when they are
  // alone.
  void measure(double value) {
    if (std::isfinite(value) && value != 0) widen(write(value));
  }
  void measure(std::int64_t value) { widen(write(value)); }
  void measure(bool value) { widen(write(value)); }

  template <class T>
  std::string operator()(T value) const {
    return fmt::format("{:>{}}", write(value), width_);
  }
  std::size_t width() const { return width_; }

 private:
  void widen(const std::string& text) { width_ = std::max(width_, text.size()); }

  std::string write(double value) const {
    if (std::isnan(value)) return "nan";  // of either sign
    if (std::isinf(value)) return value < 0 ? "-inf" : "inf";
    if (scientific_) return fmt::format("{:.4e}", value);
    return whole_ ? fmt::format("{:.0f}.", value) : fmt::format("{:.4f}", value);
  }
  std::string write(std::int64_t value) const { return fmt::format("{}", value); }
  std::string write(bool value) const { return value ? "true" : "false"; }

  bool any_ = false, whole_ = true, scientific_ = false;
  double smallest_ = HUGE_VAL, largest_ = 0;
  std::size_t width_ = 1;
};

template <class T>
class Printer {
 public:
  explicit Printer(const Tensor& x) : x_(x), first_(x.raw<T>()), summarize_(x.numel() > kThreshold) {
    visit(0, first_, [this](T value) { format_.see(widened(value)); });
    format_.choose();
    visit(0, first_, [this](T value) { format_.measure(widened(value)); });
  }

  std::string text() const { return text(0, first_, kPrefix.size()); }

 private:
  static auto widened(T value) {
    if constexpr (std::is_floating_point_v<T>)
      return static_cast<double>(value);
    else
      return value;
  }

  std::size_t rank() const { return x_.shape().size(); }

  template <class F>
  void visit(std::size_t d, const T* p, F f) const {
    if (d == rank()) return f(*p);
    for_shown(
        x_.shape()[d], summarize_, [&](std::int64_t i) { visit(d + 1, p + i * x_.strides()[d], f); }, [] {});
  }

  // The part of x that begins at p and has dimensions d, d + 1, …, its bracket opening in column `indent`.
  std::string text(std::size_t d, const T* p, std::size_t indent) const {
    if (d == rank()) return format_(widened(*p));
    if (d + 1 == rank()) return row(p, indent);
    std::string gap = line_break(rank() - d - 1, indent + 1), result = "[";
    auto add = [&](const std::string& part) {
      if (result.size() > 1) result += gap;
      result += part;
    };
    for_shown(
        x_.shape()[d], summarize_, [&](std::int64_t i) { add(text(d + 1, p + i * x_.strides()[d], indent + 1)); },
        [&] { add("..."); });
    return result + "]";
  }

  std::string row(const T* p, std::size_t indent) const {
    std::size_t room = kLineWidth - std::min(indent, kLineWidth);
    std::size_t a_line = std::max<std::size_t>(1, room / (format_.width() + 2)), count = 0;
    std::string gap = line_break(1, indent + 1), result = "[";
    auto add = [&](const std::string& element) {
      if (count > 0) result += count % a_line == 0 ? gap : ", ";
      result += element;
      ++count;
    };
    std::int64_t step = x_.strides().back();
    for_shown(
        x_.shape().back(), summarize_, [&](std::int64_t i) { add(format_(widened(p[i * step]))); },
        [&] { add(" ..."); });
    return result + "]";
  }

  const Tensor& x_;
  const T* first_;
  bool summarize_;
  Format format_;
};

}  // namespace

std::string to_string(const Tensor& x) {
  if (!x.defined()) return "tensor(undefined)";
  std::string text(kPrefix);
  if (x.numel() == 0)
    text += "[]";
  else
    dispatch(x.dtype(), [&]<class T>() { text += Printer<T>(x).text(); });

  // A suffix that does not fit on the line goes to the next.
  std::size_t column = text.size() - (text.rfind('\n') + 1) + 2;  // two more than there are: torch counts so
  auto append = [&](const std::string& suffix) {
    bool wraps = column + suffix.size() + 2 > kLineWidth;
    text += wraps ? line_break(1, kPrefix.size()) : ", ";
    column = wraps ? kPrefix.size() + suffix.size() : column + suffix.size() + 2;
    text += suffix;
  };
  if (x.numel() == 0 && x.dim() != 1) append("size=" + to_string(x.shape()));
  if (x.numel() == 0 ? x.dtype() != DType::Float32 : x.dtype() == DType::Float64)
    append(fmt::format("dtype={}", to_string(x.dtype())));
  if (std::string suffix = detail::gradient_suffix(x); !suffix.empty()) append(suffix);
  return text + ")";
}

std::ostream& operator<<(std::ostream& stream, const Tensor& x) { return stream << to_string(x); }
std::ostream& operator<<(std::ostream& stream, const Shape& shape) { return stream << to_string(shape); }
std::ostream& operator<<(std::ostream& stream, DType dtype) { return stream << to_string(dtype); }

}  // namespace unroll
