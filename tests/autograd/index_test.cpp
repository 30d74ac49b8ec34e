#include "support/gradients.h"

#include <doctest/doctest.h>
#include <unroll/autograd/engine.h>
#include <unroll/autograd/gradcheck.h>
#include <unroll/autograd/ops/arithmetic.h>
#include <unroll/autograd/ops/compare.h>
#include <unroll/autograd/ops/index.h>
#include <unroll/autograd/ops/reduce.h>
#include <unroll/autograd/ops/shape.h>
#include <unroll/core/random.h>

#include <limits>

using namespace unroll;

namespace {

constexpr DType f64 = DType::Float64;
}  // namespace

TEST_CASE("index: index_select picks slices in the order of the index") {
  Tensor x = reshape(arange(24, f64), {2, 3, 4});
  CHECK(index_select(x, 1, tensor({2, 0, 2})).to_vector<double>() ==
        Values{8, 9, 10, 11, 0, 1, 2, 3, 8, 9, 10, 11, 20, 21, 22, 23, 12, 13, 14, 15, 20, 21, 22, 23});
  CHECK(index_select(x, -1, tensor({3})).to_vector<double>() == Values{3, 7, 11, 15, 19, 23});
  CHECK(equal(index_select(x, 0, tensor({1, 1})), stack({select(x, 0, 1), select(x, 0, 1)})));
  // Any geometry of x and index, any dtype of x.
  CHECK(equal(index_select(permute(x, {2, 0, 1}), 2, slice(tensor({2, 9, 0}), 0, 0, 3, 2)),
              permute(index_select(x, 1, tensor({2, 0})), {2, 0, 1})));
  CHECK(index_select(tensor({true, false}), 0, tensor({1, 1, 0})).to_vector<bool>() ==
        std::vector<bool>{false, false, true});
  CHECK(index_select(tensor({7, 8, 9}), 0, tensor({2})).item<std::int64_t>() == 9);
}

TEST_CASE("index: index_select of nothing, from nothing, and of scalars") {
  Tensor none = empty({0}, DType::Int64), x = ones({2, 3}, f64).requires_grad_();
  Tensor y = index_select(x, 1, none);
  CHECK(y.shape() == Shape{2, 0});
  sum(y).backward();
  CHECK(x.grad().to_vector<double>() == Values(6, 0));
  CHECK(index_select(empty({0, 3}), 1, tensor({2, 2})).shape() == Shape{0, 2});
  CHECK_THROWS_AS(index_select(empty({0, 3}), 0, tensor({0})), IndexError);

  Tensor s = scalar(5, f64).requires_grad_();
  CHECK(index_select(s, 0, tensor({0})).shape().empty());
  CHECK(index_select(s, 0, select(tensor({0}), 0, 0)).item() == 5);
  (gather(s, 0, tensor({0, 0})) * tensor({1.0, 2.0}, f64)).backward({.gradient = ones(2, f64)});
  CHECK(s.grad().item() == 3);
  CHECK_THROWS_AS(index_select(s, 0, tensor({0, 0})), ShapeError);
}

TEST_CASE("index: a repeated index sums gradients, one left out gets zero") {
  Tensor x = zeros({3, 2}, f64).requires_grad_();
  Tensor g = tensor({{1.0, 2.0}, {10.0, 20.0}, {100.0, 200.0}}, f64);
  index_select(x, 0, tensor({2, 0, 2})).backward({.gradient = g});
  CHECK(x.grad().to_vector<double>() == Values{10, 20, 0, 0, 101, 202});

  Tensor z = zeros({2, 3}, f64).requires_grad_();
  gather(z, 1, tensor({{0, 0, 2}, {1, 1, 1}})).backward({.gradient = tensor({{1.0, 2.0, 3.0}, {4.0, 5.0, 6.0}}, f64)});
  CHECK(z.grad().to_vector<double>() == Values{3, 0, 3, 0, 15, 0});
}

