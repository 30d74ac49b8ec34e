#pragma once
#include <array>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#pragma GCC visibility push(default)
namespace unroll {

/// Where bernoulli_ takes its draws from. PyTorch's wheels with MKL use that library's generator on CPUs they know as
/// Intel's, so the same seed gives another dropout mask there; Mkl reproduces it.
enum class BernoulliStream : std::uint8_t { Portable, Mkl };

/// Any integer in [−2⁶³, 2⁶⁴); what could hold more is no type of a seed.
template <class T>
concept Seed = std::integral<T> && sizeof(T) <= 8;

/// A Mersenne Twister (MT19937) and the one normal number that drawing them in pairs leaves over. A plain value: a copy
/// goes its own way from the same state. Not for use by several threads at once.
class Generator {
 public:
  static constexpr std::uint64_t kDefaultSeed = 67280421310721;

  Generator() noexcept { seed(kDefaultSeed); }
  template <Seed Integer>
  explicit Generator(Integer from) noexcept {
    manual_seed(from);
  }

  /// Starts over; a negative seed means 2⁶⁴ + seed. Of the 64 bits only the lower 32 reach the numbers. Drops the
  /// cached normal.
  template <Seed Integer>
  Generator& manual_seed(Integer from) noexcept {
    return seed(static_cast<std::uint64_t>(from));
  }
  /// The seed it last started from, all 64 bits.
  std::uint64_t initial_seed() const noexcept { return seed_; }

  /// The next 32 bits.
  std::uint32_t random32() noexcept {
    if (--left_ == 0) next_words();
    std::uint32_t y = words_[next_++];
    y ^= y >> 11;
    y ^= (y << 7) & 0x9d2c5680;
    y ^= (y << 15) & 0xefc60000;
    return y ^ (y >> 18);
  }
  /// The next 64 bits: two draws, the first of which is the upper half.
  std::uint64_t random64() noexcept {
    std::uint64_t upper = random32();
    return upper << 32 | random32();
  }
  /// A standard normal number in double by the method of Box and Muller. That makes two, r cos θ and r sin θ; the
  /// second is kept for the next call, whatever is drawn in between.
  double random_normal() noexcept;

  /// The state in the layout of torch.get_rng_state(): 5056 bytes that PyTorch reads as well.
  std::vector<std::byte> get_state() const;
  /// Continues from such a state. Raises ValueError, and changes nothing, unless it has that size and is one that a
  /// generator can be in.
  void set_state(std::span<const std::byte> state);

  /// Not part of the state.
  BernoulliStream bernoulli_stream() const noexcept { return bernoulli_stream_; }
  void set_bernoulli_stream(BernoulliStream stream) noexcept { bernoulli_stream_ = stream; }

 private:
  static constexpr std::size_t kWords = 624;

  Generator& seed(std::uint64_t seed) noexcept;
  void next_words() noexcept;

  std::uint64_t seed_;
  std::array<std::uint32_t, kWords> words_;
  std::uint32_t left_, next_;  // draws until new words are needed, that one included; the word drawn next
  std::optional<double> cached_normal_;
  BernoulliStream bernoulli_stream_ = BernoulliStream::Portable;
};

/// This thread's generator, which random functions draw from unless they are given another. Every thread's starts at
/// kDefaultSeed. Raises std::bad_alloc if there is no memory for it when a thread first asks.
Generator& default_generator();

/// Seeds this thread's default generator.
template <Seed Integer>
Generator& manual_seed(Integer seed) {
  return default_generator().manual_seed(seed);
}

}  // namespace unroll
#pragma GCC visibility pop
