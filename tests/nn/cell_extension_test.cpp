#include "support/gradients.h"
#include "support/raises.h"

#include <unroll/autograd/engine.h>
#include <unroll/autograd/grad_mode.h>
#include <unroll/autograd/ops/activation.h>
#include <unroll/autograd/ops/arithmetic.h>
#include <unroll/autograd/ops/dropout.h>
#include <unroll/autograd/ops/matmul.h>
#include <unroll/autograd/ops/reduce.h>
#include <unroll/core/random.h>
#include <unroll/nn/gru.h>
#include <unroll/nn/lstm.h>
#include <unroll/nn/rnn.h>
#include <unroll/nn/variational_dropout.h>
#include <unroll/nn/weight_drop.h>
#include <unroll/nn/zoneout.h>

#include <limits>
#include <memory>

using namespace unroll;

namespace {
constexpr DType kDouble = DType::Float64;
constexpr nn::LSTMCellOptions kLSTM{.dtype = kDouble};
constexpr nn::GRUCellOptions kGRU{.dtype = kDouble};

template <class S>
bool same(const S& a, const S& b) {
  auto p = nn::state_tensors(a), q = nn::state_tensors(b);
  for (std::size_t i = 0; i < p.size(); ++i)
    if (!equal(*p[i], *q[i])) return false;
  return true;
}

template <class Layer>
typename Layer::State some_state(const Layer& layer, std::int64_t batch) {
  Shape widths = layer.state_widths();
  return nn::make_state<typename Layer::State>([&](std::size_t i) {
    return randn({layer.num_layers * layer.num_directions(), batch, widths[i]}, kDouble);
  });
}

std::vector<std::string> names(const nn::Module& module) {
  std::vector<std::string> result;
  for (const auto& [name, tensor] : module.named_parameters()) result.push_back(name);
  return result;
}

/// First derivatives of a layer of random masks: the same ones at every call.
template <class Layer>
bool differentiable(const Layer& rnn, const nn::PackedSequence* packed = nullptr) {
  Tensor x = (packed != nullptr ? packed->data() : randn({4, 2, rnn.input_size}, kDouble)).detach();
  std::vector<Tensor> inputs{x.requires_grad_()};
  for (const Tensor& p : rnn.parameters()) inputs.push_back(p);
  return gradcheck(
      [&](const std::vector<Tensor>& in) {
        manual_seed(3);
        if (packed != nullptr) return rnn(packed->with_data(in[0])).output.data();
        return rnn(in[0]).output;
      },
      inputs);
}
}  // namespace

TEST_CASE("extensions: a cell's parameters keep their names, whatever is piled on it") {
  nn::Recurrent<nn::Zoneout<nn::VariationalDropout<nn::WeightDrop<nn::LSTMCell>>>> rnn(
      3, 4, {.num_layers = 2, .bidirectional = true}, nn::ZoneoutOptions{.h = 0.05, .c = 0.5},
      nn::VariationalDropoutOptions{.input = 0.1, .hidden = 0.2}, nn::WeightDropOptions{.p = 0.3}, kLSTM);
  nn::LSTM plain(3, 4, {.num_layers = 2, .bidirectional = true, .dtype = kDouble});
  CHECK(names(rnn) == names(plain));
  CHECK(rnn.dtype() == kDouble);
  CHECK(rnn.cell(1).p_c == 0.5);
  CHECK(rnn.cell(1).p_input == 0.1);
  CHECK(rnn.cell(1, 1).p == 0.3);
  rnn.load_state_dict(plain.state_dict());
  rnn.eval();  // what zoneout does there is not nothing
  nn::Recurrent<nn::VariationalDropout<nn::WeightDrop<nn::LSTMCell>>> dropping(
      3, 4, {}, nn::VariationalDropoutOptions{}, nn::WeightDropOptions{}, kLSTM);
  nn::LSTM one(3, 4, {.dtype = kDouble});
  dropping.load_state_dict(one.state_dict());
  dropping.eval();
  Tensor x = randn({5, 2, 3}, kDouble);
  auto before = default_generator().get_state();
  CHECK(equal(dropping(x).output, one(x).output));
  CHECK(default_generator().get_state() == before);
}

