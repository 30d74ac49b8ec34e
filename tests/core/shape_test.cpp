#include <doctest/doctest.h>
#include <fmt/core.h>
#include <unroll/core/alloc.h>
#include <unroll/core/shape.h>

#include <limits>
#include <utility>
#include <vector>

using namespace unroll;

namespace {
constexpr std::int64_t kMost = std::numeric_limits<std::int64_t>::max();

std::vector<std::int64_t> listed(const Shape& shape) { return {shape.begin(), shape.end()}; }

Shape counting(std::size_t rank) {
  Shape shape(rank, 0);
  for (std::size_t i = 0; i < rank; ++i) shape[i] = static_cast<std::int64_t>(i) + 1;
  return shape;
}
}  // namespace

TEST_CASE("Shape: a list of any length, in the object itself or beyond it") {
  std::int64_t live = alloc::counters().live_bytes;
  for (std::size_t rank = 0; rank <= 2 * Shape::kInline; ++rank) {
    CAPTURE(rank);
    Shape shape = counting(rank);
    std::vector<std::int64_t> list = listed(shape);
    CHECK(shape.size() == rank);
    CHECK(shape.empty() == (rank == 0));
    CHECK((alloc::counters().live_bytes > live) == (rank > Shape::kInline));

    Shape copy = shape, moved = std::move(copy);
    CHECK(moved == shape);
    CHECK(copy.empty());  // NOLINT(bugprone-use-after-move): a moved-from Shape is empty
    copy.push_back(3);
    CHECK(copy == Shape{3});
    copy = moved;
    CHECK(copy == shape);
    copy = *&copy;
    CHECK(copy == shape);
    for (std::size_t other : {std::size_t{0}, std::size_t{2}, std::size_t{9}}) {
      Shape a = shape, b = counting(other);
      a.swap(b);
      CHECK(a == counting(other));
      CHECK(b == shape);
    }
    for (std::size_t at = 0; at <= rank; ++at) {
      Shape longer = shape;
      longer.insert(at, -7);
      auto expected = list;
      expected.insert(expected.begin() + static_cast<std::ptrdiff_t>(at), -7);
      CHECK(listed(longer) == expected);
      longer.erase(at);
      CHECK(longer == shape);
    }
    shape.push_back(5);
    list.push_back(5);
    CHECK(listed(shape) == list);
    CHECK(shape.back() == 5);
  }
  CHECK(alloc::counters().live_bytes == live);
}

TEST_CASE("Shape: a rank beyond any memory") {
  for (int bits : {61, 62, 63}) {
    CHECK_THROWS_AS(Shape(std::size_t{1} << bits, 0), OutOfMemory);
    CHECK_THROWS_AS(Shape((std::size_t{1} << bits) + 8, 0), OutOfMemory);
  }
}

TEST_CASE("Shape: equality") {
  CHECK(Shape{2, 3} == Shape{2, 3});
  CHECK_FALSE(Shape{2, 3} == Shape{2, 4});
  CHECK_FALSE(Shape{2, 3} == Shape{2, 3, 1});
  CHECK(Shape{} == Shape(0, 9));
  CHECK_FALSE(counting(8) == counting(9));

  CHECK(Shape{2, 3}.is({2, 3}));
  CHECK_FALSE(Shape{2, 3}.is({2, 4}));
  CHECK_FALSE(Shape{2, 3}.is({2, 3, 0}));
  CHECK_FALSE(Shape{2, 3}.is({2}));
  CHECK(Shape{}.is({}));
  CHECK(Shape{1, 2, 3, 4, 5, 6}.is({1, 2, 3, 4, 5, 6}));
  CHECK_FALSE(Shape{1, 2, 3, 4, 5, 6}.is({1, 2, 3, 4, 5, 7}));
}

TEST_CASE("Shape: printed as Python prints a tuple") {
  CHECK(to_string(Shape{}) == "()");
  CHECK(to_string(Shape{4}) == "(4,)");
  CHECK(to_string(Shape{2, -1, 0}) == "(2, -1, 0)");
  CHECK(fmt::format("{} and {}", Shape{2, 3}, Shape{}) == "(2, 3) and ()");
}

TEST_CASE("checked_mul, numel: overflow is an error") {
  CHECK(checked_mul(1L << 31, 1L << 31) == 1L << 62);
  CHECK(checked_mul(kMost, 1) == kMost);
  CHECK(checked_mul(0, kMost) == 0);
  CHECK_THROWS_WITH_AS(checked_mul(1L << 32, 1L << 31), doctest::Contains("4294967296 * 2147483648"), ShapeError);

  CHECK(numel({}) == 1);
  CHECK(numel({2, 3, 4}) == 24);
  CHECK(numel({2, 0, 4}) == 0);
  CHECK(numel(counting(8)) == 40320);
  CHECK_THROWS_WITH_AS(numel({2, -3}), doctest::Contains("negative size -3 in shape (2, -3)"), ShapeError);
  CHECK_THROWS_AS(numel({kMost, 2}), ShapeError);
  CHECK_THROWS_AS(numel({kMost, 2, 0}), ShapeError);  // strides of it would overflow
  CHECK_THROWS_AS(numel({0, kMost, 2}), ShapeError);
}

TEST_CASE("contiguous_strides") {
  CHECK(contiguous_strides({}) == Strides{});
  CHECK(contiguous_strides({5}) == Strides{1});
  CHECK(contiguous_strides({2, 3, 4}) == Strides{12, 4, 1});
  CHECK(contiguous_strides({2, 0, 4}) == Strides{4, 4, 1});
  CHECK(contiguous_strides(Shape(8, 2)) == Strides{128, 64, 32, 16, 8, 4, 2, 1});
}

TEST_CASE("broadcast") {
  struct Row {
    Shape a, b, expected;
  };
  for (const Row& row : {Row{{}, {}, {}}, Row{{2, 3}, {}, {2, 3}}, Row{{2, 3}, {3}, {2, 3}},
                         Row{{2, 1}, {1, 3}, {2, 3}}, Row{{4, 1, 3}, {2, 1}, {4, 2, 3}}, Row{{0}, {1}, {0}},
                         Row{{2, 0}, {1, 1}, {2, 0}}, Row{Shape(8, 1), {2, 3}, {1, 1, 1, 1, 1, 1, 2, 3}}}) {
    CHECK(broadcast("op", row.a, row.b) == row.expected);
    CHECK(broadcast("op", row.b, row.a) == row.expected);
  }
  CHECK_THROWS_WITH_AS(broadcast("add", {2, 3}, {2}), "add: shapes (2, 3) and (2,) do not broadcast", ShapeError);
  CHECK_THROWS_AS(broadcast("add", {0}, {2}), ShapeError);
}

TEST_CASE("wrap_dim") {
  CHECK(wrap_dim("op", 0, 3) == 0);
  CHECK(wrap_dim("op", 2, 3) == 2);
  CHECK(wrap_dim("op", -1, 3) == 2);
  CHECK(wrap_dim("op", -3, 3) == 0);
  CHECK(wrap_dim("op", 0, 0) == 0);
  CHECK(wrap_dim("op", -1, 0) == 0);
  CHECK_THROWS_WITH_AS(wrap_dim("sum", 3, 3),
                       doctest::Contains("sum: dimension 3 is out of range, expected one in [-3, 2]"), IndexError);
  for (std::int64_t bad : {std::int64_t{-4}, kMost, -kMost - 1}) CHECK_THROWS_AS(wrap_dim("op", bad, 3), IndexError);
  CHECK_THROWS_AS(wrap_dim("op", 1, 0), IndexError);
}
