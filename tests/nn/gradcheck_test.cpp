// gradcheck of modules: what it says of cells with planted faults, and that it says nothing of right ones.
#include <doctest/doctest.h>
#include <unroll/autograd/functional.h>
#include <unroll/autograd/ops/activation.h>
#include <unroll/autograd/ops/arithmetic.h>
#include <unroll/autograd/ops/dropout.h>
#include <unroll/autograd/ops/matmul.h>
#include <unroll/autograd/ops/reduce.h>
#include <unroll/autograd/ops/shape.h>
#include <unroll/autograd/record.h>
#include <unroll/core/random.h>
#include <unroll/nn/dropout.h>
#include <unroll/nn/embedding.h>
#include <unroll/nn/gradcheck.h>
#include <unroll/nn/gru.h>
#include <unroll/nn/initial_state.h>
#include <unroll/nn/layer_norm_cells.h>
#include <unroll/nn/linear.h>
#include <unroll/nn/lstm.h>
#include <unroll/nn/rnn.h>
#include <unroll/nn/sequential.h>

#include <cmath>

#include "support/memory.h"
#include "support/sanitized.h"

using namespace unroll;

namespace {

using Tensors = std::vector<Tensor>;

constexpr DType kDouble = DType::Float64;
constexpr std::int64_t kSteps = 4, kBatch = 3, kInput = 2, kHidden = 5;

bool contains(const std::string& text, const char* part) { return text.find(part) != std::string::npos; }

// The same value with a gradient that is `factor` times too large.
Tensor scaled_gradient(const Tensor& y, double factor) {
  return record("planted", {y}, y.detach().clone(), [factor](const Tensor& g) { return g * factor; });
}

// A GRU cell in which a fault of the gradient can be switched on.
enum class Bug { None, ResetOutside, WrongH, MeanOverBatch, CutCarry, NoSum, GateZ };

struct FaultyGRUCell : nn::Module {
  using State = Tensor;
  static constexpr std::array kGates = {"r", "z", "n"};
  Tensor weight_ih, weight_hh, bias_ih, bias_hh;
  std::int64_t hidden_size;
  Bug bug = Bug::None;

  FaultyGRUCell(std::int64_t in, std::int64_t hidden) : hidden_size(hidden) {
    weight_ih = randn({3 * hidden, in}, kDouble) * 0.4;
    weight_hh = randn({3 * hidden, hidden}, kDouble) * 0.4;
    bias_ih = randn(3 * hidden, kDouble) * 0.4;
    bias_hh = randn(3 * hidden, kDouble) * 0.4;
    add("weight_ih", weight_ih);
    add("weight_hh", weight_hh);
    add("bias_ih", bias_ih);
    add("bias_hh", bias_hh);
  }

  Tensor operator()(const Tensor& x, const Tensor& previous) const {
    Tensor h = bug == Bug::CutCarry ? previous.detach() : previous;
    Tensor w_ih = bug == Bug::MeanOverBatch ? scaled_gradient(weight_ih, 1.0 / kBatch) : weight_ih;
    Tensor wx = matmul(x, t(w_ih)) + (bug == Bug::NoSum ? row_zero(bias_ih, x.size(0)) : bias_ih);
    Tensor wh = bug == Bug::WrongH ? product_with_wrong_h(h) : matmul(h, t(weight_hh));
    std::vector<Tensor> a = chunk(wx, 3, -1), b = chunk(wh, 3, -1), c = chunk(bias_hh, 3, -1);
    Tensor r = sigmoid(a[0] + b[0] + c[0]), z = sigmoid(a[1] + b[1] + c[1]);
    if (bug == Bug::GateZ) z = scaled_gradient(z, -1);
    Tensor n = tanh(a[2] + r * b[2] + (bug == Bug::ResetOutside ? reset_outside(r, c[2]) : r * c[2]));
    return (1 - z) * n + z * h;
  }

