#include "losses.h"

#include <doctest/doctest.h>
#include <unroll/autograd/engine.h>
#include <unroll/autograd/fused.h>
#include <unroll/autograd/gradcheck.h>
#include <unroll/autograd/ops/arithmetic.h>
#include <unroll/autograd/ops/compare.h>
#include <unroll/autograd/ops/loss.h>
#include <unroll/autograd/ops/normalize.h>
#include <unroll/autograd/ops/reduce.h>
#include <unroll/autograd/ops/shape.h>
#include <unroll/core/random.h>

#include <cmath>
#include <limits>

using namespace unroll;
using namespace losses;

// Values are PyTorch 2.15's.
namespace {

constexpr double kInf = std::numeric_limits<double>::infinity();

}  // namespace

// -- regression

TEST_CASE("loss: mse_loss and l1_loss reduce as they are told") {
  Tensor x = tensor({{1.0, 2.0}, {-1.0, 4.0}}, f64), t = tensor({{0.0, 2.0}, {2.0, 4.5}}, f64);
  check_reductions([&](Reduction r) { return mse_loss(x, t, {.reduction = r}); }, {1, 0, 9, 0.25}, 2.5625, 10.25);
  check_reductions([&](Reduction r) { return l1_loss(x, t, {.reduction = r}); }, {1, 0, 3, 0.5}, 1.125, 4.5);
  CHECK(mse_loss(x, t).item() == 2.5625);
  CHECK(l1_loss(x, t).item() == 1.125);
}

TEST_CASE("loss: both arguments of a regression loss receive gradients") {
  Tensor x = tensor({3.0, -1.0}, f64).requires_grad_(), t = tensor({1.0, 1.0}, f64).requires_grad_();
  mse_loss(x, t).backward();
  CHECK(x.grad().to_vector<double>() == std::vector<double>{2, -2});
  CHECK(t.grad().to_vector<double>() == std::vector<double>{-2, 2});
}

TEST_CASE("loss: smooth_l1, huber and l1 inside, at and beyond their corners") {
  Tensor x = tensor({-3.0, -1.0, -0.2, 0.0, 0.2, 1.0, 3.0}, f64).requires_grad_(), zero = zeros(7, f64);
  constexpr Reduction kNone = Reduction::None;
  Tensor y = smooth_l1_loss(x, zero, {.reduction = kNone, .beta = 0.5});
  CHECK(near(y, {2.75, 0.75, 0.04, 0, 0.04, 0.75, 2.75}));
  CHECK(near(gradient(y, x), {-1, -1, -0.4, 0, 0.4, 1, 1}));
  y = smooth_l1_loss(x, zero, {.reduction = kNone});
  CHECK(near(y, {2.5, 0.5, 0.02, 0, 0.02, 0.5, 2.5}));
  CHECK(near(gradient(y, x), {-1, -1, -0.2, 0, 0.2, 1, 1}));
  y = smooth_l1_loss(x, zero, {.reduction = kNone, .beta = 0});
  CHECK(near(y, {3, 1, 0.2, 0, 0.2, 1, 3}));
  CHECK(near(gradient(y, x), {-1, -1, -1, 0, 1, 1, 1}));
  y = huber_loss(x, zero, {.reduction = kNone, .delta = 0.5});
  CHECK(near(y, {1.375, 0.375, 0.02, 0, 0.02, 0.375, 1.375}));
  CHECK(near(gradient(y, x), {-0.5, -0.5, -0.2, 0, 0.2, 0.5, 0.5}));
  y = huber_loss(x, zero, {.reduction = kNone, .delta = 2});
  CHECK(near(y, {4, 0.5, 0.02, 0, 0.02, 0.5, 4}));
  CHECK(near(gradient(y, x), {-2, -1, -0.2, 0, 0.2, 1, 2}));
  CHECK(near(gradient(l1_loss(x, zero, {.reduction = kNone}), x), {-1, -1, -1, 0, 1, 1, 1}));
}