TEST_CASE("extensions: probabilities are probabilities") {
  CHECK_RAISES(ValueError, "zoneout: c must be in [0, 1], got 1.5",
               nn::Zoneout<nn::LSTMCell>(1, 2, nn::ZoneoutOptions{.h = 0, .c = 1.5}));
  CHECK_RAISES(ValueError, "weight_drop: p", nn::WeightDrop<nn::GRUCell>(1, 2, nn::WeightDropOptions{-0.1}));
  CHECK_RAISES(ValueError, "variational_dropout: hidden",
               nn::VariationalDropout<nn::GRUCell>(
                   1, 2, nn::VariationalDropoutOptions{.hidden = std::numeric_limits<double>::quiet_NaN()}));
  CHECK_RAISES(ValueError, "lstm: proj_size",
               nn::Zoneout<nn::LSTMCell>(1, 2, nn::ZoneoutOptions{}, nn::LSTMCellOptions{.proj_size = 2}));
}

TEST_CASE("weight_drop: W_hh is dropped once a sequence, each direction and layer by itself") {
  manual_seed(1);
  nn::Recurrent<nn::WeightDrop<nn::LSTMCell>> rnn(3, 4, {.num_layers = 2}, nn::WeightDropOptions{.p = 0.4}, kLSTM);
  nn::LSTM plain(3, 4, {.num_layers = 2, .dtype = kDouble});
  Tensor x = randn({6, 2, 3}, kDouble);
  auto start = some_state(rnn, 2);

  plain.load_state_dict(rnn.state_dict());
  manual_seed(2);
  for (std::int64_t l : {0, 1}) {
    NoGrad no_grad;
    plain.cell(l).weight_hh.copy_(dropout(rnn.cell(l).weight_hh, 0.4));
  }
  manual_seed(2);
  auto dropped = rnn(x, start);
  auto expected = plain(x, start);
  CHECK(equal(dropped.output, expected.output));
  CHECK(same(dropped.state, expected.state));
  CHECK_FALSE(equal(rnn(x, start).output, expected.output));  // another sequence, another mask

  Tensor mask = ne(plain.cell(0).weight_hh.detach(), 0);
  manual_seed(2);
  sum(rnn(x, start).output).backward();
  CHECK(equal(ne(rnn.cell(0).weight_hh.grad(), 0), mask));
  CHECK(differentiable(rnn));
}

TEST_CASE("variational_dropout: one mask a sequence, for x and for h on their way into the products") {
  manual_seed(4);
  using Cell = nn::VariationalDropout<nn::GRUCell>;
  nn::Recurrent<Cell> rnn(3, 4, {}, nn::VariationalDropoutOptions{.input = 0.3, .hidden = 0.6}, kGRU);
  const Cell& cell = rnn.cell(0);
  Tensor x = randn({5, 2, 3}, kDouble);
  manual_seed(5);
  Tensor output = rnn(x).output;

  manual_seed(5);
  Tensor mask_x = dropout(ones({2, 3}, kDouble), 0.3), mask_h = dropout(ones({2, 4}, kDouble), 0.6);
  CHECK_FALSE(equal(select(mask_h, 0, 0), select(mask_h, 0, 1)));  // each sequence of the batch has its own
  auto gate = [&](std::int64_t k, const Tensor& v, const Tensor& weight, const Tensor& bias) {
    return linear(v, narrow(weight, 0, 4 * k, 4), narrow(bias, 0, 4 * k, 4));
  };
  Tensor h = zeros({2, 4}, kDouble);
  for (std::int64_t t = 0; t < 5; ++t) {
    Tensor v = select(x, 0, t) * mask_x;
    auto a = [&](std::int64_t k) { return gate(k, v, cell.weight_ih, cell.bias_ih); };
    auto u = [&](std::int64_t k) { return gate(k, h * mask_h, cell.weight_hh, cell.bias_hh); };
    Tensor r = sigmoid(a(0) + u(0)), z = sigmoid(a(1) + u(1)), n = tanh(a(2) + r * u(2));
    h = (1 - z) * n + z * h;  // the h that is carried is whole
    CHECK(allclose(select(output, 0, t), h, 0, 1e-14));
  }
  CHECK(differentiable(rnn));
}

