#include "text.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <random>
#include <span>
#include <stdexcept>
#include <unordered_map>

namespace char_lm {

Split split(std::string_view text) {
  if (text.size() < 40)  // or there is nothing to predict in one of them
    throw std::invalid_argument(fmt::format("the text has {} characters, expected at least 40", text.size()));
  std::size_t train = text.size() * 85 / 100, valid = text.size() * 5 / 100;
  return {text.substr(0, train), text.substr(train, valid), text.substr(train + valid)};
}

Vocabulary::Vocabulary(std::string_view text) : numbers_(256, -1) {
  for (char c : text) numbers_[static_cast<unsigned char>(c)] = 0;
  for (std::size_t byte = 0; byte < numbers_.size(); ++byte)
    if (numbers_[byte] == 0) {
      numbers_[byte] = static_cast<std::int64_t>(symbols_.size());
      symbols_ += static_cast<char>(byte);
    }
}

std::vector<std::int64_t> Vocabulary::encode(std::string_view text) const {
  std::vector<std::int64_t> numbers;
  numbers.reserve(text.size());
  for (char c : text) {
    const int byte = static_cast<unsigned char>(c);
    if (!has(c))
      throw std::invalid_argument(
          fmt::format("{} does not occur in the text that was learned",
                      byte > 31 && byte < 127 ? fmt::format("the character '{}'", c) : fmt::format("byte {}", byte)));
    numbers.push_back(numbers_[static_cast<std::size_t>(byte)]);
  }
  return numbers;
}

Streams::Streams(const std::vector<std::int64_t>& symbols, std::int64_t streams) {
  auto length = static_cast<std::int64_t>(symbols.size()) / streams;
  if (length < 2) throw std::invalid_argument("the text is too short for so many streams");
  std::span whole(symbols.data(), static_cast<std::size_t>(length * streams));
  data_ = unroll::transpose(unroll::from_data<std::int64_t>(whole, {streams, length}), 0, 1).contiguous();
}

Streams::Chunk Streams::chunk(std::int64_t start, std::int64_t steps) const {
  steps = std::min(steps, length() - start);
  return {unroll::narrow(data_, 0, start, steps), unroll::narrow(data_, 0, start + 1, steps)};
}

double ngram_bits(std::string_view train, std::string_view test, std::size_t order, std::size_t vocabulary) {
  // Successor counts of every context of 0 … order characters.
  struct Context {
    std::map<char, double> successors;
    double total = 0;
  };
  std::unordered_map<std::string_view, Context> contexts;
  for (std::size_t i = 0; i < train.size(); ++i)
    for (std::size_t n = 0; n <= std::min(order, i); ++n) {
      Context& context = contexts[train.substr(i - n, n)];
      context.successors[train[i]] += 1;
      context.total += 1;
    }
  double bits = 0;
  for (std::size_t i = 0; i < test.size(); ++i) {
    double p = 1 / static_cast<double>(vocabulary);
    for (std::size_t n = 0; n <= std::min(order, i); ++n) {
      auto found = contexts.find(test.substr(i - n, n));
      if (found == contexts.end()) break;  // a longer context was not seen either
      const Context& context = found->second;
      auto successor = context.successors.find(test[i]);
      double count = successor == context.successors.end() ? 0 : successor->second;
      auto kinds = static_cast<double>(context.successors.size());
      p = (count + kinds * p) / (context.total + kinds);
    }
    bits -= std::log2(p);
  }
  return bits / static_cast<double>(test.size());
}

std::string generate_text(std::size_t length, std::uint64_t seed) {
  static constexpr std::array kNouns{"river",  "teacher", "garden", "letter",  "engine",
                                     "winter", "captain", "bridge", "village", "song"};
  static constexpr std::array kVerbs{"follows", "remembers", "carries", "builds",
                                     "watches", "crosses",   "answers", "finds"};
  static constexpr std::array kAdjectives{"old", "quiet", "golden", "narrow", "patient", "broken", "distant", "small"};
  static constexpr std::array kLinks{", and ", ", but ", " because ", " while "};
  std::mt19937_64 random(seed);
  auto pick = [&](const auto& words) -> std::string { return words[random() % words.size()]; };
  auto noun_phrase = [&] { return "the " + (random() % 2 ? pick(kAdjectives) + " " : std::string()) + pick(kNouns); };
  auto clause = [&] { return noun_phrase() + " " + pick(kVerbs) + " " + noun_phrase(); };
  std::string text;
  while (text.size() < length) {
    std::string sentence = clause();
    if (random() % 2) sentence += pick(kLinks) + clause();
    sentence[0] = 'T';
    text += sentence + (random() % 5 ? ". " : ".\n");
  }
  text.resize(length);
  return text;
}

}  // namespace char_lm
