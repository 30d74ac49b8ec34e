#include "support/gradients.h"

#include <unroll/autograd/detail/gradcheck.h>
#include <unroll/autograd/record.h>
#include <unroll/nn/gradcheck.h>
#include <unroll/nn/gru.h>
#include <unroll/nn/lstm.h>

#include <algorithm>

// What the report of a module says: rows, steps and hints.

using namespace unroll;

namespace {
GradcheckRow row(const char* name, std::int64_t wrong, const char* block = "", double ratio = 1.3,
                 double cosine = 0.5) {
  GradcheckRow result;
  result.name = name, result.block = block, result.elements = 4, result.wrong = wrong;
  result.ratio = ratio, result.cosine = cosine;
  return result;
}
// Whether a hint of these rows says that.
bool says(const std::vector<GradcheckRow>& rows, const char* what, const GradcheckLabels& labels = {}) {
  for (const std::string& hint : unroll::detail::gradcheck_hints(rows, labels))
    if (hint.find(what) != std::string::npos) return true;
  return false;
}
// x, with a gradient that is `factor` times as large.
auto scaled_by(double factor) {
  return [=](const std::vector<Tensor>& in) {
    return record("planted", {in[0]}, in[0].detach() * 1, [=](const Tensor& g) { return g * factor; });
  };
}
}  // namespace

TEST_CASE("nn gradcheck: a parameter without a block for each gate has no rows of blocks") {
  nn::LSTM rnn(2, 8, {.proj_size = 4, .dtype = DType::Float64});
  GradcheckReport report = nn::gradcheck_report(rnn, randn({2, 1, 2}, DType::Float64));
  CHECK(report.ok());
  std::int64_t blocks = 0;
  for (const GradcheckRow& row : report.rows) {
    if (row.block.empty()) continue;
    ++blocks;
    CHECK(row.name != "weight_hr_l0");
  }
  CHECK(blocks == 16);
}

TEST_CASE("nn gradcheck_time: steps are along dimension 1 of a layer with batch_first") {
  nn::GRU rnn(2, 3, {.batch_first = true, .dtype = DType::Float64});
  const GradcheckTimeProfile profile = nn::gradcheck_time(rnn, randn({2, 5, 2}, DType::Float64));
  CHECK(profile.ok());
  CHECK(profile.directions[0].error.size() == 5);
}

TEST_CASE("nn gradcheck: the hint of a mean over the steps") {
  GradcheckLabels labels{.batch = 3, .steps = 7, .dropout = 0.4};
  const auto hints = gradcheck_report(scaled_by(1. / 7), {leaf({1, 2, 3})}, {}, labels).hints;
  REQUIRE(hints.size() == 1);
  CHECK(hints[0].find("1/T, a mean over the 7 steps") != std::string::npos);
}

TEST_CASE("nn gradcheck: hints from the ratio") {
  auto hint = [](double factor, const GradcheckLabels& labels) {
    const auto hints = gradcheck_report(scaled_by(factor), {leaf({1, 2, 3})}, {}, labels).hints;
    return hints.empty() ? std::string("none") : hints[0];
  };
  auto contains = [](const std::string& text, const char* part) { return text.find(part) != std::string::npos; };
  GradcheckLabels labels{.batch = 3, .steps = 7, .dropout = 0.4};
  CHECK(contains(hint(3, labels), "N, a sum over the batch of 3"));
  CHECK(contains(hint(1.0 / 3, labels), "1/N, a mean over the batch of 3"));
  CHECK(contains(hint(7, labels), "T, added once for each of the 7 steps"));
  CHECK(contains(hint(0.6, labels), "1 − p, dropout's scale"));
  CHECK(contains(hint(2, labels), "it is added twice"));
  CHECK(contains(hint(-1, labels), "the sign"));
  CHECK(hint(1.234, labels) == "none");
}

TEST_CASE("nn gradcheck: a lone wrong weight is taken for its outer product only while all else is right") {
  auto hints = [](std::initializer_list<const char*> wrong) {
    std::vector<GradcheckRow> rows;
    for (const char* name : {"x", "weight_ih", "weight_hh", "bias_ih", "bias_hh"})
      rows.push_back(row(name, std::ranges::find(wrong, std::string_view(name)) != wrong.end()));
    const auto texts = unroll::detail::gradcheck_hints(rows, {});
    return texts.empty() ? std::string("none") : texts[0];
  };
  for (const char* weight : {"weight_ih", "weight_hh", "bias_ih"}) {
    CAPTURE(weight);
    CHECK(hints({weight}).starts_with(weight));
    CHECK(hints({weight, "x"}) == "none");
  }
  CHECK(hints({"weight_ih", "weight_hh"}) == "none");
}

TEST_CASE("nn gradcheck: hints reckon with the dropout of a layer that is in training, and with no other") {
  nn::LSTM rnn(2, 3, {.num_layers = 2, .dropout = 0.4});
  const Tensor x = randn({5, 4, 2});
  CHECK(nn::detail::checked(rnn, x, {}).labels.dropout == 0.4);
  rnn.eval();
  const GradcheckLabels labels = nn::detail::checked(rnn, x, {}).labels;
  CHECK(labels.dropout == 0);
  CHECK(labels.steps == 5);
  CHECK(labels.batch == 4);
}

TEST_CASE("nn gradcheck: a hint is for what fits it, and for nothing that only comes near") {
  GradcheckRow start = row("state[1]", 4);
  start.zero = true;
  CHECK(says({start}, "never handed to the start"));
  CHECK(says({row("x", 4, "", 2, 1)}, "added twice"));
  CHECK_FALSE(says({row("x", 4, "", 2.001, 1)}, "added twice"));
  CHECK_FALSE(says({row("x", 4, "", 1, 1)}, "1/N", {.batch = 1}));
  // Of a GRU's bias_hh the n block alone is its reset gate's doing.
  const char* only_n = "only the n block";
  auto gru = [](std::int64_t r, std::int64_t n) {
    return std::vector{row("weight_hh", 0), row("bias_ih", 0), row("bias_hh", 1), row("bias_hh", r, "r"),
                       row("bias_hh", n, "n")};
  };
  CHECK(says(gru(0, 1), only_n));
  CHECK_FALSE(says(gru(1, 0), only_n));
  CHECK_FALSE(says(gru(1, 1), only_n));
  // The reverse direction is to blame where forward ones are there, and right.
  const char* reverse = "the reverse direction";
  const GradcheckRow wrong = row("weight_hh_l0_reverse", 1), right = row("weight_hh_l0", 0),
                     also = row("weight_hh_l1", 1);
  CHECK(says({right, wrong}, reverse));
  CHECK_FALSE(says({wrong}, reverse));
  CHECK_FALSE(says({right, wrong, also}, reverse));
}

TEST_CASE("nn gradcheck: the table of a report, in columns that are as wide as what they hold") {
  GradcheckReport report;
  report.rows = {row("é", 0, "", 1, 1), row("ab", 0, "", 1, 1)};
  report.rows[0].shape = {4}, report.rows[1].shape = {2, 2};
  report.rows[1].untested = true;
  const std::string head =
      "      shape   wrong  abs error  rel error  ratio  cosine  worst element: analytic, numeric\n";
  CHECK(to_string(report) == "gradcheck: passed\n" + head +
                                 "  é   (4,)       ok          0          0      1       1\n"
                                 "  ab  (2, 2)     ok          0          0      1       1  nothing tested\n");
}
