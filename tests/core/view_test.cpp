#include <doctest/doctest.h>
#include <unroll/autograd/ops/arithmetic.h>
#include <unroll/core/view.h>

#include <limits>
#include <vector>

using namespace unroll;

namespace {

using Ints = std::vector<std::int64_t>;

constexpr std::int64_t kMost = std::numeric_limits<std::int64_t>::max();

// 0, 1, 2, … in that shape.
Tensor counted(const Shape& shape) { return views::view(arange(numel(shape)), shape); }

// A view of x with this shape and these elements.
void check_view(const Tensor& y, const Tensor& x, const Shape& shape, const Ints& elements) {
  CHECK(y.shape() == shape);
  CHECK(y.to_vector<std::int64_t>() == elements);
  CHECK(y.shares_memory(x));
  CHECK(y.is_view());
}

}  // namespace

TEST_CASE("narrow") {
  Tensor x = counted({2, 4});
  check_view(views::narrow(x, 1, 1, 2), x, {2, 2}, {1, 2, 5, 6});
  check_view(views::narrow(x, -1, -3, 2), x, {2, 2}, {1, 2, 5, 6});
  check_view(views::narrow(x, 0, 1, 1), x, {1, 4}, {4, 5, 6, 7});
  check_view(views::narrow(x, 1, 4, 0), x, {2, 0}, {});
  CHECK(views::narrow(x, 0, 1, 1).is_contiguous());
  CHECK_FALSE(views::narrow(x, 1, 1, 2).is_contiguous());
  CHECK_THROWS_WITH_AS(views::narrow(x, 1, 3, 2),
                       "narrow: start 3 and length 2 reach outside dimension 1 of shape (2, 4)", IndexError);
  CHECK_THROWS_AS(views::narrow(x, 1, -5, 1), IndexError);
  CHECK_THROWS_AS(views::narrow(x, 1, 0, -1), IndexError);
  CHECK_THROWS_AS(views::narrow(x, 1, 1, kMost), IndexError);
  CHECK_THROWS_AS(views::narrow(x, 1, -kMost - 1, 1), IndexError);
  CHECK_THROWS_AS(views::narrow(x, 2, 0, 1), IndexError);
  CHECK_THROWS_WITH_AS(views::narrow(scalar(1), 0, 0, 1), doctest::Contains("scalar"), ShapeError);
}

TEST_CASE("slice") {
  Tensor x = counted({7});
  check_view(views::slice(x, 0, 1, 6, 2), x, {3}, {1, 3, 5});
  check_view(views::slice(x, 0, 0, 7, 3), x, {3}, {0, 3, 6});
  check_view(views::slice(x, 0, -3, -1), x, {2}, {4, 5});
  check_view(views::slice(x, 0, -100, 100, 4), x, {2}, {0, 4});
  check_view(views::slice(x, 0, 5, 2), x, {0}, {});
  check_view(views::slice(x, 0, -kMost - 1, kMost, kMost), x, {1}, {0});
  check_view(views::slice(x, 0, 2, 7, kMost), x, {1}, {2});
  check_view(views::slice(views::slice(x, 0, 1, 7, 2), 0, 1, 3, 1), x, {2}, {3, 5});
  Tensor y = counted({2, 3});
  check_view(views::slice(y, 1, 0, 3, 2), y, {2, 2}, {0, 2, 3, 5});
  CHECK_THROWS_WITH_AS(views::slice(x, 0, 0, 7, 0), "slice: step 0 must be at least 1", ValueError);
  CHECK_THROWS_AS(views::slice(x, 0, 6, 0, -1), ValueError);
  CHECK_THROWS_AS(views::slice(x, 1, 0, 1), IndexError);
  CHECK_THROWS_AS(views::slice(scalar(1), 0, 0, 1), ShapeError);
}

