#include "support/digest.h"
#include "support/memory.h"

#include <doctest/doctest.h>
#include <unroll/autograd/engine.h>
#include <unroll/autograd/ops/compare.h>
#include <unroll/autograd/ops/reduce.h>
#include <unroll/autograd/ops/shape.h>
#include <unroll/core/kernels/random.h>
#include <unroll/core/random.h>
#include <unroll/core/view.h>

#include <cmath>
#include <limits>
#include <set>

using namespace unroll;

// Digests were made with PyTorch 2.15 on a CPU with AVX-512; fewer than 16 float64 normals are PyTorch 1.13's.
namespace {

constexpr double kInf = std::numeric_limits<double>::infinity(), kNan = std::numeric_limits<double>::quiet_NaN();

// The digest of all that draw(digest) puts into it after each of five seeds.
template <class Draw>
std::uint64_t over_seeds(Draw draw) {
  Digest d;
  for (std::int64_t seed : {0L, 1L, 42L, (1L << 32) + 5, -1L}) {
    manual_seed(seed);
    draw(d);
  }
  return d.value();
}

std::string bits(const Tensor& x) {
  std::string text;
  for (float v : x.to_vector<float>()) text += v == 1 ? '1' : '0';
  return text;
}

using Ints = std::vector<std::int64_t>;

}  // namespace

TEST_CASE("random: golden values after manual_seed(0)") {
  auto near = [](const Tensor& x, std::vector<double> expected, double bound) {
    std::vector<double> got = x.to(DType::Float64).to_vector<double>();
    for (std::size_t i = 0; i < expected.size(); ++i) CHECK(std::abs(got[i] - expected[i]) <= bound);
  };
  auto f32 = DType::Float32, f64 = DType::Float64;
  near(rand({5}, f32, manual_seed(0)), {.49625659, .76822180, .08847743, .13203049, .30742282}, 6e-9);
  near(rand({3}, f64, manual_seed(0)), {.9700530018065531, .707819864399788, .45938294312745087}, 0);
  near(randn({5}, f32, manual_seed(0)), {1.5409960747, -.2934288979, -2.1787893772, .5684312582, -1.0845223665}, 6e-11);
  near(randn({16}, f32, manual_seed(0)), {-1.1258398294, -1.1523602009, -.2505785823, -.4338788092}, 6e-11);
  near(randn({5}, f64, manual_seed(0)), {1.5409961082440433, -.2934289057609464}, 3e-16);
  near(randn({16}, f64, manual_seed(0)), {-2.310411800234176, -.3732508612577643}, 5e-16);
  CHECK(randperm(10, manual_seed(0)).to_vector<std::int64_t>() == Ints{4, 1, 7, 5, 3, 9, 0, 8, 6, 2});
  CHECK(randint(0, 10, {10}, manual_seed(0)).to_vector<std::int64_t>() == Ints{4, 9, 3, 0, 3, 9, 7, 3, 7, 3});
  CHECK(bits(bernoulli_(empty({10}), .5, manual_seed(0))) == "0010001101");
  CHECK(bits(bernoulli(full({10}, .5), manual_seed(0))) == "1011101010");
}

TEST_CASE("random: uniform numbers are torch's to the bit") {
  auto in_range = [](DType dtype) {
    return over_seeds([&](Digest& d) {
      d << uniform_(empty({1000}, dtype), -.25, .75);
      d << uniform_(empty({1000}, dtype), 1.5, 3.25);
    });
  };
  CHECK(over_seeds([](Digest& d) { d << rand({1000}); }) == 0xb5255c36053cf608);
  CHECK(over_seeds([](Digest& d) { d << rand({10, 100}, DType::Float64); }) == 0x75907c4d65e585a4);
  CHECK(in_range(DType::Float32) == 0x713d72d32896e6dc);
  CHECK(in_range(DType::Float64) == 0xef092e70a1f99f32);
}

