#include <doctest/doctest.h>
#include <unroll/autograd/engine.h>
#include <unroll/autograd/grad_mode.h>
#include <unroll/autograd/gradcheck.h>
#include <unroll/autograd/ops/arithmetic.h>
#include <unroll/autograd/ops/compare.h>
#include <unroll/autograd/ops/matmul.h>
#include <unroll/autograd/ops/reduce.h>
#include <unroll/autograd/ops/shape.h>
#include <unroll/core/alloc.h>
#include <unroll/core/random.h>

using namespace unroll;

namespace {

Tensor random(const Shape& shape) {
  static Generator generator(11);
  return randn(shape, DType::Float64, generator);
}

// The definition: aᵢₖ bₖⱼ, written out with ones and summed over k.
Tensor reference(const Tensor& a, const Tensor& b) {
  Tensor rows = a.dim() == 1 ? unsqueeze(a, 0) : a, columns = b.dim() == 1 ? unsqueeze(b, 1) : b;
  Tensor y = sum(unsqueeze(rows, -1) * unsqueeze(columns, -3), -2);
  if (b.dim() == 1) y = squeeze(y, -1);
  return a.dim() == 1 ? squeeze(y, b.dim() == 1 ? -1 : -2) : y;
}

struct Pair {
  Shape a, b;
};

const std::vector<Pair> kPairs = {
    {{3}, {3}},                    // vector · vector
    {{2, 3}, {3}},                 // matrix · vector
    {{3}, {3, 2}},                 // vector · matrix
    {{2, 3}, {3, 4}},              //
    {{5, 2, 3}, {3}},              //
    {{3}, {5, 3, 4}},              //
    {{5, 2, 3}, {3, 4}},           // one b for all a: one product
    {{2, 3}, {5, 3, 4}},           // one a for all b
    {{5, 2, 3}, {5, 3, 4}},        //
    {{5, 1, 2, 3}, {4, 3, 2}},     // broadcast on both sides
    {{2, 5, 2, 3}, {1, 5, 3, 4}},  //
    {{1, 1}, {1, 1}},              //
    {{4, 1, 3}, {4, 3, 1}},        //
};

const std::vector<Pair> kEmptyPairs = {{{0}, {0}},       {{2, 0}, {0}},       {{2, 0}, {0, 3}}, {{0, 3}, {3, 2}},
                                       {{2, 3}, {3, 0}}, {{0, 2, 3}, {3, 2}}, {{0}, {4, 0, 2}}, {{1, 2, 3}, {0, 3, 2}}};

}  // namespace

TEST_CASE("matmul: every pair of ranks") {
  for (const Pair& shapes : kPairs) {
    CAPTURE(to_string(shapes.a));
    CAPTURE(to_string(shapes.b));
    Tensor a = random(shapes.a), b = random(shapes.b);
    Tensor y = matmul(a, b), expected = reference(a, b);
    CHECK(y.shape() == expected.shape());
    CHECK(allclose(y, expected, 1e-13, 1e-13));
    CHECK(allclose(matmul(a.to(DType::Float32), b.to(DType::Float32)).to(DType::Float64), expected, 1e-5, 1e-5));
    CHECK_FALSE(y.is_view());
  }
}

TEST_CASE("matmul: gradients of both orders") {
  auto f = [](const std::vector<Tensor>& in) { return matmul(in[0], in[1]); };
  for (const Pair& shapes : kPairs) {
    CAPTURE(to_string(shapes.a));
    CAPTURE(to_string(shapes.b));
    std::vector<Tensor> in{random(shapes.a).requires_grad_(), random(shapes.b).requires_grad_()};
    CHECK(gradcheck(f, in));
    CHECK(gradgradcheck(f, in));
  }
}

TEST_CASE("matmul: no elements") {
  for (const Pair& shapes : kEmptyPairs) {
    CAPTURE(to_string(shapes.a));
    CAPTURE(to_string(shapes.b));
    Tensor a = random(shapes.a).requires_grad_(), b = random(shapes.b).requires_grad_();
    Tensor y = matmul(a, b);
    CHECK(y.shape() == reference(a, b).shape());
    CHECK(all(eq(y, 0)));
    auto g = grad({sum(y)}, {a, b});
    CHECK(equal(g[0], zeros_like(a)));
    CHECK(equal(g[1], zeros_like(b)));
  }
}

