#include <doctest/doctest.h>
#include <unroll/core/tensor.h>
#include <unroll/core/view.h>

#include <cmath>
#include <limits>
#include <vector>

using namespace unroll;

using Floats = std::vector<float>;
using Doubles = std::vector<double>;
using Ints = std::vector<std::int64_t>;
using Bools = std::vector<bool>;

TEST_CASE("Tensor: an undefined one answers only defined()") {
  Tensor x;
  CHECK_FALSE(x.defined());
  CHECK_FALSE(x.requires_grad());
  CHECK(x.is_same(Tensor()));
  CHECK_FALSE(x.is_same(ones({1})));
  CHECK_THROWS_WITH_AS(x.shape(), "expected a tensor, got an undefined one (as grad() is before backward)", ValueError);
  CHECK_THROWS_AS(x.numel(), ValueError);
  CHECK_THROWS_AS(x.data<float>(), ValueError);
  CHECK_THROWS_AS(x.item(), ValueError);
  CHECK_THROWS_AS(zeros_like(x), ValueError);
  CHECK_THROWS_AS(views::transpose(x, 0, 1), ValueError);
  CHECK_THROWS_AS(x.fill_(1), ValueError);
}

TEST_CASE("Tensor: what it says of itself") {
  Tensor x = zeros({2, 3, 4});
  CHECK(x.defined());
  CHECK(x.shape() == Shape{2, 3, 4});
  CHECK(x.strides() == Strides{12, 4, 1});
  CHECK(x.dim() == 3);
  CHECK(x.numel() == 24);
  CHECK(x.size(1) == 3);
  CHECK(x.size(-1) == 4);
  CHECK(x.stride(-3) == 12);
  CHECK(x.dtype() == DType::Float32);
  CHECK(x.is_floating_point());
  CHECK_FALSE(zeros({1}, DType::Int64).is_floating_point());
  CHECK(x.is_contiguous());
  CHECK_FALSE(x.is_view());
  CHECK_THROWS_WITH_AS(x.size(3), doctest::Contains("size: dimension 3 is out of range"), IndexError);
  CHECK_THROWS_AS(x.stride(-4), IndexError);
  CHECK_THROWS_WITH_AS(scalar(1).size(0), "size: a scalar has no dimension 0", IndexError);
  CHECK_THROWS_AS(scalar(1).stride(-1), IndexError);
}

TEST_CASE("Tensor: handles share, tensors do not") {
  Tensor x = zeros({3}), same, other = zeros({3});
  same = x;
  CHECK(same.is_same(x));
  CHECK_FALSE(other.is_same(x));
  CHECK(same.shares_memory(x));
  CHECK_FALSE(other.shares_memory(x));
  same.data<float>()[1] = 5;
  CHECK(x.to_vector<float>() == Floats{0, 5, 0});
  CHECK(x.clone().to_vector<float>() == Floats{0, 5, 0});
  CHECK_FALSE(x.clone().shares_memory(x));
}

TEST_CASE("Tensor: data and item") {
  Tensor x = tensor({1.5, 2.5});
  CHECK(x.data<float>()[1] == 2.5f);
  CHECK_THROWS_WITH_AS(x.data<double>(), "data: the tensor is float32, asked for as float64", DTypeError);
  CHECK_THROWS_AS(x.to_vector<std::int64_t>(), DTypeError);
  CHECK_THROWS_WITH_AS(x.item(), "item: expected one element, got shape (2,)", ShapeError);
  CHECK_THROWS_AS(zeros({0}).item(), ShapeError);
  CHECK(views::select(x, 0, 1).item() == 2.5);
  CHECK(views::select(x, 0, 1).item<std::int64_t>() == 2);
  CHECK(full({1, 1, 1}, 3, DType::Int64).item() == 3.0);
  CHECK(tensor({true}).item<bool>());
  CHECK(scalar(0.1, DType::Float64).item() == 0.1);
  CHECK(scalar(0.1).item() == double{0.1f});
  // An integer of T, its fraction aside, or none.
  CHECK(scalar(-2147483648.75, DType::Float64).item<int>() == INT_MIN);
  CHECK(scalar(-0x1p63).item<std::int64_t>() == INT64_MIN);
  CHECK(tensor({true}).item<int>() == 1);
  CHECK(scalar(NAN).item<bool>());
  for (double none : Doubles{NAN, HUGE_VAL, 0x1p31, -0x1p31 - 1})
    CHECK_THROWS_WITH_AS(scalar(none, DType::Float64).item<int>(), doctest::Contains("is no int32"), ValueError);
  CHECK_THROWS_WITH_AS(tensor({5000000000L}).item<int>(), "item: 5000000000 is no int32", ValueError);
  CHECK_THROWS_WITH_AS(scalar(0x1p63).item<std::int64_t>(), doctest::Contains("is no int64"), ValueError);
}

