#include "support/error_table.h"

#include <doctest/doctest.h>

using namespace unroll;

// Layers 3 → 4 of two bidirectional layers, a batch of 2 and 5 steps. What C++ does not compile: an LSTM with one
// tensor as its state, or with three.

namespace {

constexpr DType f64 = DType::Float64;

template <class Layer>
using State = typename Layer::State;
template <class Layer>
constexpr bool kPair = nn::state_size<State<Layer>> == 2;

/// A state of tensors of this shape, number i replaced.
template <class Layer>
State<Layer> state_with(const Shape& shape, std::size_t i = 9, const Tensor& replacement = {}) {
  return nn::make_state<State<Layer>>([&](std::size_t k) { return k == i ? replacement : ones(shape); });
}

template <class Layer>
struct Fixture {
  explicit Fixture(std::string op_) : op(std::move(op_)) {
    table.watch(layer, first, x, flat, state, packed.data(), packed.sorted_indices());
    for (Tensor* s : nn::state_tensors(start)) table.watch(*s);
  }

  /// A call with tensor i of the state replaced.
  template <class E, class Sequence>
  void state_row(const char* what, std::vector<std::string> tokens, const Sequence& sequence, const Shape& shape,
                 std::size_t i, const Tensor& bad) {
    tokens.insert(tokens.begin(), {op, fmt::format("hidden[{}]", i)});
    table.row<E>(what, tokens, [&] { return layer(sequence, state_with<Layer>(shape, i, bad)); });
  }

