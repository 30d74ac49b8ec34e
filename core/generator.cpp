#include <pthread.h>
#include <unroll/core/detail/process.h>
#include <unroll/core/error.h>
#include <unroll/core/kernels/random.h>

#include <algorithm>
#include <bit>
#include <cstring>
#include <memory>
#include <new>
#include <utility>

namespace unroll {
namespace {

// What torch.get_rng_state() holds (CPUGeneratorImplState). Of the normal numbers PyTorch only ever uses `y`.
struct StateBytes {
  std::uint64_t seed;
  std::int32_t left, seeded;
  std::uint64_t next;
  std::uint64_t words[624];
  double x, y, rho;
  std::int32_t y_is_valid, padding;
  float float_normal;
  std::uint8_t float_normal_is_valid, more_padding[3];
};
static_assert(sizeof(StateBytes) == 5056 && std::endian::native == std::endian::little);

}  // namespace

Generator& Generator::seed(std::uint64_t seed) noexcept {
  seed_ = seed;
  words_[0] = static_cast<std::uint32_t>(seed);
  for (std::uint32_t i = 1; i < kWords; ++i) words_[i] = 1812433253 * (words_[i - 1] ^ words_[i - 1] >> 30) + i;
  left_ = 1;
  next_ = 0;
  cached_normal_.reset();
  return *this;
}

void Generator::next_words() noexcept {
  constexpr std::size_t kMiddle = 397;
  auto twist = [this](std::size_t i, std::size_t next, std::size_t middle) {
    std::uint32_t y = (words_[i] & 0x80000000) | (words_[next] & 0x7fffffff);
    words_[i] = words_[middle] ^ y >> 1 ^ (y & 1 ? 0x9908b0df : 0);
  };
  for (std::size_t i = 0; i < kWords - kMiddle; ++i) twist(i, i + 1, i + kMiddle);
  for (std::size_t i = kWords - kMiddle; i < kWords - 1; ++i) twist(i, i + 1, i + kMiddle - kWords);
  twist(kWords - 1, 0, kMiddle - 1);
  left_ = kWords;
  next_ = 0;
}

double Generator::random_normal() noexcept {
  if (cached_normal_) {
    double second = *cached_normal_;
    cached_normal_.reset();
    return second;
  }
  double u1 = kernels::unit<double>(*this), u2 = kernels::unit<double>(*this);
  // PyTorch 1.13 to the bit. Later ones write log1p(-u2), which differs in the last bit of one draw in twenty, and
  // whose bits in the C library depend on its version and the CPU.
  auto [first, second] = kernels::normals(u1, u2);
  cached_normal_ = second;
  return first;
}

std::vector<std::byte> Generator::get_state() const {
  StateBytes state{};
  state.seed = seed_;
  state.left = static_cast<std::int32_t>(left_);
  state.seeded = 1;
  state.next = next_;
  std::copy(words_.begin(), words_.end(), state.words);
  state.y = cached_normal_.value_or(0);
  state.y_is_valid = cached_normal_.has_value();
  std::vector<std::byte> bytes(sizeof state);
  std::memcpy(bytes.data(), &state, sizeof state);
  return bytes;
}

void Generator::set_state(std::span<const std::byte> bytes) {
  check<ValueError>(bytes.size() == sizeof(StateBytes), "set_state: expected {} bytes, got {}", sizeof(StateBytes),
                    bytes.size());
  StateBytes state;
  std::memcpy(&state, bytes.data(), sizeof state);
  // Freshly seeded, or somewhere in the words; any other pair would lead the next draws past their end.
  bool fresh = state.left == 1 && state.next == 0;
  bool within = state.left >= 1 && state.next >= 1 && state.next <= kWords &&
                state.left == 625 - static_cast<std::int64_t>(state.next);
  check<ValueError>(state.seeded == 1 && (fresh || within),
                    "set_state: seeded {}, left {} and next {} are no state of an MT19937", state.seeded, state.left,
                    state.next);
  check<ValueError>(std::ranges::all_of(state.words, [](std::uint64_t word) { return word >> 32 == 0; }),
                    "set_state: a word of the state exceeds 32 bits");
  check<ValueError>((state.y_is_valid == 0 || state.y_is_valid == 1) && state.float_normal_is_valid == 0,
                    "set_state: the flags of the cached normal numbers are {} and {}", state.y_is_valid,
                    state.float_normal_is_valid);
  seed_ = state.seed;
  left_ = static_cast<std::uint32_t>(state.left);
  next_ = static_cast<std::uint32_t>(state.next);
  std::transform(std::begin(state.words), std::end(state.words), words_.begin(),
                 [](std::uint64_t word) { return static_cast<std::uint32_t>(word); });
  cached_normal_.reset();
  if (state.y_is_valid) cached_normal_ = state.y;
}

// Not in thread_local memory, which 2.5 KB are not for; and not a thread_local pointer that owns it, since what draws
// may be destroyed later than that: other thread_local and static objects. A key's destructor runs after all of them,
// and not at all at the end of the main thread.
static thread_local constinit Generator* mine = nullptr;

Generator& default_generator() {
  if (mine != nullptr) [[likely]]
    return *mine;
  static const pthread_key_t owner = [] {
    detail::stay_loaded();
    pthread_key_t key{};
    check<Error>(pthread_key_create(&key, [](void*) { delete std::exchange(mine, nullptr); }) == 0,
                 "default_generator: the process has no room for another key of thread-specific data");
    return key;
  }();
  auto made = std::make_unique<Generator>();
  if (pthread_setspecific(owner, made.get()) != 0) throw std::bad_alloc();
  return *(mine = made.release());
}

}  // namespace unroll
