#include "support/gradients.h"
#include "support/raises.h"

#include <unroll/autograd/engine.h>
#include <unroll/autograd/ops/activation.h>
#include <unroll/autograd/ops/arithmetic.h>
#include <unroll/autograd/ops/matmul.h>
#include <unroll/autograd/ops/normalize.h>
#include <unroll/autograd/ops/reduce.h>
#include <unroll/nn/forget_bias.h>
#include <unroll/nn/gru.h>
#include <unroll/nn/layer_norm_cells.h>
#include <unroll/nn/lstm.h>
#include <unroll/nn/peephole_lstm_cell.h>

using namespace unroll;

// Cells that torch has not: peepholes, layer normalisation, the reset gate before the product.
namespace {
constexpr DType kDouble = DType::Float64;

/// Derivatives of a cell in x, its state and all parameters.
template <class C>
void check_cell(const C& cell) {
  Generator generator(7);
  std::vector<Tensor> inputs{leaf({2, cell.input_size}, generator)};
  for (std::size_t i = 0; i < nn::state_size<typename C::State>; ++i)
    inputs.push_back(leaf({2, cell.hidden_size}, generator));
  for (const Tensor& p : cell.parameters()) inputs.push_back(p);
  check_gradients(
      [&](const std::vector<Tensor>& in) {
        auto state = cell(in[0], nn::make_state<typename C::State>([&](std::size_t i) { return in[i + 1]; }));
        std::vector<Tensor> results;
        for (const Tensor* s : nn::state_tensors(state)) results.push_back(*s);
        return results;
      },
      inputs);
}

/// Packed, bidirectional and stacked: each sequence as if it were alone, in value and gradient.
template <class C, class Options>
void check_packed(const Options& options) {
  manual_seed(3);
  nn::Recurrent<C> rnn(3, 4, {.num_layers = 2, .bidirectional = true}, options);
  std::vector<Tensor> alone{randn({2, 3}, kDouble), randn({4, 3}, kDouble), randn({1, 3}, kDouble)};
  auto gradients = [&](const std::vector<Tensor>& outputs) {
    Tensor loss = scalar(0, kDouble);
    for (const Tensor& y : outputs) loss = loss + sum(y * sin(y));
    return grad({loss}, rnn.parameters());
  };
  std::vector<Tensor> expected;
  for (const Tensor& x : alone) expected.push_back(rnn(x).output);
  auto packed = nn::unpack_sequence(rnn(nn::pack_sequence(alone, false)).output);
  for (std::size_t n = 0; n < 3; ++n) CHECK(allclose(packed[n], expected[n], 0, 1e-13));
  auto a = gradients(packed), b = gradients(expected);
  for (std::size_t i = 0; i < a.size(); ++i) CHECK(allclose(a[i], b[i], 1e-11, 1e-12));
}
}  // namespace

TEST_CASE("peephole_lstm_cell: the equations") {
  manual_seed(1);
  nn::PeepholeLSTMCell cell(3, 2, {.dtype = kDouble});
  Tensor x = randn({4, 3}, kDouble), h = randn({4, 2}, kDouble), c = randn({4, 2}, kDouble);
  auto a = [&](std::int64_t k) {
    auto rows = [&](const Tensor& w) { return narrow(w, 0, 2 * k, 2); };
    return linear(x, rows(cell.weight_ih), rows(cell.bias_ih)) + linear(h, rows(cell.weight_hh), rows(cell.bias_hh));
  };
  Tensor i = sigmoid(a(0) + cell.weight_ci * c), f = sigmoid(a(1) + cell.weight_cf * c);
  Tensor c_next = f * c + i * tanh(a(2));
  auto [h1, c1] = cell(x, {h, c});
  CHECK(allclose(c1, c_next, 0, 1e-15));
  CHECK(allclose(h1, sigmoid(a(3) + cell.weight_co * c_next) * tanh(c_next), 0, 1e-15));

  for (const Tensor& w : {cell.weight_ci, cell.weight_cf, cell.weight_co}) {
    CHECK(w.shape() == Shape{2});
    w.detach().zero_();
  }
  nn::LSTMCell plain(3, 2, {.dtype = kDouble});
  plain.load_state_dict(cell.state_dict(), false);
  CHECK(allclose(cell(x, {h, c}).h, plain(x, {h, c}).h, 0, 1e-15));
  CHECK(equal(cell(select(x, 0, 0)).h, select(cell(x).h, 0, 0)));

  cell.weight_co = zeros(3, kDouble).requires_grad_();
  CHECK_RAISES(ShapeError, "peephole_lstm_cell: weight_co has been replaced by one of shape (3,), expected (2,)",
               cell(x));
  cell.weight_hh = zeros(3, kDouble).requires_grad_();
  CHECK_RAISES(ShapeError, "peephole_lstm_cell: weight_hh has been replaced", cell(x));
}

