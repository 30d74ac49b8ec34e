#include "support/gradients.h"

#include <doctest/doctest.h>
#include <unroll/autograd/engine.h>
#include <unroll/autograd/grad_mode.h>
#include <unroll/autograd/gradcheck.h>
#include <unroll/autograd/node.h>
#include <unroll/autograd/ops/arithmetic.h>
#include <unroll/autograd/ops/compare.h>
#include <unroll/autograd/ops/normalize.h>
#include <unroll/autograd/ops/reduce.h>
#include <unroll/autograd/ops/shape.h>
#include <unroll/core/random.h>

#include <cmath>
#include <limits>

using namespace unroll;

// Values are PyTorch 2.15's.
namespace {

constexpr DType f64 = DType::Float64;
constexpr double kInf = std::numeric_limits<double>::infinity();

Tensor example() { return tensor({{1.0, 2.0, 4.0}, {0.0, -1.0, 3.0}}, f64); }
Tensor example_gradient() { return tensor({{1.0, -1.0, 2.0}, {0.5, 0.0, -2.0}}, f64); }

}  // namespace

TEST_CASE("normalize: softmax and log_softmax along either dimension") {
  CHECK(near(softmax(example(), 1), {0.04201006613406605, 0.11419519938459449, 0.8437947344813395, 0.0466126225779739,
                                     0.017147825545520388, 0.9362395518765058}));
  CHECK(near(softmax(example(), 0), {0.7310585786300049, 0.9525741268224334, 0.7310585786300049, 0.2689414213699951,
                                     0.04742587317756679, 0.2689414213699951}));
  CHECK(near(log_softmax(example(), -1), {-3.1698460195562856, -2.1698460195562856, -0.16984601955628567,
                                          -3.0658839037574293, -4.065883903757429, -0.06588390375742911}));
  CHECK(near(log_softmax(example(), -2), {-0.31326168751822286, -0.048587351573741965, -0.31326168751822286,
                                          -1.3132616875182228, -3.048587351573742, -1.3132616875182228}));
}

TEST_CASE("normalize: gradients of softmax and log_softmax") {
  Tensor x = example().requires_grad_();
  CHECK(near(grad({softmax(x, 1)}, {x}, {.grad_outputs = {example_gradient()}})[0],
             {-0.02585317684245842, -0.2986666195879819, 0.32451979643044043, 0.10950110474557058, 0.03170929244869587,
              -0.14121039719426629}));
  CHECK(near(grad({log_softmax(x, 1)}, {x}, {.grad_outputs = {example_gradient()}})[0],
             {0.9159798677318679, -1.2283903987691889, 0.3124105310373211, 0.5699189338669608, 0.025721738318280583,
              -0.5956406721852414}));
}

TEST_CASE("normalize: softmax neither overflows nor loses what log_softmax keeps") {
  Tensor x = tensor({1000.0, 0.0, -1000.0}, f64);
  CHECK(near(softmax(x, 0), {1, 0, 0}));
  CHECK(near(log_softmax(x, 0), {0, -1000, -2000}));
  CHECK(near(softmax(x.to(DType::Float32), 0).to(f64), {1, 0, 0}));
  CHECK(near(log_softmax(x.to(DType::Float32), 0).to(f64), {0, -1000, -2000}));
}

TEST_CASE("normalize: infinite elements as PyTorch has them") {
  Tensor one = tensor({-kInf, 0.0, -kInf}, f64);
  CHECK(softmax(one, 0).to_vector<double>() == std::vector<double>{0, 1, 0});
  CHECK(log_softmax(one, 0).to_vector<double>() == std::vector<double>{-kInf, 0, -kInf});
  for (const Tensor& x : {tensor({-kInf, -kInf}, f64), tensor({kInf, 0.0}, f64), tensor({std::nan(""), 0.0}, f64)}) {
    CHECK(all(isnan(softmax(x, 0))));
    CHECK(std::isnan(log_softmax(x, 0).to_vector<double>()[0]));
  }
}

TEST_CASE("normalize: softmax of other geometries, of scalars and of nothing") {
  Generator g(3);
  Tensor x = randn({3, 4, 2}, f64, g), permuted = permute(x, {2, 0, 1});
  CHECK(allclose(softmax(permuted, 2), permute(softmax(x, 1), {2, 0, 1}), 0, 0));
  CHECK(allclose(log_softmax(permuted, 0), permute(log_softmax(x, 2), {2, 0, 1}), 0, 0));
  CHECK(softmax(scalar(3, f64), 0).item() == 1);
  CHECK(log_softmax(scalar(3, f64), -1).item() == 0);
  for (Shape shape : {Shape{0, 3}, Shape{3, 0}}) {
    Tensor none = zeros(shape).requires_grad_(), y = softmax(none, 1) + log_softmax(none, 0);
    CHECK(y.shape() == shape);
    sum(y).backward();
    CHECK(none.grad().shape() == shape);
  }
  CHECK_THROWS_AS(softmax(x, 3), IndexError);
  CHECK_THROWS_WITH_AS(log_softmax(tensor({1, 2}), 0), doctest::Contains("log_softmax: expected float32 or float64"),
                       DTypeError);
}