TEST_CASE("matmul: operands are read where they lie") {
  Tensor a = random({6, 5}), b = random({5, 7}), batch = random({3, 6, 5});
  auto right = [](const Tensor& x, const Tensor& y) {
    return allclose(matmul(x, y), reference(x.contiguous(), y.contiguous()), 1e-13, 1e-13);
  };
  CHECK(right(transpose(random({5, 6}), 0, 1), b));
  CHECK(right(a, transpose(random({7, 5}), 0, 1)));
  CHECK(right(transpose(random({5, 6}), 0, 1), transpose(random({7, 5}), 0, 1)));
  CHECK(right(narrow(random({6, 9}), 1, 2, 5), narrow(random({5, 9}), 1, 1, 7)));
  CHECK(right(slice(random({12, 5}), 0, 0, 12, 2), b));
  CHECK(right(a, slice(random({5, 14}), 1, 0, 14, 2)));  // BLAS knows no step between columns
  CHECK(right(expand(random({1, 5}), {6, 5}), expand(random({5, 1}), {5, 7})));
  CHECK(right(transpose(random({6, 3, 5}), 0, 1), b));  // batch and rows exchanged
  CHECK(right(permute(random({5, 6, 3}), {2, 1, 0}), b));
  CHECK(right(expand(a, {3, 6, 5}), b));
  CHECK(right(batch, expand(b, {3, 5, 7})));
  CHECK(right(select(random({6, 2, 5}), 1, 1), b));
  CHECK(right(select(random({5, 4}), 1, 2), b));  // a vector with a step

  // Neither a transposed matrix nor a broadcast one is copied: only the product is allocated.
  auto peak = [](auto f) {
    static std::int64_t largest;
    largest = 0;
    alloc::set_hook([](std::size_t bytes) noexcept {
      largest = std::max(largest, static_cast<std::int64_t>(bytes));
      return true;
    });
    f();
    alloc::set_hook(nullptr);
    return largest;
  };
  NoGrad no_grad;
  Tensor wide = random({256, 64}), one = random({1, 64, 64}), many = random({32, 2, 64});
  CHECK(peak([&] { matmul(transpose(wide, 0, 1), wide); }) < 256 * 64 * 8);
  CHECK(peak([&] { matmul(many, one); }) <= 32 * 2 * 64 * 8 + 1024);
  CHECK(peak([&] { matmul(many, expand(one, {32, 64, 64})); }) <= 32 * 2 * 64 * 8 + 1024);
}

TEST_CASE("matmul: errors name both shapes") {
  CHECK_THROWS_WITH_AS(matmul(zeros({2, 3}), zeros({4, 2})),
                       "matmul: shapes (2, 3) and (4, 2) do not multiply: 3 columns meet 4 rows", ShapeError);
  CHECK_THROWS_WITH_AS(matmul(zeros({3, 2, 3}), zeros({4, 3, 2})),
                       "matmul: the batches of shapes (3, 2, 3) and (4, 3, 2) do not broadcast", ShapeError);
  CHECK_THROWS_WITH_AS(matmul(zeros({3}), zeros({4})),
                       "matmul: shapes (3,) and (4,) do not multiply: 3 columns meet 4 rows", ShapeError);
  CHECK_THROWS_AS(matmul(zeros({2, 2, 3}), zeros({0, 3, 2})), ShapeError);
  CHECK_THROWS_WITH_AS(matmul(scalar(1), zeros(2)),
                       "matmul: shapes () and (2,): a scalar is no matrix; multiply it with *", ShapeError);
  CHECK_THROWS_AS(matmul(zeros({2, 2}), zeros({2, 2}, DType::Float64)), DTypeError);
  CHECK_THROWS_WITH_AS(matmul(zeros({2, 2}, DType::Int64), zeros({2, 2}, DType::Int64)),
                       "matmul: expected float32 or float64, got int64", DTypeError);
}

TEST_CASE("linear: inputs of any rank, with a bias and without") {
  Tensor weight = random({2, 3}).requires_grad_(), bias = random({2}).requires_grad_();
  for (const Shape& shape : {Shape{3}, Shape{4, 3}, Shape{5, 4, 3}, Shape{2, 1, 4, 3}, Shape{0, 3}}) {
    CAPTURE(to_string(shape));
    Tensor x = random(shape).requires_grad_();
    CHECK(allclose(linear(x, weight, bias), matmul(x, transpose(weight, 0, 1)) + bias, 1e-13, 1e-13));
    CHECK(allclose(linear(x, weight), matmul(x, transpose(weight, 0, 1)), 1e-13, 1e-13));
    auto f = [](const std::vector<Tensor>& in) { return linear(in[0], in[1], in[2]); };
    CHECK(gradcheck(f, {x, weight, bias}));
    CHECK(gradgradcheck(f, {x, weight, bias}));
  }
  Tensor swapped = transpose(random({4, 5, 3}), 0, 1).detach().requires_grad_();  // as batch_first leaves it
  auto g = grad({sum(square(linear(swapped, weight, bias)))}, {weight});
  auto expected = grad({sum(square(linear(reshape(swapped, {20, 3}), weight, bias)))}, {weight});
  CHECK(allclose(g[0], expected[0], 1e-13, 1e-13));
}

TEST_CASE("linear: no features") {
  Tensor bias = tensor({1.0, 2.0});
  CHECK(linear(zeros({3, 0}), zeros({2, 0}), bias).to_vector<float>() == std::vector<float>{1, 2, 1, 2, 1, 2});
  CHECK(linear(zeros({3, 0}), zeros({2, 0})).to_vector<float>() == std::vector<float>(6, 0));
  CHECK(linear(zeros({3, 4}), zeros({0, 4})).shape() == Shape{3, 0});
}

TEST_CASE("linear: errors name both shapes") {
  CHECK_THROWS_WITH_AS(linear(zeros({4, 3}), zeros({2, 4})),
                       "linear: input of shape (4, 3) does not fit weight of shape (2, 4): expected 4 features",
                       ShapeError);
  CHECK_THROWS_WITH_AS(linear(zeros({4, 3}), zeros({2, 3}), zeros(3)),
                       "linear: bias has shape (3,), expected (2,) for weight of shape (2, 3)", ShapeError);
  CHECK_THROWS_WITH_AS(linear(zeros(3), zeros(3)), "linear: weight has shape (3,), expected (out, in)", ShapeError);
  CHECK_THROWS_AS(linear(scalar(1), zeros({2, 1})), ShapeError);
  CHECK_THROWS_AS(linear(zeros(3), zeros({2, 3}, DType::Float64)), DTypeError);
  CHECK_THROWS_AS(linear(zeros(3), zeros({2, 3}), zeros(2, DType::Float64)), DTypeError);
}
