// The parts of examples/char_lm: what it measures and what it writes.
#define DOCTEST_CONFIG_IMPLEMENT_WITH_MAIN
#include <doctest/doctest.h>
#include <unroll/unroll.h>

#include <cmath>
#include <numbers>

#include "char_lm/model.h"
#include "char_lm/report.h"
#include "char_lm/text.h"

using namespace unroll;
using namespace char_lm;
using Symbols = std::vector<std::int64_t>;

namespace {
std::unique_ptr<Model> small_model(const char* cell = "lstm") {
  manual_seed(1);
  return make_model({.cell = cell, .embedding_dim = 4, .hidden_size = 8, .dropout = 0.5}, 5);
}

Tensor logits_after(Model& model, std::int64_t symbol) {
  NoGrad no_grad;
  model.eval();
  return select(select(model(full({1, 1}, static_cast<double>(symbol), DType::Int64), {}).logits, 0, 0), 0, 0);
}
}  // namespace

TEST_CASE("bits per character are those of the whole text read at once, without dropout") {
  for (const char* cell : {"lstm", "mgu"}) {
    const auto model = small_model(cell);
    Symbols text;
    for (std::int64_t i = 0; i < 601; ++i) text.push_back((i * i + i / 3) % 5);
    const double bits = bits_per_character(*model, text);
    model->train();
    CHECK(bits_per_character(*model, text) == bits);
    NoGrad no_grad;
    const Tensor all = from_data(text, {601, 1}), logits = (*model)(narrow(all, 0, 0, 600), {}).logits;
    const double nats = cross_entropy(flatten(logits, 0, 1), flatten(narrow(all, 0, 1, 600))).item();
    CHECK(std::abs(bits - nats / std::numbers::ln2) < 1e-5);
  }
}

TEST_CASE("samples are drawn by their temperature, without dropout") {
  const auto model = small_model();
  const Symbols likeliest = sample(*model, {1}, 20, 0);
  CHECK(likeliest[0] == argmax(logits_after(*model, 1)).item<std::int64_t>());
  model->train();
  CHECK(sample(*model, {1}, 20, 0) == likeliest);
  for (double next_to_nothing : {1e-300, 1e-320}) CHECK(sample(*model, {1}, 20, next_to_nothing) == likeliest);
  const auto expected = softmax(logits_after(*model, 0).to(DType::Float64) / 0.1, 0).to_vector<double>();
  constexpr int kDraws = 4000;
  std::vector<double> seen(5);
  for (int i = 0; i < kDraws; ++i) seen[static_cast<std::size_t>(sample(*model, {0}, 1, 0.1)[0])] += 1. / kDraws;
  for (std::size_t i = 0; i < 5; ++i) CHECK(std::abs(seen[i] - expected[i]) < 0.05);
}

TEST_CASE("a greedy sample is the likeliest symbol after all that came before it") {
  for (const char* cell : {"lstm", "mgu"}) {
    const auto model = small_model(cell);
    Symbols text{1, 4, 2};
    for (std::int64_t symbol : sample(*model, text, 8, 0)) {
      NoGrad no_grad;
      model->eval();
      const auto length = static_cast<std::int64_t>(text.size());
      const Tensor logits = (*model)(from_data(text, {length, 1}), {}).logits;
      CHECK(symbol == argmax(select(select(logits, 0, -1), 0, 0)).item<std::int64_t>());
      text.push_back(symbol);
    }
  }
}

TEST_CASE("in training, dropout is on what the layers read and give, and between them") {
  manual_seed(1);
  const auto model =
      make_model({.cell = "lstm", .embedding_dim = 4, .hidden_size = 8, .num_layers = 2, .dropout = 1}, 5);
  model->train();
  NoGrad no_grad;
  auto state = [&](std::int64_t symbol) { return (*model)(from_data(Symbols{symbol}, {1, 1}), {}).state[0]; };
  auto parameter = [&](std::string_view name) {
    for (const auto& [its, tensor] : model->named_parameters())
      if (its == name) return tensor;
    throw std::invalid_argument("no parameter of that name");
  };
  const Tensor before = state(1), logits = (*model)(from_data(Symbols{1}, {1, 1}), {}).logits;
  CHECK(before.size(0) == 2);
  CHECK(equal(state(2), before));
  parameter("rnn.weight_ih_l1").zero_();
  CHECK(equal(state(1), before));
  CHECK(equal(flatten(logits), parameter("head.bias")));
}

TEST_CASE("the minimal gated unit") {
  const auto model = small_model("mgu");
  model->eval();
  NoGrad no_grad;
  std::vector<Tensor> p = model->parameters();  // the embedding, and of both sums weight and bias
  Tensor h = zeros({1, 8});
  for (std::int64_t symbol : {3, 1}) {
    const Tensor x = narrow(p[0], 0, symbol, 1), f = sigmoid(linear(cat({x, h}, 1), p[1], p[2]));
    h = (1 - f) * h + f * tanh(linear(cat({x, f * h}, 1), p[3], p[4]));
  }
  const Tensor after = (*model)(from_data(Symbols{3, 1}, {2, 1}), {}).state[0];
  CHECK(allclose(select(after, 0, 0), h, 0, 1e-6));
}