TEST_CASE("index: repeated indices are added one after the other in row-major order") {
  // In float32, 2^24 + 1 = 2^24 while 1 + 1 + 2^24 = 2^24 + 2: another order would show.
  float big = 16777216;
  Tensor late = from_data(std::vector<float>{1, 1, big}, 3), early = from_data(std::vector<float>{big, 1, 1}, 3);
  Tensor same = tensor({0, 0, 0});
  CHECK(index_add(zeros(1), 0, same, late).item() == big + 2);
  CHECK(index_add(zeros(1), 0, same, early).item() == big);
  CHECK(scatter_add(zeros(1), 0, same, late).item() == big + 2);
  CHECK(scatter_add(zeros(1), 0, same, early).item() == big);
}

TEST_CASE("index: gather and scatter_add") {
  Tensor x = reshape(arange(12, f64), {3, 4}), index = tensor({{0, 0}, {3, 1}, {2, 2}});
  CHECK(gather(x, 1, index).to_vector<double>() == Values{0, 0, 7, 5, 10, 10});
  CHECK(gather(x, -2, tensor({{2, 1, 0}})).to_vector<double>() == Values{8, 5, 2});
  CHECK(gather(t(x), 0, t(index)).to_vector<double>() == Values{0, 7, 10, 0, 5, 10});
  CHECK(scatter_add(x, 1, index, ones({3, 2}, f64)).to_vector<double>() ==
        Values{2, 1, 2, 3, 4, 6, 6, 8, 8, 9, 12, 11});
  // Of a larger source only what index covers counts; x itself is left as it is.
  Tensor source = full({3, 3}, 10, f64).requires_grad_();
  Tensor y = scatter_add(x, 1, index, source);
  CHECK(y.to_vector<double>() == Values{20, 1, 2, 3, 4, 15, 6, 17, 8, 9, 30, 11});
  CHECK(x.to_vector<double>() == arange(12, f64).to_vector<double>());
  sum(y).backward();
  CHECK(source.grad().to_vector<double>() == Values{1, 1, 0, 1, 1, 0, 1, 1, 0});
  CHECK(gather(x, 1, empty({3, 0}, DType::Int64)).shape() == Shape{3, 0});
  CHECK(scatter_add(tensor({1, 2}), 0, tensor({1, 1}), tensor({5, 6})).to_vector<std::int64_t>() ==
        std::vector<std::int64_t>{1, 13});
}

TEST_CASE("index: index_add is the adjoint of index_select, scatter_add that of gather") {
  Generator g(1);
  Tensor x = randn({4, 3}, f64, g), v = randn({4, 5}, f64, g), along = tensor({2, 0, 2, 1, 0});
  CHECK(sum(index_select(x, 1, along) * v).item() ==
        doctest::Approx(sum(x * index_add(zeros({4, 3}, f64), 1, along, v)).item()));
  Tensor index = tensor({{0, 3}, {3, 1}, {2, 2}}), t3 = randn({3, 4}, f64, g), w = randn({3, 2}, f64, g);
  CHECK(sum(gather(t3, 1, index) * w).item() ==
        doctest::Approx(sum(t3 * scatter_add(zeros({3, 4}, f64), 1, index, w)).item()));
}

TEST_CASE("index: derivatives agree with differences") {
  Generator g(2);
  Tensor along = tensor({2, 0, 2}), index = tensor({{0, 0}, {3, 1}, {2, 2}});
  check_gradients([&](auto& in) { return square(index_select(in[0], 1, along)); }, {leaf({2, 3, 2}, g)});
  check_gradients([&](auto& in) { return square(index_add(in[0], 1, along, in[1])); },
                  {leaf({2, 4}, g), leaf({2, 3}, g)});
  check_gradients([&](auto& in) { return square(gather(in[0], 1, index)); }, {leaf({3, 4}, g)});
  check_gradients([&](auto& in) { return square(scatter_add(in[0], 1, index, in[1])); },
                  {leaf({3, 4}, g), leaf({4, 2}, g)});
  check_gradients([&](auto& in) { return square(embedding(index, in[0])); }, {leaf({5, 3}, g)});
  // With padding_idx the gradient is not the derivative, but its own derivative is right.
  CHECK(gradgradcheck([&](auto& in) { return square(embedding(index, in[0], 2)); }, {leaf({5, 3}, g)}));
  check_gradients(
      [&](auto& in) {
        return square(masked_fill(in[0], tensor({true, false, true}), 3));
      },
      {leaf({2, 3}, g)});
}