  std::string op;
  Layer layer{3, 4, {.num_layers = 2, .bidirectional = true}}, first{3, 4, {.batch_first = true}};
  Tensor x = ones({5, 2, 3}), flat = ones({5, 3}), state = ones({4, 2, 4}), none;
  State<Layer> start = state_with<Layer>({4, 2, 4});
  nn::PackedSequence packed = nn::pack_padded_sequence(x, {2, 5}, {.enforce_sorted = false});
  ErrorTable table{"nn: layers"};
};

template <class Layer>
void inputs(const std::string& op) {
  Fixture<Layer> f(op);
  auto row = [&]<class E>(const char* what, std::vector<std::string> tokens, const Tensor& bad) {
    tokens.insert(tokens.begin(), op);
    f.table.template row<E>(what, tokens, [&] { return f.layer(bad); });
    f.table.template row<E>(what, tokens, [&] { return f.layer(bad, f.start); });
    f.table.template row<E>(what, tokens, [&] { return f.layer.trace(bad); });
    f.table.template row<E>(what, tokens, [&] { return f.first(bad); });
  };
  const std::string ranks = "expected an input of 3 dimensions, or 2 without a batch";
  row.template operator()<ShapeError>("x of rank 0", {ranks, "got 0", "()"}, scalar(1));
  row.template operator()<ShapeError>("x of rank 1", {ranks, "got 1", "(3,)"}, ones(3));
  row.template operator()<ShapeError>("x of rank 4", {ranks, "got 4", "(1, 5, 2, 3)"}, ones({1, 5, 2, 3}));
  row.template operator()<ValueError>("an undefined x", {"expected a tensor", "undefined"}, f.none);
  auto typed = [&]<class E>(const char* what, std::vector<std::string> tokens, const Tensor& bad) {
    tokens.insert(tokens.begin(), op);
    f.table.template row<E>(what, tokens, [&] { return f.layer(bad); });
    f.table.template row<E>(what, tokens, [&] { return f.first(bad); });
  };
  typed.template operator()<ShapeError>("a feature too many", {"4 features", "input_size = 3"}, ones({5, 2, 4}));
  typed.template operator()<ShapeError>("one feature", {"1 features", "input_size = 3"}, ones({5, 2, 1}));
  typed.template operator()<ShapeError>("no features", {"0 features", "input_size = 3"}, ones({5, 2, 0}));
  typed.template operator()<ShapeError>("no batch, a feature less", {"2 features", "input_size = 3"}, ones({5, 2}));
  typed.template operator()<DTypeError>("x of another dtype", {"input is float64", "parameters are float32"},
                                        ones({5, 2, 3}, f64));
  typed.template operator()<DTypeError>("x of int64", {"input is int64", "parameters are float32"},
                                        ones({5, 2, 3}, DType::Int64));
  typed.template operator()<DTypeError>("x of bool", {"input is bool", "parameters are float32"},
                                        ones({5, 2, 3}, DType::Bool));
  std::vector<std::string> steps{op, "sequence length", "> 0, got 0", "allow_empty"};
  f.table.template row<ShapeError>("no steps", steps, [&] { return f.layer(ones({0, 2, 3})); });
  f.table.template row<ShapeError>("no steps and a state", steps, [&] { return f.layer(ones({0, 2, 3}), f.start); });
  f.table.template row<ShapeError>("no steps, batch first", steps, [&] { return f.first(ones({2, 0, 3})); });
  f.table.template row<ShapeError>("no steps and no batch", steps, [&] { return f.layer(ones({0, 3})); });
}

template <class Layer>
void states(const std::string& op) {
  Fixture<Layer> f(op);
  const Shape fits{4, 2, 4}, flat{4, 4};
  for (std::size_t i = 0; i < nn::state_size<State<Layer>>; ++i) {
    auto shape = [&](const char* what, std::vector<std::string> tokens, const Tensor& bad) {
      f.template state_row<ShapeError>(what, tokens, f.x, fits, i, bad);
      f.template state_row<ShapeError>(what, tokens, f.packed, fits, i, bad);
    };
    const std::string expected = "expected (4, 2, 4)";
    shape("a state of rank 0", {"must have 3", "got 0", "()"}, scalar(1));
    shape("a state of rank 1", {"must have 3", "got 1", "(4,)"}, ones(4));
    shape("a state without a batch", {"must have 3", "got 2", "(4, 4)"}, ones({4, 4}));
    shape("a state of rank 4", {"must have 3", "got 4", "(1, 4, 2, 4)"}, ones({1, 4, 2, 4}));
    shape("a state of one direction", {"(2, 2, 4)", expected}, ones({2, 2, 4}));
    shape("a state of one cell, not broadcast", {"(1, 2, 4)", expected}, ones({1, 2, 4}));
    shape("a state of another batch", {"(4, 3, 4)", expected}, ones({4, 3, 4}));
    shape("a batch of 1, not broadcast", {"(4, 1, 4)", expected}, ones({4, 1, 4}));
    shape("a state of another width", {"(4, 2, 8)", expected}, ones({4, 2, 8}));
    shape("a width of 1, not broadcast", {"(4, 2, 1)", expected}, ones({4, 2, 1}));
    shape("a state with its batch first", {"(2, 4, 4)", expected}, ones({2, 4, 4}));
    f.template state_row<ShapeError>("a state with a batch, x without", {"an input of 2", "must have 2", "(4, 2, 4)"},
                                     f.flat, flat, i, ones(fits));
    f.template state_row<ShapeError>("no batch, one cell", {"(1, 4)", "expected (4, 4)"}, f.flat, flat, i,
                                     ones({1, 4}));
    f.template state_row<ShapeError>("no batch, another width", {"(4, 5)", "expected (4, 4)"}, f.flat, flat, i,
                                     ones({4, 5}));
    for (DType dtype : {f64, DType::Int64, DType::Bool}) {
      std::vector<std::string> tokens{fmt::format("is {}", dtype), "parameters are float32"};
      f.template state_row<DTypeError>("a state of another dtype", tokens, f.x, fits, i, ones(fits, dtype));
      f.template state_row<DTypeError>("a state of another dtype", tokens, f.packed, fits, i, ones(fits, dtype));
    }
    if constexpr (kPair<Layer>) {
      std::vector<std::string> tokens{"the state is 2 tensors", "missing"};
      f.template state_row<ValueError>("a state in part", tokens, f.x, fits, i, f.none);
      f.template state_row<ValueError>("a state in part", tokens, f.packed, fits, i, f.none);
    }
  }
  // Batch first, the state's batch is second all the same.
  const auto turned = state_with<Layer>({5, 1, 4});
  f.table.template row<ShapeError>("batch_first: a state with its batch first",
                                   {op, "hidden[0]", "(5, 1, 4)", "expected (1, 5, 4)"},
                                   [&] { return f.first(f.x, turned); });
}

template <class Layer>
void packed(const std::string& op) {
  Fixture<Layer> f(op);
  auto row = [&]<class E>(const char* what, std::vector<std::string> tokens, const Tensor& data) {
    tokens.insert(tokens.begin(), op);
    f.table.template row<E>(what, tokens, [&] { return f.layer(f.packed.with_data(data)); });
    f.table.template row<E>(what, tokens, [&] { return f.layer.trace(f.packed.with_data(data)); });
  };
  row.template operator()<ShapeError>("data of rank 1", {"packed data of 2", "got 1", "(7,)"}, ones(7));
  row.template operator()<ShapeError>("data of rank 3", {"packed data of 2", "got 3", "(7, 3, 1)"}, ones({7, 3, 1}));
  row.template operator()<ShapeError>("a feature too many", {"4 features", "input_size = 3"}, ones({7, 4}));
  row.template operator()<DTypeError>("data of another dtype", {"input is float64", "parameters are float32"},
                                      ones({7, 3}, f64));
  row.template operator()<DTypeError>("data of int64", {"input is int64", "parameters are float32"},
                                      ones({7, 3}, DType::Int64));
}

template <class Layer>
void resets(const std::string& op) {
  using Call = typename Layer::Call;
  Fixture<Layer> f(op);
  const Tensor done = zeros({5, 2}, DType::Bool);
  auto row = [&]<class E>(const char* what, std::vector<std::string> tokens, const auto& x, const Call& call) {
    tokens.insert(tokens.begin(), op);
    f.table.template row<E>(what, tokens, [&] { return f.layer(x, {}, call); });
  };
  for (DType dtype : {DType::Float32, f64, DType::Int64})
    row.template operator()<DTypeError>("done of numbers", {"done must be bool", fmt::format("got {}", dtype)}, f.x,
                                        {.done = zeros({5, 2}, dtype)});
  auto wrong = [&](const char* what, const auto& x, const Shape& shape, const char* expected) {
    row.template operator()<ShapeError>(what, {"done", fmt::format("{}", shape), expected}, x,
                                        {.done = zeros(shape, DType::Bool)});
  };
  wrong("done of one sequence", f.x, {5}, "expected (5, 2)");
  wrong("done of a batch of 1, not broadcast", f.x, {5, 1}, "expected (5, 2)");
  wrong("done with its batch first", f.x, {2, 5}, "expected (5, 2)");
  wrong("done of every feature", f.x, {5, 2, 3}, "expected (5, 2)");
  wrong("done of a step less", f.x, {4, 2}, "expected (5, 2)");
  wrong("done of a batch, x without", f.flat, {5, 2}, "expected (5,)");
  wrong("done that is padded, x packed", f.packed, {5, 2}, "expected (7,)");
  wrong("done of a step too many, x packed", f.packed, {8}, "expected (7,)");
  auto to = [&](const Shape& shape, const Tensor& bad) {
    return Call{.done = done, .reset_to = state_with<Layer>(shape, nn::state_size<State<Layer>> - 1, bad)};
  };
  row.template operator()<ShapeError>("reset_to of another batch", {"hidden[", "(4, 3, 4)", "expected (4, 2, 4)"}, f.x,
                                      to({4, 2, 4}, ones({4, 3, 4})));
  row.template operator()<ShapeError>("reset_to of one cell", {"hidden[", "(1, 2, 4)", "expected (4, 2, 4)"}, f.x,
                                      to({4, 2, 4}, ones({1, 2, 4})));
  row.template operator()<ShapeError>("reset_to without a batch", {"hidden[", "must have 3", "(4, 4)"}, f.x,
                                      to({4, 2, 4}, ones({4, 4})));
  row.template operator()<DTypeError>("reset_to of another dtype", {"hidden[", "float64", "float32"}, f.x,
                                      to({4, 2, 4}, ones({4, 2, 4}, f64)));
  if constexpr (kPair<Layer>)
    row.template operator()<ValueError>("reset_to in part", {"the state is 2 tensors", "hidden[1]", "missing"}, f.x,
                                        to({4, 2, 4}, {}));
}

template <class Layer>
void parts(const std::string& op, const std::string& cell, std::int64_t rows) {
  Fixture<Layer> f(op);
  for (std::int64_t layer : {-1, 2})
    f.table.template row<IndexError>("no such layer", {op, fmt::format("no layer {}", layer), "among 2"},
                                     [&] { return &f.layer.cell(layer); });
  for (std::int64_t direction : {-1, 2})
    f.table.template row<IndexError>("no such direction", {op, fmt::format("no direction {}", direction), "among 2"},
                                     [&] { return &f.layer.cell(0, direction); });
  f.table.template row<IndexError>("no reverse direction", {op, "no direction 1", "among 1"},
                                   [&] { return &f.first.cell(0, 1); });
  auto trace = f.layer.trace(f.x);
  for (std::int64_t index : {-1, 4})
    f.table.template row<IndexError>("states of no cell", {"states", fmt::format("no cell {}", index), "among 4"},
                                     [&] { return trace.states(index); });
  auto replaced = [&]<class E>(const char* what, std::vector<std::string> tokens, Tensor& slot, const Tensor& by) {
    tokens.insert(tokens.begin(), cell);
    const Tensor kept = std::exchange(slot, by);
    f.table.template row<E>(what, tokens, [&] { return f.layer(f.x); });
    f.table.template row<E>(what, tokens, [&] { return f.layer(f.packed); });
    slot = kept;
  };
  // Found before the layers below have run, and drawn their masks.
  Layer dropping(3, 4, {.num_layers = 2, .dropout = 0.5});
  dropping.cell(1).weight_hh = ones({4, rows + 1}).requires_grad_();
  f.table.watch(dropping);
  f.table.template row<ShapeError>("with dropout between layers", {cell, "weight_hh", "l1"},
                                   [&] { return dropping(f.x); });
  auto& last = f.layer.cell(1, 1);
  replaced.template operator()<ShapeError>(
      "weight_ih_l1_reverse of the first layer's shape",
      {"weight_ih", "l1_reverse", fmt::format("({}, 3)", rows), fmt::format("expected ({}, 8)", rows)}, last.weight_ih,
      ones({rows, 3}));
  replaced.template operator()<ShapeError>("weight_hh_l1_reverse turned round",
                                           {"weight_hh", "l1_reverse", fmt::format("(4, {})", rows + 1)},
                                           last.weight_hh, ones({4, rows + 1}));
  replaced.template operator()<ShapeError>("bias_hh_l0 of one number",
                                           {"bias_hh", "l0", "(1,)", fmt::format("expected ({},)", rows)},
                                           f.layer.cell(0).bias_hh, ones(1));
  replaced.template operator()<DTypeError>("bias_ih_l0 of another dtype", {"bias_ih", "l0", "float64", "float32"},
                                           f.layer.cell(0).bias_ih, ones(rows, f64));
  replaced.template operator()<ValueError>("weight_hh_l0_reverse is gone", {"weight_hh", "l0_reverse", "undefined"},
                                           f.layer.cell(0, 1).weight_hh, f.none);
}

}  // namespace

