#include <unroll/autograd/detail/gradcheck.h>

#include <algorithm>

// Numeric derivatives. Of each output only the number v·y is looked at: one evaluation serves all outputs, and one
// backward an output gives every analytic derivative.
namespace unroll::detail {
namespace {

constexpr double kRounding = 2.2e-16, kRounding32 = 1.2e-7;

// Numbers along a line x + t·d: v·(y(x + t·d) − y(x)) for each output, whose differences are taken before they are
// summed, or all elements of one output.
using Line = std::function<Values(double t)>;

Values differences(const Subject& subject) {
  Tensors outputs = subject.run();
  Values sums;
  for (std::size_t j = 0; j < outputs.size(); ++j) {
    Values y = values(outputs[j]);
    double sum = 0;
    for (std::size_t k = 0; k < y.size(); ++k)
      if (y[k] != subject.y0[j][k]) sum += subject.v0[j][k] * (y[k] - subject.y0[j][k]);
    sums.push_back(sum);
  }
  return sums;
}

Line along_element(const Subject& subject, std::size_t x, std::size_t element) {
  return [&subject, x, element](double t) {
    Moved moved(subject.xs[x], std::span(subject.offsets[x]).subspan(element, 1), std::array{t});
    return differences(subject);
  };
}

// (f(3h) − f(−3h) − 9 (f(2h) − f(−2h)) + 45 (f(h) − f(−h))) / 60h, right to the order h⁶.
Values six_points(const Line& line, double h) {
  Values slope;
  for (auto [k, weight] : {std::pair{1, 45.0}, {2, -9.0}, {3, 1.0}}) {
    Values right = line(k * h), left = line(-k * h);
    slope.resize(right.size());
    for (std::size_t j = 0; j < right.size(); ++j) slope[j] += weight * (right[j] - left[j]) / (60 * h);
  }
  return slope;
}

// |right slope − left slope| at step h.
Values jumps_of_slope(const Line& line, double h) {
  Values right = line(h), left = line(-h);
  for (std::size_t j = 0; j < right.size(); ++j) right[j] = std::abs(right[j] + left[j]) / h;
  return right;
}

// The derivative along one line, of each output.
struct Measurement {
  Values numeric, uncertainty;
  std::vector<Outcome> outcome;
};

class Judge {
 public:
  Judge(const Subject& subject, const Values& magnitude) : options_(subject.options), magnitude_(magnitude) {
    for (const Tensor& y : subject.ys) rounding_.push_back(y.dtype() == DType::Float32 ? kRounding32 : kRounding);
  }

  // How far the analytic derivative may be from the numeric one, but for ten times the uncertainty.
  double tolerance(double numeric, double scale) const {
    return options_.atol + options_.nondet_tol + options_.scale_tol * scale + options_.rtol * std::abs(numeric);
  }
  // What rounding of the output does to a difference quotient at step h.
  double noise(std::size_t j, double h) const { return rounding_[j] * magnitude_[j] / h; }

  // Measures again what is `open`; `unit` is the length that steps are relative to.
  void settle(const Line& line, double unit, const Values& analytic, const Values& scale, std::vector<bool> open,
              Measurement& found) const {
    skip_kinks(line, unit, scale, open, found);
    std::vector<bool> noisy(open.size(), true), undecided = open;
    Values best(open.size(), HUGE_VAL);
    for (double h : {6e-3, 6e-4, 6e-5, 6e-6, 6e-7, 6e-8}) {
      if (std::ranges::none_of(open, [](bool o) { return o; })) break;
      // A third step size between the two: noise seldom agrees three times.
      Values coarse = six_points(line, h * unit), middle = six_points(line, 0.7 * h * unit),
             fine = six_points(line, h * unit / 2);
      for (std::size_t j = 0; j < open.size(); ++j) {
        const double rounding = noise(j, h * unit / 2);
        const double apart = std::max({coarse[j], middle[j], fine[j]}) - std::min({coarse[j], middle[j], fine[j]});
        if (!open[j] || std::isnan(coarse[j] + middle[j] + fine[j]) || !(std::max(rounding, apart) < best[j])) continue;
        best[j] = std::max(rounding, apart);
        noisy[j] = apart > 2 * rounding;
        found.numeric[j] = fine[j];
        found.uncertainty[j] = best[j];
        open[j] = 10 * best[j] > tolerance(fine[j], scale[j]) && noisy[j];
      }
    }
    for (std::size_t j = 0; j < open.size(); ++j) {
      if (!undecided[j]) continue;
      double n = found.numeric[j], u = found.uncertainty[j], size = std::max(std::abs(n), std::abs(analytic[j]));
      if (best[j] == HUGE_VAL || !close(analytic[j], n, 10 * u + tolerance(n, scale[j])))
        found.outcome[j] = Outcome::Wrong;
      else
        found.outcome[j] = noisy[j] && 10 * u > 1e-3 * std::max(size, scale[j]) ? Outcome::Skipped : Outcome::Right;
    }
  }