TEST_CASE("normalize: layer_norm and its gradients") {
  Tensor x = example().requires_grad_(), w = tensor({1.0, 2.0, 0.5}, f64).requires_grad_(),
         b = tensor({0.0, 0.1, -0.1}, f64).requires_grad_();
  Tensor y = layer_norm(x, 3, w, b);
  CHECK(near(y, {-1.0690415314502977, -0.4345207657251491, 0.5681509571564359, -0.3922315914145858, -1.8611579570729286,
                 0.586405284975525}));
  std::vector<Tensor> d = grad({y}, {x, w, b}, {.grad_outputs = {example_gradient()}});
  CHECK(near(d[0], {1.0308600041058587, -1.5462925832959125, 0.5154325791900538, 0.27154536566241777,
                    -0.20365766652677347, -0.06788769913564435}));
  CHECK(near(d[1], {-1.2651573271575909, 0.2672603828625746, -0.07301731127635636}));
  CHECK(near(d[2], {1.5, -1, 0}));
  CHECK(near(layer_norm(x, {2, 3}), {-0.29276951999438444, 0.29276951999438444, 1.4638475999719223, -0.8783085599831533,
                                     -1.4638475999719223, 0.8783085599831533}));
}

TEST_CASE("normalize: layer_norm's kernels compute what its definition says") {
  Generator g(4);
  for (DType dtype : {DType::Float32, f64}) {
    double tolerance = dtype == f64 ? 1e-12 : 1e-5;
    for (bool weighted : {false, true})
      for (bool biased : {false, true}) {
        Tensor x = transpose(randn({4, 5, 3}, dtype, g) * 2 + 1, 0, 2).detach().requires_grad_();
        Tensor w = weighted ? t(rand({4, 5}, dtype, g)).detach().requires_grad_() : Tensor();
        Tensor b = biased ? randn({5, 4}, dtype, g).requires_grad_() : Tensor();
        Tensor v = randn({3, 5, 4}, dtype, g);
        std::vector<Tensor> inputs{x};
        for (const Tensor& parameter : {w, b})
          if (parameter.defined()) inputs.push_back(parameter);
        auto run = [&](bool fused) {
          FusedMode mode(fused);
          Tensor y = layer_norm(x, {5, 4}, w, b, 1e-3);
          CHECK((y.grad_slot()->grad_fn->name() == std::string("layer_norm")) == fused);
          std::vector<Tensor> all = grad({y}, inputs, {.grad_outputs = {v}});
          all.push_back(y);
          return all;
        };
        std::vector<Tensor> kernels = run(true), composed = run(false);
        for (std::size_t i = 0; i < kernels.size(); ++i) CHECK(allclose(kernels[i], composed[i], tolerance, tolerance));
      }
  }
}

TEST_CASE("normalize: derivatives agree with differences") {
  Generator g(5);
  check_gradients([](auto& in) { return softmax(in[0], 1); }, {leaf({2, 3, 2}, g)});
  check_gradients([](auto& in) { return log_softmax(in[0], 0); }, {leaf({3, 2}, g)});
  for (bool fused : {true, false}) {
    FusedMode mode(fused);
    check_gradients(
        [](auto& in) {
          return layer_norm(in[0], {2, 3}, in[1], in[2]);
        },
        {leaf({2, 2, 3}, g), leaf({2, 3}, g), leaf({2, 3}, g)});
    check_gradients([](auto& in) { return layer_norm(in[0], 4); }, {leaf({3, 4}, g)});
    check_gradients([](auto& in) { return layer_norm(in[0], 4, in[1]); }, {randn({3, 4}, f64, g), leaf(4, g)});
    // The weight is computed from the input: what flows through it must count once.
    check_gradients([](auto& in) { return layer_norm(in[0], 4, select(in[0], 0, 1)); }, {leaf({3, 4}, g)});
  }
}

TEST_CASE("normalize: a constant row is normalized to zero, a large offset costs no digits in float64") {
  Tensor flat = full({1, 4}, 5, f64).requires_grad_();
  Tensor y = layer_norm(flat, 4);
  CHECK(near(y, {0, 0, 0, 0}));
  y.backward({.gradient = tensor({{1.0, 2.0, 3.0, 6.0}}, f64)});
  CHECK(near(flat.grad() * std::sqrt(1e-5), {-2, -1, 0, 3}));  // 1/√eps of the gradient less its mean
  CHECK(allclose(layer_norm(example() + 1e6, 3), layer_norm(example(), 3), 1e-9, 1e-9));
}

TEST_CASE("normalize: layer_norm of no rows") {
  Tensor x = zeros({0, 3}).requires_grad_(), w = ones(3).requires_grad_(), b = zeros(3).requires_grad_();
  Tensor y = layer_norm(x, 3, w, b);
  CHECK(y.shape() == Shape{0, 3});
  sum(y).backward();
  CHECK(x.grad().shape() == Shape{0, 3});
  CHECK(w.grad().to_vector<float>() == std::vector<float>(3, 0));
  CHECK(b.grad().to_vector<float>() == std::vector<float>(3, 0));
  CHECK(layer_norm(zeros({2, 0}), 0).shape() == Shape{2, 0});
}

TEST_CASE("normalize: layer_norm's errors") {
  Tensor x = ones({2, 3});
  CHECK_THROWS_WITH_AS(layer_norm(x, 2), "layer_norm: input of shape (2, 3) does not end in normalized_shape = (2,)",
                       ShapeError);
  CHECK_THROWS_AS(layer_norm(x, {1, 2, 3}), ShapeError);
  CHECK_THROWS_WITH_AS(layer_norm(x, Shape{}), doctest::Contains("normalized_shape is empty"), ShapeError);
  CHECK_THROWS_WITH_AS(layer_norm(x, 3, ones(2)), "layer_norm: weight has shape (2,), expected normalized_shape = (3,)",
                       ShapeError);
  CHECK_THROWS_WITH_AS(layer_norm(x, 3, {}, ones({1, 3})), doctest::Contains("bias has shape (1, 3)"), ShapeError);
  CHECK_THROWS_AS(layer_norm(x, 3, ones(3, f64)), DTypeError);
  CHECK_THROWS_AS(layer_norm(tensor({1, 2}), 2), DTypeError);
}