TEST_CASE("factories: constant ones") {
  CHECK(zeros({2, 2}).to_vector<float>() == Floats(4, 0));
  CHECK(ones({3}, DType::Float64).to_vector<double>() == Doubles(3, 1));
  CHECK(full({2}, 7, DType::Int64).to_vector<std::int64_t>() == Ints{7, 7});
  CHECK(full({2}, 1, DType::Bool).to_vector<bool>() == Bools{true, true});
  for (double value : Doubles{NAN, -HUGE_VAL, 1e19}) {
    CHECK_THROWS_WITH_AS(full({2}, value, DType::Int64), doctest::Contains("is no int64"), ValueError);
    CHECK_THROWS_WITH_AS(tensor({value}, DType::Int64), doctest::Contains("tensor: "), ValueError);
    CHECK_THROWS_WITH_AS(tensor({{0., value}}, DType::Int64), doctest::Contains("is no int64"), ValueError);
  }
  CHECK(full(1, -0x1p63, DType::Int64).to_vector<std::int64_t>() == Ints{INT64_MIN});
  CHECK(tensor({-2.75, 3.}, DType::Int64).to_vector<std::int64_t>() == Ints{-2, 3});
  CHECK(scalar(2).shape() == Shape{});
  CHECK(scalar(2).to_vector<float>() == Floats{2});
  CHECK(empty({2, 0, 3}).numel() == 0);
  CHECK(empty({2, 0, 3}).is_contiguous());
  CHECK(zeros(Shape(8, 2)).to_vector<float>() == Floats(256, 0));
  CHECK_THROWS_WITH_AS(empty({2, -1}), doctest::Contains("negative size -1"), ShapeError);
  std::int64_t big = std::int64_t{1} << 40;
  CHECK_THROWS_AS(zeros({big, big, big}), ShapeError);
  CHECK_THROWS_AS(empty({0, big, big, big}), ShapeError);

  Tensor like = full({2, 3}, 4, DType::Float64);
  CHECK(zeros_like(like).to_vector<double>() == Doubles(6, 0));
  CHECK(ones_like(like).to_vector<double>() == Doubles(6, 1));
  CHECK(full_like(like, .5).to_vector<double>() == Doubles(6, .5));
  CHECK(empty_like(views::transpose(like, 0, 1)).shape() == Shape{3, 2});
}

TEST_CASE("factories: arange") {
  CHECK(arange(4).to_vector<std::int64_t>() == Ints{0, 1, 2, 3});
  CHECK(arange(0).numel() == 0);
  CHECK(arange(3, DType::Float32).to_vector<float>() == Floats{0, 1, 2});
  CHECK(arange(2, 7, 2).to_vector<std::int64_t>() == Ints{2, 4, 6});
  CHECK(arange(5, 1, -2).to_vector<std::int64_t>() == Ints{5, 3});
  CHECK(arange(0, 1, .25, DType::Float64).to_vector<double>() == Doubles{0, .25, .5, .75});
  CHECK(arange(1, 1).numel() == 0);
  // The dtype is that of the numbers, as torch's.
  CHECK(arange(0, 1, .25).to_vector<float>() == Floats{0, .25, .5, .75});
  CHECK(arange(.5, 3).to_vector<float>() == Floats{.5, 1.5, 2.5});
  CHECK(arange(2.5).to_vector<float>() == Floats{0, 1, 2});
  CHECK(arange(std::size_t{2}).to_vector<std::int64_t>() == Ints{0, 1});
  CHECK(arange(2.7, 9.9, 2.2, DType::Int64).to_vector<std::int64_t>() == Ints{2, 4, 6, 8});
  CHECK(arange(0, -3, -.5, DType::Int64).to_vector<std::int64_t>() == Ints(6, 0));
  double nan = std::numeric_limits<double>::quiet_NaN(), inf = std::numeric_limits<double>::infinity();
  for (auto by_nothing : {+[] { return arange(0, 5, 0); }, +[] { return arange(0, 5, 0.0); }})
    CHECK_THROWS_WITH_AS(by_nothing(), doctest::Contains("arange: expected finite bounds and a step other than 0"),
                         ValueError);
  CHECK_THROWS_WITH_AS(arange(0, 5, -1), doctest::Contains("a step of -1 does not lead from 0 to 5"), ValueError);
  for (double bad : {nan, inf}) {
    CHECK_THROWS_AS(arange(0, bad), ValueError);
    CHECK_THROWS_AS(arange(bad, 0), ValueError);
  }
  CHECK_THROWS_AS(arange(0, 1, nan), ValueError);
  CHECK_THROWS_AS(arange(0, 1e300, 1), ShapeError);
  CHECK_THROWS_AS(arange(0, 2, 1, DType::Bool), DTypeError);
  CHECK_THROWS_AS(arange(1, 0, 2), ValueError);  // though ceil(−1/2) is no negative number
  CHECK_THROWS_AS(arange(1.0, 0.5, 2), ValueError);
}