TEST_CASE("loss: smooth_l1 of the largest numbers and of betas that a float hardly has, as in torch") {
  const Tensor large = tensor({1e38f, -1e38f}).requires_grad_();
  Tensor y = smooth_l1_loss(large, zeros(2), {.reduction = Reduction::None, .beta = 2e5});
  CHECK(y.to_vector<float>() == std::vector<float>{1e38f, 1e38f});
  CHECK(gradient(y, large).to_vector<float>() == std::vector<float>{1, -1});
  const Tensor x = tensor({1e38f, -1.f, 0.f, 3e-44f}).requires_grad_();
  for (double beta : {1e-42, 1e-44, 1e-50}) {
    CAPTURE(beta);
    y = smooth_l1_loss(x, zeros(4), {.reduction = Reduction::None, .beta = beta});
    const std::vector<float> value = y.to_vector<float>(), slope = gradient(y, x).to_vector<float>();
    CHECK(std::vector(value.begin(), value.end() - 1) == std::vector<float>{1e38f, 1, 0});
    CHECK(std::vector(slope.begin(), slope.end() - 1) == std::vector<float>{1, -1, 0});
    if (beta < 3e-44) CHECK(slope.back() == 1);
  }
}

TEST_CASE("loss: far from the target the gradient of the linear losses stays finite") {
  Tensor x = tensor({kInf, -kInf}, f64).requires_grad_(), zero = zeros(2, f64);
  Tensor y = smooth_l1_loss(x, zero) + huber_loss(x, zero, {.delta = 2});
  CHECK(y.item() == kInf);
  CHECK(near(gradient(y, x), {1.5, -1.5}));
}

TEST_CASE("loss: derivatives of regression losses agree with differences") {
  Generator g(6);
  Tensor x = leaf({3, 4}, g), t = leaf({3, 4}, g);
  for (Reduction r : {Reduction::None, Reduction::Mean, Reduction::Sum}) {
    check_gradients([=](auto& in) { return mse_loss(in[0], in[1], {.reduction = r}); }, {x, t});
    check_gradients([=](auto& in) { return l1_loss(in[0], in[1], {.reduction = r}); }, {x, t});
    check_gradients([=](auto& in) { return smooth_l1_loss(in[0], in[1], {.reduction = r, .beta = 0.7}); }, {x, t});
    check_gradients([=](auto& in) { return huber_loss(in[0], in[1], {.reduction = r, .delta = 0.7}); }, {x, t});
  }
}

TEST_CASE("loss: the mean of nothing is NaN, its sum 0") {
  Tensor none = zeros({0, 3});
  CHECK(std::isnan(mse_loss(none, none).item()));
  CHECK(mse_loss(none, none, {.reduction = Reduction::Sum}).item() == 0);
  CHECK(huber_loss(none, none, {.reduction = Reduction::None}).shape() == Shape{0, 3});
  CHECK(std::isnan(binary_cross_entropy_with_logits(none, none).item()));
  Tensor no_class = zeros({0}, DType::Int64);
  CHECK(std::isnan(cross_entropy(none, no_class).item()));
  CHECK(std::isnan(cross_entropy(none, no_class, {.weight = ones(3)}).item()));
  CHECK(std::isnan(cross_entropy(none, none).item()));
  CHECK(cross_entropy(none, no_class, {.reduction = Reduction::Sum}).item() == 0);
  CHECK(nll_loss(none, no_class, {.reduction = Reduction::None}).shape() == Shape{0});
}

