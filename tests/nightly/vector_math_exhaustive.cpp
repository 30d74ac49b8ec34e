#include "support/targets.h"
#include "support/vector_math.h"

#include <fmt/format.h>

#include <bit>

/// All 2³² floats through exp, sigmoid and tanh with each of the CPU's instruction sets: prints where each is farthest
/// from the exact value, and fails beyond 2 units in the last place. Takes some minutes for each; arguments name the
/// instruction sets that are wanted.
int main(int argc, char** argv) {
  const std::vector<std::string> wanted(argv + 1, argv + argc);
  using namespace vector_math;
  constexpr std::uint64_t kBlock = 1 << 16;
  const std::vector<Function<float>> all = functions<float>();
  int checked = 0;
  bool good = true;
  for_targets([&](const std::string& target) {
    if (!wanted.empty() && std::ranges::find(wanted, target) == wanted.end()) return;
    for (const Function<float>& f : all) {
      Worst<float> at;
      std::vector<float> x(kBlock);
      for (std::uint64_t first = 0; first < std::uint64_t{1} << 32; first += kBlock) {
        for (std::uint64_t i = 0; i < kBlock; ++i) x[i] = std::bit_cast<float>(static_cast<std::uint32_t>(first + i));
        at = worst(f, x, at);
      }
      fmt::print("{:8} {:8} {:.4f} ulp at {:.9g}\n", target, f.name, at.ulps, at.x);
      good = good && at.ulps <= 2;
      ++checked;
    }
  });
  return good && checked > 0 ? 0 : 1;
}
