#include <unroll/autograd/engine.h>

#include <unroll/autograd/anomaly.h>
#include <unroll/autograd/grad_mode.h>
#include <unroll/nn/gru.h>
#include <unroll/nn/lstm.h>

#include <cmath>

#include "support/layers.h"

using namespace unroll;

// What a trace shows is what the layer did.

TEST_CASE_TEMPLATE("trace: the same numbers and the same graph as the call", K, ALL_LAYERS) {
  FusedMode composed(false);  // a trace is of the equations
  manual_seed(1);
  auto rnn = K::make(3, 4, {.num_layers = 2, .dropout = 0.5, .bidirectional = true});
  Tensor x = randn({5, 2, 3}, kDouble).requires_grad_();
  auto start = random_state(rnn, 2);
  manual_seed(2);
  auto result = rnn(x, start);
  manual_seed(2);
  auto trace = rnn.trace(x, start);
  REQUIRE(trace.outputs.size() == 2);
  REQUIRE(trace.steps.size() == 4);
  for (const auto& cell : trace.steps) CHECK(cell.size() == 5);
  CHECK(equal(trace.outputs[1], result.output));
  CHECK(same(trace.state, result.state));
  // Of the lower layer, before dropout.
  CHECK(equal(narrow(trace.outputs[0], 2, 0, rnn.output_size()), nn::output_of(trace.states(0))));
  Tensor a = grad({sum(square(result.output))}, {x})[0], b = grad({sum(square(trace.outputs[1]))}, {x})[0];
  CHECK(equal(a, b));
}

TEST_CASE("trace: a NaN is found in the layer by its name") {
  AnomalyMode anomaly;
  nn::LSTM rnn(2, 3);
  rnn.cell(0).weight_ih.detach().fill_(NAN);
  CHECK_THROWS_WITH_AS(rnn.trace(ones({4, 1, 2})), doctest::Contains("in LSTM, layer 0, step 0"), GradError);
}

TEST_CASE_TEMPLATE("trace: outputs of every layer and states of every step are those of loops of cells", K,
                   ALL_LAYERS) {
  FusedMode composed(false);  // a trace is of the equations
  manual_seed(3);
  auto rnn = K::make(3, 4, {.num_layers = 2, .bidirectional = true});
  Tensor x = randn({5, 2, 3}, kDouble), y = x;
  auto start = random_state(rnn, 2);
  auto trace = rnn.trace(x, start);
  for (std::int64_t layer : {0, 1}) {
    std::vector<Tensor> directions;
    for (std::int64_t direction : {0, 1}) {
      const std::int64_t index = 2 * layer + direction;
      auto state = nn::map_state(start, [&](const Tensor& s) { return select(s, 0, index); });
      auto all = trace.states(index);  // (T, N, width)
      std::vector<Tensor> outputs(5);
      for (std::int64_t k = 0; k < 5; ++k) {
        const std::int64_t t = direction == 1 ? 4 - k : k;
        state = rnn.cell(layer, direction)(select(y, 0, t), state);
        CHECK(same(nn::map_state(all, [&](const Tensor& s) { return select(s, 0, t); }), state));
        CHECK(same(trace.steps[static_cast<std::size_t>(index)][static_cast<std::size_t>(t)].state, state));
        outputs[static_cast<std::size_t>(t)] = nn::output_of(state);
      }
      CHECK(same(nn::map_state(trace.state, [&](const Tensor& s) { return select(s, 0, index); }), state));
      directions.push_back(stack(outputs));
    }
    y = cat(directions, -1);
    CHECK(equal(trace.outputs[static_cast<std::size_t>(layer)], y));
  }
}

TEST_CASE("trace: gates by name") {
  manual_seed(4);
  nn::LSTM lstm(3, 4, {.dtype = kDouble});
  Tensor x = randn({3, 2, 3}, kDouble);
  auto start = random_state(lstm, 2);
  auto trace = lstm.trace(x, start);
  Tensor c = select(start.c, 0, 0);
  for (const auto& [state, notes] : trace.steps[0]) {
    REQUIRE(notes.size() == 4);
    CHECK(notes[0].first == "i");
    CHECK(notes[1].first == "f");
    CHECK(notes[2].first == "g");
    CHECK(notes[3].first == "o");
    c = notes[1].second * c + notes[0].second * notes[2].second;
    CHECK(close(state.c, c));
    CHECK(close(state.h, notes[3].second * tanh(c)));
  }

  nn::GRU gru(3, 4, {.dtype = kDouble});
  Tensor h0 = randn({1, 2, 4}, kDouble), h = select(h0, 0, 0);
  auto of_gru = gru.trace(x, h0);
  for (const auto& [state, notes] : of_gru.steps[0]) {
    REQUIRE(notes.size() == 3);
    CHECK(notes[0].first == "r");
    CHECK(notes[1].first == "z");
    CHECK(notes[2].first == "n");
    CHECK(close(state, (1 - notes[1].second) * notes[2].second + notes[1].second * h));
    h = state;
  }
  CHECK(nn::RNN(3, 4).trace(zeros({2, 1, 3})).steps[0][1].notes.empty());
}