TEST_CASE("peephole_lstm_cell: gradients; packed") {
  manual_seed(2);
  check_cell(nn::PeepholeLSTMCell(3, 2, {.dtype = kDouble}));
  check_packed<nn::PeepholeLSTMCell>(nn::PeepholeLSTMCellOptions{.dtype = kDouble});
}

TEST_CASE("layer_norm_lstm_cell: the equations; what normalisation makes of scale") {
  manual_seed(4);
  nn::LayerNormLSTMCell cell(3, 2, {.dtype = kDouble});
  for (nn::LayerNorm* norm : {&cell.layer_norm_ih, &cell.layer_norm_hh, &cell.layer_norm_c})
    normal_(norm->weight.detach(), 1, 0.3);
  normal_(cell.layer_norm_c.bias.detach());
  Tensor x = randn({4, 3}, kDouble), h = randn({4, 2}, kDouble), c = randn({4, 2}, kDouble);
  auto norm = [](const Tensor& v, const Tensor& weight) { return layer_norm(v, {v.size(1)}, weight); };
  Tensor a = norm(linear(x, cell.weight_ih), cell.layer_norm_ih.weight) + cell.bias_ih +
             norm(linear(h, cell.weight_hh), cell.layer_norm_hh.weight) + cell.bias_hh;
  auto block = [&](std::int64_t k) { return narrow(a, 1, 2 * k, 2); };
  Tensor c_next = sigmoid(block(1)) * c + sigmoid(block(0)) * tanh(block(2));
  auto [h1, c1] = cell(x, {h, c});
  CHECK(allclose(c1, c_next, 0, 1e-14));
  Tensor seen = norm(c_next, cell.layer_norm_c.weight) + cell.layer_norm_c.bias;
  CHECK(allclose(h1, sigmoid(block(3)) * tanh(seen), 0, 1e-14));

  cell.weight_ih.detach().mul_(1000);  // to the size of eps the same
  CHECK(allclose(cell(x, {h, c}).h, h1, 0, 1e-4));
  cell.reset_parameters();
  CHECK(equal(cell.layer_norm_c.weight.detach(), ones(2, kDouble)));
}

TEST_CASE("layer_norm_gru_cell: the equations") {
  manual_seed(5);
  nn::LayerNormGRUCell cell(3, 2, {.dtype = kDouble});
  Tensor x = randn({4, 3}, kDouble), h = randn({4, 2}, kDouble);
  Tensor a = layer_norm(linear(x, cell.weight_ih), {6}, cell.layer_norm_ih.weight) + cell.bias_ih;
  Tensor u = layer_norm(linear(h, cell.weight_hh), {6}, cell.layer_norm_hh.weight) + cell.bias_hh;
  auto block = [](const Tensor& v, std::int64_t k) { return narrow(v, 1, 2 * k, 2); };
  Tensor r = sigmoid(block(a, 0) + block(u, 0)), z = sigmoid(block(a, 1) + block(u, 1));
  Tensor n = tanh(block(a, 2) + r * block(u, 2));
  CHECK(allclose(cell(x, h), (1 - z) * n + z * h, 0, 1e-14));
  CHECK(nn::LayerNormGRUCell(3, 2, {.bias = false}).parameters().size() == 4);
}

TEST_CASE("layer_norm cells: gradients; packed") {
  manual_seed(6);
  check_cell(nn::LayerNormLSTMCell(3, 3, {.dtype = kDouble}));
  check_cell(nn::LayerNormGRUCell(3, 3, {.dtype = kDouble}));
  check_packed<nn::LayerNormLSTMCell>(nn::LayerNormCellOptions{.dtype = kDouble});
  check_packed<nn::LayerNormGRUCell>(nn::LayerNormCellOptions{.dtype = kDouble});
}

TEST_CASE("gru_cell: the reset gate before the product") {
  manual_seed(7);
  nn::GRUCell cell(3, 2, {.dtype = kDouble, .reset_after = false});
  Tensor x = randn({4, 3}, kDouble), h = randn({4, 2}, kDouble);
  auto gate = [&](std::int64_t k, const Tensor& v) {
    auto rows = [&](const Tensor& w) { return narrow(w, 0, 2 * k, 2); };
    return linear(x, rows(cell.weight_ih), rows(cell.bias_ih)) + linear(v, rows(cell.weight_hh), rows(cell.bias_hh));
  };
  Tensor r = sigmoid(gate(0, h)), z = sigmoid(gate(1, h)), n = tanh(gate(2, r * h));
  CHECK(allclose(cell(x, h), (1 - z) * n + z * h, 0, 1e-15));
  check_cell(cell);
  check_packed<nn::GRUCell>(nn::GRUCellOptions{.dtype = kDouble, .reset_after = false});
  check_cell(nn::GRUCell(3, 2, {.bias = false, .dtype = kDouble, .reset_after = false}));
  CHECK(nn::to_string(nn::GRU(3, 4, {.reset_after = false})) == "GRU(3, 4, reset_after=False)");
}

