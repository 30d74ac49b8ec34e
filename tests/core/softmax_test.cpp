#include "support/targets.h"

#include <doctest/doctest.h>
#include <unroll/autograd/ops/normalize.h>
#include <unroll/core/kernels/softmax.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <random>
#include <vector>

using namespace unroll;
using namespace unroll::kernels;

namespace {

constexpr double kInf = std::numeric_limits<double>::infinity();

template <class T>
std::vector<T> normals(std::int64_t n) {
  std::mt19937 random(3);
  std::normal_distribution<double> normal(0, 2);
  std::vector<T> x(static_cast<std::size_t>(n));
  for (T& v : x) v = static_cast<T>(normal(random));
  return x;
}

// The same in long double, of one row whose elements are `step` apart.
template <class T>
struct Exact {
  long double max = -kInf, sum = 0;
  Exact(const T* x, std::int64_t n, std::int64_t step) {
    for (std::int64_t i = 0; i < n; ++i) max = std::max<long double>(max, x[i * step]);
    for (std::int64_t i = 0; i < n; ++i) sum += std::exp(x[i * step] - max);
  }
  double probability(T v) const { return static_cast<double>(std::exp(v - max) / sum); }
  double logarithm(T v) const { return static_cast<double>(v - max - std::log(sum)); }
};

// Relative errors of the probabilities and absolute ones of their logarithms, in units of epsilon.
template <class T>
void check_extent(Extent e) {
  const T epsilon = std::numeric_limits<T>::epsilon();
  const std::vector<T> x = normals<T>(e.outer * e.n * e.inner);
  std::vector<T> p(x.size()), l(x.size());
  softmax(p.data(), x.data(), e);
  log_softmax(l.data(), x.data(), e);
  double worst = 0, worst_log = 0;
  for (std::int64_t o = 0; o < e.outer; ++o)
    for (std::int64_t k = 0; k < e.inner; ++k) {
      std::int64_t first = o * e.n * e.inner + k;
      Exact<T> exact(x.data() + first, e.n, e.inner);
      for (std::int64_t i = 0; i < e.n; ++i) {
        auto at = static_cast<std::size_t>(first + i * e.inner);
        double probability = exact.probability(x[at]), logarithm = exact.logarithm(x[at]);
        worst = std::max(worst, std::abs(static_cast<double>(p[at]) / probability - 1) / epsilon);
        worst_log = std::max(worst_log, std::abs(static_cast<double>(l[at]) - logarithm) / epsilon);
      }
    }
  // x − max > −20 is rounded by up to 8 units of epsilon, which is then relative in e^(x − max).
  CHECK(worst < 10);
  CHECK(worst_log < 18);
}

}  // namespace

TEST_CASE("softmax: rows of every length, apart or side by side, on every target") {
  for_targets([](const std::string& target) {
    CAPTURE(target);
    for (std::int64_t n : {1, 2, 3, 7, 8, 9, 15, 16, 17, 31, 33, 65, 1000, 1023, 1024, 1025, 5000})
      for (std::int64_t inner : {1, 3}) {
        CAPTURE(n);
        CAPTURE(inner);
        check_extent<float>({2, n, inner});
        check_extent<double>({2, n, inner});
      }
  });
}

TEST_CASE("softmax: the sum over a long row loses no digits") {
  const std::int64_t n = 1 << 20;
  std::vector<float> x(n, 0), y(n);
  softmax(y.data(), x.data(), {1, n, 1});
  CHECK(y[0] == 0x1p-20f);
  log_softmax(y.data(), x.data(), {1, n, 1});
  CHECK(y[n - 1] == static_cast<float>(-std::log(0x1p20)));
}

TEST_CASE("softmax: infinities and NaN") {
  const float inf = static_cast<float>(kInf), nan = std::numeric_limits<float>::quiet_NaN();
  for_targets([&](const std::string& target) {
    CAPTURE(target);
    for (std::int64_t n : {2, 20}) {
      std::vector<float> x(static_cast<std::size_t>(n), -inf), y(x.size());
      softmax(y.data(), x.data(), {1, n, 1});  // of nothing but −∞
      for (float v : y) CHECK(std::isnan(v));
      x[1] = 5;
      softmax(y.data(), x.data(), {1, n, 1});
      CHECK(y[0] == 0);
      CHECK(y[1] == 1);
      log_softmax(y.data(), x.data(), {1, n, 1});
      CHECK(y[0] == -inf);
      CHECK(y[1] == 0);
      for (float bad : {nan, inf}) {
        x[0] = bad;
        softmax(y.data(), x.data(), {1, n, 1});
        CHECK(std::isnan(y[0]));
        log_softmax(y.data(), x.data(), {1, n, 1});
        CHECK(std::isnan(y[0]));
      }
    }
  });
}

TEST_CASE("cross_entropy: the loss is that of log_softmax and its gradient that of softmax") {
  for_targets([](const std::string& target) {
    CAPTURE(target);
    for (std::int64_t n : {1, 5, 16, 65, 1100}) {
      CAPTURE(n);
      const std::int64_t rows = 3;
      const std::vector<double> x = normals<double>(rows * n), g = {0.5, -2, 0};
      const std::vector<std::int64_t> t = {0, n - 1, n / 2};
      std::vector<double> loss(3), max(3), log_sum(3), dx(x.size()), p(x.size()), l(x.size());
      cross_entropy(loss.data(), max.data(), log_sum.data(), x.data(), t.data(), rows, n);
      cross_entropy_backward(dx.data(), g.data(), x.data(), max.data(), log_sum.data(), t.data(), rows, n);
      softmax(p.data(), x.data(), {rows, n, 1});
      log_softmax(l.data(), x.data(), {rows, n, 1});
      for (std::int64_t i = 0; i < rows; ++i) {
        auto row = static_cast<std::size_t>(i);
        CHECK(loss[row] == -l[static_cast<std::size_t>(i * n + t[row])]);
        for (std::int64_t j = 0; j < n; ++j) {
          auto at = static_cast<std::size_t>(i * n + j);
          CHECK(std::abs(dx[at] - g[row] * (p[at] - (j == t[row] ? 1 : 0))) < 1e-14);
        }
      }
    }
  });
}

TEST_CASE("softmax: rows of every length that lie far below zero") {
  for (std::size_t n = 1; n <= 40; ++n) {
    const std::vector<float> x(n, -2000);
    std::vector<float> y(n);
    const auto size = static_cast<std::int64_t>(n);
    softmax(y.data(), x.data(), Extent{1, size, 1});
    CHECK(std::ranges::all_of(y, [&](float p) { return std::abs(p * static_cast<float>(n) - 1) < 1e-6F; }));
  }
}

TEST_CASE("log_softmax: many equal terms whose sum is not exact lose no digits") {
  const std::int64_t n = 1 << 22;
  const Tensor x = full({n}, -2.3);
  x.data<float>()[0] = 0;
  const double right = -std::log(1 + static_cast<double>(n - 1) * std::exp(static_cast<double>(-2.3f)));
  CHECK(std::abs(static_cast<double>(log_softmax(x, 0).data<float>()[0]) - right) < 1e-5);
}
