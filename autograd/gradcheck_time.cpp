#include <unroll/autograd/detail/gradcheck.h>
#include <unroll/autograd/grad_mode.h>
#include <unroll/autograd/gradcheck_time.h>
#include <unroll/autograd/ops/shape.h>

#include <algorithm>
#include <ostream>

namespace unroll {

const char* to_string(TimeVerdict verdict) {
  switch (verdict) {
    case TimeVerdict::Right:
      return "right at all steps";
    case TimeVerdict::Local:
      return "local: wrong at the step itself";
    case TimeVerdict::Carry:
      return "carry: right at the step itself, wrong before it";
    case TimeVerdict::Truncated:
      return "truncated: right over some steps, zero beyond";
    case TimeVerdict::Start:
      return "start: right at all steps, wrong for the initial state";
    case TimeVerdict::Unmeasured:
      return "not measured";
  }
  return "?";
}

bool GradcheckTimeProfile::ok() const noexcept {
  return std::ranges::all_of(directions, [](const Direction& d) { return d.verdict == TimeVerdict::Right; });
}

namespace detail {
namespace {

using Direction = GradcheckTimeProfile::Direction;

// What a cell of the triangle is made of.
struct Cell {
  double error = 0;
  bool wrong = false;
  bool cut = true;  // all analytic derivatives are 0, and some numeric one is not
  bool depends = false;
  std::int64_t elements = 0, skipped = 0;  // of those that the output depends on, or may
  void add(const Comparison& found, std::size_t j, std::size_t e, double scale) {
    const double a = found.analytic[j][e], n = found.numeric[j][e];
    const bool is_skipped = found.outcome[j][e] == Outcome::Skipped;
    depends |= n != 0 && !is_skipped;
    elements += is_skipped || a != 0 || n != 0;
    skipped += is_skipped;
    if (is_skipped) return;
    const double difference = a == n ? 0 : std::abs(a - n) / std::max(scale, 1e-300);
    if (!(difference <= error)) error = difference;
    wrong |= found.outcome[j][e] == Outcome::Wrong;
    cut &= a == 0;
  }
};

// Cells [t][s] of one direction; in that of the reverse half, time runs backward.
struct Triangle {
  std::vector<std::vector<Cell>> x;  // [t][s]
  std::vector<Cell> start;           // [t]

  /// Whether outputs depend on what this direction has yet to read, as those of a layer do that stands on one which
  /// runs both ways. The gradient of a step's own x then holds what others carried, except, of two layers, at the
  /// first.
  bool is_mixed(bool reverse) const {
    for (std::size_t t = 0; t < x.size(); ++t)
      for (std::size_t s = 0; s < x.size(); ++s)
        if ((reverse ? s < t : s > t) && x[t][s].depends) return true;
    return false;
  }

  Direction judged(bool reverse) const {
    const auto steps = static_cast<std::int64_t>(x.size());
    Direction d;
    for (const std::vector<Cell>& row : x) {
      d.error.emplace_back();
      d.wrong.emplace_back();
      for (const Cell& cell : row) {
        d.error.back().push_back(cell.error);
        d.wrong.back().push_back(cell.wrong);
      }
    }
    for (const Cell& cell : start) {
      d.start_error.push_back(cell.error);
      d.start_wrong.push_back(cell.wrong);
    }
    // Steps in the order in which this direction runs; `back` of them before step k, or the start.
    auto place = [&](std::int64_t k) { return reverse ? steps - 1 - k : k; };
    auto at = [&](std::int64_t k, std::int64_t back) -> const Cell& {
      const auto t = static_cast<std::size_t>(place(k));
      return back > k ? start[t] : x[t][static_cast<std::size_t>(place(k - back))];
    };
    const bool mixed = is_mixed(reverse);
    bool local = false, carry = false, at_start = false, cut = true;
    std::int64_t elements = 0, skipped = 0, nearest = 0;
    for (std::int64_t k = 0; k < steps; ++k)
      for (std::int64_t back = -(steps - 1 - k); back <= k + 1; ++back) {
        const bool is_start = back > k;
        if (is_start && start.empty()) continue;
        const Cell& cell = at(k, back);
        elements += cell.elements;
        skipped += cell.skipped;
        if (!cell.wrong) continue;
        if (d.first_t < 0 || (d.first_t == place(k) && std::abs(back) < nearest)) {
          d.first_t = place(k);
          d.first_s = is_start ? (reverse ? steps : -1) : place(k - back);
          nearest = std::abs(back);
        }
        const bool is_own = mixed ? k == 0 && back == 0 : back <= 0;
        (is_start ? at_start : is_own ? local : carry) = true;
        if (!is_start && cell.cut && (d.reach < 0 || back < d.reach)) d.reach = back;
        cut &= cell.cut;
      }
    if (local)
      d.verdict = TimeVerdict::Local;
    else if (carry)
      d.verdict = cut ? TimeVerdict::Truncated : TimeVerdict::Carry;
    else if (at_start)
      d.verdict = TimeVerdict::Start;
    else if (!is_seen() || too_many(skipped, elements))
      d.verdict = TimeVerdict::Unmeasured;
    if (d.verdict != TimeVerdict::Truncated) d.reach = -1;
    return d;
  }

