#include "support/gradients.h"

#include <doctest/doctest.h>
#include <unroll/autograd/engine.h>
#include <unroll/autograd/gradcheck.h>
#include <unroll/autograd/ops/arithmetic.h>
#include <unroll/autograd/ops/compare.h>
#include <unroll/autograd/ops/reduce.h>
#include <unroll/autograd/ops/shape.h>
#include <unroll/core/random.h>

#include <limits>

using namespace unroll;

namespace {

using Ints = std::vector<std::int64_t>;
using Tensors = std::vector<Tensor>;

Ints ints(const Tensor& x) { return x.to_vector<std::int64_t>(); }

Tensor count(const Shape& shape) { return view(arange(numel(shape)), shape); }

Tensor random(const Shape& shape) {
  static Generator generator(2);
  return randn(shape, DType::Float64, generator);
}

template <class F>
void check_both(F f, const Tensors& in) {
  for (const Tensor& x : in) x.requires_grad_();
  check_gradients(f, in);
}

std::vector<Shape> shapes(const Tensors& tensors) {
  std::vector<Shape> all;
  for (const Tensor& x : tensors) all.push_back(x.shape());
  return all;
}

using Shapes = std::vector<Shape>;

}  // namespace

TEST_CASE("shape: view, reshape and flatten") {
  Tensor x = count({2, 3});
  CHECK(view(x, {3, -1}).shape() == Shape{3, 2});
  CHECK(view(x, {3, 2}).shares_memory(x));
  CHECK(reshape(x, {6}).shares_memory(x));
  Tensor turned = transpose(x, 0, 1);
  CHECK(ints(reshape(turned, -1)) == Ints{0, 3, 1, 4, 2, 5});
  CHECK_FALSE(reshape(turned, 6).shares_memory(x));
  CHECK_FALSE(reshape(turned, 6).is_view());
  CHECK_THROWS_AS(view(turned, {6}), ShapeError);
  CHECK_THROWS_WITH_AS(reshape(x, {4, 2}), "reshape: shape (4, 2) does not fit the 6 elements of shape (2, 3)",
                       ShapeError);
  CHECK(reshape(zeros({0, 3}), {3, 0, 2}).shape() == Shape{3, 0, 2});
  CHECK(flatten(count({2, 3, 4})).shape() == Shape{24});
  CHECK(flatten(count({2, 3, 4}), 1).shape() == Shape{2, 12});
  CHECK(flatten(count({2, 3, 4}), 0, -2).shape() == Shape{6, 4});
  CHECK(flatten(scalar(1)).shape() == Shape{1});
  CHECK(flatten(zeros({2, 0, 4})).shape() == Shape{0});
  CHECK_THROWS_WITH_AS(flatten(x, 1, 0), "flatten: start_dim 1 comes after end_dim 0 in shape (2, 3)", ValueError);
}

TEST_CASE("shape: transpose, t and permute") {
  Tensor x = count({2, 3, 4});
  CHECK(transpose(x, 0, -1).shape() == Shape{4, 3, 2});
  CHECK(ints(t(count({2, 3}))) == Ints{0, 3, 1, 4, 2, 5});
  CHECK(t(count({3})).shape() == Shape{3});
  CHECK_THROWS_WITH_AS(t(x), "t: expected at most two dimensions, got shape (2, 3, 4); use transpose or permute",
                       ShapeError);
  CHECK(permute(x, {2, 0, -2}).shape() == Shape{4, 2, 3});
  CHECK(ints(permute(x, {2, 0, 1})) == ints(transpose(transpose(x, 1, 2), 0, 1)));
  CHECK_THROWS_AS(permute(x, {0, 1}), ShapeError);
  CHECK_THROWS_AS(permute(x, {0, 1, 1}), ValueError);
  CHECK_THROWS_AS(transpose(x, 0, 3), IndexError);
}