  // r·b whose gradient by b misses r.
  static Tensor reset_outside(const Tensor& r, const Tensor& b) {
    return record(
        "planted", {r, b}, value([&] { return r * b; }), save(r, b),
        [](const Tensor& g, const Saved& s) { return g * s[1]; }, [](const Tensor& g) { return g; });
  }
  // h Wᵀ whose gradient by W takes another h.
  Tensor product_with_wrong_h(const Tensor& h) const {
    return record(
        "planted", {h, weight_hh}, value([&] { return matmul(h, t(weight_hh)); }), save(h, weight_hh),
        [](const Tensor& g, const Saved& s) { return matmul(g, s[1]); },
        [](const Tensor& g, const Saved& s) { return matmul(t(g), tanh(s[0])); });
  }
  // b in every row; its gradient is that of the first row.
  static Tensor row_zero(const Tensor& b, std::int64_t rows) {
    return record("planted", {b}, value([&] {
                    return expand(b, {rows, b.size(0)}).clone();
                  }),
                  [](const Tensor& g) { return select(g, 0, 0); });
  }
  template <class F>
  static Tensor value(F f) {
    NoGrad guard;
    return f();
  }
};

Tensor numbers(const Shape& shape, std::int64_t seed = 5, DType dtype = kDouble) {
  Generator generator(seed);
  return randn(shape, dtype, generator);
}

GradcheckReport report_of(Bug bug) {
  manual_seed(1);
  FaultyGRUCell cell(kInput, kHidden);
  cell.bug = bug;
  return gradcheck_report(cell, numbers({kBatch, kInput}), numbers({kBatch, kHidden}, 6));
}

// Exactly these rows are wrong, "name" or "name[block]".
void check_wrong(const GradcheckReport& report, std::vector<std::string> names) {
  std::vector<std::string> wrong;
  for (const GradcheckRow& row : report.rows)
    if (row.wrong > 0) wrong.push_back(row.block.empty() ? row.name : row.name + "[" + row.block + "]");
  INFO(to_string(report));
  CHECK(wrong == names);
}

}  // namespace

TEST_CASE("nn gradcheck: torch's layers and cells, by x, states and parameters") {
  manual_seed(2);
  Tensor x = numbers({kSteps, kBatch, kInput});
  nn::LSTM lstm(kInput, kHidden, {.num_layers = 2, .bidirectional = true, .proj_size = 3, .dtype = kDouble});
  GradcheckReport report = gradcheck_report(lstm, x);
  CHECK_MESSAGE(report.ok(), to_string(report));
  CHECK(report.verdict == GradcheckVerdict::Passed);
  for (const char* name : {"x", "h0", "c0", "weight_ih_l0", "bias_hh_l1_reverse", "weight_hr_l1"})
    CHECK(report.row(name).ratio == doctest::Approx(1).epsilon(1e-7));
  CHECK(report.row("weight_hh_l0", "f").shape == Shape{kHidden, 3});
  CHECK(report.row("bias_ih_l1", "o").shape == Shape{kHidden});
  CHECK_THROWS_AS(report.row("weight_hr_l0", "i"), ValueError);  // not made of gates
  CHECK_FALSE(report.row("h0").untested);                        // left out, it is drawn at random
  CHECK(gradcheck(lstm, x, {}, {.fast_mode = true}));
  CHECK(gradcheck_time(lstm, x).ok());

  nn::GRU gru(kInput, kHidden, {.batch_first = true, .dtype = kDouble});
  report = gradcheck_report(gru, numbers({kBatch, kSteps, kInput}), numbers({1, kBatch, kHidden}));
  CHECK(report.ok());
  CHECK(report.row("weight_ih_l0", "z").wrong == 0);
  CHECK(gradcheck_time(gru, numbers({kBatch, kSteps, kInput})).ok());
  CHECK(gradcheck(nn::RNN(kInput, kHidden, {.dtype = kDouble}), x));
  CHECK(gradcheck(nn::LSTMCell(kInput, kHidden, {.dtype = kDouble}), numbers({kBatch, kInput})));
  CHECK(gradcheck(nn::LSTMCell(kInput, kHidden, {.dtype = kDouble}), numbers({kBatch, kInput}),
                  {numbers({kBatch, kHidden}), numbers({kBatch, kHidden}, 7)}));
  CHECK(gradcheck(nn::GRUCell(kInput, kHidden, {.dtype = kDouble}), numbers(kInput)));
  CHECK(gradcheck(nn::Linear(kInput, 4, {.dtype = kDouble}), numbers({3, kInput})));
  CHECK(gradcheck(nn::Recurrent<FaultyGRUCell>(kInput, kHidden, {.num_layers = 2, .bidirectional = true}), x));
}