TEST_CASE("forget_bias_: the sum of both biases, of the forget gate only") {
  manual_seed(8);
  nn::LSTM rnn(3, 4, {.num_layers = 2, .bidirectional = true});
  NamedTensors before;
  for (const auto& [name, tensor] : rnn.state_dict()) before.emplace_back(name, tensor.clone());
  nn::init::forget_bias_(rnn, 1.5);
  for (std::size_t i = 0; i < before.size(); ++i) {
    const auto& [name, old] = before[i];
    Tensor now = rnn.state_dict()[i].second;
    if (name.find("bias") == std::string::npos) {
      CHECK(equal(now, old));
      continue;
    }
    CHECK(equal(narrow(now, 0, 4, 4), full(4, name.find("bias_ih") == 0 ? 1.5 : 0)));
    CHECK(equal(narrow(now, 0, 0, 4), narrow(old, 0, 0, 4)));
    CHECK(equal(narrow(now, 0, 8, 8), narrow(old, 0, 8, 8)));
  }
  nn::Recurrent<nn::LayerNormLSTMCell> other(3, 4);
  nn::init::forget_bias_(other);
  CHECK(equal(narrow(other.cell(0).bias_ih.detach(), 0, 4, 4), ones(4)));
  nn::LSTMCell none(3, 4, {.bias = false});
  CHECK_RAISES(ValueError, "forget_bias_: the cell has no biases", nn::init::forget_bias_(none));
}

TEST_CASE("layer_norm cells: normalisation begins with ones and zeros, and has one eps") {
  const nn::LayerNormLSTMCell lstm(3, 4, {.eps = 0.5});
  const nn::LayerNormGRUCell gru(3, 4, {.eps = 0.5});
  for (const nn::LayerNorm* norm :
       {&lstm.layer_norm_ih, &lstm.layer_norm_hh, &lstm.layer_norm_c, &gru.layer_norm_ih, &gru.layer_norm_hh}) {
    CHECK(norm->eps == 0.5);
    CHECK(equal(norm->weight, ones_like(norm->weight)));
    if (norm->bias.defined()) CHECK(equal(norm->bias, zeros_like(norm->bias)));
  }
}

TEST_CASE("layer_norm_lstm_cell, layer_norm_gru_cell: reset_parameters reaches every norm") {
  auto check = [](auto& cell) {
    {
      NoGrad guard;
      for (const Tensor& p : cell.parameters()) p.fill_(7);
    }
    cell.reset_parameters();
    for (const auto& named : cell.named_parameters()) {
      CAPTURE(named.first);
      CHECK_FALSE(any(eq(named.second, 7)));
      if (named.first.ends_with("norm_hh.weight")) CHECK(all(eq(named.second, 1)));
    }
  };
  nn::LayerNormLSTMCell lstm(2, 3);
  nn::LayerNormGRUCell gru(2, 3);
  check(lstm);
  check(gru);
}

TEST_CASE("peephole_lstm_cell, layer_norm cells: without biases") {
  auto names = [](const nn::Module& cell) {
    std::string text;
    for (const auto& [name, tensor] : cell.named_parameters()) text += name + ' ';
    return text;
  };
  CHECK(names(nn::PeepholeLSTMCell(3, 2, {.bias = false})) == "weight_ih weight_hh weight_ci weight_cf weight_co ");
  nn::LayerNormGRUCell gru(3, 2, {.bias = false});
  CHECK(names(gru) == "weight_ih weight_hh layer_norm_ih.weight layer_norm_hh.weight ");
  nn::LayerNormLSTMCell lstm(3, 2, {.bias = false});
  CHECK(names(lstm) ==
        "weight_ih weight_hh layer_norm_ih.weight layer_norm_hh.weight layer_norm_c.weight layer_norm_c.bias ");
  // What is normalised of zeros is zeros: all gates are 1/2, and nothing is let in.
  CHECK(equal(lstm(zeros({1, 3}), {zeros({1, 2}), ones({1, 2})}).c, full({1, 2}, 0.5)));
  CHECK(equal(gru(zeros({1, 3}), zeros({1, 2})), zeros({1, 2})));
}
