#include <fmt/format.h>
#include <unroll/autograd/detail/gradcheck.h>

#include <algorithm>
#include <cmath>
#include <map>

namespace unroll::detail {
namespace {

// "weight_hh_l1_reverse" is base "weight_hh" of the cell "_l1_reverse".
struct ParameterName {
  std::string base, cell;
};

ParameterName split_name(const std::string& name) {
  for (const char* base : {"weight_ih", "weight_hh", "weight_hr", "bias_ih", "bias_hh"})
    if (std::size_t at = name.rfind(base); at != std::string::npos) {
      std::size_t end = at + std::string_view(base).size();
      return {base, name.substr(0, at) + name.substr(end)};
    }
  return {};
}

bool is_state(const std::string& name) { return name == "h0" || name == "c0" || name.starts_with("state"); }

// What the ratio of analytic to numeric may mean.
std::vector<std::string> meanings(double ratio, const GradcheckLabels& labels) {
  std::vector<std::string> found;
  auto is = [&](double value, std::string meaning) {
    if (std::abs(ratio - value) <= 1e-5 * std::abs(value)) found.push_back(std::move(meaning));
  };
  const auto n = static_cast<double>(labels.batch), t = static_cast<double>(labels.steps);
  is(-1, "the sign");
  is(2, "it is added twice");
  is(0.5, "a factor 2 is missing");
  if (labels.batch > 1) {
    is(1 / n, fmt::format("1/N, a mean over the batch of {} instead of the sum", labels.batch));
    is(n, fmt::format("N, a sum over the batch of {} where the function takes the mean", labels.batch));
  }
  if (labels.steps > 1) {
    is(1 / t,
       fmt::format("1/T, a mean over the {} steps instead of the sum, or only one of equal steps", labels.steps));
    is(t, fmt::format("T, added once for each of the {} steps", labels.steps));
  }
  if (labels.dropout > 0 && labels.dropout < 1) {
    is(1 - labels.dropout, "1 − p, dropout's scale 1/(1 − p) is missing in backward");
    is(1 / (1 - labels.dropout), "1/(1 − p), dropout's scale is applied twice");
  }
  return found;
}

// The rows of one cell's parameters.
struct CellRows {
  std::map<std::string, const GradcheckRow*> whole;
  std::map<std::string, std::vector<const GradcheckRow*>> blocks;
  bool wrong(const std::string& base) const {
    auto found = whole.find(base);
    return found != whole.end() && found->second->wrong > 0;
  }
};

class Hints {
 public:
  Hints(const std::vector<GradcheckRow>& rows, const GradcheckLabels& labels) : labels_(labels) {
    for (const GradcheckRow& row : rows) {
      ParameterName name = split_name(row.name);
      if (!name.base.empty()) {
        CellRows& cell = cells_[name.cell];
        row.block.empty() ? void(cell.whole[name.base] = &row) : cell.blocks[name.base].push_back(&row);
      } else if (row.wrong > 0 && row.block.empty()) {
        others_wrong_ = true;
      }
      if (row.wrong > 0) of_one_row(row);
    }
    for (const auto& [suffix, cell] : cells_) of_cell(cell);
    of_directions();
  }

  std::vector<std::string> texts() const {
    std::vector<std::string> result;
    for (const auto& [names, what] : found_) result.push_back(fmt::format("{}: {}", names, what));
    return result;
  }

 private:
  // Rows of which the same is to be said share a hint.
  void say(const std::string& name, const std::string& what) {
    auto known = std::ranges::find_if(found_, [&](const auto& hint) { return hint.second == what; });
    if (known == found_.end())
      found_.emplace_back(name, what);
    else if (known->first.size() < 200)
      known->first += ", " + name;
  }

  void of_one_row(const GradcheckRow& row) {
    const std::string name = row.block.empty() ? row.name : fmt::format("{}[{}]", row.name, row.block);
    if (!row.block.empty() && explained_ == row.name) return;  // said of the whole
    if (row.zero) {
      say(name, is_state(row.name)
                    ? "the gradient is exactly zero: the carry from step to step is cut, or never handed to the start"
                    : "the gradient is exactly zero: it is never computed, or the computation is not recorded");
    } else if (row.cosine * row.cosine > 1 - 1e-9) {
      std::string text;
      for (const std::string& meaning : meanings(row.ratio, labels_)) text += (text.empty() ? "" : "; or ") + meaning;
      if (text.empty()) return;
      say(name, fmt::format("off by a factor of {:.6g} everywhere: {}", row.ratio, text));
    } else {
      return;
    }
    if (row.block.empty()) explained_ = row.name;
  }

  void of_cell(const CellRows& cell) {
    const bool w_ih = cell.wrong("weight_ih"), w_hh = cell.wrong("weight_hh"), b_ih = cell.wrong("bias_ih"),
               b_hh = cell.wrong("bias_hh");
    auto name = [&](const char* base) { return cell.whole.at(base)->name; };
    if (b_hh && !b_ih && !w_ih && only_block_wrong(cell, "bias_hh", "n"))
      say(name("bias_hh") + "[n]",
          "only the n block: the reset gate multiplies W_hn h + b_hn, so b_hn's gradient is that of b_in times r");
    else if (w_hh && !w_ih && !b_ih && !b_hh && !others_wrong_)
      say(name("weight_hh"),
          "wrong while dx and all else is right: the outer product takes another h than h_{t−1}, or misses steps");
    else if (w_ih && !w_hh && !b_ih && !b_hh && !others_wrong_)
      say(name("weight_ih"),
          "wrong while dx and all else is right: the outer product takes another x, or misses steps");
    else if ((b_ih || b_hh) && !w_ih && !w_hh && !others_wrong_)
      say(name(b_ih ? "bias_ih" : "bias_hh"),
          "wrong while the weights are right: the sum over batch and steps is not over all of them");
  }

  static bool only_block_wrong(const CellRows& cell, const std::string& base, std::string_view block) {
    auto found = cell.blocks.find(base);
    return found != cell.blocks.end() && std::ranges::all_of(found->second, [&](const GradcheckRow* row) {
             return (row->wrong > 0) == (row->block == block);
           });
  }

  void of_directions() {
    std::size_t right = 0, wrong = 0;
    for (const auto& [suffix, cell] : cells_) {
      const bool is_wrong = std::ranges::any_of(cell.whole, [](const auto& row) { return row.second->wrong > 0; });
      if (suffix.ends_with("_reverse"))
        wrong += is_wrong;
      else if (is_wrong)
        return;
      else
        ++right;
    }
    if (wrong > 0 && right > 0)
      say("the reverse direction",
          "wrong there only: the time index; it runs from T − 1 to 0, and so do its cotangents");
  }

  const GradcheckLabels& labels_;
  std::map<std::string, CellRows> cells_;
  bool others_wrong_ = false;
  std::string explained_;
  std::vector<std::pair<std::string, std::string>> found_;  // names, what
};

}  // namespace

std::vector<std::string> gradcheck_hints(const std::vector<GradcheckRow>& rows, const GradcheckLabels& labels) {
  return Hints(rows, labels).texts();
}

}  // namespace unroll::detail
