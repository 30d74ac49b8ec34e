#include "support/threads.h"

#include <dlfcn.h>
#include <doctest/doctest.h>
#include <unroll/core/blas.h>
#include <unroll/core/error.h>

#include <cmath>
#include <filesystem>
#include <iterator>
#include <limits>
#include <thread>
#include <utility>
#include <vector>

using namespace unroll;

namespace {

constexpr double kNan = std::numeric_limits<double>::quiet_NaN();

// A batch of (rows, columns) matrices, `gap` unused elements after each row and `apart` after each matrix; the unused
// hold 77.
template <class T>
struct Batch {
  std::int64_t rows, columns, ld, next;
  bool transposed;
  std::vector<T> elements;

  Batch(std::int64_t rows_, std::int64_t columns_, bool transposed_, std::int64_t gap, std::int64_t apart,
        std::int64_t batch)
      : rows(rows_), columns(columns_), ld((transposed_ ? rows_ : columns_) + gap),
        next((transposed_ ? columns_ : rows_) * ld + apart), transposed(transposed_),
        elements(static_cast<std::size_t>(next * batch + 1), T(77)) {}

  T& at(std::int64_t b, std::int64_t i, std::int64_t j) {
    return elements[static_cast<std::size_t>(b * next + (transposed ? j * ld + i : i * ld + j))];
  }
  void fill(std::int64_t batch, int seed) {  // small integers: every sum below is exact
    for (std::int64_t b = 0; b < batch; ++b)
      for (std::int64_t i = 0; i < rows; ++i)
        for (std::int64_t j = 0; j < columns; ++j)
          at(b, i, j) = static_cast<T>((seed + 7 * b + 5 * i + 3 * j + i * j) % 11 - 5);
  }
  operator blas::Matrix<T>() { return {elements.data(), ld, transposed, next}; }
  operator blas::Matrix<const T>() { return {elements.data(), ld, transposed, next}; }
};

// Whether gemm agrees with the definition, padding included.
template <class T>
bool agrees(blas::Size size, unsigned transposed, std::int64_t gap, std::int64_t apart, std::int64_t apart_c,
            bool same_b, blas::Scale<T> scale) {
  auto [m, n, k, batch] = size;
  Batch<T> a(m, k, transposed & 1, gap, apart, batch), b(k, n, transposed & 2, 2 * gap, apart, batch);
  Batch<T> c(m, n, transposed & 4, 3 * gap, apart_c, batch);
  a.fill(batch, 1);
  b.fill(batch, 2);
  c.fill(batch, 3);
  if (same_b) b.next = 0;
  Batch<T> expected = c;
  for (std::int64_t q = 0; q < batch; ++q)
    for (std::int64_t i = 0; i < m; ++i)
      for (std::int64_t j = 0; j < n; ++j) {
        T sum = 0;
        for (std::int64_t p = 0; p < k; ++p) sum += a.at(q, i, p) * b.at(q, p, j);
        expected.at(q, i, j) = scale.alpha * sum + scale.beta * expected.at(q, i, j);
      }
  if (scale.beta == 0)  // what C held must not matter
    for (std::int64_t q = 0; q < batch; ++q)
      for (std::int64_t i = 0; i < m; ++i)
        for (std::int64_t j = 0; j < n; ++j) c.at(q, i, j) = static_cast<T>(kNan);
  blas::gemm<T>(size, a, b, c, scale);
  return c.elements == expected.elements;
}

template <class T>
void check_all() {
  for (std::int64_t m : {0, 1, 3, 17})
    for (std::int64_t n : {0, 1, 4, 19})
      for (std::int64_t k : {0, 1, 5, 33})
        for (unsigned transposed = 0; transposed < 8; ++transposed)
          for (std::int64_t gap : {0, 2})
            for (blas::Scale<T> scale : {blas::Scale<T>{}, {1, 1}, {T(.5), -2}, {0, T(.25)}}) {
              CAPTURE(m);
              CAPTURE(n);
              CAPTURE(k);
              CAPTURE(transposed);
              CAPTURE(gap);
              CAPTURE(scale.alpha);
              CAPTURE(scale.beta);
              REQUIRE(agrees<T>({m, n, k}, transposed, gap, 0, 0, false, scale));
            }
}

}  // namespace

TEST_CASE("gemm: all transpositions, leading dimensions, scales and empty sizes") {
  SUBCASE("float") { check_all<float>(); }
  SUBCASE("double") { check_all<double>(); }
}

TEST_CASE("gemm: large products, which several threads share") {
  for (int threads : {1, 2, 3}) {
    Threads scope(threads);
    for (auto [rows, columns] : {std::pair(300, 131), {131, 300}, {257, 257}, {1500, 41}})
      for (unsigned transposed = 0; transposed < 8; ++transposed) {
        CAPTURE(threads);
        CAPTURE(transposed);
        REQUIRE(agrees<float>({rows, columns, 110}, transposed, 3, 0, 0, false, {2, 1}));
        REQUIRE(agrees<double>({rows, columns, 110, 2}, transposed, 0, 2, 1, false, {}));
      }
  }
}

TEST_CASE("gemm: the bits of a large product are the same with any number of threads") {
  constexpr std::int64_t m = 515, n = 97, k = 301;
  std::vector<float> a(m * k), b(k * n);
  for (std::size_t i = 0; i < a.size(); ++i) a[i] = std::sin(static_cast<float>(i));
  for (std::size_t i = 0; i < b.size(); ++i) b[i] = std::cos(static_cast<float>(i));
  auto product = [&](int threads) {
    Threads scope(threads);
    std::vector<float> c(m * n);
    blas::gemm<float>({m, n, k}, {a.data(), k}, {b.data(), n}, {c.data(), n});
    return c;
  };
  const std::vector<float> one = product(1);
  for (int threads : {2, 3, 8}) CHECK(product(threads) == one);
}