TEST_CASE("errors of nn: inputs of layers") {
  inputs<nn::RNN>("rnn: ");
  inputs<nn::LSTM>("lstm: ");
  inputs<nn::GRU>("gru: ");
}

TEST_CASE("errors of nn: states of layers") {
  states<nn::RNN>("rnn: ");
  states<nn::LSTM>("lstm: ");
  states<nn::GRU>("gru: ");
  nn::LSTM projected(3, 4, {.num_layers = 2, .proj_size = 2});
  ErrorTable table("nn: layers");
  table.watch(projected);
  table.row<ShapeError>("an h as wide as c", {"lstm: ", "hidden[0]", "(2, 2, 4)", "expected (2, 2, 2)"}, [&] {
    return projected(ones({5, 2, 3}), {ones({2, 2, 4}), ones({2, 2, 4})});
  });
  table.row<ShapeError>("a c as wide as h", {"lstm: ", "hidden[1]", "(2, 2, 2)", "expected (2, 2, 4)"}, [&] {
    return projected(ones({5, 2, 3}), {ones({2, 2, 2}), ones({2, 2, 2})});
  });
}

TEST_CASE("errors of nn: packed inputs of layers") {
  packed<nn::RNN>("rnn: ");
  packed<nn::LSTM>("lstm: ");
  packed<nn::GRU>("gru: ");
}

TEST_CASE("errors of nn: resets inside a sequence") {
  resets<nn::RNN>("rnn: ");
  resets<nn::LSTM>("lstm: ");
  resets<nn::GRU>("gru: ");
}

TEST_CASE("errors of nn: cells and parameters of layers") {
  parts<nn::RNN>("rnn: ", "rnn_cell: ", 4);
  parts<nn::LSTM>("lstm: ", "lstm_cell: ", 16);
  parts<nn::GRU>("gru: ", "gru_cell: ", 12);
}