 private:
  // Where f is smooth, the slopes to the right and to the left differ by h·f″: eight times less at an eighth of h. At a
  // kink they differ by as much as before, at a jump by eight times as much; but so they do by rounding.
  void skip_kinks(const Line& line, double unit, const Values& scale, std::vector<bool>& open,
                  Measurement& found) const {
    for (double h : {1e-5 * unit, 1e-6 * unit}) {  // one that is nearer than the first step, and nearer than the last
      Values wide = jumps_of_slope(line, h), narrow = jumps_of_slope(line, h / 8);
      for (std::size_t j = 0; j < open.size(); ++j) {
        const double rounding = noise(j, h / 8) * (narrow[j] < 2 * wide[j] ? 20 : 1e5);
        const double least = std::max({1e-3 * std::abs(found.numeric[j]), 1e-6 * scale[j], rounding});
        if (!open[j] || !(narrow[j] > 0.4 * wide[j] && narrow[j] > least)) continue;
        found.outcome[j] = Outcome::Skipped;
        open[j] = false;
      }
    }
  }

  const GradcheckOptions& options_;
  const Values& magnitude_;
  Values rounding_;
};

Values magnitudes(const Subject& subject) {
  Values sums;
  for (std::size_t j = 0; j < subject.ys.size(); ++j) {
    double sum = 0, of_ones = 0;
    for (std::size_t k = 0; k < subject.y0[j].size(); ++k) {
      double term = std::abs(subject.v0[j][k] * subject.y0[j][k]);
      if (std::isfinite(term)) sum += term;
      of_ones += std::abs(subject.v0[j][k]);
    }
    // What is left of numbers that cancel, as in the derivative of a sum of a softmax, is all rounding.
    sums.push_back(sum < 1e-13 * of_ones ? of_ones : sum);
  }
  return sums;
}
}  // namespace

Comparison compare_elements(const Subject& subject, std::size_t x, std::vector<Values> analytic) {
  const std::size_t outputs = subject.ys.size(), elements = subject.offsets[x].size();
  const Values point = values(subject.xs[x]);
  Comparison result;
  result.magnitude = magnitudes(subject);
  Judge judge(subject, result.magnitude);

  // First a central difference everywhere, with its slopes to both sides.
  std::vector<Values> numeric(outputs, Values(elements)), bent = numeric;
  for (std::size_t e = 0; e < elements; ++e) {
    const Line line = along_element(subject, x, e);
    const double h = subject.options.eps * std::max(1.0, std::abs(point[e]));
    const double to_right = (point[e] + h) - point[e], to_left = point[e] - (point[e] - h);  // representable ones
    const Values right = line(h), left = line(-h);
    for (std::size_t j = 0; j < outputs; ++j) {
      numeric[j][e] = (right[j] - left[j]) / (to_right + to_left);
      bent[j][e] = std::abs(right[j] / to_right + left[j] / to_left);
    }
  }
  Values scale;
  for (const Values& n : numeric) scale.push_back(largest(n));

  result.uncertainty.assign(outputs, Values(elements));
  result.outcome.assign(outputs, std::vector<Outcome>(elements, Outcome::Right));
  std::int64_t wrong = 0;
  for (std::size_t e = 0; e < elements; ++e) {
    std::vector<bool> open(outputs);
    Values their;
    Measurement found{Values(outputs), Values(outputs), std::vector<Outcome>(outputs, Outcome::Right)};
    bool surely_wrong = false;
    for (std::size_t j = 0; j < outputs; ++j) {
      const double a = analytic[j][e], n = numeric[j][e], h = subject.options.eps * std::max(1.0, std::abs(point[e]));
      their.push_back(a);
      found.numeric[j] = n;
      bool is_close = close(a, n, judge.tolerance(n, scale[j]));
      bool may_be_kink =
          bent[j][e] > 0.02 * std::abs(n) && bent[j][e] > 1e4 * judge.noise(j, h) && bent[j][e] > 100 * h * scale[j];
      open[j] = !is_close || may_be_kink;
      surely_wrong |= !close(a, n, 1e-3 * std::max(std::abs(n), scale[j]));
    }
    if (std::ranges::any_of(open, [](bool o) { return o; })) {
      if (wrong > 64 && surely_wrong) {  // a gradient that is wrong everywhere need not be measured twice everywhere
        for (std::size_t j = 0; j < outputs; ++j)
          if (!close(their[j], found.numeric[j], 1e-3 * std::max(std::abs(found.numeric[j]), scale[j])))
            found.outcome[j] = Outcome::Wrong;
      } else {
        judge.settle(along_element(subject, x, e), std::max(1.0, std::abs(point[e])), their, scale, open, found);
      }
    }
    wrong += std::ranges::count(found.outcome, Outcome::Wrong) > 0;
    for (std::size_t j = 0; j < outputs; ++j) {
      numeric[j][e] = found.numeric[j];
      result.uncertainty[j][e] = found.uncertainty[j];
      result.outcome[j][e] = found.outcome[j];
    }
  }
  result.analytic = std::move(analytic);
  result.numeric = std::move(numeric);
  return result;
}

Comparison compare_directions(const Subject& subject, std::size_t x, const std::vector<Values>& analytic) {
  constexpr std::size_t kDirections = 3;
  const std::size_t outputs = subject.ys.size(), elements = subject.offsets[x].size();
  const double unit = std::max(1.0, largest(values(subject.xs[x])));
  Comparison result;
  result.magnitude = magnitudes(subject);
  result.analytic = result.numeric = result.uncertainty = std::vector(outputs, Values(kDirections));
  result.outcome.assign(outputs, std::vector<Outcome>(kDirections, Outcome::Right));
  Judge judge(subject, result.magnitude);
  Generator numbers(x);
  std::vector<Line> lines;
  Values scale(outputs);
  for (std::size_t d = 0; d < kDirections; ++d) {
    Values direction(elements);
    double square = 0;
    for (double& n : direction) {
      n = numbers.random_normal();
      square += n * n;
    }
    for (double& n : direction) n /= std::sqrt(square);
    lines.push_back([&subject, x, direction](double t) {
      Values by = direction;
      for (double& n : by) n *= t;
      Moved moved(subject.xs[x], subject.offsets[x], by);
      return differences(subject);
    });
    const Values slope = six_points(lines.back(), 6e-3 * unit);
    for (std::size_t j = 0; j < outputs; ++j) {
      for (std::size_t e = 0; e < elements; ++e) result.analytic[j][d] += direction[e] * analytic[j][e];
      result.numeric[j][d] = slope[j];
      scale[j] = std::max(scale[j], std::isfinite(slope[j]) ? std::abs(slope[j]) : 0);
    }
  }
  for (std::size_t d = 0; d < kDirections; ++d) {
    Measurement found{Values(outputs), Values(outputs), std::vector<Outcome>(outputs, Outcome::Right)};
    Values their(outputs);
    for (std::size_t j = 0; j < outputs; ++j) {
      their[j] = result.analytic[j][d];
      found.numeric[j] = result.numeric[j][d];
    }
    judge.settle(lines[d], unit, their, scale, std::vector<bool>(outputs, true), found);
    for (std::size_t j = 0; j < outputs; ++j) {
      result.numeric[j][d] = found.numeric[j];
      result.uncertainty[j][d] = found.uncertainty[j];
      result.outcome[j][d] = found.outcome[j];
    }
  }
  return result;
}

std::vector<std::vector<Values>> analytic_values(const Subject& subject) {
  std::vector<std::vector<Values>> result(subject.xs.size());
  for (std::size_t j = 0; j < subject.ys.size(); ++j) {
    Tensors dx = subject.gradients({subject.ys[j]}, {subject.v[j]});
    for (std::size_t i = 0; i < dx.size(); ++i) result[i].push_back(values(dx[i]));
  }
  return result;
}

std::vector<Comparison> compare_all(const Subject& subject) {
  std::vector<std::vector<Values>> analytic = analytic_values(subject);
  std::vector<Comparison> result;
  for (std::size_t i = 0; i < subject.xs.size(); ++i)
    result.push_back(compare_elements(subject, i, std::move(analytic[i])));
  return result;
}

GradcheckPair locate(const Subject& subject, std::size_t x, std::int64_t element, std::size_t y) {
  const Tensor& output = subject.ys[y];
  const auto e = static_cast<std::size_t>(element);
  const double h = 1e-4 * std::max(1.0, std::abs(values(subject.xs[x])[e]));
  const Line output_at = [&](double t) {
    Moved moved(subject.xs[x], std::span(subject.offsets[x]).subspan(e, 1), std::array{t});
    return values(subject.run()[y]);
  };
  const Values slope = six_points(output_at, h);
  GradcheckPair worst;
  worst.input = subject.name(x);
  worst.output = subject.y_index[y];
  double worst_error = -1;
  for (std::int64_t k = 0; k < output.numel(); ++k) {
    double analytic = values(subject.gradients({output}, {one_hot_like(output, k)})[x])[e],
           numeric = slope[static_cast<std::size_t>(k)];
    double error = std::isnan(analytic - numeric) ? HUGE_VAL : std::abs(analytic - numeric);
    if (error <= worst_error) continue;
    worst_error = error;
    worst.output_index = index_of(output.shape(), k);
    worst.input_index = index_of(subject.xs[x].shape(), element);
    worst.analytic = analytic;
    worst.numeric = numeric;
  }
  return worst;
}

}  // namespace unroll::detail
