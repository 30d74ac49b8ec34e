#include <unroll/autograd/grad_mode.h>
#include <unroll/autograd/ops/arithmetic.h>
#include <unroll/autograd/ops/compare.h>
#include <unroll/autograd/ops/reduce.h>
#include <unroll/autograd/ops/shape.h>
#include <unroll/core/random.h>
#include <unroll/nn/gru_cell.h>
#include <unroll/nn/lstm.h>
#include <unroll/nn/packed_sequence.h>
#include <unroll/nn/rnn_cell.h>

#include "support/fused_case.h"

// Fused ≡ composed where kernels have ways of their own: what few layers have, and sizes beyond those of others.

using namespace unroll;
using namespace fused;

TEST_CASE_TEMPLATE("fused cells: one of the two biases alone", Cell, nn::LSTMCell, nn::GRUCell, nn::RNNCell) {
  for (bool of_input : {false, true}) {
    Cell cell(5, 6, {.dtype = kDouble});
    (of_input ? cell.bias_hh : cell.bias_ih) = Tensor();
    const Tensor x = randn({3, 5}, kDouble).requires_grad_();
    const Tensors leaves{x, cell.weight_ih, cell.weight_hh, of_input ? cell.bias_ih : cell.bias_hh};
    auto all = [&](bool fused) {
      FusedMode mode(fused);
      const Tensor h = nn::output_of(cell(x, cell(x)));
      Tensors result = grad({sum(h * h)}, leaves);
      result.push_back(h);
      return result;
    };
    CHECK(distance(all(true), all(false)) < 1e-13);
  }
}

TEST_CASE("fused layers: one sequence of one step, and rows wider than all panels that lie side by side") {
  for (Kind kind : kKinds)
    for (std::int64_t n : {1, 2}) {
      const Subject s = subject(kind, {.t = 1, .n = n, .i = 230, .h = 70});
      CHECK(distance(values(s, true), values(s, false)) < 1e-13);
    }
}

TEST_CASE_TEMPLATE("fused cells: gradients of long rows of weights add up over the steps of one sequence", Cell,
                   nn::LSTMCell, nn::GRUCell, nn::RNNCell) {
  const Cell cell(70, 70, {.dtype = kDouble});
  const Tensor x = randn({3, 1, 70}, kDouble);
  auto gradients = [&](bool fused) {
    FusedMode mode(fused);
    typename Cell::State state;
    Tensor loss;
    for (const Tensor& step : unbind(x)) {
      state = cell(step, state);
      loss = loss.defined() ? loss + sum(nn::output_of(state)) : sum(nn::output_of(state));
    }
    return grad({loss}, {cell.weight_ih, cell.weight_hh, cell.bias_ih, cell.bias_hh});
  };
  CHECK(distance(gradients(true), gradients(false)) < 1e-13);
}

TEST_CASE("fused layers: a first step that has more rows than backward takes at a time, and few that go on") {
  std::vector<std::int64_t> lengths(4000, 1);
  lengths[0] = 60;
  const nn::LSTM lstm(3, 64, {.bidirectional = true, .dtype = kDouble});
  const Tensor x = randn({60, 4000, 3}, kDouble);
  auto gradients = [&](bool fused) {
    FusedMode mode(fused);
    const Tensor y = lstm(nn::pack_padded_sequence(x, lengths)).output.data();
    return grad({sum(y * y)}, lstm.parameters());
  };
  CHECK(distance(gradients(true), gradients(false)) < 1e-12);
}

TEST_CASE("fused layers: a row of a batch has the bits of that row alone where panels are two vectors wide and deep") {
  NoGrad no_grad;
  for (std::int64_t hidden : {4, 8, 16, 32}) {
    const nn::RNNCell cell(5000, hidden);
    const Tensor x = randn({16, 5000}) * 0.02;
    CHECK(equal(narrow(cell(x), 0, 0, 1), cell(narrow(x, 0, 0, 1))));
  }
}

#if defined(__x86_64__) || defined(__aarch64__)
TEST_CASE("fused layers: denormals are zeros in backward too") {
  for (Kind kind : kKinds) {
    const Subject s = subject(kind, {.t = 2, .n = 1, .i = 1, .h = 1, .dtype = DType::Float32});
    {
      NoGrad no_grad;
      for (const Tensor& x : s.tensors) x.fill_(1e-20);
    }
    const Tensor y = s.outputs()[0];
    const Tensor dx = grad({y}, {s.tensors[0]}, {.grad_outputs = {full_like(y, 1e-22)}})[0];
    CHECK(dx.to_vector<float>() == std::vector<float>{0, 0});
  }
}
#endif

TEST_CASE("fused layers: weight_hr has a gradient only where some h was used, as by ops") {
  const nn::LSTM lstm(2, 3, {.num_layers = 2, .proj_size = 2, .dtype = kDouble});
  const nn::LSTMCell single(2, 3, {.dtype = kDouble, .proj_size = 2});
  for (bool fused : {true, false}) {
    CAPTURE(fused);
    FusedMode mode(fused);
    auto has_gradient = [](const Tensor& loss, const nn::LSTMCell& cell) {
      return grad({loss}, {cell.weight_hr}, {.retain_graph = true, .allow_unused = true})[0].defined();
    };
    auto [output, state] = lstm(randn({1, 4, 2}, kDouble));
    CHECK_FALSE(has_gradient(sum(state.c), lstm.cell(1)));
    CHECK(has_gradient(sum(state.c), lstm.cell(0)));  // by the layer above
    CHECK(has_gradient(sum(state.h), lstm.cell(1)));
    CHECK(has_gradient(sum(output), lstm.cell(1)));
    CHECK(has_gradient(sum(lstm(randn({2, 4, 2}, kDouble)).state.c), lstm.cell(1)));  // by the gates of step 1
    const nn::LSTMState one = single(randn({4, 2}, kDouble));
    CHECK_FALSE(has_gradient(sum(one.c), single));
    CHECK(has_gradient(sum(one.h), single));
    CHECK(has_gradient(sum(single(randn({4, 2}, kDouble), one).c), single));
  }
}
