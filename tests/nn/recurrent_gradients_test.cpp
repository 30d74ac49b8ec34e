#include <unroll/autograd/engine.h>
#include <unroll/autograd/gradcheck.h>
#include <unroll/autograd/ops/arithmetic.h>
#include <unroll/autograd/ops/reduce.h>
#include <unroll/nn/lstm.h>

#include "support/gradients.h"
#include "support/layers.h"

using namespace unroll;

// First and second derivatives against differences, in input, states and every parameter, of every output.
namespace {
template <class L>
std::vector<Tensor> checked_inputs(const L& rnn, const Shape& input, std::int64_t batch) {
  std::vector<Tensor> inputs{randn(input, kDouble)};
  auto start = random_state(rnn, batch);
  for (Tensor* s : nn::state_tensors(start)) inputs.push_back(*s);
  for (const Tensor& x : inputs) x.requires_grad_();
  for (const Tensor& p : rnn.parameters()) inputs.push_back(p);
  return inputs;
}

template <class S>
S state_of(const std::vector<Tensor>& inputs) {
  return nn::make_state<S>([&](std::size_t i) { return inputs[i + 1]; });
}

// Both orders of a layer on `steps` steps of two sequences.
template <class K>
void check_layer(const nn::RecurrentOptions& options, std::int64_t steps) {
  auto rnn = K::make(2, 2, options);
  auto f = [&](const std::vector<Tensor>& in) { return all_of(rnn(in[0], state_of<typename K::Layer::State>(in))); };
  check_gradients(f, checked_inputs(rnn, options.batch_first ? Shape{2, steps, 2} : Shape{steps, 2, 2}, 2));
}
}  // namespace

TEST_CASE_TEMPLATE("recurrent: gradients to second order, one layer", K, TanhRNN, PlainLSTM, ProjectedLSTM, PlainGRU,
                   ResetBeforeGRU, UnbiasedRNN, UnbiasedLSTM, UnbiasedGRU, MGU) {
  manual_seed(1);
  check_layer<K>({}, 3);
}

TEST_CASE_TEMPLATE("recurrent: gradients to second order, two layers and directions", K, TanhRNN, ProjectedLSTM,
                   PlainGRU) {
  manual_seed(2);
  check_layer<K>({.num_layers = 2, .batch_first = true, .bidirectional = true}, 2);
}

TEST_CASE_TEMPLATE("recurrent: first gradients of the others, two layers and directions", K, PlainLSTM, ResetBeforeGRU,
                   UnbiasedRNN, UnbiasedLSTM, UnbiasedGRU, Counting) {
  manual_seed(3);
  auto rnn = K::make(2, 2, {.num_layers = 2, .bidirectional = true});
  CHECK(gradcheck(
      [&](const std::vector<Tensor>& in) { return all_of(rnn(in[0], state_of<typename K::Layer::State>(in))); },
      checked_inputs(rnn, {3, 2, 2}, 2)));
}

// Some units are off, and none that is on is so near to the kink that a difference would cross it.
TEST_CASE("recurrent: gradients through relu, where nothing is near zero") {
  for (bool bidirectional : {false, true}) {
    manual_seed(4);
    auto rnn = ReluRNN::make(2, 3, {.num_layers = 2, .bidirectional = bidirectional});
    auto inputs = checked_inputs(rnn, {3, 2, 2}, 2);
    auto f = [&](const std::vector<Tensor>& in) { return all_of(rnn(in[0], in[1])); };
    std::int64_t off = 0;
    for (const Tensor& y : rnn.trace(inputs[0], inputs[1]).outputs) {
      off += sum(eq(y, 0)).item<std::int64_t>();
      CHECK(all(logical_not(logical_and(gt(y, 0), lt(y, 1e-3)))));
    }
    CHECK(off > 0);
    check_gradients(f, inputs);
  }
}

TEST_CASE_TEMPLATE("recurrent: gradients to second order of packed sequences", K, TanhRNN, ReluRNN, PlainLSTM,
                   ProjectedLSTM, PlainGRU, ResetBeforeGRU, MGU) {
  manual_seed(4);
  auto rnn = K::make(2, 2, {.bidirectional = true});
  auto f = [&](const std::vector<Tensor>& in) {
    auto packed = nn::pack_padded_sequence(in[0], {1, 3, 2}, {.enforce_sorted = false});
    return all_of(rnn(packed, state_of<typename K::Layer::State>(in)));
  };
  check_gradients(f, checked_inputs(rnn, {3, 3, 2}, 3));
}

TEST_CASE_TEMPLATE("recurrent: gradients of two packed layers", K, TanhRNN, PlainLSTM, ProjectedLSTM, PlainGRU, MGU,
                   Counting) {
  manual_seed(5);
  auto rnn = K::make(2, 2, {.num_layers = 2, .bidirectional = true});
  auto f = [&](const std::vector<Tensor>& in) {
    auto packed = nn::pack_padded_sequence(in[0], {1, 3, 2}, {.enforce_sorted = false});
    auto result = rnn(packed, state_of<typename K::Layer::State>(in));
    std::vector<Tensor> outputs = all_of(result);
    outputs[0] = nn::pad_packed_sequence(result.output).padded;
    return outputs;
  };
  CHECK(gradcheck(f, checked_inputs(rnn, {3, 3, 2}, 3)));
}

TEST_CASE_TEMPLATE("recurrent: gradients across resets", K, TanhRNN, ProjectedLSTM, PlainGRU, MGU) {
  manual_seed(6);
  auto rnn = K::make(2, 2, {.bidirectional = true});
  using State = typename K::Layer::State;
  const Tensor done = tensor({{false, true}, {true, false}, {false, false}});
  auto inputs = checked_inputs(rnn, {3, 2, 2}, 2);
  auto to = random_state(rnn, 2);
  const std::size_t first = inputs.size();
  for (Tensor* s : nn::state_tensors(to)) inputs.push_back(s->requires_grad_());
  auto f = [&](const std::vector<Tensor>& in) {
    auto reset_to = nn::make_state<State>([&](std::size_t i) { return in[first + i]; });
    return all_of(rnn(in[0], state_of<State>(in), {.done = done, .reset_to = reset_to}));
  };
  check_gradients(f, inputs);
}

TEST_CASE_TEMPLATE("recurrent: gradients under dropout are those of the drawn mask", K, TanhRNN, PlainLSTM, PlainGRU) {
  manual_seed(7);
  auto rnn = K::make(2, 2, {.num_layers = 2, .dropout = 0.5, .bidirectional = true});
  auto f = [&](const std::vector<Tensor>& in) {
    manual_seed(8);
    return all_of(rnn(in[0], state_of<typename K::Layer::State>(in)));
  };
  CHECK(gradcheck(f, checked_inputs(rnn, {3, 2, 2}, 2)));
}

TEST_CASE("recurrent: create_graph where one of the outputs depends on nothing that is wanted") {
  nn::LSTM rnn(3, 4, {.proj_size = 2, .dtype = kDouble});
  rnn.requires_grad_(false);
  const Tensor w = rnn.cell(0).weight_hr.requires_grad_();
  auto [y, state] = rnn(ones({1, 2, 3}, kDouble));
  CHECK_NOTHROW(grad({sum(y) + sum(state.c)}, {w}, {.create_graph = true}));
}
