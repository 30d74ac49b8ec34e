#include <doctest/doctest.h>
#include <unroll/autograd/engine.h>
#include <unroll/autograd/ops/activation.h>
#include <unroll/autograd/ops/arithmetic.h>
#include <unroll/autograd/ops/compare.h>
#include <unroll/autograd/ops/matmul.h>
#include <unroll/autograd/ops/reduce.h>
#include <unroll/autograd/ops/shape.h>
#include <unroll/core/random.h>
#include <unroll/nn/rnn_cell.h>

using namespace unroll;

TEST_CASE("rnn_cell: the equation") {
  manual_seed(1);
  for (bool bias : {true, false})
    for (nn::Nonlinearity nonlinearity : {nn::Nonlinearity::Tanh, nn::Nonlinearity::ReLU}) {
      nn::RNNCell cell(3, 4, {.bias = bias, .nonlinearity = nonlinearity, .dtype = DType::Float64});
      Tensor x = randn({2, 3}, DType::Float64), h = randn({2, 4}, DType::Float64);
      Tensor a = matmul(x, t(cell.weight_ih)) + matmul(h, t(cell.weight_hh));
      if (bias) a = a + cell.bias_ih + cell.bias_hh;
      const bool is_tanh = nonlinearity == nn::Nonlinearity::Tanh;
      CHECK(allclose(cell(x, h), is_tanh ? tanh(a) : maximum(a, zeros_like(a)), 0, 1e-15));
      CHECK(any(lt(a, 0)));
      CHECK(any(gt(a, 0)));
    }
}

TEST_CASE("rnn_cell: relu has the derivative 0 at 0 and below, 1 above") {
  nn::RNNCell cell(1, 3, {.bias = false, .nonlinearity = nn::Nonlinearity::ReLU, .dtype = DType::Float64});
  cell.weight_ih = view(tensor({-1.0, 0.0, 2.0}, DType::Float64), {3, 1}).requires_grad_();
  cell.weight_hh = zeros({3, 3}, DType::Float64).requires_grad_();
  Tensor x = ones({1, 1}, DType::Float64).requires_grad_();
  Tensor y = cell(x);
  CHECK(y.to_vector<double>() == std::vector<double>{0, 0, 2});
  sum(y).backward();
  CHECK(cell.weight_ih.grad().to_vector<double>() == std::vector<double>{0, 0, 1});
  CHECK(x.grad().item() == 2);
}

TEST_CASE("rnn_cell: torch's numbers in float32") {
  manual_seed(0);
  nn::RNNCell cell(3, 4);
  Tensor x = randn({2, 3}), h = randn({2, 4});
  CHECK(select(cell.weight_ih, 0, 0).to_vector<float>() ==
        std::vector<float>{-0.00374341011f, 0.268221796f, -0.411522567f});
  CHECK(cell.bias_hh.to_vector<float>() ==
        std::vector<float>{-0.324089825f, -0.230166435f, -0.349320233f, -0.468280494f});
  Tensor y = cell(x, h);
  CHECK(allclose(flatten(y),
                 tensor({-0.895998001, 0.871312976, -0.637375653, -0.127847657, -0.533064783, -0.793012679,
                         -0.788329899, 0.632474184}),
                 0, 2e-7));
  sum(y).backward();
  CHECK(allclose(flatten(cell.weight_ih.grad()),
                 tensor({0.86673528, 0.375178039, 0.627706289, 0.325748384, -0.0146213174, 0.376766175, 0.0217143893,
                         -0.540284276, 0.513230145, -0.00354838371, -0.920577466, 0.829230428}),
                 0, 5e-7));
  CHECK(sum(cell.weight_hh.grad()).item() == doctest::Approx(-4.42828465).epsilon(1e-6));

  manual_seed(0);
  nn::RNNCell relu(3, 4, {.nonlinearity = nn::Nonlinearity::ReLU});
  x = randn({2, 3}), h = randn({2, 4});
  y = relu(x, h);
  CHECK(allclose(flatten(y), tensor({0.0, 1.33850622, 0.0, 0.0, 0.0, 0.0, 0.0, 0.745529234}), 0, 2e-7));
  sum(y).backward();
  CHECK(allclose(flatten(relu.weight_ih.grad()),
                 tensor({0.0, 0.0, 0.0, -0.891995311, -1.50910771, 0.370393544, 0.0, 0.0, 0.0, 1.45650256, 0.939809918,
                         0.774848819}),
                 0, 5e-7));
}

TEST_CASE("rnn_cell: parameters and printing") {
  nn::RNNCell cell(3, 4);
  std::vector<std::pair<std::string, Shape>> expected{
      {"weight_ih", {4, 3}}, {"weight_hh", {4, 4}}, {"bias_ih", 4}, {"bias_hh", 4}};
  NamedTensors parameters = cell.named_parameters();
  REQUIRE(parameters.size() == 4);
  for (std::size_t i = 0; i < 4; ++i) {
    CHECK(parameters[i].first == expected[i].first);
    CHECK(parameters[i].second.shape() == expected[i].second);
  }
  nn::RNNCell other(3, 4, {.bias = false, .nonlinearity = nn::Nonlinearity::ReLU, .dtype = DType::Float64});
  CHECK(other.parameters().size() == 2);
  CHECK(other.state_dict().size() == 2);
  CHECK(other.weight_hh.dtype() == DType::Float64);
  CHECK(cell.input_size == 3);
  CHECK(cell.hidden_size == 4);
  CHECK(cell.bias);
  CHECK(other.nonlinearity == nn::Nonlinearity::ReLU);
  CHECK(nn::to_string(cell) == "RNNCell(3, 4)");
  CHECK(nn::to_string(other) == "RNNCell(3, 4, bias=False, nonlinearity=relu)");
  CHECK(nn::to_string(nn::RNNCell(3, 4, {.nonlinearity = nn::Nonlinearity::ReLU})) ==
        "RNNCell(3, 4, nonlinearity=relu)");
  CHECK_THROWS_WITH_AS(nn::RNNCell(3, -4), "rnn_cell: hidden_size must not be negative, got -4", ValueError);
  CHECK_THROWS_WITH_AS(nn::RNNCell(-3, 4), "rnn_cell: input_size must not be negative, got -3", ValueError);
  CHECK_THROWS_AS(nn::RNNCell(3, 4, {.dtype = DType::Int64}), DTypeError);
}
