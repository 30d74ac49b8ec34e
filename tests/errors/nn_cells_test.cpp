#include "support/error_table.h"

#include <doctest/doctest.h>

using namespace unroll;

// Cells 3 → 4 and a batch of 2. What C++ does not compile: an LSTM cell with one tensor as its state, or with three.

namespace {

constexpr DType f64 = DType::Float64;

/// Whether an LSTM's state, whose tensors the errors tell apart by number.
template <class C>
constexpr bool kPair = nn::state_size<typename C::State> == 2;

/// The state of a batch of 2 with tensor i replaced.
template <class C>
typename C::State state_with(std::size_t i, const Tensor& replacement) {
  return nn::make_state<typename C::State>([&](std::size_t k) { return k == i ? replacement : ones({2, 4}); });
}

template <class C>
void calls(const std::string& op) {
  using State = typename C::State;
  C cell(3, 4);
  Tensor x = ones({2, 3}), none;
  State state = state_with<C>(2, none);
  ErrorTable table("nn: cells");
  table.watch(cell, x);
  for (const Tensor* s : nn::state_tensors(state)) table.watch(*s);

  auto input = [&]<class E>(const char* what, std::vector<std::string> tokens, const Tensor& bad) {
    tokens.insert(tokens.begin(), op);
    table.row<E>(what, tokens, [&] { return cell(bad); });
    table.row<E>(what, tokens, [&] { return cell(bad, state); });
  };
  const std::string ranks = "expected an input of 2 dimensions, or 1 without a batch";
  input.template operator()<ShapeError>("x of rank 0", {ranks, "got 0", "()"}, scalar(1));
  input.template operator()<ShapeError>("x of rank 3", {ranks, "got 3", "(5, 2, 3)"}, ones({5, 2, 3}));
  input.template operator()<ShapeError>("x of rank 4", {ranks, "got 4", "(1, 5, 2, 3)"}, ones({1, 5, 2, 3}));
  input.template operator()<ShapeError>("x with a feature too many", {"4 features", "input_size = 3"}, ones({2, 4}));
  input.template operator()<ShapeError>("x with one feature", {"1 features", "input_size = 3"}, ones({2, 1}));
  input.template operator()<ShapeError>("x without features", {"0 features", "input_size = 3"}, ones({2, 0}));
  input.template operator()<DTypeError>("x of another dtype", {"input is float64", "parameters are float32"},
                                        ones({2, 3}, f64));
  input.template operator()<DTypeError>("x of int64", {"input is int64", "parameters are float32"},
                                        ones({2, 3}, DType::Int64));
  input.template operator()<DTypeError>("x of bool", {"input is bool", "parameters are float32"},
                                        ones({2, 3}, DType::Bool));
  table.row<ShapeError>("x without a batch and with a feature less", {op, "2 features", "input_size = 3"},
                        [&] { return cell(ones(2)); });
  table.row<ShapeError>("x without a batch, a state with one", {op, "an input of 1 dimensions", "hidden[0]", "(2, 4)"},
                        [&] { return cell(ones(3), state); });
  table.row<ValueError>("an undefined x", {op, "expected a tensor as input", "undefined"}, [&] { return cell(none); });

  for (std::size_t i = 0; i < nn::state_size<State>; ++i) {
    const std::string hidden = fmt::format("hidden[{}]", i);
    auto given = [&]<class E>(const char* what, std::vector<std::string> tokens, const Tensor& bad) {
      tokens.insert(tokens.begin(), {op, hidden});
      table.row<E>(what, tokens, [&, i] { return cell(x, state_with<C>(i, bad)); });
    };
    given.template operator()<ShapeError>("a state of rank 0", {"must have 2", "got 0", "()"}, scalar(1));
    given.template operator()<ShapeError>("a state of rank 1", {"must have 2", "got 1", "(4,)"}, ones(4));
    given.template operator()<ShapeError>("a state of rank 3", {"must have 2", "got 3", "(1, 2, 4)"}, ones({1, 2, 4}));
    given.template operator()<ShapeError>("a state of another batch", {"(3, 4)", "expected (2, 4)"}, ones({3, 4}));
    given.template operator()<ShapeError>("a batch of 1, not broadcast", {"(1, 4)", "expected (2, 4)"}, ones({1, 4}));
    given.template operator()<ShapeError>("a state of another width", {"(2, 5)", "expected (2, 4)"}, ones({2, 5}));
    given.template operator()<ShapeError>("a width of 1, not broadcast", {"(2, 1)", "expected (2, 4)"}, ones({2, 1}));
    given.template operator()<ShapeError>("a state of no sequences", {"(0, 4)", "expected (2, 4)"}, ones({0, 4}));
    given.template operator()<DTypeError>("a state of another dtype", {"is float64", "parameters are float32"},
                                          ones({2, 4}, f64));
    given.template operator()<DTypeError>("a state of int64", {"is int64", "parameters are float32"},
                                          ones({2, 4}, DType::Int64));
    if constexpr (kPair<C>)
      given.template operator()<ValueError>("a state in part", {"the state is 2 tensors", "missing"}, none);
  }
  if constexpr (!kPair<C>)
    table.row<ShapeError>("x without a batch, a state of another width", {op, "hidden[0]", "(5,)", "expected (4,)"},
                          [&] { return cell(ones(3), ones(5)); });
}

template <class C>
void replaced(const std::string& op, std::int64_t rows) {
  ErrorTable table("nn: cells");
  Tensor x = ones({2, 3});
  table.watch(x);
  using Member = Tensor C::*;
  struct Wrong {
    const char* name;
    Member member;
    Shape shape, expected;
  };
  const std::vector<Wrong> wrong{{"weight_ih", &C::weight_ih, {rows, 4}, {rows, 3}},
                                 {"weight_ih", &C::weight_ih, {rows + 1, 3}, {rows, 3}},
                                 {"weight_ih", &C::weight_ih, {3, rows}, {rows, 3}},
                                 {"weight_hh", &C::weight_hh, {rows, 3}, {rows, 4}},
                                 {"weight_hh", &C::weight_hh, {4}, {rows, 4}},
                                 {"bias_ih", &C::bias_ih, {4 * rows}, {rows}},
                                 {"bias_hh", &C::bias_hh, {1}, {rows}},
                                 {"bias_hh", &C::bias_hh, {1, rows}, {rows}}};
  for (const Wrong& w : wrong) {
    C cell(3, 4);
    cell.*w.member = ones(w.shape).requires_grad_();
    table.row<ShapeError>("a parameter of another shape",
                          {op, w.name, fmt::format("{}", w.shape), fmt::format("expected {}", w.expected)},
                          [&] { return cell(x); });
  }
  for (Member member : {&C::weight_hh, &C::bias_ih, &C::bias_hh}) {
    C cell(3, 4);
    cell.*member = (cell.*member).to(f64).detach();
    table.row<DTypeError>("a parameter of another dtype", {op, "is float64", "the other parameters are float32"},
                          [&] { return cell(x); });
  }
  for (Member member : {&C::weight_ih, &C::weight_hh}) {
    C cell(3, 4);
    cell.*member = Tensor();
    table.row<ValueError>("a weight that is gone", {op, "weight", "is undefined", "expected shape"},
                          [&] { return cell(x); });
  }
}

}  // namespace