TEST_CASE("index: embedding looks rows up") {
  Tensor weight = reshape(arange(12, f64), {4, 3});
  Tensor y = embedding(tensor({{1, 3}, {0, 1}}), weight);
  CHECK(y.shape() == Shape{2, 2, 3});
  CHECK(y.to_vector<double>() == Values{3, 4, 5, 9, 10, 11, 0, 1, 2, 3, 4, 5});
  CHECK_FALSE(y.is_view());
  CHECK(equal(embedding(t(tensor({{1, 3}, {0, 1}})), weight), transpose(y, 0, 1)));
  CHECK(embedding(select(tensor({2}), 0, 0), weight).to_vector<double>() == Values{6, 7, 8});
  CHECK(equal(embedding(tensor({2, 0}), t(reshape(arange(12, f64), {3, 4}))),
              tensor({{2.0, 6.0, 10.0}, {0.0, 4.0, 8.0}}, f64)));
  CHECK(embedding(empty({2, 0}, DType::Int64), weight).shape() == Shape{2, 0, 3});
  CHECK(embedding(empty({0}, DType::Int64), empty({0, 3})).shape() == Shape{0, 3});
}

TEST_CASE("index: the row padding_idx gives its values and takes no gradient") {
  Tensor input = tensor({{1, 3, 1}, {0, 1, 3}});
  auto gradient = [&](std::optional<std::int64_t> padding_idx) {
    Tensor weight = ones({4, 1}, f64).requires_grad_();
    Tensor y = embedding(input, weight, padding_idx);
    CHECK(y.to_vector<double>() == Values(6, 1));
    y.backward({.gradient = reshape(tensor({1.0, 2.0, 4.0, 8.0, 16.0, 32.0}, f64), {2, 3, 1})});
    return weight.grad().to_vector<double>();
  };
  CHECK(gradient({}) == Values{8, 21, 0, 34});
  CHECK(gradient(1) == Values{8, 0, 0, 34});
  CHECK(gradient(-1) == Values{8, 21, 0, 0});
  CHECK(gradient(0) == Values{0, 21, 0, 34});
  CHECK(gradient(-4) == Values{0, 21, 0, 34});
  CHECK(gradient(2) == Values{8, 21, 0, 34});
}

TEST_CASE("index: the gradient of a padding row is zero whatever flows to it") {
  Tensor weight = ones({2, 1}, f64).requires_grad_();
  Tensor g = reshape(tensor({std::numeric_limits<double>::quiet_NaN(), 2.0}, f64), {2, 1});
  embedding(tensor({0, 1}), weight, 0).backward({.gradient = g});
  CHECK(weight.grad().to_vector<double>() == Values{0, 2});
}

TEST_CASE("index: masked_fill") {
  Tensor x = tensor({{1.0, 2.0}, {3.0, 4.0}}, f64).requires_grad_(), mask = tensor({true, false});
  Tensor y = masked_fill(x, mask, -7);
  CHECK(y.to_vector<double>() == Values{-7, 2, -7, 4});
  (y * y).backward({.gradient = ones({2, 2}, f64)});
  CHECK(x.grad().to_vector<double>() == Values{0, 4, 0, 8});
  CHECK(masked_fill(tensor({1, 2}), mask, 5).to_vector<std::int64_t>() == std::vector<std::int64_t>{5, 2});
  CHECK_THROWS_WITH_AS(masked_fill(ones(2), tensor({true, false, true}), 0), doctest::Contains("masked_fill"),
                       ShapeError);
  CHECK_THROWS_WITH_AS(masked_fill(ones(1), mask, 0), doctest::Contains("(2,) does not broadcast to (1,)"), ShapeError);
  CHECK_THROWS_AS(masked_fill(ones(2), tensor({1, 0}), 0), DTypeError);
}

