#include <fmt/format.h>
#include <unroll/autograd/gradcheck_report.h>

#include <algorithm>
#include <cmath>
#include <ostream>

namespace unroll {

const char* to_string(GradcheckFault fault) {
  switch (fault) {
    case GradcheckFault::Nondeterministic:
      return "forward not deterministic";
    case GradcheckFault::Value:
      return "wrong derivative";
    case GradcheckFault::NotReentrant:
      return "backward twice";
    case GradcheckFault::Cotangent:
      return "cotangent ignored or not linear";
    case GradcheckFault::Layout:
      return "layout of the cotangent";
    case GradcheckFault::Undefined:
      return "undefined cotangent";
    case GradcheckFault::Subset:
      return "subset of requires_grad";
    case GradcheckFault::CreateGraph:
      return "create_graph";
    case GradcheckFault::Accumulation:
      return "accumulation";
    case GradcheckFault::Leak:
      return "leak";
    case GradcheckFault::Written:
      return "input overwritten";
    case GradcheckFault::Float32:
      return "float32 against float64";
    case GradcheckFault::Skipped:
      return "too much skipped";
  }
  return "?";
}

bool GradcheckReport::has(GradcheckFault fault) const noexcept {
  return std::ranges::any_of(findings, [=](const Finding& found) { return found.fault == fault; });
}

const GradcheckRow& GradcheckReport::row(std::string_view name, std::string_view block) const {
  auto found = std::ranges::find_if(rows, [&](const GradcheckRow& r) { return r.name == name && r.block == block; });
  check<ValueError>(found != rows.end(), "GradcheckReport: no row \"{}\"{}{}", name, block.empty() ? "" : " block ",
                    block);
  return *found;
}

namespace {
std::string number(double n) { return std::isnan(n) ? "-" : fmt::format("{:.6g}", n); }
std::string error(double n) { return n == 0 ? "0" : fmt::format("{:.1e}", n); }

std::vector<std::string> cells_of(const GradcheckRow& row) {
  const bool block = !row.block.empty();
  std::string worst;
  if (row.wrong > 0)
    worst = fmt::format("{}: {:.8g}, not {:.8g} ± {:.0e}", row.worst.index, row.worst.analytic, row.worst.numeric,
                        row.worst.uncertainty);
  else if (row.untested)
    worst = row.elements > 0 ? "nothing tested" : "empty";
  return {block ? "  " + row.block : row.name,
          fmt::format("{}", row.shape),
          row.wrong > 0 ? fmt::format("{}/{}", row.wrong, row.elements) : "ok",
          row.skipped > 0 ? fmt::format("{}", row.skipped) : "",
          error(row.max_abs_error),
          error(row.max_rel_error),
          number(row.ratio),
          number(row.cosine),
          worst};
}

// Width in columns: bytes of UTF-8 that begin a character.
std::size_t width(const std::string& text) {
  return static_cast<std::size_t>(std::ranges::count_if(text, [](char c) { return (c & 0xC0) != 0x80; }));
}

std::string table(const std::vector<GradcheckRow>& rows) {
  std::vector<std::vector<std::string>> lines{{"", "shape", "wrong", "skipped", "abs error", "rel error", "ratio",
                                               "cosine", "worst element: analytic, numeric"}};
  for (const GradcheckRow& row : rows) lines.push_back(cells_of(row));
  std::vector<std::size_t> widths(lines[0].size());
  for (const auto& line : lines)
    for (std::size_t c = 0; c < line.size(); ++c) widths[c] = std::max(widths[c], width(line[c]));
  if (std::ranges::all_of(rows, [](const GradcheckRow& row) { return row.skipped == 0; })) widths[3] = 0;
  std::string text;
  for (const auto& line : lines) {
    std::string row;
    for (std::size_t c = 0; c < line.size(); ++c) {
      if (widths[c] == 0) continue;
      const std::string gap(widths[c] - std::min(widths[c], width(line[c])), ' ');
      const bool left = c < 2 || c + 1 == line.size();
      row += left ? line[c] + gap + "  " : gap + line[c] + "  ";
    }
    row.erase(row.find_last_not_of(' ') + 1);
    text += fmt::format("  {}\n", row);
  }
  return text;
}
}  // namespace

std::string to_string(const GradcheckReport& report) {
  std::string text = report.verdict == GradcheckVerdict::Passed          ? "gradcheck: passed\n"
                     : report.verdict == GradcheckVerdict::NothingTested ? "gradcheck: passed, but nothing was tested\n"
                                                                         : "gradcheck: FAILED\n";
  for (const auto& [fault, what] : report.findings) text += fmt::format("- {}: {}\n", to_string(fault), what);
  if (report.pair)
    text += fmt::format("  the worst is d output {}{} / d {}{}: analytic {:.10g}, numeric {:.10g}\n",
                        report.pair->output, report.pair->output_index, report.pair->input, report.pair->input_index,
                        report.pair->analytic, report.pair->numeric);
  if (!report.rows.empty()) text += table(report.rows);
  for (const std::string& hint : report.hints) text += fmt::format("hint: {}\n", hint);
  for (const std::string& note : report.notes) text += fmt::format("note: {}\n", note);
  return text;
}

std::ostream& operator<<(std::ostream& stream, const GradcheckReport& report) { return stream << to_string(report); }

}  // namespace unroll