TEST_CASE("select") {
  Tensor x = counted({2, 3});
  check_view(views::select(x, 0, 1), x, {3}, {3, 4, 5});
  check_view(views::select(x, 1, -1), x, {2}, {2, 5});
  check_view(views::select(x, 1, -3), x, {2}, {0, 3});
  check_view(views::select(views::select(x, 1, 1), 0, 1), x, {}, {4});
  CHECK_THROWS_WITH_AS(views::select(x, 1, 3), "select: index 3 is out of range for dimension 1 of shape (2, 3)",
                       IndexError);
  CHECK_THROWS_AS(views::select(x, 0, -3), IndexError);
  CHECK_THROWS_AS(views::select(counted({0}), 0, 0), IndexError);
  CHECK_THROWS_AS(views::select(scalar(1), 0, 0), ShapeError);
}

TEST_CASE("transpose and permute") {
  Tensor x = counted({2, 3});
  check_view(views::transpose(x, 0, 1), x, {3, 2}, {0, 3, 1, 4, 2, 5});
  check_view(views::transpose(x, -1, -1), x, {2, 3}, {0, 1, 2, 3, 4, 5});
  CHECK(views::transpose(scalar(1), 0, -1).shape() == Shape{});
  CHECK_THROWS_WITH_AS(views::transpose(x, 0, 2), doctest::Contains("transpose: dimension 2 is out of range"),
                       IndexError);

  Tensor y = counted({2, 1, 3});
  check_view(views::permute(y, {2, 0, 1}), y, {3, 2, 1}, {0, 3, 1, 4, 2, 5});
  check_view(views::permute(y, {-1, -3, -2}), y, {3, 2, 1}, {0, 3, 1, 4, 2, 5});
  CHECK(views::permute(y, {2, 0, 1}).strides() == Strides{1, 3, 3});
  CHECK(views::permute(scalar(1), {}).shape() == Shape{});
  CHECK_THROWS_WITH_AS(views::permute(y, {0, 1}), "permute: 2 dimensions given for shape (2, 1, 3)", ShapeError);
  CHECK_THROWS_WITH_AS(views::permute(y, {0, 1, -3}), "permute: dimension -3 is repeated in (0, 1, -3)", ValueError);
  CHECK_THROWS_AS(views::permute(y, {0, 1, 3}), IndexError);

  Tensor deep = counted({2, 1, 2, 1, 1, 1, 1, 3});
  Tensor back = views::permute(deep, {7, 6, 5, 4, 3, 2, 1, 0});
  CHECK(back.shape() == Shape{3, 1, 1, 1, 1, 2, 1, 2});
  CHECK(back.to_vector<std::int64_t>() == Ints{0, 6, 3, 9, 1, 7, 4, 10, 2, 8, 5, 11});
}

TEST_CASE("view") {
  Tensor x = counted({2, 3, 4});
  Ints all = x.to_vector<std::int64_t>();
  for (const Shape& shape :
       {Shape{24}, Shape{6, 4}, Shape{2, 12}, Shape{4, 3, 2}, Shape{1, 24, 1}, Shape{2, 1, 3, 1, 2, 1, 2, 1}})
    check_view(views::view(x, shape), x, shape, all);
  CHECK(views::view(x, {-1}).shape() == Shape{24});
  CHECK(views::view(x, {3, -1, 2}).shape() == Shape{3, 4, 2});
  CHECK(views::view(counted({1}), {}).shape() == Shape{});
  CHECK(views::view(scalar(1), {1, 1}).shape() == Shape{1, 1});
  CHECK(views::view(zeros({0, 3}), {3, 0, 7}).shape() == Shape{3, 0, 7});
  CHECK(views::view(zeros({0, 3}), {3, -1}).shape() == Shape{3, 0});

  CHECK_THROWS_WITH_AS(views::view(x, {5, 5}), "view: shape (5, 5) does not fit the 24 elements of shape (2, 3, 4)",
                       ShapeError);
  CHECK_THROWS_WITH_AS(views::view(x, {-1, 5}), doctest::Contains("does not fit"), ShapeError);
  CHECK_THROWS_WITH_AS(views::view(x, {-1, -1}), "view: only one size of (-1, -1) may be -1", ShapeError);
  CHECK_THROWS_WITH_AS(views::view(x, {-2, 12}), doctest::Contains("negative size -2"), ShapeError);
  CHECK_THROWS_AS(views::view(zeros({0}), {-1, 0}), ShapeError);  // any size would do
  CHECK_THROWS_AS(views::view(x, {kMost, 3}), ShapeError);
  CHECK(views::infer_shape("reshape", x, {2, -1}) == Shape{2, 12});
}