TEST_CASE("factories: arange has every int64") {
  constexpr std::int64_t kMost = std::numeric_limits<std::int64_t>::max(), kLeast = -kMost - 1,
                         kNoDouble = (1LL << 53) + 1;
  CHECK(arange(kNoDouble, kNoDouble + 3).to_vector<std::int64_t>() == Ints{kNoDouble, kNoDouble + 1, kNoDouble + 2});
  CHECK(arange(kMost - 1, kMost).to_vector<std::int64_t>() == Ints{kMost - 1});
  CHECK(arange(kLeast, kMost, kMost).to_vector<std::int64_t>() == Ints{kLeast, -1, kMost - 1});
  CHECK(arange(kMost, kLeast, kLeast).to_vector<std::int64_t>() == Ints{kMost, -1});
  CHECK_THROWS_AS(arange(kLeast, kMost), ShapeError);
  CHECK_THROWS_WITH_AS(arange(std::uint64_t{1} << 63), doctest::Contains("is no int64"), ValueError);
  CHECK_THROWS_WITH_AS(arange(1e19, 1e19 + 1e4, 1e3, DType::Int64), doctest::Contains("is no int64"), ValueError);
}

TEST_CASE("factories: eye") {
  CHECK(eye(3).to_vector<float>() == Floats{1, 0, 0, 0, 1, 0, 0, 0, 1});
  CHECK(eye(1, DType::Bool).to_vector<bool>() == Bools{true});
  CHECK(eye(0).shape() == Shape{0, 0});
  CHECK_FALSE(eye(2).is_view());
  CHECK_THROWS_AS(eye(-1), ShapeError);
}

TEST_CASE("factories: from data") {
  Ints values{1, 2, 3, 4, 5, 6};
  Tensor x = from_data(values, {2, 3});
  CHECK(x.dtype() == DType::Int64);
  CHECK(views::select(x, 0, 1).to_vector<std::int64_t>() == Ints{4, 5, 6});
  values[0] = 9;
  CHECK(x.to_vector<std::int64_t>()[0] == 1);  // a copy
  CHECK(from_data(std::span<const std::int64_t>(values).first(2), {2}).to_vector<std::int64_t>() == Ints{9, 2});
  CHECK(from_data(Bools{true, false}, {2, 1}).to_vector<bool>() == Bools{true, false});
  CHECK(from_data(Doubles{}, {0, 3}).numel() == 0);
  CHECK(from_data(Floats{5}, {}).item() == 5);
  CHECK_THROWS_WITH_AS(from_data(values, {4}), "from_data: 6 values do not fill shape (4,)", ShapeError);
  CHECK_THROWS_AS(from_data(Floats{}, {}), ShapeError);

  CHECK(tensor({1.5, 2.0}).dtype() == DType::Float32);
  CHECK(tensor({1.5, 2.0}, DType::Float64).to_vector<double>() == Doubles{1.5, 2});
  CHECK(tensor({0, 2, 1}).to_vector<std::int64_t>() == Ints{0, 2, 1});
  CHECK(tensor({0, 2}, DType::Float32).to_vector<float>() == Floats{0, 2});
  CHECK(tensor({true, false}).to_vector<bool>() == Bools{true, false});
  CHECK(tensor({{1., 2.}, {3., 4.}, {5., 6.}}).shape() == Shape{3, 2});
  CHECK(tensor({{1, 2}, {3, 4}}).to_vector<std::int64_t>() == Ints{1, 2, 3, 4});
  CHECK(tensor({{1.}, {2.}}).shape() == Shape{2, 1});
  CHECK(tensor({1LL, 2LL}).to_vector<std::int64_t>() == Ints{1, 2});
  CHECK(tensor({{1L}, {2L}}).shape() == Shape{2, 1});
  static_assert(!Literal<std::size_t>);  // refused by the compiler, not by the linker
  CHECK_THROWS_WITH_AS(tensor({{1, 2}, {3}}), doctest::Contains("rows of 2 and 1 elements"), ShapeError);
}

