#include "support/gradients.h"
#include "support/memory.h"
#include "support/raises.h"

#include <unroll/autograd/engine.h>
#include <unroll/autograd/ops/arithmetic.h>
#include <unroll/autograd/ops/dropout.h>
#include <unroll/autograd/ops/loss.h>
#include <unroll/autograd/ops/reduce.h>
#include <unroll/nn/gru.h>
#include <unroll/nn/initial_state.h>
#include <unroll/nn/linear.h>
#include <unroll/nn/lstm.h>
#include <unroll/nn/stack.h>
#include <unroll/nn/truncated_bptt.h>
#include <unroll/optim/sgd.h>

#include <doctest/doctest.h>

using namespace unroll;

namespace {
constexpr DType kDouble = DType::Float64;

template <class Layer, class Parameter>
void copy_into(const Layer& to, const Parameter& from) {
  std::vector<Tensor> p = to.parameters(), q = from.parameters();
  REQUIRE(p.size() == q.size());
  for (std::size_t i = 0; i < p.size(); ++i) p[i].detach().copy_(q[i].detach());
}
}  // namespace

TEST_CASE("initial_state: parameters that every sequence of a batch begins with, and that learn") {
  manual_seed(1);
  nn::LSTM rnn(3, 4, {.num_layers = 2, .bidirectional = true, .proj_size = 2, .dtype = kDouble});
  nn::InitialState start(rnn);
  NamedTensors parameters = start.named_parameters();
  REQUIRE(parameters.size() == 2);
  CHECK(parameters[0].first == "h0");
  CHECK(parameters[0].second.shape() == Shape{4, 2});
  CHECK(parameters[1].first == "c0");
  CHECK(parameters[1].second.shape() == Shape{4, 4});
  CHECK(start.dtype() == kDouble);
  Tensor x = randn({5, 3, 3}, kDouble);
  CHECK(equal(rnn(x, start(3)).output, rnn(x).output));  // zeros to begin with

  normal_(start.state.h.detach());
  normal_(start.state.c.detach());
  CHECK(equal(rnn(select(x, 1, 0), start()).output, squeeze(rnn(narrow(x, 1, 0, 1), start(1)).output, 1)));
  CHECK(gradcheck(
      [&](const std::vector<Tensor>&) {
        auto [output, state] = rnn(x, start(3));
        return std::vector{output, state.c};
      },
      {start.state.h, start.state.c}));
}

TEST_CASE("stack: layers of different widths, one after the other") {
  manual_seed(2);
  nn::Stack<nn::LSTM> rnn(3, {4, 2}, {.dropout = 0.5}, nn::LSTMOptions{.bidirectional = true, .dtype = kDouble});
  CHECK(rnn.size() == 2);
  CHECK(rnn[1].input_size == 8);
  CHECK(rnn.named_parameters()[0].first == "0.weight_ih_l0");
  CHECK(rnn.named_parameters().back().first == "1.bias_hh_l0_reverse");
  Tensor x = randn({5, 3, 3}, kDouble);
  std::vector<nn::LSTMState> start{{randn({2, 3, 4}, kDouble), randn({2, 3, 4}, kDouble)},
                                   {randn({2, 3, 2}, kDouble), randn({2, 3, 2}, kDouble)}};
  manual_seed(3);
  auto [output, states] = rnn(x, start);
  manual_seed(3);
  auto lower = rnn[0](x, start[0]);
  auto upper = rnn[1](dropout(lower.output, 0.5), start[1]);
  CHECK(equal(output, upper.output));
  CHECK(equal(states[0].c, lower.state.c));
  CHECK(equal(states[1].h, upper.state.h));

  rnn.eval();
  auto packed = nn::pack_padded_sequence(x, {2, 5, 3}, {.enforce_sorted = false});
  auto sequences = nn::unpack_sequence(rnn(packed).output);
  for (std::int64_t n = 0; n < 3; ++n) {
    Tensor alone = narrow(select(x, 1, n), 0, 0, std::vector{2, 5, 3}[static_cast<std::size_t>(n)]);
    CHECK(allclose(sequences[static_cast<std::size_t>(n)], rnn(alone).output, 0, 1e-13));
  }

  // Equal widths: what the layer's own num_layers does.
  nn::Stack<nn::GRU> two(3, {4, 4}, {}, nn::GRUOptions{.dtype = kDouble});
  nn::GRU one(3, 4, {.num_layers = 2, .dtype = kDouble});
  copy_into(two, one);
  CHECK(equal(two(x).output, one(x).output));
}

TEST_CASE("stack: errors") {
  CHECK_RAISES(ValueError, "stack: expected at least one hidden size", nn::Stack<nn::GRU>(3, {}));
  CHECK_RAISES(ValueError, "stack: dropout must be in [0, 1], got 2", nn::Stack<nn::GRU>(3, {4}, {.dropout = 2}));
  CHECK_RAISES(ValueError, "stack: hidden sizes must be positive, got 0 at 1", nn::Stack<nn::GRU>(3, {4, 0}));
  nn::Stack<nn::GRU> rnn(3, {4, 2});
  CHECK_RAISES(ValueError, "stack: got 1 states for 2 layers", rnn(zeros({2, 1, 3}), {zeros({1, 1, 4})}));
}