TEST_CASE("view of what is not contiguous: where whole dimensions are cut or joined") {
  Tensor x = counted({4, 6});
  Tensor part = views::narrow(x, 1, 0, 4);  // strides (6, 1)
  check_view(views::view(part, {2, 2, 2, 2}), x, {2, 2, 2, 2}, part.to_vector<std::int64_t>());
  CHECK_FALSE(views::viewable(part, {16}));
  CHECK_FALSE(views::viewable(part, {2, 8}));
  CHECK_FALSE(views::viewable(part, {8, 2}));
  CHECK_THROWS_WITH_AS(views::view(part, {16}),
                       "view: shape (4, 4) with strides (6, 1) cannot be viewed as (16,); use reshape", ShapeError);

  Tensor t = views::transpose(counted({2, 3, 4}), 0, 2);  // (4, 3, 2), strides (1, 4, 12)
  CHECK(views::viewable(t, {4, 3, 1, 2}));
  CHECK(views::viewable(t, {2, 2, 3, 2}));
  check_view(views::view(t, {1, 1, 4, 3, 2}), t, {1, 1, 4, 3, 2}, t.to_vector<std::int64_t>());
  CHECK_FALSE(views::viewable(t, {12, 2}));
  CHECK_FALSE(views::viewable(t, {4, 6}));
  Tensor joined = views::permute(counted({2, 3, 4}), {2, 0, 1});  // (4, 2, 3), the last two still in order
  check_view(views::view(joined, {4, 6}), joined, {4, 6}, joined.to_vector<std::int64_t>());

  Tensor unit =
      views::slice(views::transpose(counted({5, 1, 2, 3}), 1, 2), 0, 0, 5, 2);  // (3, 2, 1, 3), strides (12, 3, 6, 1)
  check_view(views::view(unit, {3, 6}), unit, {3, 6}, unit.to_vector<std::int64_t>());

  Tensor repeated = views::expand(counted({3, 1}), {3, 4});
  CHECK(views::viewable(repeated, {3, 2, 2}));
  CHECK_FALSE(views::viewable(repeated, {12}));
  CHECK(views::view(views::expand(counted({1}), {4}), {2, 2}).strides() == Strides{0, 0});
}

TEST_CASE("expand") {
  Tensor x = counted({3, 1});
  check_view(views::expand(x, {3, 2}), x, {3, 2}, {0, 0, 1, 1, 2, 2});
  check_view(views::expand(x, {2, -1, 2}), x, {2, 3, 2}, {0, 0, 1, 1, 2, 2, 0, 0, 1, 1, 2, 2});
  check_view(views::expand(x, {3, 0}), x, {3, 0}, {});
  CHECK(views::expand(x, {2, 3, 4}).strides() == Strides{0, 1, 0});
  CHECK(views::expand(scalar(2), {2, 2}).to_vector<float>() == std::vector<float>(4, 2));
  CHECK(views::expand(scalar(2), Shape(8, 1)).shape() == Shape(8, 1));
  CHECK_THROWS_WITH_AS(views::expand(x, {2, 2}), "expand: shape (3, 1) does not expand to (2, 2)", ShapeError);
  CHECK_THROWS_WITH_AS(views::expand(x, {3}), doctest::Contains("fewer dimensions"), ShapeError);
  CHECK_THROWS_AS(views::expand(x, {-1, 3, 1}), ShapeError);
  CHECK_THROWS_AS(views::expand(x, {0, 1}), ShapeError);
  CHECK_THROWS_WITH_AS(views::expand(x, {3, -2}), "expand: shape (3, 1) does not expand to (3, -2)", ShapeError);
  CHECK_THROWS_AS(views::expand(x, {kMost, 3, 1}), ShapeError);  // its elements cannot be counted
}