TEST_CASE("random: normal numbers are torch's to the bit, for every size around the blocks of 16") {
  CHECK(over_seeds([](Digest& d) {
          for (std::int64_t n = 0; n <= 64; ++n) d << randn({n});
        }) == 0x69a339f55301360a);
  CHECK(over_seeds([](Digest& d) { d << randn({100003}); }) == 0xb92337ac0ca9c9e9);
  CHECK(over_seeds([](Digest& d) {
          for (std::int64_t n : {7, 1000}) d << normal_(empty({n}), 1.5, .3);
        }) == 0xb0304c85c704d053);
  CHECK(over_seeds([](Digest& d) {
          for (std::int64_t n = 0; n <= 64; ++n) d << randn({n}, DType::Float64);
        }) == 0x4462cf1e8496f9c3);
  CHECK(over_seeds([](Digest& d) { d << randn({100003}, DType::Float64); }) == 0x1d9ea27331baf3d8);
  CHECK(over_seeds([](Digest& d) {
          for (std::int64_t n : {7, 1000}) d << normal_(empty({n}, DType::Float64), 1.5, .3);
        }) == 0x7a1f489c3dca4ce0);
}

TEST_CASE("random: a number that is rounded up to the end of its range becomes the beginning") {
  Tensor x = uniform_(empty({1000}), 1e-3, 1.000001e-3, manual_seed(3));  // eight floats lie in it
  CHECK(digest(x) == 0x0849b99f7c29057f);
  for (float v : x.to_vector<float>()) CHECK(v < 1.000001e-3f);
  CHECK(digest(uniform_(empty({1000}, DType::Float64), 1, 1 + 0x3p-52, manual_seed(3))) == 0xb784f14951d042c9);
}

TEST_CASE("random: integers, permutations and masks are torch's") {
  CHECK(over_seeds([](Digest& d) {
          using Range = std::pair<std::int64_t, std::int64_t>;
          constexpr std::int64_t lowest = std::numeric_limits<std::int64_t>::min();
          for (auto [low, high] :
               {Range(0, 2), Range(0, 10), Range(-7, 1000), Range(0, (1L << 28) - 1), Range(0, 1L << 28),
                Range(5, 1L << 32), Range(-(1L << 40), 1L << 50), Range(lowest, -(lowest + 1))})
            d << randint(low, high, {1000});
        }) == 0xd84e8f40adc04b03);
  CHECK(over_seeds([](Digest& d) {
          for (std::int64_t n : {0, 1, 2, 5, 100, 1000, 40000}) d << randperm(n);
        }) == 0x897f9ea8ec6b2c84);
  CHECK(over_seeds([](Digest& d) {
          for (double p : {0., .1, .5, .9, 1.}) d << bernoulli_(empty({1000}), p);
        }) == 0x80cc6d48b8ce2a65);
  auto thousandths = [](DType dtype) {  // a rounded quotient, as in the reference: not i · 0.001
    Tensor p = empty({1001}, dtype);
    dispatch_float("", dtype, [&]<class T>() {
      for (int i = 0; i <= 1000; ++i) p.data<T>()[i] = static_cast<T>(i) / 1000;
    });
    return p;
  };
  CHECK(over_seeds([&](Digest& d) { d << bernoulli(thousandths(DType::Float32)); }) == 0xb2e9b1c1c07f1d08);
  CHECK(over_seeds([&](Digest& d) { d << bernoulli(thousandths(DType::Float64)); }) == 0x9f24daac61310bc5);
}

TEST_CASE("random: the second normal of a pair waits for the next small draw, through all others") {
  manual_seed(7);
  Digest d;
  d << randn({3}) << rand({5}) << randn({1}, DType::Float64) << randn({1}) << randn({100});
  d << randn({2}, DType::Float64) << randint(0, 10, {3}) << randn({15}) << normal_(empty({1}), 2, 3);
  CHECK(d.value() == 0x321e697013a8e9fd);

  Tensor first = randn({1}, DType::Float32, manual_seed(7));
  CHECK(randn({1}, DType::Float32, manual_seed(7)).item() == first.item());  // seeding dropped the other one
}

