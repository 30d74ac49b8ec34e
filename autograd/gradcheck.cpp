#include <unroll/autograd/detail/gradcheck.h>
#include <unroll/autograd/grad_mode.h>
#include <unroll/autograd/ops/arithmetic.h>
#include <unroll/core/random.h>

#include <algorithm>
#include <list>

namespace unroll::detail {
namespace {

using Fault = GradcheckFault;

// ---- rows of the report

// What a row says of some elements of an input, over all outputs.
GradcheckRow row_of(const Subject& subject, std::size_t x, const Comparison& found, std::string block,
                    std::int64_t first, std::int64_t count) {
  const Tensor& input = subject.xs[x];
  GradcheckRow row;
  row.name = subject.name(x);
  row.block = std::move(block);
  row.input = subject.x_index[x];
  row.shape = input.shape();
  if (!row.block.empty()) row.shape[0] = count * row.shape[0] / input.numel();
  row.elements = count;
  row.zero = row.untested = true;
  double an = 0, nn = 0, aa = 0, badness = -1;
  std::vector<bool> wrong(static_cast<std::size_t>(count)), skipped = wrong;
  for (std::size_t j = 0; j < found.numeric.size(); ++j) {
    double scale = 0, all = found.magnitude[j];
    for (double n : found.numeric[j]) all += std::isfinite(n) ? std::abs(n) : 0;
    // In the quick mode there are a few directions instead of elements.
    const bool directions = found.numeric[j].size() != static_cast<std::size_t>(input.numel());
    const auto begin = directions ? 0 : static_cast<std::size_t>(first);
    const auto end = directions ? found.numeric[j].size() : static_cast<std::size_t>(first + count);
    for (std::size_t e = begin; e < end; ++e) scale = std::max(scale, std::abs(found.numeric[j][e]));
    if (!(scale <= 1e-12 * all)) row.untested = false;
    row.scale = std::max(row.scale, scale);
    for (std::size_t e = begin; e < end; ++e) {
      const double a = found.analytic[j][e], n = found.numeric[j][e], u = found.uncertainty[j][e];
      const Outcome outcome = found.outcome[j][e];
      if (a != 0) row.zero = false;
      if (std::isnan(n)) row.untested = false;  // scale, a maximum, passes over it
      if (!directions && outcome == Outcome::Wrong) wrong[e - begin] = true;
      if (outcome == Outcome::Skipped) {
        if (!directions) skipped[e - begin] = true;
        continue;
      }
      const double error = a == n ? 0 : std::abs(a - n), size = std::max(std::abs(n), 1e-9 * scale);
      an += a * n;
      nn += n * n;
      aa += a * a;
      if (!(error <= row.max_abs_error)) row.max_abs_error = error;
      if (error > 0 && !(error / size <= row.max_rel_error)) row.max_rel_error = error / size;
      const double bad =
          (outcome == Outcome::Wrong ? 1e3 : 0) + (std::isnan(error) ? 1e6 : error / std::max(scale, 1e-300));
      if (bad <= badness) continue;
      badness = bad;
      row.worst = {directions ? Shape() : index_of(input.shape(), static_cast<std::int64_t>(e)), a, n, u};
    }
  }
  row.wrong = std::ranges::count(wrong, true);
  for (std::size_t e = 0; e < wrong.size(); ++e) row.skipped += skipped[e] && !wrong[e];
  if (nn > 0) row.ratio = an / nn;
  if (nn > 0 && aa > 0) row.cosine = an / std::sqrt(aa * nn);
  return row;
}

void add_rows(GradcheckReport& report, const Subject& subject, std::size_t x, const Comparison& found) {
  const std::int64_t all = subject.xs[x].numel();
  report.rows.push_back(row_of(subject, x, found, "", 0, all));
  const std::size_t i = subject.x_index[x];
  const bool elementwise = found.numeric.empty() || static_cast<std::int64_t>(found.numeric[0].size()) == all;
  if (i >= subject.labels.inputs.size() || !elementwise) return;
  const std::vector<std::string>& blocks = subject.labels.inputs[i].blocks;
  const auto count = static_cast<std::int64_t>(blocks.size());
  if (count == 0 || subject.xs[x].dim() == 0 || subject.xs[x].size(0) % count != 0) return;
  for (std::int64_t b = 0; b < count; ++b)
    report.rows.push_back(
        row_of(subject, x, found, blocks[static_cast<std::size_t>(b)], b * (all / count), all / count));
}

// ---- values

void compare_values(const Subject& subject, GradcheckReport& report) {
  std::vector<std::vector<Values>> analytic = analytic_values(subject);
  std::vector<Comparison> all;
  for (std::size_t i = 0; i < subject.xs.size(); ++i) {
    if (subject.options.fast_mode) {
      Comparison quick = compare_directions(subject, i, analytic[i]);
      bool fine = std::ranges::all_of(quick.outcome, [](const auto& outcomes) {
        return std::ranges::all_of(outcomes, [](Outcome o) { return o == Outcome::Right; });
      });
      if (fine) {
        add_rows(report, subject, i, quick);
        continue;
      }
    }
    Comparison found = compare_elements(subject, i, std::move(analytic[i]));
    add_rows(report, subject, i, found);
    const GradcheckRow& row = *std::ranges::find_if(
        report.rows, [&](const GradcheckRow& r) { return r.input == subject.x_index[i] && r.block.empty(); });
    if (row.wrong == 0) continue;
    report.findings.push_back({Fault::Value, fmt::format("{}: the gradient does not match in {} of {} elements",
                                                         row.name, row.wrong, row.elements)});
    if (report.pair) continue;
    // Where it is most wrong, one output element at a time if they are not too many.
    std::size_t worst_output = 0, worst_element = 0;
    double worst = -1;
    for (std::size_t j = 0; j < found.outcome.size(); ++j)
      for (std::size_t e = 0; e < found.outcome[j].size(); ++e) {
        if (found.outcome[j][e] != Outcome::Wrong) continue;
        double error = std::abs(found.analytic[j][e] - found.numeric[j][e]);
        if (std::isnan(error)) error = HUGE_VAL;
        if (error <= worst) continue;
        worst = error;
        worst_output = j;
        worst_element = e;
      }
    if (subject.ys[worst_output].numel() <= 512)
      report.pair = locate(subject, i, static_cast<std::int64_t>(worst_element), worst_output);
  }
}

void judge_whole(const Subject& subject, GradcheckReport& report) {
  std::int64_t elements = 0, skipped = 0;
  bool untested = true;
  for (const GradcheckRow& row : report.rows) {
    if (!row.block.empty()) continue;
    elements += row.elements;
    skipped += row.skipped;
    untested = untested && row.untested;
    if (row.skipped > 0)
      report.notes.push_back(fmt::format("{}: {} of {} elements lie where the function is not smooth and were skipped",
                                         row.name, row.skipped, row.elements));
    if (row.untested && row.elements > 0)
      report.notes.push_back(fmt::format("{}: nothing was tested, all its numeric derivatives are 0", row.name));
  }
  for (std::size_t i = 0; i < subject.xs.size(); ++i)
    if (std::ranges::all_of(values(subject.xs[i]), [](double n) { return n == 0; }) && subject.xs[i].numel() > 0)
      report.notes.push_back(
          fmt::format("{}: all its elements are 0, which hides what multiplies by it", subject.name(i)));
  for (std::size_t j = 0; j < subject.ys.size(); ++j)
    if (std::ranges::any_of(subject.y0[j], [](double y) { return std::isnan(y); }))
      report.notes.push_back(
          fmt::format("output {} has a NaN: there is no derivative to compare with", subject.y_index[j]));
  if (too_many(skipped, elements))
    report.findings.push_back(
        {Fault::Skipped, fmt::format("{} of {} elements could not be measured: the function has a kink, a jump or too "
                                     "much noise there; move the inputs away from it",
                                     skipped, elements)});
  if (untested && elements > 0) report.verdict = GradcheckVerdict::NothingTested;
}

// ---- the whole

// Runs `check`, before and after which the function is looked at, and writes down what is raised.
template <class F>
void watched(const Subject& subject, GradcheckReport& report, F check) {
  try {
    check_deterministic(subject);
    check();
    subject.check_unchanged();
  } catch (const FaultError& found) {
    report.findings.push_back({found.fault, found.what()});
  }
}

void check_in_float64(const CheckedFunction& f, const Tensors& inputs, const GradcheckOptions& options,
                      const GradcheckLabels& labels, bool every_output, GradcheckReport& report,
                      std::vector<std::vector<Values>>* gradients) {
  Subject subject(f, inputs, options, labels, every_output);
  watched(subject, report, [&] {
    if (gradients) *gradients = analytic_values(subject);
    check_laws(subject, report);
    compare_values(subject, report);
    judge_whole(subject, report);
  });
}

// How far the gradients [input][output] go, at most, when each number that goes in is moved by half of float32's last
// place. As all that is computed is rounded so, those in float32 are off by as much, where a function magnifies it: a
// normalisation of numbers that lie close together, a long way through time.
std::vector<Values> moved_by_rounding(const Subject& subject, const std::vector<std::vector<Values>>& gradients) {
  std::vector<Values> most(gradients.size(), Values(subject.ys.size()));
  Generator numbers;
  for (int run = 0; run < 4; ++run) {
    std::list<Moved> moved;
    for (std::size_t i = 0; i < subject.xs.size(); ++i) {
      Values by = values(subject.xs[i]);
      for (double& n : by) n *= numbers.random32() % 2 == 0 ? 0x1p-24 : -0x1p-24;
      moved.emplace_front(subject.xs[i], subject.offsets[i], by);  // the last goes first: inputs may share memory
    }
    const Tensors outputs = subject.run();
    for (std::size_t j = 0; j < outputs.size(); ++j) {
      const Tensors dx = subject.gradients({outputs[j]}, {subject.v[j]});
      for (std::size_t i = 0; i < dx.size(); ++i) {
        const Values there = values(dx[i]);
        for (std::size_t e = 0; e < there.size(); ++e)
          most[i][j] = std::max(most[i][j], std::abs(there[e] - gradients[i][j][e]));
      }
    }
  }
  return most;
}

// The gradients [input][output] in float32 are those in float64, but for rounding: of their own, and of all that went
// into them, which the other gradients of the output and the output itself are as large as. What is further off may be
// so by as many roundings as a hundred times one of all that goes in.
void compare_precisions(const Subject& subject, const std::vector<std::vector<Values>>& narrow,
                        const std::vector<std::vector<Values>>& wide) {
  std::vector<Values> by_rounding;
  for (std::size_t j = 0; j < subject.ys.size(); ++j) {
    double all = largest(subject.y0[j]);
    for (const std::vector<Values>& by_input : wide) all = std::max(all, largest(by_input[j]));
    for (std::size_t i = 0; i < narrow.size(); ++i)
      for (std::size_t e = 0; e < narrow[i][j].size(); ++e) {
        const double a = narrow[i][j][e], b = wide[i][j][e];
        const double tolerance = 2e-5 * largest(wide[i][j]) + 5e-7 * all;
        if (close(a, b, tolerance)) continue;
        if (by_rounding.empty()) by_rounding = moved_by_rounding(subject, wide);
        require(close(a, b, tolerance + 100 * by_rounding[i][j]), Fault::Float32,
                "the gradient of {} at {} is {} in float32 and {} in float64", subject.name(i),
                index_of(subject.xs[i].shape(), static_cast<std::int64_t>(e)), a, b);
      }
  }
}

GradcheckReport sharp_gradcheck(const CheckedFunction& f, const Tensors& inputs, const GradcheckOptions& options,
                                const GradcheckLabels& labels, bool every_output) {
  GradMode mode(true);
  KeptGenerator generator;
  Lent lent(inputs);
  GradcheckReport report;
  const bool narrow =
      std::ranges::any_of(inputs, [](const Tensor& x) { return x.requires_grad() && x.dtype() == DType::Float32; });
  if (!narrow) {
    check_in_float64(f, inputs, options, labels, every_output, report, nullptr);
  } else {
    std::vector<std::vector<Values>> in32, in64;
    {
      Subject subject(f, inputs, options, labels, every_output);
      watched(subject, report, [&] {
        in32 = analytic_values(subject);
        check_laws(subject, report);
      });
    }
    if (!report.has(Fault::Nondeterministic) && !report.has(Fault::Written)) {
      lent.to_float64();
      try {
        generator.restart();
        check_in_float64(f, inputs, options, labels, every_output, report, &in64);
      } catch (const DTypeError& error) {
        fail<ValueError>(
            "gradcheck: differences of float32 values are too coarse to check anything, and the function "
            "does not take its inputs in float64 (what it reads besides, such as a parameter that was never add()ed, "
            "stays float32): {}",
            error.what());
      }
      Subject subject(f, inputs, options, labels, every_output);
      try {
        if (!in64.empty()) compare_precisions(subject, in32, in64);
      } catch (const FaultError& found) {
        report.findings.push_back({found.fault, found.what()});
      }
    }
  }
  report.hints = gradcheck_hints(report.rows, labels);
  if (!report.ok()) report.verdict = GradcheckVerdict::Failed;
  return report;
}

// torch's procedure stops at the first fault and makes no table.
GradcheckReport torch_report(const CheckedFunction& f, const Tensors& inputs, const GradcheckOptions& options) {
  GradcheckReport report;
  try {
    torch_gradcheck(f, inputs, options);
  } catch (const FaultError& found) {
    report.findings.push_back({found.fault, found.what()});
    report.verdict = GradcheckVerdict::Failed;
  }
  return report;
}

}  // namespace

void check_deterministic(const Subject& subject) {
  const Tensors again = subject.run();
  subject.check_unchanged();  // or that is why they differ
  for (std::size_t j = 0; j < again.size(); ++j)
    require(same_bits(values(again[j]), subject.y0[j]), Fault::Nondeterministic,
            "output {} of two runs with the same inputs differs, so there is nothing to compare with; if the function "
            "draws random numbers (dropout), seed it inside or set fix_random",
            subject.y_index[j]);
}

GradcheckReport gradcheck_report(const CheckedFunction& f, const Tensors& inputs, const GradcheckOptions& options,
                                 const GradcheckLabels& labels) {
  return options.torch_procedure ? torch_report(f, inputs, options)
                                 : sharp_gradcheck(f, inputs, options, labels, false);
}

GradcheckReport gradgradcheck_report(const CheckedFunction& f, const Tensors& inputs, const Tensors& grad_outputs,
                                     const GradcheckOptions& options, const GradcheckLabels& labels) {
  GradMode mode(true);
  KeptGenerator generator;
  const std::size_t n = inputs.size();
  std::vector<std::size_t> ys, xs;  // which outputs and inputs are differentiated
  Tensors all = inputs;
  Generator numbers;
  const Tensors outputs = f(inputs);
  for (std::size_t j = 0; j < outputs.size(); ++j)
    if (outputs[j].requires_grad()) {
      ys.push_back(j);
      if (grad_outputs.empty()) all.push_back((rand_like(outputs[j].detach(), numbers) * 2 - 1).requires_grad_());
    }
  for (std::size_t i = 0; i < n; ++i)
    if (inputs[i].requires_grad()) xs.push_back(i);
  all.insert(all.end(), grad_outputs.begin(), grad_outputs.end());
  check<ValueError>(!ys.empty(), "gradgradcheck: none of the outputs requires a gradient");
  check<ValueError>(all.size() == n + ys.size(), "gradgradcheck: {} grad_outputs for the {} outputs with a gradient",
                    all.size() - n, ys.size());

  CheckedFunction gradient = [&](const Tensors& in) {
    Tensors results = f(Tensors(in.begin(), in.begin() + static_cast<std::ptrdiff_t>(n)));
    Tensors some_ys, some_xs;
    check<GradError>(results.size() == outputs.size(), "gradgradcheck: {} outputs, then {}", outputs.size(),
                     results.size());
    for (std::size_t j : ys) some_ys.push_back(results[j]);
    for (std::size_t i : xs) some_xs.push_back(in[i]);
    return grad(some_ys, some_xs,
                {.grad_outputs = Tensors(in.begin() + static_cast<std::ptrdiff_t>(n), in.end()),
                 .create_graph = true,
                 .allow_unused = true});
  };
  if (options.torch_procedure) return torch_report(gradient, all, options);

  GradcheckLabels names = labels;
  names.inputs.resize(n);
  for (std::size_t i = 0; i < n; ++i)
    if (names.inputs[i].name.empty()) names.inputs[i].name = fmt::format("input {}", i);
  for (std::size_t j : ys) names.inputs.push_back({fmt::format("cotangent of output {}", j)});
  return sharp_gradcheck(gradient, all, options, names, true);
}

bool passed(const GradcheckReport& report, const GradcheckOptions& options) {
  if (!report.ok() && options.raise_exception) throw GradcheckError(to_string(report));
  return report.ok();
}

}  // namespace unroll::detail