TEST_CASE("Tensor: copies of any geometry and between dtypes") {
  Tensor x = from_data(Floats{0, 1, 2, 3, 4, 5}, {2, 3}), t = views::transpose(x, 0, 1);
  CHECK(t.to_vector<float>() == Floats{0, 3, 1, 4, 2, 5});
  CHECK(t.contiguous().is_contiguous());
  CHECK(t.contiguous().to_vector<float>() == t.to_vector<float>());
  CHECK(x.contiguous().is_same(x));
  CHECK(x.to(DType::Float32).is_same(x));
  CHECK(t.to(DType::Float64).to_vector<double>() == Doubles{0, 3, 1, 4, 2, 5});
  CHECK(tensor({-1.7, 0.0, 2.9}).to(DType::Int64).to_vector<std::int64_t>() == Ints{-1, 0, 2});
  CHECK(tensor({-1.7, 0.0, 2.9}).to(DType::Bool).to_vector<bool>() == Bools{true, false, true});
  CHECK(tensor({true, false}).to(DType::Float32).to_vector<float>() == Floats{1, 0});
  CHECK(views::expand(tensor({7}), {2, 2}).to(DType::Float64).to_vector<double>() == Doubles(4, 7));
  CHECK(zeros({0, 3}).to(DType::Bool).numel() == 0);
  CHECK(scalar(3).clone().item() == 3);
}

TEST_CASE("Tensor: writing in place reaches all views and counts versions") {
  Tensor x = zeros({2, 3}), column = views::select(x, 1, 1);
  CHECK(x.version() == 0);
  column.fill_(4);
  CHECK(x.to_vector<float>() == Floats{0, 4, 0, 0, 4, 0});
  CHECK(x.version() == 1);
  CHECK(column.version() == 1);
  views::transpose(x, 0, 1).copy_(from_data(Floats{1, 2, 3, 4, 5, 6}, {3, 2}));
  CHECK(x.to_vector<float>() == Floats{1, 3, 5, 2, 4, 6});
  x.copy_(tensor({7., 8., 9.}));  // broadcast
  CHECK(x.to_vector<float>() == Floats{7, 8, 9, 7, 8, 9});
  x.zero_();
  CHECK(column.to_vector<float>() == Floats{0, 0});
  CHECK(x.version() == 4);
  CHECK_THROWS_AS(views::expand(zeros({1}), {3}).fill_(1), ValueError);
  CHECK_THROWS_AS(zeros({2}).copy_(zeros({3})), ShapeError);
}

TEST_CASE("Tensor: an empty list of literals has one dimension") {
  CHECK(tensor<double>({}).shape() == Shape{0});
  CHECK(tensor<double>({{}, {}}).shape() == Shape{2, 0});
}

TEST_CASE("Tensor: arange's floats are those of double, rounded once") {
  const Floats v = arange(0, 1000, 0.1, DType::Float32).to_vector<float>();
  for (std::size_t i = 0; i < v.size(); ++i) REQUIRE(v[i] == static_cast<float>(static_cast<double>(i) * 0.1));
}

TEST_CASE("fill: 2^63 is no int64") { CHECK_THROWS_AS(full({1}, 0x1p63, DType::Int64), ValueError); }