TEST_CASE("index: an index out of range is named, with dimension and size, before anything is computed") {
  Tensor x = ones({2, 3}), weight = ones({3, 2}).requires_grad_();
  CHECK_THROWS_WITH_AS(index_select(x, 1, tensor({0, 3})),
                       "index_select: index 3 is out of bounds for dimension 1 with size 3", IndexError);
  CHECK_THROWS_WITH_AS(index_select(x, 0, tensor({-1})),
                       "index_select: index -1 is out of bounds for dimension 0 with size 2", IndexError);
  CHECK_THROWS_WITH_AS(gather(x, 0, tensor({{0, 2, 1}})),
                       "gather: index 2 is out of bounds for dimension 0 with size 2", IndexError);
  CHECK_THROWS_WITH_AS(embedding(tensor({{0, 7}}), weight),
                       "embedding: index 7 is out of bounds for dimension 0 with size 3", IndexError);
  CHECK_THROWS_WITH_AS(index_add(x, 0, tensor({5}), ones({1, 3})),
                       "index_add: index 5 is out of bounds for dimension 0 with size 2", IndexError);
  CHECK_THROWS_WITH_AS(scatter_add(x, 1, full({1, 1}, 4, DType::Int64), ones({1, 1})),
                       "scatter_add: index 4 is out of bounds for dimension 1 with size 3", IndexError);
  CHECK_THROWS_AS(embedding(tensor({-1}), weight), IndexError);
  CHECK_THROWS_AS(index_select(x, 2, tensor({0})), IndexError);
  CHECK_THROWS_WITH_AS(embedding(tensor({0}), weight, 3), doctest::Contains("padding_idx 3"), IndexError);
  CHECK_THROWS_WITH_AS(embedding(tensor({0}), weight, -4), doctest::Contains("padding_idx -4"), IndexError);
  CHECK(x.to_vector<float>() == std::vector<float>(6, 1));
}

TEST_CASE("index: shapes and dtypes that do not fit") {
  Tensor x = ones({2, 3});
  CHECK_THROWS_WITH_AS(index_select(x, 0, zeros({1, 1}, DType::Int64)),
                       doctest::Contains("index must be a vector, got shape (1, 1)"), ShapeError);
  CHECK_THROWS_WITH_AS(gather(x, 0, tensor({0})), doctest::Contains("index of shape (1,) does not fit shape (2, 3)"),
                       ShapeError);
  CHECK_THROWS_WITH_AS(gather(x, 1, zeros({3, 1}, DType::Int64)),
                       doctest::Contains("index of shape (3, 1) does not fit shape (2, 3)"), ShapeError);
  CHECK_THROWS_WITH_AS(index_add(x, 0, tensor({0}), ones({2, 3})),
                       doctest::Contains("source of shape (2, 3), expected (1, 3)"), ShapeError);
  CHECK_THROWS_WITH_AS(scatter_add(x, 0, tensor({{0, 1}}), ones({1, 1})), doctest::Contains("source of shape (1, 1)"),
                       ShapeError);
  CHECK_THROWS_WITH_AS(embedding(tensor({0}), ones(3)), doctest::Contains("weight has shape (3,)"), ShapeError);
  for (auto bad : {DType::Float32, DType::Bool}) {
    CHECK_THROWS_WITH_AS(index_select(x, 0, zeros(1, bad)), doctest::Contains("index_select: indices must be int64"),
                         DTypeError);
    CHECK_THROWS_AS(gather(x, 0, zeros({1, 1}, bad)), DTypeError);
    CHECK_THROWS_WITH_AS(embedding(zeros(1, bad), x), doctest::Contains("embedding: indices must be int64"),
                         DTypeError);
  }
  CHECK_THROWS_AS(index_add(x, 0, tensor({0}), ones({1, 3}, f64)), DTypeError);
  CHECK_THROWS_AS(scatter_add(x, 0, zeros({1, 1}, DType::Int64), ones({1, 1}, f64)), DTypeError);
}

TEST_CASE("index: an index that was overwritten after the forward pass is noticed") {
  Tensor x = ones({3, 2}).requires_grad_(), index = tensor({2, 0});
  Tensor y = sum(index_select(x, 0, index));
  index.fill_(1);
  CHECK_THROWS_WITH_AS(y.backward(), doctest::Contains("modified in place"), GradError);
}

TEST_CASE("index: the gradient of scatter_add's source where that is larger than the index in its last dimension") {
  const Tensor x = zeros({2, 2, 3}, f64), source = ones({2, 2, 3}, f64).requires_grad_();
  sum(scatter_add(x, 0, zeros({2, 2, 2}, DType::Int64), source)).backward();
  CHECK(source.grad().to_vector<double>() == std::vector<double>{1, 1, 0, 1, 1, 0, 1, 1, 0, 1, 1, 0});
}