TEST_CASE("nn gradcheck: a float32 module is converted and is as before") {
  manual_seed(3);
  nn::LSTM lstm(kInput, kHidden);
  NamedTensors before;
  for (const auto& [name, p] : lstm.named_parameters()) before.emplace_back(name, p.detach().clone());
  Tensor x = numbers({kSteps, kBatch, kInput}, 5, DType::Float32), bits = x.clone();
  CHECK(gradcheck(lstm, x));  // once before, as weights that are used again have panels from then on
  Live live;
  CHECK(gradcheck(lstm, x));
  CHECK(Live() == live);
  CHECK_FALSE(x.requires_grad());
  CHECK(equal(x, bits));
  NamedTensors after = lstm.named_parameters();
  for (std::size_t i = 0; i < after.size(); ++i) {
    CHECK(after[i].second.dtype() == DType::Float32);
    CHECK(after[i].second.version() == lstm.parameters()[i].version());
    CHECK_FALSE(after[i].second.grad().defined());
    CHECK(equal(after[i].second.detach(), before[i].second));
  }
}

TEST_CASE("nn gradcheck: any function of a module") {
  manual_seed(4);
  struct Model : nn::Module {
    nn::Embedding table{6, 3, {.dtype = kDouble}};
    nn::GRU rnn{3, 4, {.dtype = kDouble}};
    nn::Linear head{4, 6, {.dtype = kDouble}};
    Model() {
      add("table", table);
      add("rnn", rnn);
      add("head", head);
    }
  } model;
  Tensor index = from_data(std::vector<std::int64_t>{0, 1, 2, 3, 4, 5}, {3, 2});
  auto f = [&](const Tensors& in) { return model.head(model.rnn(model.table(in[0]), in[1]).output); };
  GradcheckReport report = gradcheck_report(model, f, {index, numbers({1, 2, 4})});
  CHECK_MESSAGE(report.ok(), to_string(report));
  CHECK(report.row("input 1").wrong == 0);
  CHECK(report.row("rnn.weight_hh_l0").wrong == 0);
  CHECK(gradcheck(model, f, {index, numbers({1, 2, 4})}));
  model.head.weight.requires_grad_(false);  // a frozen parameter is not looked at
  CHECK_THROWS_AS(gradcheck_report(model, f, {index, numbers({1, 2, 4})}).row("head.weight"), ValueError);
}

TEST_CASE("nn gradcheck: dropout is refused, or fixed") {
  manual_seed(5);
  nn::GRU rnn(kInput, kHidden, {.num_layers = 2, .dropout = 0.5, .dtype = kDouble});
  Tensor x = numbers({kSteps, kBatch, kInput});
  CHECK(gradcheck_report(rnn, x).has(GradcheckFault::Nondeterministic));
  CHECK(gradcheck(rnn, x, {}, {.fix_random = true}));
  rnn.eval();
  CHECK(gradcheck(rnn, x));
}

TEST_CASE("nn gradcheck: the report of a wrong cell says which parameter, which gate, and what it may come from") {
  check_wrong(report_of(Bug::None), {});

  GradcheckReport report = report_of(Bug::ResetOutside);
  check_wrong(report, {"bias_hh", "bias_hh[n]"});
  CHECK(contains(to_string(report), "hint: bias_hh[n]: only the n block: the reset gate"));

  report = report_of(Bug::WrongH);
  check_wrong(report, {"weight_hh", "weight_hh[r]", "weight_hh[z]", "weight_hh[n]"});
  CHECK(contains(to_string(report), "the outer product takes another h than h_{t−1}"));

  report = report_of(Bug::MeanOverBatch);
  check_wrong(report, {"weight_ih", "weight_ih[r]", "weight_ih[z]", "weight_ih[n]"});
  CHECK(report.row("weight_ih").ratio == doctest::Approx(1.0 / kBatch));
  CHECK(contains(to_string(report), "1/N, a mean over the batch of 3 instead of the sum"));

  report = report_of(Bug::NoSum);
  check_wrong(report, {"bias_ih", "bias_ih[r]", "bias_ih[z]", "bias_ih[n]"});
  CHECK(contains(to_string(report), "the sum over batch and steps is not over all of them"));

  report = report_of(Bug::CutCarry);
  check_wrong(report, {"h0"});
  CHECK(report.row("h0").zero);
  CHECK(contains(to_string(report), "hint: h0: the gradient is exactly zero: the carry from step to step is cut"));

  report = report_of(Bug::GateZ);
  for (const char* name : {"weight_ih", "weight_hh", "bias_ih", "bias_hh"}) {
    CHECK(report.row(name, "z").ratio == doctest::Approx(-1));
    CHECK(report.row(name, "r").wrong == 0);
    CHECK(report.row(name, "n").wrong == 0);
  }
  CHECK(contains(to_string(report), "weight_ih[z], weight_hh[z], bias_ih[z], bias_hh[z]: off by a factor of -1"));
}