TEST_CASE("loss: errors of regression losses name both shapes or the option") {
  Tensor x = ones({2, 3}), t = ones({3});
  CHECK_THROWS_WITH_AS(mse_loss(x, t), "mse_loss: input of shape (2, 3) and target of shape (3,) differ", ShapeError);
  CHECK_THROWS_WITH_AS(l1_loss(x, t), doctest::Contains("l1_loss: input of shape (2, 3)"), ShapeError);
  CHECK_THROWS_WITH_AS(smooth_l1_loss(x, t), doctest::Contains("smooth_l1_loss: input of shape"), ShapeError);
  CHECK_THROWS_WITH_AS(huber_loss(x, t), doctest::Contains("huber_loss: input of shape"), ShapeError);
  CHECK_THROWS_WITH_AS(mse_loss(x, ones({2, 3}, f64)), doctest::Contains("mse_loss: dtypes float32 and float64 differ"),
                       DTypeError);
  CHECK_THROWS_WITH_AS(mse_loss(tensor({1}), tensor({1})),
                       doctest::Contains("mse_loss: expected float32 or float64, got int64"), DTypeError);
  CHECK_THROWS_WITH_AS(smooth_l1_loss(x, x, {.beta = -1}), doctest::Contains("beta = -1"), ValueError);
  for (double bad : {0.0, -1.0, std::nan("")})
    CHECK_THROWS_WITH_AS(huber_loss(x, x, {.delta = bad}), doctest::Contains("delta"), ValueError);
  CHECK_THROWS_AS(smooth_l1_loss(x, x, {.beta = std::nan("")}), ValueError);
}

// -- probabilities

TEST_CASE("loss: kl_div of probabilities and of logarithms, with its own mean") {
  Tensor x = tensor({{-1.0, -2.0, -0.5}, {-0.1, -3.0, -4.0}}, f64).requires_grad_();
  Tensor t = tensor({{0.2, 0.3, 0.5}, {1.0, 0.0, 0.5}}, f64).requires_grad_();
  auto loss = [&](Reduction r) { return kl_div(x, t, {.reduction = r}); };
  check_reductions(loss,
                   {-0.12188758248682008, 0.23880815870221916, -0.09657359027997264, 0.1, 0.0, 1.6534264097200273},
                   0.2956288992759089, 1.7737733956554536);
  CHECK(near(loss(Reduction::BatchMean), {0.8868866978277268}));
  CHECK(near(gradient(loss(Reduction::Sum), x), {-0.2, -0.3, -0.5, -1, 0, -0.5}));
  // At t = 0 torch's gradient is NaN, by 0 ln 0.
  CHECK(near(gradient(loss(Reduction::Sum), t),
             {0.3905620875658997, 1.7960271956740639, 0.8068528194400547, 1.1, 3, 4.306852819440055}));
  Tensor log_t = (x.detach() * 0.5).requires_grad_();
  auto of_logs = [&](Reduction r) { return kl_div(x, log_t, {.reduction = r, .log_target = true}); };
  check_reductions(of_logs,
                   {0.3032653298563167, 0.36787944117144233, 0.19470019576785122, 0.047561471225035706,
                    0.33469524022264474, 0.2706705664732254},
                   0.2531287074527527, 1.518772244716516);
  CHECK(near(of_logs(Reduction::BatchMean), {0.759386122358258}));
  CHECK(near(gradient(of_logs(Reduction::Sum), x), {-0.6065306597126334, -0.36787944117144233, -0.7788007830714049,
                                                    -0.951229424500714, -0.22313016014842982, -0.1353352832366127}));
  CHECK(near(gradient(of_logs(Reduction::Sum), log_t), {0.9097959895689501, 0.7357588823428847, 0.9735009788392561,
                                                        0.9987908957257497, 0.5578254003710745, 0.4060058497098381}));
  CHECK(kl_div(scalar(-1, f64), scalar(1, f64), {.reduction = Reduction::BatchMean}).item() == 1);
  CHECK(std::isnan(kl_div(zeros({0, 3}), zeros({0, 3}), {.reduction = Reduction::BatchMean}).item()));
}

