#include <doctest/doctest.h>
#include <support/digest.h>
#include <unroll/core/random.h>

#include <array>
#include <cstring>
#include <limits>
#include <random>
#include <thread>
#include <vector>

using namespace unroll;

TEST_CASE("Generator: words are those of std::mt19937") {
  for (std::uint64_t seed : {std::uint64_t{0}, Generator::kDefaultSeed, ~std::uint64_t{0}}) {
    Generator g(seed);
    std::mt19937 reference(static_cast<std::uint32_t>(seed));
    bool equal = true;
    for (int i = 0; i < 2000; ++i) equal &= g.random32() == reference();
    CHECK(equal);
    std::uint64_t upper = reference(), lower = reference();
    CHECK(g.random64() == (upper << 32 | lower));
  }
}

TEST_CASE("Generator: seeds") {
  CHECK(Generator().initial_seed() == 67280421310721);
  CHECK(Generator().random32() == Generator(67280421310721).random32());
  CHECK(Generator(-5).initial_seed() == 18446744073709551611u);
  CHECK(Generator(std::numeric_limits<std::int64_t>::min()).initial_seed() == std::uint64_t{1} << 63);
  CHECK(Generator(~std::uint64_t{0}).random32() == Generator(-1).random32());
  CHECK(Generator((1L << 32) + 5).random32() == Generator(5).random32());
  CHECK(Generator(1).random32() != Generator(2).random32());
  CHECK(&manual_seed(11) == &default_generator());
  CHECK(default_generator().initial_seed() == 11);
  // Integers of 64 bits at most: what lies beyond the range of a seed, or is no integer, does not compile.
  __extension__ using Wide = __int128;
  static_assert(Seed<std::int64_t> && Seed<std::uint64_t> && Seed<int> && !Seed<Wide> && !Seed<double>);
}

TEST_CASE("Generator: a copy goes its own way, and so does each thread's default") {
  Generator a(1);
  a.random_normal();
  Generator b = a;
  CHECK(digest(randn({7}, DType::Float32, a)) == digest(randn({7}, DType::Float32, b)));
  manual_seed(1);
  std::uint64_t other_seed = 0;
  std::thread([&] { other_seed = default_generator().initial_seed(), manual_seed(2); }).join();
  CHECK(other_seed == Generator::kDefaultSeed);
  CHECK(default_generator().initial_seed() == 1);
}

namespace {
// Destroyed at the end of the thread, after what was made later.
struct DrawsLate {
  std::vector<std::uint32_t>* drawn = nullptr;
  ~DrawsLate() {
    if (drawn) *drawn = {default_generator().random32(), default_generator().random32()};
  }
};
}  // namespace

TEST_CASE("Generator: what is destroyed at the end of a thread goes on drawing") {
  std::vector<std::uint32_t> drawn;
  std::thread([&] {
    thread_local DrawsLate late;
    late.drawn = &drawn;
    manual_seed(5);
    default_generator().random32();
  }).join();
  Generator g(5);
  g.random32();
  const std::uint32_t second = g.random32();
  CHECK(drawn == std::vector<std::uint32_t>{second, g.random32()});
}

TEST_CASE("Generator: the state is torch's, byte for byte") {
  auto hash = [](const Generator& g) {
    std::vector<std::byte> state = g.get_state();
    REQUIRE(state.size() == 5056);
    Digest d;
    d.add(state.data(), state.size());
    return d.value();
  };
  Generator g(9);
  CHECK(hash(g) == 0x9440adf2497e5226);
  rand({624}, DType::Float32, g);
  CHECK(hash(g) == 0xe0144ebda52abaa3);
  rand({1001}, DType::Float32, g.manual_seed(-5));
  randn({3}, DType::Float32, g);  // leaves a normal over
  CHECK(hash(g) == 0x3105a5e2fff437ff);
}

TEST_CASE("Generator: a state restored at any position continues the stream") {
  for (std::int64_t drawn : {0, 1, 5, 623, 624, 625, 1248, 1333})
    for (std::int64_t normals : {0, 1, 2, 3}) {
      CAPTURE(drawn);
      CAPTURE(normals);
      Generator g(drawn + 17);
      rand({drawn}, DType::Float32, g);
      randn({normals}, DType::Float64, g);
      std::vector<std::byte> state = g.get_state();
      Generator other(99);
      randn({1}, DType::Float32, other);  // a cached normal of its own, to be forgotten
      other.set_state(state);
      CHECK(other.get_state() == state);
      CHECK(other.initial_seed() == g.initial_seed());
      auto rest = [](Generator& from) {
        Digest d;
        d << randn({5}, DType::Float64, from) << rand({700}, DType::Float32, from) << randn({40}, DType::Float32, from);
        return d.value();
      };
      CHECK(rest(other) == rest(g));
    }
}

TEST_CASE("Generator: what is no state is refused and changes nothing") {
  Generator g(4);
  randn({3}, DType::Float32, g);
  const std::vector<std::byte> before = g.get_state();
  auto refused = [&](std::size_t at, auto value) {
    std::vector<std::byte> state = before;
    std::memcpy(state.data() + at, &value, sizeof value);
    CHECK_THROWS_AS(g.set_state(state), ValueError);
    CHECK(g.get_state() == before);
  };
  CHECK_THROWS_WITH_AS(g.set_state({}), "set_state: expected 5056 bytes, got 0", ValueError);
  CHECK_THROWS_AS(g.set_state(std::vector<std::byte>(5057)), ValueError);
  CHECK_THROWS_AS(g.set_state(std::vector<std::byte>(5056)), ValueError);
  for (std::int32_t left : {0, 1, 625, -1, std::numeric_limits<std::int32_t>::min()}) refused(8, left);
  refused(8, std::array<std::uint64_t, 2>{std::uint64_t{1} << 32 | 626,
                                          ~std::uint64_t{0}});                // left 626, next −1: 625 together
  refused(8, std::array<std::uint64_t, 2>{std::uint64_t{1} << 32 | 625, 0});  // left 625, next 0: 625 together as well
  refused(12, std::int32_t{0});                                               // not seeded
  for (std::uint64_t next : {std::uint64_t{0}, std::uint64_t{625}, ~std::uint64_t{0}}) refused(16, next);
  refused(24 + 8 * 100, std::uint64_t{1} << 32);  // a word of 33 bits
  refused(24 + 8 * 624 + 24, std::int32_t{2});    // the flag of the cached normal
  refused(5052, std::uint8_t{1});                 // a float normal, which PyTorch's generator never keeps
}

TEST_CASE("Generator: of a cached normal number the flag counts, not the number") {
  Generator g(4), fresh(4);
  std::vector<std::byte> state = g.get_state();
  const double used = 0.5;  // as PyTorch leaves it behind
  std::memcpy(state.data() + 24 + 8 * 624 + 8, &used, sizeof used);
  g.set_state(state);
  CHECK(g.random_normal() == fresh.random_normal());
  const double zero = 0;
  const std::int32_t valid = 1;
  std::memcpy(state.data() + 24 + 8 * 624 + 8, &zero, sizeof zero);
  std::memcpy(state.data() + 24 + 8 * 624 + 24, &valid, sizeof valid);
  g.set_state(state);
  CHECK(g.random_normal() == 0);
}
