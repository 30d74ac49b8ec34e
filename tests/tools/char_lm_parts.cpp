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
  CHECK(sample(*model, {1}, 20, 1e-300) == likeliest);
  const auto expected = softmax(logits_after(*model, 0).to(DType::Float64) / 0.1, 0).to_vector<double>();
  constexpr int kDraws = 4000;
  std::vector<double> seen(5);
  for (int i = 0; i < kDraws; ++i) seen[static_cast<std::size_t>(sample(*model, {0}, 1, 0.1)[0])] += 1. / kDraws;
  for (std::size_t i = 0; i < 5; ++i) CHECK(std::abs(seen[i] - expected[i]) < 0.05);
}

TEST_CASE("a text is split in reading order") {
  const std::string a(85, 'a'), b(5, 'b'), c(10, 'c'), text = a + b + c;
  const Split parts = split(text);
  CHECK(parts.train == a);
  CHECK(parts.valid == b);
  CHECK(parts.test == c);
  CHECK_THROWS_AS(split("too short"), std::invalid_argument);
}

TEST_CASE("n-grams are Witten and Bell's") {
  // P(a) = (3 + 2/2) / (4 + 2), P(b) = (1 + 2/2) / (4 + 2)
  CHECK(std::abs(ngram_bits("aaab", "ab", 0, 2) + (std::log2(4. / 6) + std::log2(2. / 6)) / 2) < 1e-12);
}

TEST_CASE("streams: the state can be carried from chunk to chunk") {
  const Streams streams({0, 1, 2, 3, 4, 5, 6, 7}, 2);
  const auto [input, target] = streams.chunk(1, 5);
  CHECK(input.to_vector<std::int64_t>() == Symbols{1, 5, 2, 6});
  CHECK(target.to_vector<std::int64_t>() == Symbols{2, 6, 3, 7});
}

TEST_CASE("symbols that a text has not") {
  const Vocabulary vocabulary("abc");
  CHECK_THROWS_WITH_AS(vocabulary.encode("x"), doctest::Contains("the character 'x'"), std::invalid_argument);
  CHECK_THROWS_WITH_AS(vocabulary.encode("\xc3"), doctest::Contains("byte 195"), std::invalid_argument);
}

TEST_CASE("clock") {
  CHECK(clock_time(125) == "2:05");
  CHECK(clock_time(NAN) == "?");
}
