#include <doctest/doctest.h>
#include <unroll/autograd/engine.h>
#include <unroll/autograd/ops/activation.h>
#include <unroll/autograd/ops/arithmetic.h>
#include <unroll/autograd/ops/compare.h>
#include <unroll/autograd/ops/matmul.h>
#include <unroll/autograd/ops/reduce.h>
#include <unroll/autograd/ops/shape.h>
#include <unroll/core/random.h>
#include <unroll/nn/gru_cell.h>

using namespace unroll;

namespace {
// The equations as they stand in the books, block by block; W_hn (r·h) instead of r·(W_hn h + b_hn) unless reset_after.
Tensor reference(const nn::GRUCell& cell, const Tensor& x, const Tensor& h, bool reset_after) {
  const std::int64_t H = cell.hidden_size;
  auto rows = [&](const Tensor& p, std::int64_t k) { return p.defined() ? narrow(p, 0, k * H, H) : p; };
  auto in = [&](std::int64_t k) { return linear(x, rows(cell.weight_ih, k), rows(cell.bias_ih, k)); };
  auto hidden = [&](const Tensor& v, std::int64_t k) {
    return linear(v, rows(cell.weight_hh, k), rows(cell.bias_hh, k));
  };
  Tensor r = sigmoid(in(0) + hidden(h, 0)), z = sigmoid(in(1) + hidden(h, 1));
  Tensor n = tanh(in(2) + (reset_after ? r * hidden(h, 2) : hidden(r * h, 2)));
  return (1 - z) * n + z * h;
}
}  // namespace

TEST_CASE("gru_cell: the equations, gate by gate, reset after and before, in values and gradients") {
  for (bool bias : {true, false})
    for (bool reset_after : {true, false}) {
      manual_seed(1);
      nn::GRUCell cell(3, 4, {.bias = bias, .dtype = DType::Float64, .reset_after = reset_after});
      Tensor x = randn({2, 3}, DType::Float64).requires_grad_(), h = randn({2, 4}, DType::Float64).requires_grad_(),
             weights = randn({2, 4}, DType::Float64);
      Tensor y = cell(x, h), expected = reference(cell, x, h, reset_after);
      CHECK(allclose(y, expected, 0, 1e-15));
      CHECK_FALSE(allclose(y, reference(cell, x, h, !reset_after), 0, 1e-3));
      std::vector<Tensor> leaves = cell.parameters();
      leaves.insert(leaves.end(), {x, h});
      auto a = grad({sum(y * weights)}, leaves), b = grad({sum(expected * weights)}, leaves);
      for (std::size_t i = 0; i < leaves.size(); ++i) CHECK(allclose(a[i], b[i], 0, 1e-14));
    }
}

// With h = 0 only b_hn tells r·(W h + b) from W (r·h) + b.
TEST_CASE("gru_cell: the reset gate multiplies the bias of the hidden product") {
  manual_seed(2);
  nn::GRUCell after(3, 4, {.dtype = DType::Float64}), before(3, 4, {.dtype = DType::Float64, .reset_after = false});
  before.load_state_dict(after.state_dict());
  Tensor x = randn({2, 3}, DType::Float64), zero = zeros({2, 4}, DType::Float64);
  CHECK_FALSE(allclose(after(x), before(x), 0, 1e-3));
  auto by_hand = [&](bool reset_bias) {
    auto gate = [&](std::int64_t k) { return narrow(linear(x, after.weight_ih, after.bias_ih), 1, 4 * k, 4); };
    auto bias = [&](std::int64_t k) { return narrow(after.bias_hh, 0, 4 * k, 4); };
    Tensor r = sigmoid(gate(0) + bias(0)), z = sigmoid(gate(1) + bias(1));
    return (1 - z) * tanh(gate(2) + (reset_bias ? r * bias(2) : bias(2) + zero));
  };
  CHECK(allclose(after(x), by_hand(true), 0, 1e-15));
  CHECK(allclose(before(x), by_hand(false), 0, 1e-15));
  for (const nn::GRUCell* cell : {&after, &before}) narrow(cell->bias_hh.detach(), 0, 8, 4).zero_();
  CHECK(allclose(after(x), before(x), 0, 1e-15));
}

TEST_CASE("gru_cell: torch's numbers in float32") {
  manual_seed(0);
  nn::GRUCell cell(3, 4);
  Tensor x = randn({2, 3}), h = randn({2, 4});
  Tensor y = cell(x, h);
  // The same in float64 stands between: torch's numbers and ours each have their own last bits.
  nn::GRUCell exact(3, 4, {.dtype = DType::Float64});
  exact.load_state_dict(cell.state_dict());
  const Tensor expected = flatten(exact(x.to(DType::Float64), h.to(DType::Float64)));
  CHECK(allclose(flatten(y).to(DType::Float64), expected, 0, 2e-7));
  CHECK(allclose(tensor({-0.489479095, 0.66568923, 0.277336478, 1.44103265, -0.0329444259, -0.239062801, -1.01711321,
                         0.0649086237},
                        DType::Float64),
                 expected, 0, 2e-7));
  sum(y).backward();
  CHECK(allclose(cell.bias_hh.grad(),
                 tensor({-0.0569737032, 0.0927936584, -0.108421147, -0.112196207, -0.0202880949, -0.155993357,
                         0.339773208, 1.36711454, 0.394969612, 0.197146937, 0.314807713, 0.44283691}),
                 0, 5e-7));
}

TEST_CASE("gru_cell: parameters and printing") {
  nn::GRUCell cell(3, 4);
  std::vector<std::pair<std::string, Shape>> expected{
      {"weight_ih", {12, 3}}, {"weight_hh", {12, 4}}, {"bias_ih", 12}, {"bias_hh", 12}};
  NamedTensors parameters = cell.named_parameters();
  REQUIRE(parameters.size() == 4);
  for (std::size_t i = 0; i < 4; ++i) {
    CHECK(parameters[i].first == expected[i].first);
    CHECK(parameters[i].second.shape() == expected[i].second);
  }
  CHECK(nn::GRUCell(3, 4, {.bias = false}).parameters().size() == 2);
  CHECK(cell.reset_after);
  CHECK(nn::to_string(cell) == "GRUCell(3, 4)");
  CHECK(nn::to_string(nn::GRUCell(3, 4, {.bias = false})) == "GRUCell(3, 4, bias=False)");
  CHECK(nn::to_string(nn::GRUCell(3, 4, {.reset_after = false})) == "GRUCell(3, 4, reset_after=False)");
  CHECK_THROWS_WITH_AS(nn::GRUCell(3, -4), "gru_cell: hidden_size must not be negative, got -4", ValueError);
  CHECK_THROWS_AS(nn::GRUCell(3, 4, {.dtype = DType::Bool}), DTypeError);
  CHECK_THROWS_AS(nn::GRUCell(3, std::int64_t{1} << 62), ShapeError);
}