TEST_CASE("variational_dropout: sequences that have ended leave the others their masks") {
  manual_seed(6);
  nn::Recurrent<nn::VariationalDropout<nn::LSTMCell>> rnn(3, 4, {.num_layers = 2, .bidirectional = true},
                                                          nn::VariationalDropoutOptions{}, kLSTM);
  Tensor x = randn({5, 3, 3}, kDouble);
  auto whole = nn::pack_padded_sequence(x, {5, 5, 5}), ragged = nn::pack_padded_sequence(x, {5, 3, 1});
  manual_seed(7);
  Tensor dense = rnn(x).output;
  manual_seed(7);
  CHECK(equal(nn::pad_packed_sequence(rnn(whole).output).padded, dense));
  manual_seed(7);
  auto [output, state] = rnn(ragged);
  // The first sequence is as in the dense batch: it has the same masks, and nobody else's rows reach it.
  CHECK(allclose(select(nn::pad_packed_sequence(output).padded, 1, 0), select(dense, 1, 0), 0, 1e-14));
  CHECK(differentiable(rnn, &ragged));
}

TEST_CASE("zoneout: each element is the old one or the new one; in expectation when not training") {
  manual_seed(8);
  nn::LSTMCell plain(3, 4, kLSTM);
  auto zoned = [&](double h, double c) {
    auto cell = std::make_unique<nn::Zoneout<nn::LSTMCell>>(3, 4, nn::ZoneoutOptions{.h = h, .c = c}, kLSTM);
    cell->load_state_dict(plain.state_dict());
    return cell;
  };
  Tensor x = randn({50, 3}, kDouble);
  nn::LSTMState state{randn({50, 4}, kDouble), randn({50, 4}, kDouble)}, next = plain(x, state);
  CHECK(same((*zoned(0, 0))(x, state), next));
  CHECK(same((*zoned(1, 1))(x, state), state));
  CHECK(equal((*zoned(1, 0))(x, state).h, state.h));
  CHECK(equal((*zoned(1, 0))(x, state).c, next.c));

  auto cell = zoned(0.3, 0.6);
  nn::LSTMState mixed = (*cell)(x, state);
  auto kept = [](const Tensor& after, const Tensor& before, const Tensor& fresh) {
    CHECK(all(logical_or(eq(after, before), eq(after, fresh))));
    return mean(eq(after, before).to(kDouble)).item();
  };
  CHECK(kept(mixed.h, state.h, next.h) == doctest::Approx(0.3).epsilon(0.3));
  CHECK(kept(mixed.c, state.c, next.c) == doctest::Approx(0.6).epsilon(0.2));

  cell->eval();
  auto before = default_generator().get_state();
  mixed = (*cell)(x, state);
  CHECK(allclose(mixed.h, 0.3 * state.h + 0.7 * next.h, 0, 1e-15));
  CHECK(allclose(mixed.c, 0.6 * state.c + 0.4 * next.c, 0, 1e-15));
  CHECK(allclose((*cell)(x).c, 0.4 * plain(x).c, 0, 1e-15));  // from zeros
  CHECK(default_generator().get_state() == before);
}

TEST_CASE_TEMPLATE("zoneout: a layer is the loop of its cell; packed too; gradients", C, nn::LSTMCell, nn::GRUCell,
                   nn::RNNCell) {
  FusedMode composed(false);  // in a layer the extended cell takes the equations
  manual_seed(9);
  auto options = [] {
    if constexpr (std::same_as<C, nn::RNNCell>)
      return nn::RNNCellOptions{.dtype = kDouble};
    else if constexpr (std::same_as<C, nn::GRUCell>)
      return kGRU;
    else
      return kLSTM;
  }();
  nn::Recurrent<nn::Zoneout<C>> rnn(3, 4, {}, nn::ZoneoutOptions{.h = 0.3, .c = 0.5}, options);
  Tensor x = randn({4, 2, 3}, kDouble);
  auto start = some_state(rnn, 2);
  manual_seed(10);
  auto [output, last] = rnn(x, start);
  manual_seed(10);
  auto state = nn::map_state(start, [](const Tensor& s) { return select(s, 0, 0); });
  for (std::int64_t t = 0; t < 4; ++t) {
    state = rnn.cell(0)(select(x, 0, t), state);
    CHECK(equal(select(output, 0, t), nn::output_of(state)));
  }
  CHECK(same(last, nn::stack_states(std::vector{state})));
  auto ragged = nn::pack_padded_sequence(x, {1, 4}, {.enforce_sorted = false});
  CHECK(differentiable(rnn));
  CHECK(differentiable(rnn, &ragged));
}