TEST_CASE("errors of nn: calls of cells") {
  calls<nn::RNNCell>("rnn_cell: ");
  calls<nn::LSTMCell>("lstm_cell: ");
  calls<nn::GRUCell>("gru_cell: ");
  calls<nn::LayerNormLSTMCell>("layer_norm_lstm_cell: ");
  calls<nn::LayerNormGRUCell>("layer_norm_gru_cell: ");
  calls<nn::PeepholeLSTMCell>("peephole_lstm_cell: ");
}

TEST_CASE("errors of nn: cells whose parameters have been replaced") {
  replaced<nn::RNNCell>("rnn_cell: ", 4);
  replaced<nn::LSTMCell>("lstm_cell: ", 16);
  replaced<nn::GRUCell>("gru_cell: ", 12);
  ErrorTable table("nn: cells");
  nn::LSTMCell projected(3, 4, {.proj_size = 2});
  nn::PeepholeLSTMCell peephole(3, 4);
  table.watch(projected, peephole);
  Tensor x = ones({2, 3});
  table.row<ShapeError>("an h as wide as c", {"lstm_cell", "hidden[0]", "(2, 4)", "expected (2, 2)"}, [&] {
    return projected(x, {ones({2, 4}), ones({2, 4})});
  });
  table.row<ShapeError>("a c as wide as h", {"lstm_cell", "hidden[1]", "(2, 2)", "expected (2, 4)"}, [&] {
    return projected(x, {ones({2, 2}), ones({2, 2})});
  });
  projected.weight_hr = ones({4, 2});
  table.row<ShapeError>("weight_hr turned round", {"lstm_cell", "weight_hr", "(4, 2)", "expected (2, 4)"},
                        [&] { return projected(x); });
  peephole.weight_co = ones(3);
  table.row<ShapeError>("weight_co of another width", {"peephole_lstm_cell", "weight_co", "(3,)", "expected (4,)"},
                        [&] { return peephole(x); });
}