TEST_CASE("random: elements are drawn in the order of memory") {
  Tensor x = zeros({4, 6});
  uniform_(views::transpose(x, 0, 1), 0, 1, manual_seed(3));
  CHECK(digest(x) == 0x2f273defff54ccb3);
  normal_(views::transpose(x, 0, 1), 0, 1, manual_seed(3));
  CHECK(digest(x) == 0xc6edaf9894e79a90);
  Tensor mask = zeros({4, 6}, DType::Bool);
  bernoulli_(views::transpose(mask, 0, 1), .3, manual_seed(3));
  CHECK(digest(mask) == 0x9a5b790a3dc2b20b);
  Tensor y = zeros({3, 4, 6});
  normal_(views::permute(views::slice(views::narrow(y, 1, 1, 2), 2, 0, 6, 2), {2, 0, 1}), 0, 1, manual_seed(3));
  CHECK(digest(y) == 0x5c9c39673a85169a);

  Tensor like = randn_like(views::transpose(x, 0, 1), manual_seed(3));
  CHECK(like.strides() == Strides{1, 6});
  CHECK_FALSE(like.is_view());
  CHECK(digest(like) == 0x49aef1c35ceffc0c);
  like = rand_like(views::permute(views::slice(zeros({4, 6, 5}), 1, 0, 6, 2), {1, 2, 0}), manual_seed(3));
  CHECK(like.strides() == Strides{5, 1, 15});
  CHECK(digest(like) == 0xd6c177562c06b135);
  for (const Shape& shape : {Shape{3, 1}, Shape{1, 4}})
    CHECK(rand_like(views::expand(zeros(shape), {3, 4})).is_contiguous());
  CHECK(randn_like(zeros({2, 0}, DType::Float64)).dtype() == DType::Float64);
}

TEST_CASE("random: bernoulli_ from MKL's stream and from the portable one") {
  Generator g(123);
  CHECK(bits(bernoulli_(empty({6, 6}), .5, g)) == "110110000101111101011001010101011110");
  g.manual_seed(123).set_bernoulli_stream(BernoulliStream::Mkl);
  CHECK(bits(bernoulli_(empty({6, 6}), .5, g)) == "111111010000001010110001100001010000");
  CHECK(g.random32() == (Generator(123).random64() & 0xffffffff));  // one word was drawn for all of it
  Tensor x = empty({6, 6});
  bernoulli_(views::transpose(x, 0, 1), .5, g.manual_seed(123));
  CHECK(bits(views::transpose(x, 0, 1)) == "111111010000001010110001100001010000");
  CHECK(g.bernoulli_stream() == BernoulliStream::Mkl);
}

TEST_CASE("random: multinomial draws what torch draws, of float32 and float64, with replacement and without") {
  manual_seed(0);
  const Tensor p = rand({2, 6});
  auto drawn = [](const Tensor& chosen) { return chosen.to_vector<std::int64_t>(); };
  CHECK(drawn(multinomial(p, 4)) == Ints{5, 0, 1, 4, 5, 0, 3, 1});
  CHECK(drawn(multinomial(p, 4, true)) == Ints{4, 5, 1, 4, 0, 2, 1, 2});
  CHECK(drawn(multinomial(select(p, 0, 0), 3)) == Ints{1, 5, 0});
  const Tensor q = p.to(DType::Float64);
  CHECK(drawn(multinomial(q, 5)) == Ints{1, 0, 5, 4, 2, 3, 1, 2, 5, 0});
  CHECK(drawn(multinomial(select(q, 0, 1), 5, true)) == Ints{2, 2, 4, 0, 5});
  CHECK(rand({1}).item() == doctest::Approx(0.1099579930305481));
  CHECK(drawn(multinomial(q, 1, true, manual_seed(4))) == drawn(multinomial(q, 1, false, manual_seed(4))));
  CHECK(multinomial(zeros({0, 3}), 1).shape() == Shape{0, 1});
  CHECK(multinomial(zeros({0, 3}), 9, true).shape() == Shape{0, 9});
}

TEST_CASE("random: multinomial's weights are drawn for in the order of their memory, as in torch") {
  manual_seed(0);
  const Tensor p = rand({5, 4});
  CHECK(multinomial(transpose(p, 0, 1), 2, false, manual_seed(1)).to_vector<std::int64_t>() ==
        Ints{0, 4, 1, 4, 3, 1, 3, 2});
}

TEST_CASE("random: multinomial draws in proportion, and weight 0 last") {
  constexpr int kDraws = 20000;
  const Tensor weights = tensor({1., 0., 2., 5.}), many = expand(weights, {kDraws, 4});
  for (bool replacement : {false, true}) {
    CAPTURE(replacement);
    const Tensor chosen = multinomial(many, replacement ? 2 : 1, replacement, manual_seed(11));
    for (std::int64_t c = 0; c < 4; ++c) {
      const double share = mean(eq(chosen, static_cast<double>(c)).to(DType::Float64)).item();
      CHECK(share == doctest::Approx(weights.to_vector<float>()[static_cast<std::size_t>(c)] / 8).epsilon(0.04));
    }
  }
  const std::vector<std::int64_t> order = multinomial(weights, 4, false, manual_seed(11)).to_vector<std::int64_t>();
  CHECK(order.back() == 1);
  CHECK(std::set(order.begin(), order.end()).size() == 4);
}