// Of OpenBLAS's builds, that on OpenMP would start some here, where there is more than one core.
TEST_CASE("gemm: OpenBLAS starts no thread, whichever thread calls it") {
  auto threads = [] {
    return std::distance(std::filesystem::directory_iterator("/proc/self/task"), std::filesystem::directory_iterator());
  };
  Threads scope(1);
  std::ptrdiff_t more = 0;
  std::thread([&] {  // a new one, of which OpenBLAS knows nothing yet
    const auto before = threads();
    for (int again = 0; again < 2; ++again) static_cast<void>(agrees<float>({300, 131, 110}, 0, 0, 0, 0, false, {}));
    more = threads() - before;
  })
      .join();
  CHECK(more <= 0);  // one of an earlier case may have been on its way out
}

TEST_CASE("gemm: the host's number of OpenMP threads stays") {
  auto get = reinterpret_cast<int (*)()>(dlsym(RTLD_DEFAULT, "omp_get_max_threads"));
  auto set = reinterpret_cast<void (*)(int)>(dlsym(RTLD_DEFAULT, "omp_set_num_threads"));
  if (get == nullptr || set == nullptr) return;  // OpenBLAS was built without
  const int before = get();
  set(3);
  CHECK(agrees<float>({300, 131, 110}, 0, 0, 0, 0, false, {}));
  CHECK(get() == 3);
  set(before);
}

TEST_CASE("gemm: batches, of one repeated factor too") {
  for (std::int64_t batch : {0, 1, 2, 5})
    for (unsigned transposed = 0; transposed < 8; ++transposed)
      for (std::int64_t gap : {0, 1})
        for (auto [apart_ab, apart_c] : {std::pair(0, 0), {3, 0}, {0, 2}, {3, 2}})
          for (bool same_b : {false, true}) {
            CAPTURE(batch);
            CAPTURE(transposed);
            CAPTURE(gap);
            std::int64_t apart = apart_ab, other = apart_c;
            CAPTURE(apart);
            CAPTURE(other);
            CAPTURE(same_b);
            REQUIRE(agrees<float>({3, 4, 5, batch}, transposed, gap, apart, other, same_b, {2, 1}));
            REQUIRE(agrees<double>({3, 4, 5, batch}, transposed, gap, apart, other, same_b, {}));
            REQUIRE(agrees<double>({4, 3, 4, batch}, transposed, gap, apart, other, same_b, {}));
            REQUIRE(agrees<double>({3, 4, 0, batch}, transposed, gap, apart, other, same_b, {1, 3}));
          }
}

TEST_CASE("gemm: NaN and infinity in a factor reach the product") {
  for (std::int64_t n : {1, 2, 40}) {
    std::vector<double> a(static_cast<std::size_t>(n * n), 0), b = a, c = a;
    a[0] = kNan;
    blas::gemm<double>({n, n, n}, {a.data(), n}, {b.data(), n}, {c.data(), n});
    for (std::int64_t j = 0; j < n; ++j) CHECK(std::isnan(c[static_cast<std::size_t>(j)]));
    a[0] = HUGE_VAL;
    blas::gemm<double>({n, n, n}, {a.data(), n}, {b.data(), n}, {c.data(), n});
    CHECK(std::isnan(c[0]));  // infinity times zero
  }
}

TEST_CASE("gemm: k = 0 scales C, and keeps its NaN unless beta is 0") {
  std::vector<float> c{1, static_cast<float>(kNan), 3, 4};
  blas::Matrix<const float> none{nullptr, 0};
  blas::gemm<float>({1, 4, 0}, none, none, {c.data(), 4}, {.beta = 2});
  CHECK(c[0] == 2);
  CHECK(std::isnan(c[1]));
  blas::gemm<float>({1, 4, 0}, none, none, {c.data(), 4});
  CHECK(c == std::vector<float>(4, 0));
}

TEST_CASE("gemm: sizes that cannot be") {
  std::vector<float> x(16, 1);
  blas::Matrix<const float> in{x.data(), 4};
  blas::Matrix<float> out{x.data(), 4};
  CHECK_THROWS_WITH_AS(blas::gemm<float>({-1, 2, 2}, in, in, out), doctest::Contains("gemm: negative size in m = -1"),
                       ShapeError);
  CHECK_THROWS_AS(blas::gemm<float>({2, 2, 2, -1}, in, in, out), ShapeError);
  CHECK_THROWS_WITH_AS(blas::gemm<float>({2, 2, 4}, {x.data(), 3}, in, out), doctest::Contains("A has rows of 4"),
                       ShapeError);
  CHECK_THROWS_WITH_AS(blas::gemm<float>({2, 4, 2}, in, {x.data(), 3}, out), doctest::Contains("B has rows of 4"),
                       ShapeError);
  CHECK_THROWS_WITH_AS(blas::gemm<float>({2, 4, 2}, in, in, {x.data(), 3}), doctest::Contains("C has rows of 4"),
                       ShapeError);
  CHECK_THROWS_AS(blas::gemm<float>({3, 1, 1}, {x.data(), 2, true}, in, out), ShapeError);  // as read, A is (3, 1)
  std::int64_t huge = std::int64_t{1} << 31;
  CHECK_THROWS_WITH_AS(blas::gemm<float>({huge, 1, 1}, in, in, out), doctest::Contains("2147483648 exceeds"),
                       ShapeError);
  CHECK_THROWS_AS(blas::gemm<float>({1, 1, 1}, {x.data(), huge}, in, out), ShapeError);
  CHECK(x == std::vector<float>(16, 1));
}