TEST_CASE("shape: expand, squeeze and unsqueeze") {
  Tensor x = count({3, 1});
  CHECK(expand(x, {2, -1, 4}).shape() == Shape{2, 3, 4});
  CHECK(ints(expand(x, {3, 2})) == Ints{0, 0, 1, 1, 2, 2});
  CHECK(expand(ones(1), 0).shape() == Shape{0});
  CHECK_THROWS_AS(expand(x, {2, 4}), ShapeError);
  CHECK(squeeze(zeros({1, 3, 1})).shape() == Shape{3});
  CHECK(squeeze(zeros({1, 3, 1}), -1).shape() == Shape{1, 3});
  CHECK(squeeze(zeros({1, 3, 1}), 1).shape() == Shape{1, 3, 1});
  CHECK(unsqueeze(x, -1).shape() == Shape{3, 1, 1});
  CHECK(unsqueeze(x, 0).shape() == Shape{1, 3, 1});
  CHECK_THROWS_AS(unsqueeze(x, 3), IndexError);
  // Elements that nobody repeats get no gradient.
  Tensor one = ones({1}).requires_grad_();
  CHECK(grad({sum(expand(one, 0))}, {one})[0].item() == 0);
}

TEST_CASE("shape: narrow, slice and select") {
  Tensor x = count({3, 4});
  CHECK(ints(narrow(x, 1, -3, 2)) == Ints{1, 2, 5, 6, 9, 10});
  CHECK(ints(slice(x, 1, 1, std::numeric_limits<std::int64_t>::max(), 2)) == Ints{1, 3, 5, 7, 9, 11});
  CHECK(ints(slice(x, 0, -2, -1)) == Ints{4, 5, 6, 7});
  CHECK(ints(slice(x, 1, -2)) == Ints{2, 3, 6, 7, 10, 11});
  CHECK(slice(x, 0, 2, 1).shape() == Shape{0, 4});
  CHECK(ints(select(x, -1, -1)) == Ints{3, 7, 11});
  CHECK(narrow(x, 0, 3, 0).shape() == Shape{0, 4});
  CHECK_THROWS_AS(narrow(x, 0, 2, 2), IndexError);
  CHECK_THROWS_AS(select(x, 0, 3), IndexError);
  CHECK_THROWS_AS(slice(x, 0, 0, 3, 0), ValueError);
  CHECK_THROWS_AS(select(scalar(1), 0, 0), ShapeError);
  Tensor leaf = ones({3, 4}, DType::Float64).requires_grad_();
  CHECK(grad({sum(slice(leaf, 1, -3, 4, 2))}, {leaf})[0].to_vector<double>() ==
        std::vector<double>{0, 1, 0, 1, 0, 1, 0, 1, 0, 1, 0, 1});
}