TEST_CASE("a text is split in reading order") {
  const std::string a(85, 'a'), b(5, 'b'), c(10, 'c'), text = a + b + c;
  const Split parts = split(text);
  CHECK(parts.train == a);
  CHECK(parts.valid == b);
  CHECK(parts.test == c);
  CHECK_THROWS_AS(split(std::string(39, 'a')), std::invalid_argument);
  CHECK(split(std::string(40, 'a')).valid.size() == 2);
}

TEST_CASE("n-grams are Witten and Bell's") {
  // P(a) = (3 + 2/2) / (4 + 2), P(b) = (1 + 2/2) / (4 + 2)
  CHECK(std::abs(ngram_bits("aaab", "ab", 0, 2) + (std::log2(4. / 6) + std::log2(2. / 6)) / 2) < 1e-12);
  // P(a) = (2 + 2/2) / (4 + 2) = 1/2; P(b | a) = (2 + 1/2) / (2 + 1); P(a | b) = (1 + 1/2) / (1 + 1) = 3/4, and so
  // P(a | ab) = (1 + 3/4) / (1 + 1). Nothing is longer than what came before.
  CHECK(std::abs(ngram_bits("abab", "aba", 2, 2) + (std::log2(0.5) + std::log2(2.5 / 3) + std::log2(0.875)) / 3) <
        1e-12);
}

TEST_CASE("streams: the state can be carried from chunk to chunk") {
  const Streams streams({0, 1, 2, 3, 4, 5, 6, 7}, 2);
  const auto [input, target] = streams.chunk(1, 5);
  CHECK(input.to_vector<std::int64_t>() == Symbols{1, 5, 2, 6});
  CHECK(target.to_vector<std::int64_t>() == Symbols{2, 6, 3, 7});
  CHECK_THROWS_AS(Streams({0, 1, 2}, 2), std::invalid_argument);
}

TEST_CASE("symbols that a text has not") {
  const Vocabulary vocabulary("abc");
  CHECK_THROWS_WITH_AS(vocabulary.encode("x"), doctest::Contains("the character 'x'"), std::invalid_argument);
  CHECK_THROWS_WITH_AS(vocabulary.encode("\xc3"), doctest::Contains("byte 195"), std::invalid_argument);
  CHECK_THROWS_WITH_AS(vocabulary.encode("\n"), doctest::Contains("byte 10"), std::invalid_argument);
  CHECK(vocabulary.encode("cab") == Symbols{2, 0, 1});
}

TEST_CASE("clock") {
  CHECK(clock_time(125) == "2:05");
  CHECK(clock_time(59.6) == "1:00");
  CHECK(clock_time(7200) == "120:00");
  CHECK(clock_time(NAN) == "?");
  CHECK(clock_time(INFINITY) == "?");
}

TEST_CASE("chart: points, ticks, levels and legend are where their numbers say") {
  auto has = [](const std::string& svg, const std::string& part) { return svg.find(part) != std::string::npos; };
  // 526 by 324 from (64, 44). From 0.7 to 3.9 a sixth is more than 0.5, so ticks are 1 apart, from 0 to 4.
  const Curve curve{"ab", "#123", {{0, 0.7}, {6, 3.9}}};
  std::string svg = line_chart("title", "x", "y", {curve, {"none", "#456", {}}}, {});
  CHECK(has(svg, "<path d=\"M64.0 311.3L590.0 52.1h0\" fill=\"none\" stroke=\"#123\" stroke-width=\"1.6\""));
  CHECK(has(svg, "<path d=\"M536.0 22h22\" stroke=\"#123\""));  // 40 and 7 a letter from 590
  CHECK_FALSE(has(svg, "#456"));
  CHECK(has(svg, ">3</text>"));
  CHECK_FALSE(has(svg, ">3.5</text>"));
  // From 1 to 4 a sixth is just 0.5. A single point is a dot.
  svg = line_chart("title", "x", "y", {{"c", "#123", {{0, 1}}}}, {{"four", 4}, {"nearly four", 3.99}, {"two", 2}});
  CHECK(has(svg, ">1.5</text>"));
  CHECK(has(svg, "M64.0 368.0h0"));
  CHECK(has(svg, "stroke-width=\"6\""));
  CHECK(has(svg, "y=\"48.0\" fill=\"#666\">four<"));
  CHECK(has(svg, "y=\"62.0\" fill=\"#666\">nearly four<"));  // 14 below the other's name
  CHECK(has(svg, "y=\"264.0\" fill=\"#666\">two<"));
  svg = line_chart("title", "x", "y", {}, {});
  CHECK(has(svg, ">0</text>"));
  CHECK_FALSE(has(svg, "nan"));
}