TEST_CASE("squeeze and unsqueeze") {
  Tensor x = counted({1, 3, 1});
  check_view(views::squeeze(x), x, {3}, {0, 1, 2});
  check_view(views::squeeze(x, 0), x, {3, 1}, {0, 1, 2});
  check_view(views::squeeze(x, -1), x, {1, 3}, {0, 1, 2});
  check_view(views::squeeze(x, 1), x, {1, 3, 1}, {0, 1, 2});
  CHECK(views::squeeze(scalar(1), 0).shape() == Shape{});
  CHECK(views::squeeze(zeros({1, 0, 1})).shape() == Shape{0});
  CHECK(views::squeeze(zeros({1, 0, 1}), 1).shape() == Shape{1, 0, 1});
  CHECK_THROWS_AS(views::squeeze(x, 3), IndexError);

  Tensor y = counted({2, 2});
  check_view(views::unsqueeze(y, 0), y, {1, 2, 2}, {0, 1, 2, 3});
  check_view(views::unsqueeze(y, 2), y, {2, 2, 1}, {0, 1, 2, 3});
  check_view(views::unsqueeze(y, -2), y, {2, 1, 2}, {0, 1, 2, 3});
  check_view(views::unsqueeze(views::transpose(y, 0, 1), 1), y, {2, 1, 2}, {0, 2, 1, 3});
  CHECK(views::unsqueeze(y, 0).strides() == Strides{4, 2, 1});
  CHECK(views::unsqueeze(scalar(1), 0).shape() == Shape{1});
  CHECK(views::unsqueeze(zeros(Shape(7, 1)), 3).shape() == Shape(8, 1));
  CHECK_THROWS_WITH_AS(views::unsqueeze(y, 3), doctest::Contains("unsqueeze: dimension 3"), IndexError);
  CHECK_THROWS_AS(views::unsqueeze(y, -4), IndexError);
}

TEST_CASE("alias: the same elements in a handle of its own") {
  Tensor x = tensor({{0, 1}, {2, 3}}), y = views::alias(x);
  CHECK_FALSE(y.is_same(x));
  CHECK(y.shares_memory(x));
  CHECK_FALSE(y.is_view());
  CHECK(views::alias(views::transpose(x, 0, 1)).is_view());
  CHECK(views::alias(views::narrow(x, 0, 1, 1)).to_vector<std::int64_t>() == Ints{2, 3});
}

TEST_CASE("view: dimensions of size 1, and what has no elements, are in order whatever their strides") {
  const Tensor row = zeros({1, 4}), column = views::transpose(row, 0, 1);  // strides (1, 4)
  CHECK(column.is_contiguous());
  CHECK(views::narrow(views::transpose(zeros({3, 1, 4}), 0, 1), 0, 0, 1).is_contiguous());
  CHECK_FALSE(views::narrow(zeros({3, 4}), 1, 0, 1).is_contiguous());
  const Tensor none = views::transpose(zeros({2, 0, 3}), 0, 2);
  CHECK(none.is_contiguous());
  CHECK(views::expand(zeros({1, 0}), {4, 0}).is_contiguous());
  CHECK(views::view(none, {0, 6}).shape() == Shape{0, 6});
}

TEST_CASE("slice: one element of a huge step has a stride that no step multiplied") {
  CHECK(views::slice(zeros({2, 3}), 0, 0, 2, std::numeric_limits<std::int64_t>::max()).strides() == Strides{3, 1});
}

TEST_CASE("view: what an op makes of a view has a layout of its own") {
  const Tensor column = views::transpose(zeros({1, 4}), 0, 1);
  REQUIRE(column.strides() == Strides{1, 4});
  CHECK(neg(column).strides() == Strides{1, 1});
  CHECK(add(column, column).strides() == Strides{1, 1});
  CHECK_FALSE(neg(column).is_view());
}
