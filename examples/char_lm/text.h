#pragma once
#include <unroll/unroll.h>

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

namespace char_lm {

/// A text cut into what a model learns from (85 %), what the best checkpoint is chosen by (5 %) and what the result is
/// measured on (10 %), in reading order. Raises std::invalid_argument for less than 40 characters.
struct Split {
  std::string_view train, valid, test;
};
Split split(std::string_view text);

/// The bytes that occur in a text, numbered in their order.
class Vocabulary {
 public:
  explicit Vocabulary(std::string_view text);
  std::int64_t size() const { return static_cast<std::int64_t>(symbols_.size()); }
  const std::string& symbols() const { return symbols_; }
  bool has(char c) const { return numbers_[static_cast<unsigned char>(c)] >= 0; }
  /// Numbers of the characters. Raises std::invalid_argument for one that is not in the vocabulary.
  std::vector<std::int64_t> encode(std::string_view text) const;
  char decode(std::int64_t number) const { return symbols_.at(static_cast<std::size_t>(number)); }

 private:
  std::string symbols_;
  std::vector<std::int64_t> numbers_;  // by byte; −1 for those that do not occur
};

/// Cuts a text into `streams` columns of equal length, so that column n of chunk k+1 goes on where column n of chunk k
/// ended: the state of a recurrent net can be carried from chunk to chunk.
class Streams {
 public:
  Streams(const std::vector<std::int64_t>& symbols, std::int64_t streams);
  /// Symbols of a column that have a successor.
  std::int64_t length() const { return data_.size(0) - 1; }
  struct Chunk {
    unroll::Tensor input, target;  // (T, N) Int64, the target one symbol ahead
  };
  /// At most `steps` symbols from `start` on.
  Chunk chunk(std::int64_t start, std::int64_t steps) const;

 private:
  unroll::Tensor data_;  // (length, N)
};

/// Bits per character of `test` under a character n-gram model of `train` of that order, the number of characters it
/// looks back: Witten–Bell's interpolation,
///   P(c | x·h) = (count(x·h·c) + kinds(x·h) · P(c | h)) / (count(x·h) + kinds(x·h)),
/// where kinds counts the different successors; below order 0 stands 1/vocabulary. (Witten & Bell 1991, method C.)
double ngram_bits(std::string_view train, std::string_view test, std::size_t order, std::size_t vocabulary);

/// Plain English sentences from a small grammar, for machines without a text.
std::string generate_text(std::size_t length, std::uint64_t seed);

}  // namespace char_lm
