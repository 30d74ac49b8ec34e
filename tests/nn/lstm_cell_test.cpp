#include <doctest/doctest.h>
#include <unroll/autograd/engine.h>
#include <unroll/autograd/gradcheck.h>
#include <unroll/autograd/ops/activation.h>
#include <unroll/autograd/ops/arithmetic.h>
#include <unroll/autograd/ops/compare.h>
#include <unroll/autograd/ops/matmul.h>
#include <unroll/autograd/ops/reduce.h>
#include <unroll/autograd/ops/shape.h>
#include <unroll/core/random.h>
#include <unroll/nn/lstm_cell.h>

using namespace unroll;
using doctest::Contains;

TEST_CASE("lstm_cell: the equations, gate by gate") {
  manual_seed(1);
  nn::LSTMCell cell(3, 2, {.dtype = DType::Float64});
  Tensor x = randn({4, 3}, DType::Float64), h = randn({4, 2}, DType::Float64), c = randn({4, 2}, DType::Float64);
  auto gate = [&](std::int64_t k) {
    auto rows = [&](const Tensor& w) { return narrow(w, 0, 2 * k, 2); };
    return linear(x, rows(cell.weight_ih), rows(cell.bias_ih)) + linear(h, rows(cell.weight_hh), rows(cell.bias_hh));
  };
  Tensor c_next = sigmoid(gate(1)) * c + sigmoid(gate(0)) * tanh(gate(2));
  auto [h1, c1] = cell(x, {h, c});
  CHECK(allclose(c1, c_next, 0, 1e-15));
  CHECK(allclose(h1, sigmoid(gate(3)) * tanh(c_next), 0, 1e-15));
}

TEST_CASE("lstm_cell: parameters in torch's order, drawn in that order from U(-k, k)") {
  nn::LSTMCell cell(3, 4, {.dtype = DType::Float64, .proj_size = 2});
  manual_seed(5);
  cell.reset_parameters();
  manual_seed(5);
  std::vector<std::pair<std::string, Shape>> expected{
      {"weight_ih", {16, 3}}, {"weight_hh", {16, 2}}, {"bias_ih", 16}, {"bias_hh", 16}, {"weight_hr", {2, 4}}};
  NamedTensors parameters = cell.named_parameters();
  REQUIRE(parameters.size() == expected.size());
  for (std::size_t i = 0; i < expected.size(); ++i) {
    CHECK(parameters[i].first == expected[i].first);
    CHECK(equal(parameters[i].second.detach(), uniform_(empty(expected[i].second, DType::Float64), -0.5, 0.5)));
  }
  CHECK(nn::LSTMCell(3, 4, {.bias = false}).parameters().size() == 2);
  CHECK(nn::to_string(nn::LSTMCell(3, 4)) == "LSTMCell(3, 4)");
  CHECK(nn::to_string(nn::LSTMCell(3, 4, {.bias = false})) == "LSTMCell(3, 4, bias=False)");
}

TEST_CASE("lstm_cell: torch's numbers in float32") {
  manual_seed(0);
  nn::LSTMCell cell(3, 4);
  Tensor x = randn({2, 3}), h = randn({2, 4}), c = randn({2, 4});
  auto [h1, c1] = cell(x, {h, c});
  CHECK(allclose(flatten(h1),
                 tensor({-0.0387889445, -0.0981369987, -0.0963754877, -0.125809357, -0.272551179, 0.19193016,
                         -0.0514549799, 0.073265031}),
                 0, 2e-7));
  CHECK(allclose(flatten(c1),
                 tensor({-0.0636349022, -0.353403002, -0.283321023, -0.180861205, -0.513645589, 0.412673324,
                         -0.0878558159, 0.123236239}),
                 0, 2e-7));
  backward({sum(h1) + sum(c1)});
  CHECK(allclose(cell.bias_hh.grad(),
                 tensor({0.245449334, -0.130404189, -0.0368842632, 0.0013012737, -0.858367801, 0.0778302252,
                         -0.0569865182, -0.111261725, 1.18157172, 1.11993742, 1.33754683, 1.1561594, -0.130542487,
                         0.0278947651, -0.0839610994, -0.00785457529}),
                 0, 5e-7));
}

TEST_CASE("lstm_cell: gradients to second order, through h' alone and c' alone too") {
  for (std::int64_t proj_size : {0, 1}) {
    manual_seed(3);
    nn::LSTMCell cell(2, 3, {.dtype = DType::Float64, .proj_size = proj_size});
    std::vector<Tensor> inputs{randn({2, 2}, DType::Float64), randn({2, proj_size ? 1 : 3}, DType::Float64),
                               randn({2, 3}, DType::Float64)};
    for (const Tensor& x : inputs) x.requires_grad_();
    for (const Tensor& p : cell.parameters()) inputs.push_back(p);
    auto both = [&](const std::vector<Tensor>& in) {
      auto [h, c] = cell(in[0], {in[1], in[2]});
      return std::vector<Tensor>{h, c};
    };
    CHECK(gradcheck(both, inputs));
    CHECK(gradgradcheck(both, inputs));
    CHECK(gradcheck([&](const std::vector<Tensor>& in) { return cell(in[0], {in[1], in[2]}).h; }, inputs));
    CHECK(gradcheck([&](const std::vector<Tensor>& in) { return cell(in[0], {in[1], in[2]}).c; }, inputs));
  }
}

TEST_CASE("lstm_cell: construction errors") {
  CHECK_THROWS_WITH_AS(nn::LSTMCell(-1, 4), "lstm_cell: input_size must not be negative, got -1", ValueError);
  CHECK_THROWS_WITH_AS(nn::LSTMCell(3, -4), "lstm_cell: hidden_size must not be negative, got -4", ValueError);
  CHECK_THROWS_WITH_AS(nn::LSTMCell(3, 4, {.proj_size = -1}), Contains("proj_size must not be negative, got -1"),
                       ValueError);
  CHECK_THROWS_WITH_AS(nn::LSTMCell(3, 4, {.proj_size = 4}),
                       Contains("proj_size must be smaller than hidden_size, got 4 and 4"), ValueError);
  CHECK_THROWS_AS(nn::LSTMCell(3, std::int64_t{1} << 62), ShapeError);
  CHECK_THROWS_AS(nn::LSTMCell(3, 4, {.dtype = DType::Int64}), DTypeError);
}

TEST_CASE("lstm_cell: errors of its own state and weights") {
  nn::LSTMCell cell(3, 4);
  Tensor x = zeros({2, 3}), s = zeros({2, 4});
  CHECK_THROWS_WITH_AS(cell(zeros({2, 5})), "lstm_cell: input has 5 features, expected input_size = 3", ShapeError);
  CHECK_THROWS_WITH_AS(cell(x, {s}), "lstm_cell: the state is 2 tensors, of which hidden[1] is missing", ValueError);
  CHECK_THROWS_WITH_AS(cell(x, {s, zeros({1, 4})}), "lstm_cell: hidden[1] has shape (1, 4), expected (2, 4)",
                       ShapeError);
  nn::LSTMCell projected(3, 4, {.proj_size = 2});
  CHECK_THROWS_WITH_AS(projected(x, {s, s}), "lstm_cell: hidden[0] has shape (2, 4), expected (2, 2)", ShapeError);
  projected.weight_hr = zeros({3, 4});
  CHECK_THROWS_WITH_AS(projected(x), Contains("weight_hr has been replaced by one of shape (3, 4), expected (2, 4)"),
                       ShapeError);
}