TEST_CASE("random: what multinomial refuses, before it has drawn") {
  Generator g(3);
  auto refuses = [&](const Tensor& p, std::int64_t samples, bool replacement, const char* text) {
    CHECK_THROWS_WITH_AS(multinomial(p, samples, replacement, g), doctest::Contains(text), ValueError);
  };
  refuses(ones({3}), 0, true, "expected num_samples > 0, got 0");
  refuses(ones({3}), 4, false, "4 samples of 3 categories need replacement");
  refuses(ones({2, 0}), 1, false, "1 samples of 0 categories");
  refuses(ones({0}), 1, true, "finite sum > 0, got 0 in row 0");
  refuses(tensor({{1., 2.}, {0., 0.}}), 1, false, "finite sum > 0, got 0 in row 1");
  refuses(tensor({{1., 2.}, {-1., 3.}}), 1, true, "got -1 in row 1");
  for (double bad : {kNan, kInf}) refuses(full({2}, bad), 1, false, "expected finite weights >= 0");
  refuses(full({3}, 3e38), 1, false, "finite sum > 0, got inf in row 0");
  CHECK_THROWS_WITH_AS(multinomial(ones({2, 2, 2}), 1), doctest::Contains("got shape (2, 2, 2)"), ShapeError);
  CHECK_THROWS_AS(multinomial(scalar(1), 1), ShapeError);
  CHECK_THROWS_AS(multinomial(ones({2}, DType::Int64), 1), DTypeError);
  CHECK(g.random32() == Generator(3).random32());
}

TEST_CASE("random: arguments outside their domain") {
  Tensor x = zeros({3}), y = zeros({3}, DType::Float64), n = zeros({3}, DType::Int64);
  CHECK_THROWS_WITH_AS(uniform_(x, 1, 0), doctest::Contains("uniform_: [1, 0)"), ValueError);
  for (double bad : {kNan, kInf, 1e39}) CHECK_THROWS_AS(uniform_(x, 0, bad), ValueError);
  CHECK_THROWS_AS(uniform_(x, kNan, 1), ValueError);
  CHECK_THROWS_AS(uniform_(x, -3e38, 3e38), ValueError);  // each finite, the width is not
  CHECK_THROWS_AS(uniform_(x, -1e39, -1e39), ValueError);
  CHECK_THROWS_AS(uniform_(y, -1e308, 1e308), ValueError);
  CHECK_NOTHROW(uniform_(y, 0, 1e39));
  CHECK(uniform_(x, 2, 2).to_vector<float>() == std::vector<float>{2, 2, 2});
  for (double bad : {-1., kNan})
    CHECK_THROWS_WITH_AS(normal_(x, 0, bad), doctest::Contains("normal_: expected"), ValueError);
  CHECK(normal_(x, 2, 0).to_vector<float>() == std::vector<float>{2, 2, 2});
  for (double bad : {-.1, 1.1, kNan}) CHECK_THROWS_WITH_AS(bernoulli_(x, bad), doctest::Contains("[0, 1]"), ValueError);
  for (double bad : {-.1, 1.1, kNan})
    CHECK_THROWS_WITH_AS(bernoulli(full({2}, bad)), doctest::Contains("[0, 1]"), ValueError);
  CHECK_THROWS_WITH_AS(randint(3, 3, {2}), "randint: expected low < high, got 3 and 3", ValueError);
  CHECK_THROWS_AS(randperm(-1), ValueError);
  CHECK_THROWS_AS(rand({-1}), ShapeError);
  CHECK_THROWS_WITH_AS(uniform_(n), doctest::Contains("uniform_: expected float32 or float64, got int64"), DTypeError);
  CHECK_THROWS_AS(normal_(n), DTypeError);
  CHECK_THROWS_AS(bernoulli(n), DTypeError);
  CHECK_THROWS_WITH_AS(rand({2}, DType::Int64), doctest::Contains("rand:"), DTypeError);
  CHECK_THROWS_AS(randn({2}, DType::Bool), DTypeError);
  CHECK_THROWS_WITH_AS(uniform_(views::expand(zeros({1}), {3})), doctest::Contains("share memory"), ValueError);
  CHECK_THROWS_AS(uniform_(Tensor()), ValueError);
  CHECK(bits(bernoulli_(n, 1).to(DType::Float32)) == "111");  // a mask may have any dtype
}