  bool is_seen() const {
    return std::ranges::any_of(x, [](const auto& row) {
      return std::ranges::any_of(row, [](const Cell& cell) { return cell.elements > 0; });
    });
  }

  // Whether every wrong start cell is one that no gradient reaches.
  bool start_cut() const {
    return std::ranges::any_of(start, &Cell::wrong) &&
           std::ranges::all_of(start, [](const Cell& cell) { return !cell.wrong || cell.cut; });
  }
};

void add_hints(GradcheckTimeProfile& profile, const std::vector<Triangle>& triangles) {
  for (std::size_t d = 0; d < triangles.size(); ++d) {
    const Direction& direction = profile.directions[d];
    const std::string where = d == 0 ? "" : "reverse direction, ";
    switch (direction.verdict) {
      case TimeVerdict::Right:
        break;
      case TimeVerdict::Local:
        profile.hints.push_back(where + "the derivative of a single step is wrong: check the cell alone");
        break;
      case TimeVerdict::Carry:
        profile.hints.push_back(where + "what step t hands to step t − 1 is wrong: dh or dc misses a factor or a term");
        break;
      case TimeVerdict::Truncated:
        profile.hints.push_back(
            fmt::format("{}the gradient gets over {} step{} and no further: the state is detached, "
                        "or the carry is dropped",
                        where, direction.reach, direction.reach == 1 ? "" : "s"));
        break;
      case TimeVerdict::Start:
        profile.hints.push_back(where +
                                (triangles[d].start_cut()
                                     ? "the gradient of the initial state is zero: the carry is not handed on to it"
                                     : "what the first step hands to the initial state is wrong"));
        break;
      case TimeVerdict::Unmeasured:
        profile.hints.push_back(where + (triangles[d].is_seen()
                                             ? "too many derivatives could not be measured: the function has kinks, "
                                               "jumps or too much noise there"
                                             : "nothing was tested, all numeric derivatives are 0"));
        break;
    }
    if ((direction.verdict == TimeVerdict::Local || direction.verdict == TimeVerdict::Carry) &&
        triangles[d].is_mixed(d == 1))
      profile.hints.push_back(where +
                              "a layer above one that runs both ways mixes the steps: one layer alone says more");
  }
  if (profile.directions.size() == 2 && profile.directions[0].verdict == TimeVerdict::Right && !profile.ok() &&
      profile.directions[1].verdict != TimeVerdict::Unmeasured)
    profile.hints.push_back("only the reverse half is wrong: its time index, or the order of its cotangents");
}

}  // namespace

GradcheckTimeProfile gradcheck_time(const CheckedFunction& f, const Tensors& inputs,
                                    const GradcheckTimeOptions& options, const Tensors& constants) {
  GradMode mode(true);
  KeptGenerator generator;
  check<ValueError>(!inputs.empty() && inputs[0].requires_grad(), "gradcheck_time: the sequence requires no gradient");
  check<ValueError>(options.directions == 1 || options.directions == 2, "gradcheck_time: 1 or 2 directions, got {}",
                    options.directions);
  Tensors converted = inputs;
  converted.insert(converted.end(), constants.begin(), constants.end());
  Lent lent(converted);
  lent.to_float64();
  const std::int64_t steps = inputs[0].size(options.time_dim);
  CheckedFunction by_step = [&](const Tensors& in) {
    const Tensors outputs = f(in);
    check<ValueError>(!outputs.empty(), "gradcheck_time: the function returned no tensors");
    const Tensor& y = outputs[0];
    check<ValueError>(y.size(options.time_dim) == steps, "gradcheck_time: the output has {} steps, the sequence {}",
                      y.size(options.time_dim), steps);
    const bool last_is_time = options.time_dim == -1 || options.time_dim == y.dim() - 1;
    check<ValueError>(options.directions == 1 || (!last_is_time && y.size(-1) % 2 == 0),
                      "gradcheck_time: an output of shape {} has no halves for 2 directions", y.shape());
    const std::int64_t width = y.size(-1) / options.directions;
    Tensors result;
    for (std::int64_t d = 0; d < options.directions; ++d) {
      const Tensor half = options.directions == 1 ? y : narrow(y, -1, d * width, width);
      for (const Tensor& step : unbind(half, options.time_dim)) result.push_back(step);
    }
    return result;
  };
  const GradcheckLabels labels;
  Subject subject(by_step, inputs, options.check, labels, true);
  GradcheckTimeProfile profile;
  std::vector<Comparison> found;
  try {
    check_deterministic(subject);
    found = compare_all(subject);
  } catch (const FaultError& fault) {
    profile.hints.emplace_back(fault.what());
  }

  std::vector<Triangle> triangles;
  const auto length = static_cast<std::size_t>(steps);
  const std::size_t time_dim =
      static_cast<std::size_t>(options.time_dim < 0 ? options.time_dim + inputs[0].dim() : options.time_dim);
  for (std::size_t d = 0; d < static_cast<std::size_t>(options.directions); ++d) {
    Triangle triangle{std::vector(length, std::vector<Cell>(length)), {}};
    if (found.size() > 1) triangle.start.resize(length);
    for (std::size_t t = 0; t < length; ++t) {
      const std::size_t j = d * length + t;
      for (std::size_t i = 0; i < found.size(); ++i) {
        const double scale = largest(found[i].numeric[j]);
        for (std::size_t e = 0; e < found[i].numeric[j].size(); ++e) {
          Cell& cell = i > 0 ? triangle.start[t]
                             : triangle.x[t][static_cast<std::size_t>(
                                   index_of(inputs[0].shape(), static_cast<std::int64_t>(e))[time_dim])];
          cell.add(found[i], j, e, scale);
        }
      }
    }
    profile.directions.push_back(triangle.judged(d == 1));
    triangles.push_back(std::move(triangle));
  }
  if (!found.empty()) add_hints(profile, triangles);
  return profile;
}

}  // namespace detail

std::string to_string(const GradcheckTimeProfile& profile) {
  std::string text;
  for (std::size_t i = 0; i < profile.directions.size(); ++i) {
    const GradcheckTimeProfile::Direction& d = profile.directions[i];
    text += fmt::format("{}{}\n",
                        profile.directions.size() == 1 ? "time: "
                        : i == 0                       ? "forward: "
                                                       : "reverse: ",
                        to_string(d.verdict));
    if (d.verdict == TimeVerdict::Right || d.verdict == TimeVerdict::Unmeasured) continue;
    text += fmt::format("  first for the cotangent at step {}, in ", d.first_t);
    const auto steps = static_cast<std::int64_t>(d.error.size());
    text += d.first_s < 0 || d.first_s == steps ? "the initial state\n" : fmt::format("dx at step {}\n", d.first_s);
    text += "  error relative to the largest derivative; ! is wrong\n  cotangent at";
    for (std::size_t s = 0; s < d.error.size(); ++s) text += fmt::format("{:>10}", fmt::format("dx_{}", s));
    if (!d.start_error.empty()) text += fmt::format("{:>10}", i == 0 ? "start" : "start'");
    text += '\n';
    for (std::size_t t = 0; t < d.error.size(); ++t) {
      text += fmt::format("  {:>12}", fmt::format("step {}", t));
      auto cell = [&](double error, bool wrong) {
        text += fmt::format("{:>10}", wrong        ? fmt::format("{:.0e}!", error)
                                      : error == 0 ? "."
                                                   : fmt::format("{:.0e} ", error));
      };
      for (std::size_t s = 0; s < d.error[t].size(); ++s) cell(d.error[t][s], d.wrong[t][s]);
      if (!d.start_error.empty()) cell(d.start_error[t], d.start_wrong[t]);
      text += '\n';
    }
  }
  for (const std::string& hint : profile.hints) text += fmt::format("hint: {}\n", hint);
  return text;
}

std::ostream& operator<<(std::ostream& stream, const GradcheckTimeProfile& profile) {
  return stream << to_string(profile);
}

}  // namespace unroll