TEST_CASE("truncated_bptt: equals the loop with detach, and holds one part's graph at a time") {
  manual_seed(4);
  nn::LSTM rnn(2, 3, {.num_layers = 2, .dtype = kDouble}), other(2, 3, {.num_layers = 2, .dtype = kDouble});
  nn::Linear head(3, 1, {.dtype = kDouble}), other_head(3, 1, {.dtype = kDouble});
  copy_into(other, rnn);
  copy_into(other_head, head);
  auto parameters = [](const nn::Module& a, const nn::Module& b) {
    std::vector<Tensor> all = a.parameters();
    for (const Tensor& p : b.parameters()) all.push_back(p);
    return all;
  };
  optim::SGD sgd(parameters(rnn, head), {.lr = 0.1}), other_sgd(parameters(other, other_head), {.lr = 0.1});
  Tensor x = randn({11, 2, 2}, kDouble), target = randn({11, 2, 1}, kDouble);

  std::vector<double> losses;
  std::vector<std::int64_t> firsts;
  std::vector<Live> live;
  auto state =
      nn::truncated_bptt(x, nn::LSTMState{}, 4, [&](const Tensor& part, std::int64_t first, const nn::LSTMState& from) {
        firsts.push_back(first);
        auto [output, next] = rnn(part, from);
        Tensor loss = mse_loss(head(output), narrow(target, 0, first, part.size(0)));
        if (part.size(0) == 4) live.emplace_back();
        losses.push_back(loss.item());
        sgd.zero_grad();
        loss.backward();
        sgd.step();
        return next;
      });
  CHECK(firsts == std::vector<std::int64_t>{0, 4, 8});
  CHECK_FALSE(state.h.requires_grad());
  CHECK(live[0].nodes == live[1].nodes);

  nn::LSTMState by_hand;
  for (std::size_t k = 0; k < 3; ++k) {
    auto part = [&](const Tensor& s) { return slice(s, 0, firsts[k], firsts[k] + 4); };
    auto [output, next] = other(part(x), by_hand);
    Tensor loss = mse_loss(other_head(output), part(target));
    CHECK(loss.item() == losses[k]);
    other_sgd.zero_grad();
    loss.backward();
    other_sgd.step();
    by_hand = nn::detach(next);
  }
  CHECK(equal(state.h, by_hand.h));
  CHECK(equal(state.c, by_hand.c));
  for (std::size_t i = 0; i < rnn.parameters().size(); ++i)
    CHECK(equal(rnn.parameters()[i].detach(), other.parameters()[i].detach()));
}

TEST_CASE("truncated_bptt: no gradient crosses a cut; another dimension; errors") {
  nn::GRU rnn(2, 3, {.batch_first = true, .dtype = kDouble});
  Tensor x = randn({2, 6, 2}, kDouble).requires_grad_(), h0 = randn({1, 2, 3}, kDouble).requires_grad_();
  nn::truncated_bptt(
      x, h0, 3,
      [&](const Tensor& part, std::int64_t first, const Tensor& from) {
        auto [output, next] = rnn(part, from);
        if (first == 3) sum(output).backward();
        return next;
      },
      1);
  CHECK_FALSE(h0.grad().defined());
  CHECK(equal(narrow(x.grad(), 1, 0, 3), zeros({2, 3, 2}, kDouble)));
  CHECK(all(ne(narrow(x.grad(), 1, 3, 3), 0)));
  std::vector<Shape> parts;
  auto note = [&](const Tensor& part, std::int64_t, const Tensor& s) {
    parts.push_back(part.shape());
    return s;
  };
  nn::truncated_bptt(x, h0, 4, note, -2);
  CHECK(parts == std::vector<Shape>{{2, 4, 2}, {2, 2, 2}});
  CHECK_RAISES(IndexError, "-4", nn::truncated_bptt(x, h0, 2, note, -4));
  auto nothing = [](const Tensor&, std::int64_t, const Tensor& s) { return s; };
  CHECK_RAISES(ValueError, "truncated_bptt: steps must be > 0, got 0", nn::truncated_bptt(x, h0, 0, nothing));
  CHECK_RAISES(IndexError, "3", nn::truncated_bptt(x, h0, 2, nothing, 3));
}

TEST_CASE("truncated_bptt: the state that it is given has its history in the first part alone, and learns") {
  Tensor w = ones(1, kDouble).requires_grad_();
  auto step = [](const Tensor& part, std::int64_t first, const Tensor& s) {
    CHECK(s.requires_grad() == (first == 0));
    Tensor next = s + sum(part);
    if (next.requires_grad()) sum(3 * next).backward();
    return next;
  };
  CHECK(nn::truncated_bptt(ones({4, 1}, kDouble), Tensor(2 * w), 2, step).item() == 6);
  CHECK(w.grad().item() == 6);

  nn::GRU gru(1, 2);
  nn::InitialState start(gru);
  nn::truncated_bptt(ones({4, 3, 1}), start(3), 2, [&](const Tensor& part, std::int64_t, const Tensor& s) {
    auto [output, next] = gru(part, s);
    sum(output).backward();
    return next;
  });
  CHECK(start.state.grad().defined());
}

TEST_CASE("truncated_bptt: a part may return no state, with which the next one begins anew") {
  nn::GRU gru(1, 2);
  int undefined = 0;
  const Tensor last =
      nn::truncated_bptt(ones({6, 1, 1}), Tensor(), 2, [&](const Tensor& part, std::int64_t first, const Tensor& s) {
        undefined += !s.defined();
        return first == 0 ? gru(part, s).state : Tensor();
      });
  CHECK(undefined == 2);  // given, and after the second part
  CHECK_FALSE(last.defined());
}

TEST_CASE("stack: as many states as layers") {
  nn::Stack<nn::GRU> rnn(3, {4, 2});
  const std::vector<Tensor> states{zeros({1, 2, 4}), zeros({1, 2, 2}), zeros({1, 2, 2})};
  CHECK_THROWS_AS(rnn(zeros({5, 2, 3}), states), ValueError);
}