// dL/dh_t of backpropagation through time, from the definition: what flows back into h_t from L itself and from t + 1.
TEST_CASE_TEMPLATE("trace: retain_grad on a step shows what arrives there", K, TanhRNN, PlainLSTM, PlainGRU, MGU) {
  manual_seed(5);
  auto rnn = K::make(3, 4);
  Tensor x = randn({4, 2, 3}, kDouble), weights = randn({4, 2, 4}, kDouble);
  auto trace = rnn.trace(x);
  for (const auto& step : trace.steps[0]) nn::output_of(step.state).retain_grad();
  sum(trace.outputs[0] * weights).backward();

  // Restarted from the state after step t, L has the same derivative by that state.
  for (std::int64_t t = 0; t < 4; ++t) {
    const auto& step = trace.steps[0][static_cast<std::size_t>(t)];
    auto state = nn::map_state(nn::detach(step.state), [](const Tensor& s) { return s.clone().requires_grad_(); });
    Tensor h = nn::output_of(state), loss = sum(h * select(weights, 0, t));
    if (t < 3) {
      auto from = nn::map_state(state, [](const Tensor& s) { return unsqueeze(s, 0); });
      loss = loss + sum(rnn(narrow(x, 0, t + 1, 3 - t), from).output * narrow(weights, 0, t + 1, 3 - t));
    }
    CHECK(close(nn::output_of(step.state).grad(), grad({loss}, {h})[0]));
  }
}

TEST_CASE_TEMPLATE("trace: packed, rows are those that still run", K, PlainLSTM, PlainGRU, Counting) {
  FusedMode composed(false);  // a trace is of the equations
  manual_seed(6);
  auto rnn = K::make(3, 4, {.num_layers = 2, .bidirectional = true});
  auto x = nn::pack_padded_sequence(randn({4, 3, 3}, kDouble), {1, 4, 2}, {.enforce_sorted = false});
  auto start = random_state(rnn, 3);
  auto trace = rnn.trace(x, start);
  auto result = rnn(x, start);
  CHECK(equal(trace.outputs[1], result.output.data()));
  CHECK(same(trace.state, result.state));
  const std::int64_t width = rnn.output_size();
  for (std::int64_t index = 0; index < 4; ++index) {
    Tensor h = nn::output_of(trace.states(index));  // (ΣB_t, Ho)
    CHECK(equal(h, narrow(trace.outputs[static_cast<std::size_t>(index / 2)], 1, index % 2 * width, width)));
    for (std::size_t t = 0; t < 4; ++t)
      CHECK(nn::output_of(trace.steps[static_cast<std::size_t>(index)][t].state).size(0) == x.batch_sizes()[t]);
  }
  auto even = nn::pack_padded_sequence(zeros({4, 3, 3}, kDouble), {4, 4, 4});
  CHECK(nn::output_of(rnn.trace(even).states(0)).shape() == Shape{12, width});
}

TEST_CASE("trace: time-major whatever the layout, and nothing is noted outside of it") {
  FusedMode composed(false);  // a trace is of the equations
  manual_seed(7);
  nn::LSTM rnn(3, 4, {.batch_first = true, .dtype = kDouble});
  Tensor x = randn({2, 5, 3}, kDouble);
  auto trace = rnn.trace(x);
  CHECK(equal(transpose(trace.outputs[0], 0, 1), rnn(x).output));
  CHECK(trace.steps[0].size() == 5);
  auto none = rnn.trace(select(x, 0, 0));  // without a batch: one of one row
  CHECK(equal(squeeze(none.outputs[0], 1), rnn(select(x, 0, 0)).output));
  CHECK(none.state.h.shape() == Shape{1, 4});

  NamedTensors notes;
  {
    nn::detail::NoteScope outer(&notes);
    rnn(x);
    nn::note("seen", x);
    rnn.trace(x);
  }
  nn::note("unseen", x);
  CHECK(notes.size() == 1);
  CHECK(notes[0].first == "seen");
  CHECK(notes[0].second.is_same(x));
}

TEST_CASE("trace: of no steps") {
  nn::LSTM rnn(3, 4, {.dtype = kDouble, .allow_empty = true});
  CHECK(rnn.trace(zeros({0, 2, 3}, kDouble)).states(0).h.shape() == Shape{0, 2, 4});
  CHECK(rnn.trace(zeros({0, 3}, kDouble)).states(0).c.shape() == Shape{0, 1, 4});
  auto packed = nn::pack_padded_sequence(zeros({1, 2, 3}, kDouble), {0, 0}, {.allow_empty = true});
  CHECK(rnn.trace(packed).states(0).c.shape() == Shape{0, 4});
}

TEST_CASE("trace: states of no steps have the layer's dtype") {
  nn::GRU rnn(3, 4, {.dtype = DType::Float64, .allow_empty = true});
  auto trace = rnn.trace(zeros({0, 2, 3}, DType::Float64));
  CHECK(trace.states(0).dtype() == DType::Float64);
}