TEST_CASE("nn gradcheck: a wrong layer, in time and direction") {
  manual_seed(6);
  nn::Recurrent<FaultyGRUCell> rnn(kInput, kHidden, {.bidirectional = true});
  Tensor x = numbers({kSteps, kBatch, kInput});
  rnn.cell(0, 1).bug = Bug::CutCarry;
  GradcheckTimeProfile profile = gradcheck_time(rnn, x);
  CHECK(profile.directions[0].verdict == TimeVerdict::Right);
  CHECK(profile.directions[1].verdict == TimeVerdict::Truncated);
  CHECK(profile.directions[1].reach == 1);
  CHECK(contains(to_string(profile), "only the reverse half is wrong"));
  GradcheckReport report = gradcheck_report(rnn, x);
  CHECK(report.row("weight_hh_l0").wrong == 0);
  CHECK(report.row("weight_hh_l0_reverse").wrong > 0);
  CHECK(contains(to_string(report), "hint: the reverse direction: wrong there only"));

  rnn.cell(0, 1).bug = Bug::None;
  rnn.cell(0, 0).bug = Bug::GateZ;
  profile = gradcheck_time(rnn, x);
  CHECK(profile.directions[0].verdict == TimeVerdict::Local);
  CHECK(profile.directions[0].first_t == 0);
  CHECK(profile.directions[0].first_s == 0);
  CHECK(profile.directions[1].verdict == TimeVerdict::Right);
}

TEST_CASE("nn gradcheck: what a layer hands on wrongly is no step's own fault, in a stack that runs both ways too") {
  manual_seed(6);
  nn::Recurrent<FaultyGRUCell> rnn(kInput, kHidden, {.num_layers = 2, .bidirectional = true});
  rnn.cell(1, 0).bug = Bug::CutCarry;
  GradcheckTimeProfile profile = gradcheck_time(rnn, numbers({kSteps, kBatch, kInput}));
  CHECK(profile.directions[0].verdict == TimeVerdict::Carry);
  CHECK(contains(to_string(profile), "one layer alone says more"));
}

TEST_CASE("nn gradcheck: a float64 module's weights keep their panels afterwards") {
  nn::GRUCell cell(kInput, kHidden, {.dtype = kDouble});
  CHECK(gradcheck(cell, numbers({kBatch, kInput})));
  for (const Tensor& p : cell.parameters()) CHECK_FALSE(p.body().storage->is_given_out);
}

TEST_CASE("nn gradcheck: any one entry of an LSTM's Jacobian, off by a hundredth, is found in slow and fast mode") {
  manual_seed(7);
  nn::LSTM rnn(2, 2, {.dtype = kDouble});
  auto right = [&](const Tensors& in) { return rnn(in[0], {in[1], in[2]}).output; };  // 6 elements
  const Tensors inputs{numbers({3, 1, 2}, 1).requires_grad_(), numbers({1, 1, 2}, 2).requires_grad_(),
                       numbers({1, 1, 2}, 3).requires_grad_()};
  const Tensors jacobians = jacobian(right, inputs);
  for (bool fast : {false, true}) CHECK(gradcheck(right, inputs, {.fast_mode = fast}));
  GradcheckOptions torch = GradcheckOptions::torch();
  torch.raise_exception = false;
  int entries = 0;
  for (std::size_t i = 0; i < inputs.size(); ++i) {
    const Tensor entry = view(jacobians[i], {6, inputs[i].numel()});
    for (std::int64_t row = 0; row < 6; ++row)
      for (std::int64_t column = 0; column < inputs[i].numel(); ++column) {
        const double off = 0.01 * select(select(entry, 0, row), 0, column).item();
        if (off == 0) continue;  // of a later step
        CAPTURE(i);
        CAPTURE(row);
        CAPTURE(column);
        ++entries;
        auto wrong = [&](const Tensors& in) {
          Tensor y = right(in), where = zeros(inputs[i].numel(), kDouble);
          select(where, 0, column).fill_(off);
          where = view(where, inputs[i].shape());
          return record(
              "planted", {y, in[i]}, y.detach().clone(), [](const Tensor& g) { return g; },
              [=](const Tensor& g) { return where * select(flatten(g), 0, row); });
        };
        for (bool fast : {false, true}) {
          GradcheckReport report = gradcheck_report(wrong, inputs, {.fast_mode = fast});
          CHECK(report.verdict == GradcheckVerdict::Failed);
          CHECK(report.findings.size() == 1);
          CHECK(report.has(GradcheckFault::Value));
          REQUIRE(report.pair);
          CHECK(report.pair->output_index == Shape{row / 2, 0, row % 2});
          CHECK(report.pair->analytic / report.pair->numeric == doctest::Approx(1.01).epsilon(1e-6));
        }
        // torch's tolerance lets entries below 1e-5 / 0.009 pass.
        CHECK(gradcheck(wrong, inputs, torch) == (std::abs(off) < 1e-5 + 0.1 * std::abs(off)));
      }
  }
  CHECK(entries == 24 + 12 + 10);  // by x, h0, c0; the first step takes from c0 what is its own
}

