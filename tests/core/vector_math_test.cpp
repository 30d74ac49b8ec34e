#include "support/vector_math.h"
#include "support/targets.h"

#include <doctest/doctest.h>

#include <bit>
#include <random>

using namespace vector_math;

namespace {

constexpr std::uint64_t kStep = 99991;  // of 2³² floats, one in so many; tests/nightly takes them all

std::vector<float> sampled_floats() {
  std::vector<float> x;
  for (std::uint64_t bits = 0; bits < std::uint64_t{1} << 32; bits += kStep)
    x.push_back(std::bit_cast<float>(static_cast<std::uint32_t>(bits)));
  return x;
}

// Dense where the functions bend, spread over all sizes, and around the bounds of denormal and infinite results.
std::vector<double> sampled_doubles() {
  std::mt19937_64 random(7);
  std::vector<double> x;
  for (double range : {1.0, 2.0, 40.0, 750.0}) {
    std::uniform_real_distribution<double> uniform(-range, range);
    for (int i = 0; i < 4000; ++i) x.push_back(uniform(random));
  }
  for (int i = 0; i < 4000; ++i) x.push_back(std::bit_cast<double>(random()));
  for (double edge : {0.5493061443340549, 709.782712893384, 745.1332191019412, 708.3964185322641, 0x1p-1074, 0x1p-1022})
    for (double sign : {-1.0, 1.0})
      for (double to : {-1e300, 1e300}) {
        double v = sign * edge;
        for (int i = 0; i < 50; ++i, v = std::nextafter(v, to)) x.push_back(v);
      }
  return x;
}

template <class T>
T value(void (*f)(T*, const T*, std::int64_t), T x) {
  T y = 0;
  f(&y, &x, 1);
  return y;
}

template <class T>
void check_values() {
  using namespace unroll::kernels;
  constexpr T kInf = std::numeric_limits<T>::infinity(), kNan = std::numeric_limits<T>::quiet_NaN(),
              kTiny = std::numeric_limits<T>::denorm_min(), kMax = std::numeric_limits<T>::max();
  for (T zero : {T(0), T(-0.0)}) {
    CHECK(value<T>(exp, zero) == 1);
    CHECK(value<T>(sigmoid, zero) == T(0.5));
    CHECK(std::signbit(value<T>(tanh, zero)) == std::signbit(zero));
    CHECK(value<T>(tanh, zero) == 0);
  }
  for (T big : {kMax, kInf}) {
    CHECK(value<T>(exp, big) == kInf);
    CHECK(value<T>(exp, -big) == 0);
    CHECK(value<T>(sigmoid, big) == 1);
    CHECK(value<T>(sigmoid, -big) == 0);
    CHECK(value<T>(tanh, big) == 1);
    CHECK(value<T>(tanh, -big) == -1);
  }
  CHECK(value<T>(tanh, kTiny) == kTiny);
  for (const Function<T>& f : functions<T>()) CHECK(std::isnan(value<T>(f.vector, kNan)));
}

}  // namespace

TEST_CASE("vector math: exp, sigmoid and tanh are within 2 units in the last place on every target") {
  const std::vector<float> floats = sampled_floats();
  const std::vector<double> doubles = sampled_doubles();
  int targets = 0;
  for_targets([&](const std::string& target) {
    CAPTURE(target);
    ++targets;
    auto check = [](const auto& functions, const auto& x) {
      for (const auto& f : functions) {
        auto at = worst(f, x);
        CAPTURE(f.name);
        CAPTURE(at.x);
        CHECK(at.ulps <= 2);
      }
    };
    check(functions<float>(), floats);
    check(functions<double>(), doubles);
    check_values<float>();
    check_values<double>();
  });
  CHECK(targets > 0);
}

TEST_CASE("vector math: a row of any length is computed as element by element, and nothing beside it is touched") {
  for_targets([&](const std::string& target) {
    CAPTURE(target);
    for (std::int64_t n = 0; n < 40; ++n)
      for (const Function<float>& f : functions<float>()) {
        std::vector<float> x(42), y(42, 7.f);
        for (std::size_t i = 0; i < x.size(); ++i) x[i] = static_cast<float>(i) / 10 - 2;
        f.vector(y.data() + 1, x.data() + 1, n);
        for (std::size_t i = 0; i < y.size(); ++i)
          CHECK(y[i] == (i >= 1 && i <= static_cast<std::size_t>(n) ? value(f.vector, x[i]) : 7.f));
        std::vector<float> same = x;  // in place
        f.vector(same.data() + 1, same.data() + 1, n);
        CHECK(std::equal(same.begin() + 1, same.begin() + 1 + n, y.begin() + 1));
      }
  });
}

TEST_CASE("vector math: the targets of this CPU are those that Highway's own library finds") {
  std::int64_t known = HWY_STATIC_TARGET;  // a newer Highway has more
#if defined(__x86_64__)
  known |= HWY_SSE4 | HWY_AVX2 | HWY_AVX3;
#endif
  CHECK(unroll::kernels::supported_targets() == (hwy::SupportedTargets() & HWY_TARGETS & known));
}

#if defined(__aarch64__)
TEST_CASE("vector math: 64-bit ARM has NEON and nothing else") {
  std::vector<std::string> targets;
  for_targets([&](const std::string& target) { targets.push_back(target); });
  CHECK(targets == std::vector<std::string>{"NEON"});
}
#endif

TEST_CASE("vector math: tanh is odd to the bit") {
  for_targets([&](const std::string&) {
    for (float x : sampled_floats())
      if (!std::isnan(x)) CHECK(value(unroll::kernels::tanh<float>, -x) == -value(unroll::kernels::tanh<float>, x));
  });
}

TEST_CASE("vector math: the measure notices what is 3 units off, and a NaN, an infinity or a zero out of place") {
  Function<float> wrong = {"wrong",
                           [](float* y, const float* x, std::int64_t n) {
                             for (std::int64_t i = 0; i < n; ++i) {
                               y[i] = static_cast<float>(std::exp(static_cast<double>(x[i])));
                               if (x[i] == 2)
                                 for (int k = 0; k < 3; ++k) y[i] = std::nextafter(y[i], 1e30f);
                             }
                           },
                           [](double x) { return std::exp(x); }};
  Worst<float> at = worst(wrong, {-3, 1, 2, 5});
  CHECK(at.x == 2);
  CHECK(at.ulps > 2);
  CHECK(worst(wrong, {-3, 1, 5}).ulps == 0);

  constexpr double kInf = std::numeric_limits<double>::infinity(), kNan = std::numeric_limits<double>::quiet_NaN();
  CHECK(ulps(1.f, kNan) == kInf);
  CHECK(ulps(static_cast<float>(kNan), 1.0) == kInf);
  CHECK(ulps(3.4e38f, 1e39) == kInf);
  CHECK(ulps(static_cast<float>(kInf), 3.4e38) == kInf);
  CHECK(ulps(0.f, 0x1p-140) == 512);
  CHECK(ulps(0x3p-149f, 0.0) == 3);
}