TEST_CASE("loss: binary_cross_entropy, whose logarithms end at -100") {
  Tensor x = tensor({0.0, 0.2, 0.5, 0.9, 1.0}, f64).requires_grad_();
  Tensor t = tensor({0.25, 0.75, 1.0, 0.0, 1.0}, f64).requires_grad_(), w = tensor({1.0, 2.0, 3.0, 0.5, 2.0}, f64);
  check_reductions([&](Reduction r) { return binary_cross_entropy(x, t, {.reduction = r}); },
                   {25, 1.2628643221541276, 0.6931471805599453, 2.302585092994046, 0}, 5.8517193191416235,
                   29.258596595708116);
  check_reductions([&](Reduction r) { return binary_cross_entropy(x, t, {.weight = w, .reduction = r}); },
                   {25, 2.525728644308255, 2.0794415416798357, 1.151292546497023, 0}, 6.1512925464970225,
                   30.75646273248511);
  Tensor y = binary_cross_entropy(x, t, {.weight = w, .reduction = Reduction::Sum});
  CHECK(near(gradient(y, x), {-250000000998.9507, -6.875, -6, 5, 0}));
  y = binary_cross_entropy(x, t, {.weight = w, .reduction = Reduction::Sum});
  Values dt = of(gradient(y, t));
  CHECK(dt[0] == kInf);
  CHECK(dt[1] == doctest::Approx(2.772588722239781).epsilon(1e-14));
  CHECK(dt[4] == -kInf);
}

TEST_CASE("loss: derivatives of losses between probabilities agree with differences") {
  Generator g(9);
  auto probabilities = [&] { return (rand({3, 4}, f64, g) * 0.8 + 0.1).requires_grad_(); };
  Tensor p = probabilities(), t = probabilities(), w = probabilities();
  for (Reduction r : {Reduction::None, Reduction::Mean, Reduction::Sum, Reduction::BatchMean}) {
    check_gradients([=](auto& in) { return kl_div(in[0], in[1], {.reduction = r}); }, {leaf({3, 4}, g), t});
    check_gradients([=](auto& in) { return kl_div(in[0], in[1], {.reduction = r, .log_target = true}); },
                    {leaf({3, 4}, g), leaf({3, 4}, g)});
  }
  check_gradients([](auto& in) { return binary_cross_entropy(in[0], in[1], {.weight = in[2]}); }, {p, t, w});
}

TEST_CASE("loss: errors of losses between probabilities") {
  Tensor p = full({2, 3}, 0.5);
  CHECK_THROWS_WITH_AS(kl_div(p, ones(3)), "kl_div: input of shape (2, 3) and target of shape (3,) differ", ShapeError);
  CHECK_THROWS_AS(binary_cross_entropy(p, ones(3)), ShapeError);
  for (double bad : {-0.1, 1.1, std::nan("")}) {
    CHECK_THROWS_WITH_AS(binary_cross_entropy(full({2, 3}, bad), p),
                         doctest::Contains("binary_cross_entropy: input holds"), ValueError);
    CHECK_THROWS_WITH_AS(binary_cross_entropy(p, full({2, 3}, bad)), doctest::Contains("target holds"), ValueError);
  }
  for (const Shape& bad : {Shape{2}, Shape{3, 3}, Shape{1, 2, 3}})
    CHECK_THROWS_WITH_AS(binary_cross_entropy(p, p, {.weight = ones(bad)}), doctest::Contains("does not broadcast"),
                         ShapeError);
  CHECK_THROWS_WITH_AS(mse_loss(p, p, {.reduction = Reduction::BatchMean}), doctest::Contains("BatchMean"), ValueError);
}

// -- binary cross entropy of logits

