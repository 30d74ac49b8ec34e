#include "report.h"

#include <fmt/format.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstdio>

namespace char_lm {

using Seconds = std::chrono::duration<double>;

Progress::Progress(std::int64_t first, std::int64_t last)
    : start_(std::chrono::steady_clock::now()), shown_(start_), first_(first), last_(last),
      terminal_(isatty(STDERR_FILENO) != 0) {}

void Progress::update(std::int64_t step, const std::string& text) {
  auto now = std::chrono::steady_clock::now();
  if (Seconds(now - shown_).count() < (terminal_ ? 0.1 : 10) && step < last_) return;
  shown_ = now;
  double rate = static_cast<double>(step - first_) / std::max(1e-9, Seconds(now - start_).count());
  double left = static_cast<double>(last_ - step) / rate;
  std::string figures =
      fmt::format("step {}/{}  {}  {:.1f} steps/s  {} left", step, last_, text, rate, clock_time(left));
  // A line that cannot be written must not end the run.
  const std::string line = terminal_ ? fmt::format("\r\033[K{}", with_bar(step, figures)) : figures + "\n";
  std::fputs(line.c_str(), stderr);
  std::fflush(stderr);
}

// In one row of the terminal: a second one would stay when the next line comes.
std::string Progress::with_bar(std::int64_t step, const std::string& figures) const {
  winsize window{};
  ioctl(STDERR_FILENO, TIOCGWINSZ, &window);
  const std::size_t columns = window.ws_col > 0 ? window.ws_col - 1U : 79, frame = 3,
                    width = std::min<std::size_t>(24, columns - std::min(columns, figures.size() + frame));
  const auto done = width * static_cast<std::size_t>(step) / static_cast<std::size_t>(std::max<std::int64_t>(1, last_));
  const std::string bar = fmt::format("[{:#<{}}{:.<{}}] ", "", done, "", width - done);
  return ((width > 0 ? bar : "") + figures).substr(0, columns);
}

Progress::~Progress() {
  if (terminal_) std::fputs("\n", stderr);
}

std::string clock_time(double seconds) {
  if (!std::isfinite(seconds)) return "?";
  auto whole = static_cast<std::int64_t>(std::lround(seconds));
  return fmt::format("{}:{:02}", whole / 60, whole % 60);
}

namespace {

// 1, 2 or 5 times a power of ten, at least `range` / `count`.
double tick_step(double range, double count) {
  double power = std::pow(10, std::floor(std::log10(range / count)));
  for (double factor : {1., 2., 5.})
    if (factor * power >= range / count) return factor * power;
  return 10 * power;
}

}  // namespace

std::string line_chart(const std::string& title, const std::string& x_label, const std::string& y_label,
                       const std::vector<Curve>& curves, const std::vector<Level>& levels) {
  constexpr double kWidth = 760, kHeight = 420, kLeft = 64, kRight = 170, kTop = 44, kBottom = 52;
  double x_max = 1, y_min = 1e300, y_max = -1e300;
  auto widen = [&](double y) { y_min = std::min(y_min, y), y_max = std::max(y_max, y); };
  for (const Level& level : levels) widen(level.y);
  for (const Curve& curve : curves)
    for (auto [x, y] : curve.points) x_max = std::max(x_max, x), widen(y);
  if (y_min > y_max) y_min = 0, y_max = 1;
  double y_step = tick_step(std::max(y_max - y_min, 1e-3), 6), x_step = tick_step(x_max, 6);
  y_min = std::floor(y_min / y_step) * y_step;
  y_max = std::ceil(y_max / y_step) * y_step;
  auto px = [&](double x) { return kLeft + x / x_max * (kWidth - kLeft - kRight); };
  auto py = [&](double y) { return kTop + (y_max - y) / (y_max - y_min) * (kHeight - kTop - kBottom); };

  std::string svg = fmt::format(
      "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {0} {1}\" width=\"{0}\" height=\"{1}\" "
      "font-family=\"DejaVu Sans, sans-serif\" "
      "font-size=\"12\">\n<rect width=\"{0}\" height=\"{1}\" fill=\"#ffffff\"/>\n<text x=\"{2}\" y=\"26\" "
      "font-size=\"15\" fill=\"#222\">{3}</text>\n",
      kWidth, kHeight, kLeft, title);
  for (double y = y_min; y <= y_max + y_step / 2; y += y_step)
    svg += fmt::format(
        "<path d=\"M{:.1f} {:.1f}H{:.1f}\" stroke=\"#e4e4e4\"/><text x=\"{:.1f}\" y=\"{:.1f}\" text-anchor=\"end\" "
        "fill=\"#555\">{:g}</text>\n",
        kLeft, py(y), kWidth - kRight, kLeft - 8, py(y) + 4, std::round(y / y_step) * y_step);
  for (double x = 0; x <= x_max; x += x_step)
    svg += fmt::format("<text x=\"{:.1f}\" y=\"{:.1f}\" text-anchor=\"middle\" fill=\"#555\">{:g}</text>\n", px(x),
                       kHeight - kBottom + 18, x);
  svg += fmt::format("<text x=\"{:.1f}\" y=\"{:.1f}\" text-anchor=\"middle\" fill=\"#222\">{}</text>\n",
                     (kLeft + kWidth - kRight) / 2, kHeight - 12, x_label);
  svg += fmt::format(
      "<text transform=\"translate(18 {:.1f}) rotate(-90)\" text-anchor=\"middle\" fill=\"#222\">{}</text>\n",
      (kTop + kHeight - kBottom) / 2, y_label);

  std::vector<Level> from_above = levels;
  std::ranges::sort(from_above, std::ranges::greater(), &Level::y);
  double free = 0;  // from where on down there is no name yet
  for (const Level& level : from_above) {
    const double name_at = std::max(py(level.y) + 4, free);
    free = name_at + 14;
    svg += fmt::format(
        "<path d=\"M{:.1f} {:.1f}H{:.1f}\" stroke=\"#999\" stroke-dasharray=\"5 4\"/><text x=\"{:.1f}\" y=\"{:.1f}\" "
        "fill=\"#666\">{}</text>\n",
        kLeft, py(level.y), kWidth - kRight, kWidth - kRight + 8, name_at, level.name);
  }
  double legend = kWidth - kRight;  // grows to the left, beside the title
  for (const Curve& curve : curves) {
    if (curve.points.empty()) continue;
    std::string path;
    for (auto [x, y] : curve.points) path += fmt::format("{}{:.1f} {:.1f}", path.empty() ? "M" : "L", px(x), py(y));
    svg += fmt::format(
        "<path d=\"{}h0\" fill=\"none\" stroke=\"{}\" stroke-width=\"{}\" stroke-linejoin=\"round\" "
        "stroke-linecap=\"round\"/>\n",
        path, curve.color, curve.points.size() > 1 ? 1.6 : 6);  // a single point is a dot
    legend -= 40 + 7 * static_cast<double>(curve.name.size());
    svg += fmt::format(
        "<path d=\"M{:.1f} 22h22\" stroke=\"{}\" stroke-width=\"2.5\"/><text x=\"{:.1f}\" y=\"26\" "
        "fill=\"#222\">{}</text>\n",
        legend, curve.color, legend + 28, curve.name);
  }
  return svg + "</svg>\n";
}

}  // namespace char_lm