TEST_CASE("extensions: in either order of piling, the weights are dropped and the state is zoned") {
  manual_seed(11);
  nn::Recurrent<nn::Zoneout<nn::WeightDrop<nn::GRUCell>>> outer(3, 4, {}, nn::ZoneoutOptions{.h = 0.3},
                                                                nn::WeightDropOptions{0.5}, kGRU);
  nn::Recurrent<nn::WeightDrop<nn::Zoneout<nn::GRUCell>>> inner(3, 4, {}, nn::WeightDropOptions{0.5},
                                                                nn::ZoneoutOptions{.h = 0.3}, kGRU);
  nn::Recurrent<nn::Zoneout<nn::GRUCell>> zoned(3, 4, {}, nn::ZoneoutOptions{.h = 0.3}, kGRU);
  inner.load_state_dict(outer.state_dict());
  zoned.load_state_dict(outer.state_dict());
  Tensor x = randn({4, 2, 3}, kDouble);
  manual_seed(12);
  Tensor a = outer(x).output;
  manual_seed(12);
  CHECK(equal(inner(x).output, a));
  manual_seed(12);
  {
    NoGrad no_grad;
    zoned.cell(0).weight_hh.copy_(dropout(outer.cell(0).weight_hh, 0.5));
  }
  CHECK(equal(zoned(x).output, a));
}

TEST_CASE("variational_dropout: of x alone, of h alone, and of a cell that is stepped by hand") {
  const Tensor a = randn({3, 2, 5}, kDouble), b = randn({3, 2, 5}, kDouble), x = select(a, 0, 0);
  constexpr nn::VariationalDropoutOptions kAllOfX{.input = 1, .hidden = 0}, kAllOfH{.input = 0, .hidden = 1};
  nn::Recurrent<nn::VariationalDropout<nn::GRUCell>> rnn(5, 4, {}, kAllOfX, kGRU);
  CHECK(equal(rnn(a).output, rnn(b).output));
  nn::VariationalDropout<nn::LSTMCell> blind(5, 4, kAllOfX, kLSTM), forgetful(5, 4, kAllOfH, kLSTM);
  CHECK(equal(blind(x).h, blind(select(b, 0, 0)).h));
  const Tensor h = randn({2, 4}, kDouble), other = randn({2, 4}, kDouble), c = randn({2, 4}, kDouble);
  CHECK(equal(forgetful(x, {h, c}).h, forgetful(x, {other, c}).h));
}

TEST_CASE("zoneout: what is never kept draws no number") {
  nn::Zoneout<nn::GRUCell> cell(2, 3, nn::ZoneoutOptions{.h = 0, .c = 0});
  const auto before = default_generator().get_state();
  cell(ones({1, 2}));
  CHECK(default_generator().get_state() == before);
}

TEST_CASE("zoneout: each sequence is zoned by itself; a tenth of the state unless told otherwise") {
  manual_seed(13);
  nn::Zoneout<nn::LSTMCell> cell(2, 64, {}, kLSTM);
  const nn::LSTMState same_rows{full({2, 64}, 2, kDouble), full({2, 64}, 3, kDouble)};
  const Tensor kept = eq(cell(ones({2, 2}, kDouble), same_rows).c, 3);
  CHECK_FALSE(equal(select(kept, 0, 0), select(kept, 0, 1)));
  nn::LSTMCell plain(2, 64, kLSTM);
  plain.load_state_dict(cell.state_dict());
  cell.eval();
  const nn::LSTMState next = plain(ones({2, 2}, kDouble), same_rows), mixed = cell(ones({2, 2}, kDouble), same_rows);
  CHECK(allclose(mixed.h, 0.1 * same_rows.h + 0.9 * next.h, 0, 1e-15));
  CHECK(allclose(mixed.c, 0.1 * same_rows.c + 0.9 * next.c, 0, 1e-15));
}