TEST_CASE("nn gradcheck: a state that is given in part is refused") {
  nn::LSTM rnn(2, 3);
  Tensor x = zeros({2, 1, 2}), part = zeros({1, 1, 3});
  CHECK_THROWS_AS(nn::gradcheck(rnn, x, {part, {}}), ValueError);
  CHECK_THROWS_AS(nn::gradcheck(rnn, x, {{}, part}), ValueError);
}

TEST_CASE("nn gradcheck_time: a layer whose batch comes first, with a sequence without a batch") {
  manual_seed(1);
  const nn::GRU rnn(3, 4, {.batch_first = true, .dtype = kDouble});
  CHECK(nn::gradcheck_time(rnn, randn({5, 3}, kDouble)).ok());
}

namespace {
struct Scaled : nn::Module {
  Scaled() {
    add("weight", weight);
    add("scale", scale, Kind::Buffer);
  }
  Tensor operator()(const Tensor& x) const { return x * weight * scale; }
  Tensor weight = ones(2), scale = full(2, 3);
};
}  // namespace

TEST_CASE("nn gradcheck: buffers are converted like parameters, and a number is an input") {
  const Scaled module;
  CHECK(nn::gradcheck(module, tensor({0.5, 1.5})));
  const auto report =
      nn::gradcheck_report(module, [&](const Tensors& in) { return module(in[0]) * in[1]; }, {ones(2), scalar(2)});
  CHECK(report.row("input 1").elements == 1);
}

TEST_CASE("nn gradcheck: a float32 layer that magnifies rounding is right, and one that is wrong is not excused") {
  // Normalisation of a small state divides by little; seed 4 was off by more than rounding's own size.
  const std::int64_t steps = kSanitized ? 8 : 30;
  for (std::int64_t seed : {4, 5, 6}) {
    manual_seed(seed);
    nn::Recurrent<nn::LayerNormLSTMCell> rnn(4, 8, {.num_layers = 2});
    {
      NoGrad guard;
      for (const Tensor& p : rnn.parameters()) p.mul_(2);
    }
    CHECK(nn::gradcheck(rnn, randn({steps, 3, 4}), {}, {.fast_mode = true}));
  }
  struct Coarse : nn::Module {  // right in float64
    Coarse() : w(ones(3).requires_grad_()) { add("w", w); }
    Tensor operator()(const Tensor& x) const {
      return record(
          "coarse", {x, w}, x.detach() * w.detach(), save(x, w),
          [](const Tensor& g, const Saved& s) { return g * s[1] * (1 + (g.dtype() == DType::Float32 ? 1e-4 : 0)); },
          [](const Tensor& g, const Saved& s) { return g * s[0]; });
    }
    Tensor w;
  } coarse;
  CHECK_THROWS_WITH_AS(nn::gradcheck(coarse, randn({5, 3})), doctest::Contains("in float32 and"), GradcheckError);
}

TEST_CASE("nn gradcheck: an expanded state is a leaf of its own") {
  nn::GRU gru(2, 3, {.dtype = DType::Float64});
  nn::InitialState start(gru);
  CHECK(nn::gradcheck(gru, randn({4, 5, 2}, DType::Float64), start(5)));
}