TEST_CASE("shape: split, chunk and unbind") {
  Tensor x = count({7, 2});
  CHECK(shapes(split(x, 3)) == Shapes{{3, 2}, {3, 2}, {1, 2}});
  CHECK(shapes(split(x, 7)) == Shapes{{7, 2}});
  CHECK(shapes(split(x, std::numeric_limits<std::int64_t>::max())) == Shapes{{7, 2}});
  CHECK(shapes(split(x, {4, 0, 3})) == Shapes{{4, 2}, {0, 2}, {3, 2}});
  CHECK(ints(split(x, 1, -1)[1]) == Ints{1, 3, 5, 7, 9, 11, 13});
  CHECK(split(x, 3)[1].shares_memory(x));
  CHECK(shapes(split(zeros({0, 2}), 3)) == Shapes{{0, 2}});
  CHECK(shapes(split(zeros({0, 2}), 0)) == Shapes{{0, 2}});
  CHECK(split(zeros({0, 2}), Shape{}).empty());
  CHECK_THROWS_WITH_AS(split(x, {3, 3}), "split: sizes (3, 3) do not add up to 7, dimension 0 of shape (7, 2)",
                       ShapeError);
  CHECK_THROWS_AS(split(x, {std::numeric_limits<std::int64_t>::max(), std::numeric_limits<std::int64_t>::max()}),
                  ShapeError);
  CHECK_THROWS_WITH_AS(split(x, {8, -1}), "split: negative size in (8, -1)", ValueError);
  CHECK_THROWS_AS(split(x, 0), ValueError);
  CHECK_THROWS_AS(split(x, -1), ValueError);
  CHECK_THROWS_AS(split(scalar(1), 1), ShapeError);

  CHECK(shapes(chunk(arange(7), 4)) == Shapes{{2}, {2}, {2}, {1}});
  CHECK(shapes(chunk(arange(6), 4)) == Shapes{{2}, {2}, {2}});  // fewer than asked for
  CHECK(shapes(chunk(x, 2, 1)) == Shapes{{7, 1}, {7, 1}});
  CHECK(shapes(chunk(zeros({0, 2}), 3)) == Shapes{{0, 2}, {0, 2}, {0, 2}});
  CHECK_THROWS_WITH_AS(chunk(x, 0), "chunk: 0 chunks; expected at least 1", ValueError);
  CHECK_THROWS_AS(chunk(scalar(1), 2), ShapeError);

  CHECK(ints(unbind(x, 1)[1]) == Ints{1, 3, 5, 7, 9, 11, 13});
  CHECK(unbind(x).size() == 7);
  CHECK(unbind(zeros({0, 2})).empty());
  CHECK_THROWS_AS(unbind(scalar(1)), ShapeError);
}

TEST_CASE("shape: pieces that are not used get zero gradients, and none may be written in place") {
  Tensor x = random({5, 2}).requires_grad_();
  Tensors pieces = split(x, 2);
  CHECK(grad({sum(pieces[1])}, {x})[0].to_vector<double>() == std::vector<double>{0, 0, 0, 0, 1, 1, 1, 1, 0, 0});
  CHECK(grad({sum(unbind(x, 1)[0])}, {x})[0].to_vector<double>() == std::vector<double>{1, 0, 1, 0, 1, 0, 1, 0, 1, 0});
  CHECK_THROWS_AS(pieces[0].add_(1), GradError);
}

TEST_CASE("shape: flip") {
  Tensor x = count({2, 3});
  CHECK(ints(flip(x, 0)) == Ints{3, 4, 5, 0, 1, 2});
  CHECK(ints(flip(x, {0, -1})) == Ints{5, 4, 3, 2, 1, 0});
  CHECK(ints(flip(x, Shape{})) == ints(x));
  CHECK(ints(flip(transpose(x, 0, 1), 0)) == Ints{2, 5, 1, 4, 0, 3});
  CHECK(flip(zeros({2, 0}), {0, 1}).shape() == Shape{2, 0});
  CHECK(flip(scalar(2), 0).item() == 2);
  CHECK_FALSE(flip(x, 0).shares_memory(x));
  CHECK_THROWS_WITH_AS(flip(x, {1, -1}), "flip: dimension -1 is repeated in (1, -1)", ValueError);
}

