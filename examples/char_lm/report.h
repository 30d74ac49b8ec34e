#pragma once
#include <chrono>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

namespace char_lm {

/// A line that moves on a terminal and plain lines now and then elsewhere: how far, how fast, how long still.
class Progress {
 public:
  Progress(std::int64_t first, std::int64_t last);
  ~Progress();
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;
  /// Step `step` is done; `text` is the latest figures.
  void update(std::int64_t step, const std::string& text);

 private:
  std::string with_bar(std::int64_t step, const std::string& figures) const;

  std::chrono::steady_clock::time_point start_, shown_;
  std::int64_t first_, last_;
  bool terminal_;
};

/// "1:05" from seconds.
std::string clock_time(double seconds);

struct Curve {
  std::string name, color;
  std::vector<std::pair<double, double>> points;
};

struct Level {
  std::string name;
  double y;
};

/// A line chart as SVG text: curves over a common x axis from 0, and dashed horizontal levels to compare with.
std::string line_chart(const std::string& title, const std::string& x_label, const std::string& y_label,
                       const std::vector<Curve>& curves, const std::vector<Level>& levels);

}  // namespace char_lm
