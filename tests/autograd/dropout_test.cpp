#include <doctest/doctest.h>
#include <unroll/autograd/engine.h>
#include <unroll/autograd/gradcheck.h>
#include <unroll/autograd/ops/arithmetic.h>
#include <unroll/autograd/ops/compare.h>
#include <unroll/autograd/ops/dropout.h>
#include <unroll/autograd/ops/reduce.h>
#include <unroll/autograd/ops/shape.h>

#include <cmath>
#include <limits>

using namespace unroll;

// Values are PyTorch 2.15's, whose bernoulli_ takes the portable stream on the machine they were made on.
namespace {

constexpr DType f64 = DType::Float64;
using Floats = std::vector<float>;

Tensor counted() { return reshape(arange(1, 13, 1, DType::Float32), {3, 4}); }

}  // namespace

TEST_CASE("dropout: the mask is PyTorch's for the same seed, and as many numbers are drawn") {
  Generator g(0);
  CHECK(dropout(counted(), 0.5, true, g).to_vector<float>() == Floats{0, 0, 6, 0, 0, 0, 14, 16, 0, 20, 22, 24});
  CHECK(rand(1, DType::Float32, g).item<float>() == 0.41940832138061523f);
  g.manual_seed(1);
  Tensor x = counted().to(f64), scale = scalar(1 / 0.7, f64), y = dropout(x, 0.3, true, g);
  CHECK(y.to_vector<double>() == (x * scale * ne(x, 8).to(f64)).to_vector<double>());
  CHECK(rand(1, DType::Float32, g).item<float>() == 0.3397757411003113f);
}

TEST_CASE("dropout: the mask follows x in memory") {
  Generator g(0);
  CHECK(dropout(t(counted()), 0.5, true, g).to_vector<float>() == Floats{0, 0, 0, 0, 0, 20, 6, 14, 22, 0, 16, 24});
}

TEST_CASE("dropout: a generator told so draws the mask of PyTorch's wheels on Intel CPUs, one word for all of it") {
  Generator g(123);
  g.set_bernoulli_stream(BernoulliStream::Mkl);
  Floats mask = dropout(full({6, 6}, 0.5), 0.5, true, g).to_vector<float>();
  CHECK(mask == Floats{1, 1, 1, 1, 1, 1, 0, 1, 0, 0, 0, 0, 0, 0, 1, 0, 1, 0,
                       1, 1, 0, 0, 0, 1, 1, 0, 0, 0, 0, 1, 0, 1, 0, 0, 0, 0});
  Generator one_word(123);
  one_word.random32();
  CHECK(g.get_state() == one_word.get_state());
}

TEST_CASE("dropout: 1 / (1 - p) is rounded to the dtype before it multiplies") {
  Generator g(7);
  Tensor x = full(6, 0.7);
  CHECK(dropout(x, 0.1, true, g).to_vector<float>() == Floats{0.7777777910232544f, 0.7777777910232544f,
                                                              0.7777777910232544f, 0.7777777910232544f, 0,
                                                              0.7777777910232544f});
  CHECK(dropout(x, 0.3, true, g).to_vector<float>() == Floats{1, 1, 0, 0, 1, 1});
  CHECK(dropout(x, 0.7, true, g).to_vector<float>() ==
        Floats{2.3333332538604736f, 2.3333332538604736f, 2.3333332538604736f, 0, 2.3333332538604736f, 0});
}

TEST_CASE("dropout: p = 0 and evaluation are the identity, p = 1 gives zeros; none of them draws") {
  Generator g(3), untouched(3);
  Tensor x = counted().requires_grad_();
  CHECK(dropout(x, 0, true, g).is_same(x));
  CHECK(dropout(x, 0.9, false, g).is_same(x));
  CHECK(dropout(x, 1, false, g).is_same(x));
  Tensor none = dropout(x, 1, true, g);
  CHECK(none.to_vector<float>() == Floats(12, 0));
  sum(none).backward();
  CHECK(x.grad().to_vector<float>() == Floats(12, 0));
  CHECK(dropout(zeros({0, 3}), 0.5, true, g).shape() == Shape{0, 3});
  CHECK(g.get_state() == untouched.get_state());
}

TEST_CASE("dropout: without a generator it draws from the thread's default one") {
  manual_seed(0);
  CHECK(dropout(counted()).to_vector<float>() == Floats{0, 0, 6, 0, 0, 0, 14, 16, 0, 20, 22, 24});
}

TEST_CASE("dropout: forward and backward, of any order, share one mask") {
  Tensor x = full(200, 3, f64).requires_grad_();
  Generator g(4);
  Tensor y = dropout(x, 0.25, true, g), v = ones(200, f64).requires_grad_();
  Tensor dx = grad({y}, {x}, {.grad_outputs = {v}, .create_graph = true})[0];
  CHECK(equal(dx.detach() * 3, y.detach()));
  CHECK(equal(grad({sum(dx)}, {v})[0] * 3, y.detach()));
  CHECK(std::abs(sum(ne(y, 0)).item() - 150) < 25);  // four standard deviations
  auto seeded = [](auto& in) {
    Generator same(5);
    return square(dropout(in[0], 0.4, true, same));
  };
  Tensor z = randn({3, 4}, f64, g).requires_grad_();
  CHECK(gradcheck(seeded, {z}));
  CHECK(gradgradcheck(seeded, {z}));
}

TEST_CASE("dropout: errors") {
  Generator g(6), untouched(6);
  for (double bad : {-0.1, 1.1, std::nan(""), std::numeric_limits<double>::infinity()})
    for (bool training : {true, false})
      CHECK_THROWS_WITH_AS(dropout(counted(), bad, training, g),
                           doctest::Contains("dropout: expected a probability in [0, 1], got"), ValueError);
  CHECK_THROWS_WITH_AS(dropout(tensor({1, 2}), 0.5, true, g), doctest::Contains("dropout: expected float32 or float64"),
                       DTypeError);
  CHECK(g.get_state() == untouched.get_state());
}

TEST_CASE("dropout: of nothing draws nothing, from either stream") {
  for (BernoulliStream stream : {BernoulliStream::Portable, BernoulliStream::Mkl}) {
    Generator generator(1);
    generator.set_bernoulli_stream(stream);
    const auto before = generator.get_state();
    dropout(zeros({0, 3}), 0.5, true, generator);
    CHECK(generator.get_state() == before);
  }
}