TEST_CASE("random: an in-place fill counts as a new version; one that fails draws nothing") {
  Tensor x = zeros({3});
  CHECK(&uniform_(x) == &x);
  CHECK(x.version() == 1);
  normal_(x);
  bernoulli_(x);
  CHECK(x.version() == 3);
  Generator g(5);
  std::vector<std::byte> before = g.get_state();
  CHECK_THROWS(uniform_(x, 1, 0, g));
  CHECK_THROWS(randint(1, 1, {4}, g));
  {
    FailAfter none(0);
    CHECK_THROWS_AS(randn({40}, DType::Float32, g), OutOfMemory);
  }
  CHECK(g.get_state() == before);
  CHECK(x.version() == 3);
}

TEST_CASE("random: overwriting in place, as autograd sees it") {
  Tensor w = ones({3}).requires_grad_();
  CHECK_THROWS_WITH_AS(uniform_(w), doctest::Contains("uniform_:"), GradError);
  Tensor x = w.clone();
  normal_(x);
  CHECK_FALSE(x.is_leaf());
  x.backward({.gradient = ones({3})});
  CHECK(w.grad().to_vector<float>() == std::vector<float>{0, 0, 0});  // nothing of w is left in x
}

TEST_CASE("random: what draws from a generator that is given leaves the default one alone") {
  const auto before = default_generator().get_state();
  auto drawn = [](auto draw) {
    Generator a(5), b(5), c(6);
    const auto first = draw(a), again = draw(b), other = draw(c);
    CHECK(equal(first, again));
    CHECK_FALSE(equal(first, other));
    CHECK(a.get_state() != Generator(5).get_state());
  };
  const Tensor like = transpose(zeros({4, 5}), 0, 1);
  drawn([&](Generator& g) { return rand({20}, DType::Float32, g); });
  drawn([&](Generator& g) { return randn({20}, DType::Float32, g); });
  drawn([&](Generator& g) { return rand_like(like, g); });
  drawn([&](Generator& g) { return randn_like(like, g); });
  drawn([&](Generator& g) { return randint(0, 1000, {20}, g); });
  drawn([&](Generator& g) { return randperm(20, g); });
  drawn([&](Generator& g) { return bernoulli(full({40}, 0.5), g); });
  drawn([&](Generator& g) { return uniform_(zeros({20}), 0, 1, g); });
  drawn([&](Generator& g) { return normal_(zeros({20}), 0, 1, g); });
  drawn([&](Generator& g) { return bernoulli_(zeros({40}), 0.5, g); });
  CHECK(default_generator().get_state() == before);
}

TEST_CASE("random: bernoulli takes each element's own probability, wherever it lies") {
  const Tensor p = tensor({{0.0, 1.0}, {1.0, 1.0}, {0.0, 0.0}});
  CHECK(bits(bernoulli(views::transpose(p, 0, 1))) == "010110");
}

TEST_CASE("random: a few normal numbers are shifted and scaled by one rounding") {
  Generator g(3), same(3);
  const Tensor x = normal_(zeros({15}, DType::Float64), 0.1, 0.3, g);
  for (double n : x.to_vector<double>()) CHECK(n == std::fma(same.random_normal(), 0.3, 0.1));
}

TEST_CASE("random: dimensions that an expanded one lies between are still in the order of memory") {
  const Tensor x = views::expand(views::unsqueeze(views::transpose(zeros({2, 3}), 0, 1), 1), {3, 4, 2});
  REQUIRE(x.strides() == Strides{1, 0, 3});
  CHECK(rand_like(x).strides() == Strides{1, 3, 12});
}

TEST_CASE("random: MKL's generator takes no seed that would stop it") {
  // 0 and multiples of the modulus 2^31 - 1 stand for 1, which is followed by 1132489760.
  for (std::uint32_t seed : {0u, 1u, 0x7fffffffu, 0xfffffffeu}) {
    kernels::Mcg31 stream(seed);
    CHECK(stream.unit() == 1 / 2147483647.0);
    CHECK(stream.unit() == 1132489760 / 2147483647.0);
  }
}