TEST_CASE("loss: binary_cross_entropy_with_logits with its two kinds of weight") {
  Tensor x = tensor({-50.0, -2.0, 0.0, 0.5, 50.0}, f64).requires_grad_(),
         t = tensor({0.0, 0.25, 1.0, 0.5, 1.0}, f64).requires_grad_();
  Tensor w = tensor({1.0, 2.0, 3.0, 0.5, 2.0}, f64), p = tensor({3.0}, f64);
  auto check_values = [&](const BCEWithLogitsLossOptions& options, const std::vector<double>& each, double average,
                          const std::vector<double>& dx, const std::vector<double>& dt) {
    auto loss = [&](Reduction r) {
      return binary_cross_entropy_with_logits(
          x, t, {.weight = options.weight, .reduction = r, .pos_weight = options.pos_weight});
    };
    Tensor y = loss(Reduction::None);
    CHECK(near(y, each));
    CHECK(near(loss(Reduction::Mean), {average}));
    CHECK(near(loss(Reduction::Sum), {5 * average}));
    CHECK(near(grad({sum(y)}, {x}, {.retain_graph = true})[0], dx));
    CHECK(near(gradient(y, t), dt));
  };
  check_values({}, {0, 0.6269280110429727, 0.6931471805599453, 0.7240769841801067, 0}, 0.408830435156605,
               {0, -0.13079707797788245, -0.5, 0.1224593312018546, 0}, {50, 2, 0, -0.5, -50});
  check_values({.weight = w}, {0, 1.2538560220859454, 2.0794415416798357, 0.36203849209005334, 0}, 0.7390672111711669,
               {0, -0.2615941559557649, -1.5, 0.0612296656009273, 0}, {50, 4, 0, -0.25, -100});
  check_values({.pos_weight = p}, {0, 1.6903920165644593, 2.0794415416798357, 1.1981539683602134, 0},
               0.9935975053209016, {0, -0.5711956169668237, -1.5, -0.2550813375962908, 0},
               {150, 6.253856022085946, 1.3862943611198904, 0.4481539683602134, -50});
  check_values({.weight = w, .pos_weight = p}, {0, 3.3807840331289185, 6.238324625039507, 0.5990769841801067, 0},
               2.0436371284697064, {0, -1.1423912339336475, -4.5, -0.1275406687981454, 0},
               {150, 12.507712044171893, 4.158883083359671, 0.2240769841801067, -100});
}

TEST_CASE("loss: binary_cross_entropy_with_logits keeps its digits in the tails") {
  for (DType dtype : {DType::Float32, f64}) {
    Tensor x = tensor({-30.0, 30.0, -200.0, 200.0}, dtype).requires_grad_(), t = tensor({0.0, 1.0, 1.0, 0.0}, dtype);
    Tensor y = binary_cross_entropy_with_logits(x, t, {.reduction = Reduction::None});
    CHECK(allclose(y, tensor({9.357622968839e-14, 9.357622968839e-14, 200.0, 200.0}, dtype), 1e-5, 0));
    CHECK(allclose(gradient(y, x), tensor({9.357622968840e-14, -9.357622968840e-14, -1.0, 1.0}, dtype), 1e-5, 0));
  }
  // Double still has some where torch's threshold of softplus is.
  for (double s : {21., -21.}) {
    const Tensor x = tensor({s}, f64).requires_grad_(), t = tensor({s > 0 ? 0. : 1.}, f64);
    const Tensor loss = binary_cross_entropy_with_logits(x, t);
    CHECK(std::abs(loss.item() - (21 + std::log1p(std::exp(-21.)))) < 1e-14);
    CHECK(std::abs(std::abs(gradient(loss, x).item()) - 1 / (1 + std::exp(-21.))) < 1e-14);
  }
}

TEST_CASE("loss: derivatives of binary_cross_entropy_with_logits, weights included, agree with differences") {
  Generator g(7);
  Tensor t = rand({3, 4}, f64, g).requires_grad_();
  check_gradients(
      [](auto& in) { return binary_cross_entropy_with_logits(in[0], in[1], {.weight = in[2], .pos_weight = in[3]}); },
      {leaf({3, 4}, g), t, leaf({3, 1}, g), leaf(4, g)});
}

TEST_CASE("loss: errors of binary_cross_entropy_with_logits") {
  Tensor x = ones({2, 3});
  CHECK_THROWS_WITH_AS(binary_cross_entropy_with_logits(x, ones(3)),
                       doctest::Contains("(2, 3) and target of shape (3,)"), ShapeError);
  CHECK_THROWS_WITH_AS(binary_cross_entropy_with_logits(x, x, {.weight = ones({4, 2, 3})}),
                       doctest::Contains("weight of shape (4, 2, 3)"), ShapeError);
  CHECK_THROWS_AS(binary_cross_entropy_with_logits(x, x, {.pos_weight = ones(2)}), ShapeError);
  CHECK_THROWS_AS(binary_cross_entropy_with_logits(x, x, {.pos_weight = ones(3, f64)}), DTypeError);
  CHECK_THROWS_AS(binary_cross_entropy_with_logits(x, tensor({{1, 0, 1}, {0, 1, 0}})), DTypeError);
}