TEST_CASE("shape: cat and stack") {
  Tensor x = count({2, 2}), y = count({2, 1});
  CHECK(ints(cat({x, y}, 1)) == Ints{0, 1, 0, 2, 3, 1});
  CHECK(ints(cat({x, x, x}, 0)) == Ints{0, 1, 2, 3, 0, 1, 2, 3, 0, 1, 2, 3});
  CHECK(ints(cat({x, zeros({2, 0}, DType::Int64), transpose(x, 0, 1)}, -1)) == Ints{0, 1, 0, 2, 2, 3, 1, 3});
  CHECK(cat({tensor({true}), tensor({false, true})}).to_vector<bool>() == std::vector<bool>{true, false, true});
  CHECK_THROWS_WITH_AS(
      cat({x, y, count({3, 1})}, 1),
      "cat: tensor 2 has shape (3, 1), which differs from the first one's (2, 2) not only in dimension 1", ShapeError);
  CHECK_THROWS_AS(cat({x, arange(2)}), ShapeError);
  CHECK_THROWS_AS(cat({x, count({1, 2})}, 1), ShapeError);  // which would broadcast
  CHECK_THROWS_AS(cat({x, zeros({2, 2})}), DTypeError);
  CHECK_THROWS_AS(cat(Tensors{}), ValueError);
  CHECK_THROWS_AS(cat({scalar(1), scalar(2)}), ShapeError);
  CHECK_THROWS_AS(cat({x}, 2), IndexError);

  CHECK(ints(stack({arange(2), arange(2)}, 1)) == Ints{0, 0, 1, 1});
  CHECK(stack({x, x, x}, -1).shape() == Shape{2, 2, 3});
  CHECK(stack({scalar(1), scalar(2)}).to_vector<float>() == std::vector<float>{1, 2});
  CHECK(stack({zeros({0}), zeros({0})}).shape() == Shape{2, 0});
  CHECK_THROWS_WITH_AS(stack({x, y}), "stack: tensor 1 has shape (2, 1), expected the first one's (2, 2)", ShapeError);
  CHECK_THROWS_AS(stack({x, zeros({2, 2})}), DTypeError);
  CHECK_THROWS_AS(stack(Tensors{}), ValueError);
  CHECK_THROWS_AS(stack({x}, 3), IndexError);
  Tensor vast = expand(ones(1), std::int64_t{1} << 62);
  CHECK_THROWS_WITH_AS(cat({vast, vast}), "cat: the sizes in dimension 0 add up to more than 2^63 - 1", ShapeError);
}

TEST_CASE("shape: gradients of both orders") {
  auto one = [](auto f) { check_both([f](const Tensors& in) { return f(in[0]); }, {random({3, 4, 2})}); };
  // squared where the second derivative would be 0 otherwise
  one([](const Tensor& x) { return square(view(x, {6, 4})); });
  one([](const Tensor& x) { return square(reshape(transpose(x, 0, 1), {2, 12})); });
  one([](const Tensor& x) { return square(flatten(x, 1)); });
  one([](const Tensor& x) { return square(transpose(x, 0, -1)); });
  one([](const Tensor& x) { return square(permute(x, {1, -1, 0})); });
  one([](const Tensor& x) { return square(expand(unsqueeze(x, 1), {2, 3, 5, 4, 2})); });
  one([](const Tensor& x) { return square(squeeze(narrow(x, 1, 2, 1), -2)); });
  one([](const Tensor& x) { return square(squeeze(narrow(x, 1, -1, 1))); });
  one([](const Tensor& x) { return square(slice(x, 1, -3, 9, 2)); });
  one([](const Tensor& x) { return square(select(x, -2, -1)); });
  one([](const Tensor& x) { return square(flip(x, {0, -1})); });
  one([](const Tensor& x) {
    Tensors p = split(x, {1, 0, 3}, -2);
    return Tensors{p[0] * p[0], p[2]};
  });
  one([](const Tensor& x) { return square(chunk(x, 3, 1)[1]); });
  one([](const Tensor& x) {
    Tensors p = unbind(x, -1);
    return p[0] * p[1];
  });
  check_both(
      [](const Tensors& in) {
        return square(cat({in[0], in[1], in[0]}, -1));
      },
      {random({2, 3}), random({2, 1})});
  check_both(
      [](const Tensors& in) {
        return square(stack({in[0], in[1], in[0]}, -1));
      },
      {random({2, 3}), random({2, 3})});
}

TEST_CASE("shape: copy_ broadcasts fewer dimensions to rows that lie apart") {
  const Tensor x = zeros({1, 3, 2}), row = select(x, 2, 0);
  row.copy_(tensor({1., 2., 3.}));
  CHECK(row.to_vector<float>() == std::vector<float>{1, 2, 3});
}
