#include <unroll/autograd/ops/dropout.h>

#include "support/layers.h"

using namespace unroll;

// The laws of a layer, for the built-in cells and for two of a user's own.

TEST_CASE_TEMPLATE("recurrent: a layer is the loop of its cell", K, ALL_LAYERS) {
  manual_seed(1);
  auto rnn = K::make(3, 4);
  Tensor x = randn({5, 2, 3}, kDouble);
  auto start = random_state(rnn, 2);
  auto state = nn::map_state(start, [](const Tensor& s) { return select(s, 0, 0); });
  auto [output, last] = rnn(x, start);
  CHECK(output.shape() == Shape{5, 2, rnn.output_size()});
  for (std::int64_t t = 0; t < 5; ++t) {
    state = rnn.cell(0)(select(x, 0, t), state);
    CHECK(equal(select(output, 0, t), nn::output_of(state)));
  }
  CHECK(same(last, nn::stack_states(std::vector{state})));
}

TEST_CASE_TEMPLATE("recurrent: no state is zeros", K, ALL_LAYERS) {
  auto rnn = K::make(3, 4, {.num_layers = 2, .bidirectional = true});
  Tensor x = randn({3, 2, 3}, kDouble);
  auto nothing = nn::map_state(random_state(rnn, 2), [](const Tensor& s) { return zeros_like(s); });
  CHECK(equal(rnn(x).output, rnn(x, nothing).output));
  CHECK(same(rnn(x).state, rnn(x, nothing).state));
}

TEST_CASE_TEMPLATE("recurrent: two directions are one forward and one on the flipped sequence", K, ALL_LAYERS) {
  manual_seed(2);
  auto both = K::make(3, 4, {.bidirectional = true});
  auto one = K::make(3, 4);
  Tensor x = randn({5, 2, 3}, kDouble);
  auto start = random_state(both, 2);
  auto [output, state] = both(x, start);
  const std::int64_t width = both.output_size();
  CHECK(output.shape() == Shape{5, 2, 2 * width});

  copy_parameters(one, 0, both, 0, 0, 0);
  auto forward = one(x, rows(start, 0, 1));
  CHECK(equal(narrow(output, 2, 0, width), forward.output));
  CHECK(same(rows(state, 0, 1), forward.state));

  copy_parameters(one, 0, both, 0, 0, 1);
  auto backward = one(flip(x, 0), rows(start, 1, 1));
  CHECK(equal(narrow(output, 2, width, width), flip(backward.output, 0)));
  CHECK(same(rows(state, 1, 1), backward.state));

  CHECK(equal(nn::output_of(state),
              stack({narrow(select(output, 0, 4), 1, 0, width), narrow(select(output, 0, 0), 1, width, width)})));
}

TEST_CASE_TEMPLATE("recurrent: stacked layers are layers one after the other", K, ALL_LAYERS) {
  manual_seed(3);
  auto stacked = K::make(3, 4, {.num_layers = 2, .bidirectional = true});
  auto lower = K::make(3, 4, {.bidirectional = true});
  auto upper = K::make(2 * lower.output_size(), 4, {.bidirectional = true});
  for (std::int64_t direction : {0, 1}) {
    copy_parameters(lower, 0, stacked, 0, direction, direction);
    copy_parameters(upper, 0, stacked, 1, direction, direction);
  }
  Tensor x = randn({4, 2, 3}, kDouble);
  auto start = random_state(stacked, 2);
  auto [output, state] = stacked(x, start);
  auto below = lower(x, rows(start, 0, 2));
  auto above = upper(below.output, rows(start, 2, 2));
  CHECK(equal(output, above.output));
  CHECK(same(rows(state, 0, 2), below.state));
  CHECK(same(rows(state, 2, 2), above.state));
}

TEST_CASE_TEMPLATE("recurrent: chunks with carried state are the whole", K, ALL_LAYERS) {
  auto rnn = K::make(3, 4, {.num_layers = 2});
  Tensor x = randn({6, 2, 3}, kDouble);
  auto whole = rnn(x);
  typename K::Layer::State state;
  std::vector<Tensor> outputs;
  for (const Tensor& part : split(x, 4)) {
    auto [output, next] = rnn(part, state);
    outputs.push_back(output);
    state = nn::detach(next);
  }
  CHECK(same(state, whole.state));
  CHECK(equal(cat(outputs), whole.output));
}

// Only to rounding: BLAS chooses its kernel, and with it the order of a sum, by the number of rows.
TEST_CASE_TEMPLATE("recurrent: each row of a batch is as if it were alone", K, ALL_LAYERS) {
  manual_seed(5);
  auto rnn = K::make(3, 4, {.num_layers = 2, .bidirectional = true});
  Tensor x = randn({4, 3, 3}, kDouble);
  auto start = random_state(rnn, 3);
  auto [output, state] = rnn(x, start);
  for (std::int64_t row = 0; row < 3; ++row) {
    auto part = [&](const Tensor& s) { return narrow(s, 1, row, 1); };
    auto [alone, last] = rnn(part(x), nn::map_state(start, part));
    CHECK(allclose(alone, part(output), 0, 1e-14));
    auto expected = nn::map_state(state, part);
    for (std::size_t i = 0; i < nn::state_size<typename K::Layer::State>; ++i)
      CHECK(allclose(*nn::state_tensors(last)[i], *nn::state_tensors(expected)[i], 0, 1e-14));
  }
}

TEST_CASE_TEMPLATE("recurrent: no batch is a batch of one", K, ALL_LAYERS) {
  manual_seed(5);
  auto rnn = K::make(3, 4, {.num_layers = 2, .bidirectional = true});
  Tensor x = randn({4, 1, 3}, kDouble);
  auto start = random_state(rnn, 1);
  auto without = [](const Tensor& s) { return squeeze(s, 1); };
  auto one = rnn(x, start), none = rnn(without(x), nn::map_state(start, without));
  CHECK(equal(none.output, without(one.output)));
  CHECK(same(none.state, nn::map_state(one.state, without)));
  CHECK(equal(rnn(without(x)).output, without(rnn(x).output)));

  auto batch_first = K::make(3, 4, {.num_layers = 2, .batch_first = true, .bidirectional = true});
  batch_first.load_state_dict(rnn.state_dict());
  auto again = batch_first(without(x), nn::map_state(start, without));
  CHECK(equal(again.output, none.output));
  CHECK(same(again.state, none.state));
}

TEST_CASE_TEMPLATE("recurrent: batch_first exchanges two dimensions of x and output, and of nothing else", K,
                   ALL_LAYERS) {
  manual_seed(6);
  auto rnn = K::make(3, 4, {.num_layers = 2});
  auto batch_first = K::make(3, 4, {.num_layers = 2, .batch_first = true});
  batch_first.load_state_dict(rnn.state_dict());
  Tensor x = randn({4, 2, 3}, kDouble);
  auto start = random_state(rnn, 2);
  auto a = rnn(x, start), b = batch_first(transpose(x, 0, 1), start);
  CHECK(equal(transpose(a.output, 0, 1), b.output));
  CHECK(same(a.state, b.state));
  CHECK(equal(batch_first(select(x, 1, 0)).output, rnn(select(x, 1, 0)).output));
}

TEST_CASE("recurrent: dropout between layers, one time-major mask a gap, and never on a state") {
  manual_seed(9);
  nn::Recurrent<MGUCell> rnn(3, 4, {.num_layers = 3, .dropout = 0.5, .bidirectional = true}),
      batch_first(3, 4, {.num_layers = 3, .batch_first = true, .dropout = 0.5, .bidirectional = true});
  batch_first.load_state_dict(rnn.state_dict());
  nn::Recurrent<MGUCell> layers[] = {
      {3, 4, {.bidirectional = true}}, {8, 4, {.bidirectional = true}}, {8, 4, {.bidirectional = true}}};
  for (std::int64_t layer : {0, 1, 2})
    for (std::int64_t direction : {0, 1}) copy_parameters(layers[layer], 0, rnn, layer, direction, direction);
  Tensor x = randn({4, 2, 3}, kDouble);

  manual_seed(10);
  auto [output, state] = rnn(x);
  auto drawn = default_generator().get_state();
  manual_seed(10);
  auto first = layers[0](x);
  auto second = layers[1](dropout(first.output, 0.5));
  auto third = layers[2](dropout(second.output, 0.5));
  CHECK(equal(output, third.output));
  CHECK(equal(state, cat({first.state, second.state, third.state})));
  CHECK(default_generator().get_state() == drawn);
  manual_seed(10);
  for (std::int64_t word = 0; word < 2 * (2 * 4 * 2 * 8); ++word) default_generator().random32();  // 2·T·N·D·Ho a gap
  CHECK(default_generator().get_state() == drawn);

  manual_seed(10);
  CHECK(equal(batch_first(transpose(x, 0, 1)).output, transpose(output, 0, 1)));

  rnn.eval();
  manual_seed(11);
  auto before = default_generator().get_state();
  CHECK(equal(rnn(x).output, layers[2](layers[1](first.output).output).output));
  CHECK(default_generator().get_state() == before);
}

TEST_CASE("recurrent: dropout of 1 feeds zeros and draws nothing; a single layer has none") {
  nn::Recurrent<MGUCell> rnn(3, 4, {.num_layers = 2, .dropout = 1}), one(3, 4, {.dropout = 0.5}), upper(4, 4);
  copy_parameters(upper, 0, rnn, 1);
  Tensor x = randn({4, 2, 3}, kDouble);
  auto before = default_generator().get_state();
  CHECK(equal(rnn(x).output, upper(zeros({4, 2, 4}, kDouble)).output));
  CHECK(equal(one(x).output, one(x).output));
  CHECK(default_generator().get_state() == before);
}

TEST_CASE("recurrent: a cell's members appear with a suffix") {
  nn::Recurrent<MGUCell> mgu(3, 4, {.num_layers = 2, .bidirectional = true});
  NamedTensors parameters = mgu.named_parameters();
  REQUIRE(parameters.size() == 16);
  CHECK(parameters[0].first == "forget_l0.weight");
  CHECK(parameters[3].first == "candidate_l0.bias");
  CHECK(parameters[4].first == "forget_l0_reverse.weight");
  CHECK(parameters[15].first == "candidate_l1_reverse.bias");

  nn::Recurrent<CountingCell> counting(3, 4, {.num_layers = 2}, 0.75);
  std::vector<std::string> names;
  for (const auto& [name, tensor] : counting.state_dict()) names.push_back(name);
  CHECK(names == std::vector<std::string>{"decay_l0", "seen_l0", "mix_l0.weight", "mix_l0.bias", "decay_l1", "seen_l1",
                                          "mix_l1.weight", "mix_l1.bias"});
  CHECK(equal(counting.cell(1).decay.detach(), full(4, 0.75, kDouble)));
  CHECK(nn::to_string(counting) ==
        "Recurrent<CountingCell>(\n"
        "  3, 4, num_layers=2\n"
        "  (mix_l0): Linear(in_features=11, out_features=8, bias=True)\n"
        "  (mix_l1): Linear(in_features=16, out_features=8, bias=True)\n"
        ")");
  counting.eval();  // reaches the cells
  CHECK_FALSE(counting.cell(1).training());
  CHECK_FALSE(counting.cell(1).mix.training());
}

TEST_CASE("recurrent: all weights, cell by cell") {
  nn::LSTM rnn(3, 4, {.num_layers = 2, .bidirectional = true});
  std::vector<Tensor> flat = rnn.parameters();
  std::size_t i = 0;
  auto weights = rnn.all_weights();
  CHECK(weights.size() == 4);
  for (const auto& cell : weights)
    for (const Tensor& w : cell) CHECK(w.is_same(flat.at(i++)));
  CHECK(i == flat.size());
}

TEST_CASE("recurrent: errors begin with the name the cell gives its layer") {
  nn::Recurrent<CountingCell9> rnn(3, 4);
  CHECK_THROWS_WITH_AS(rnn(zeros({2, 1, 5}, kDouble)), "counting: input has 5 features, expected input_size = 3",
                       ShapeError);
  auto state = random_state(rnn, 1);
  state.count = zeros({1, 1, 2}, kDouble);
  CHECK_THROWS_WITH_AS(rnn(zeros({2, 1, 3}, kDouble), state),
                       "counting: hidden[2] has shape (1, 1, 2), expected (1, 1, 1)", ShapeError);
  CHECK_THROWS_WITH_AS(nn::Recurrent<MGUCell>(3, 0), "recurrent: hidden_size must be positive, got 0", ValueError);
}

namespace {
// Whose output loses a column, which broadcasting would hide.
struct Shrinking : nn::Module {
  using State = Tensor;
  Shrinking(std::int64_t, std::int64_t hidden) : hidden_size(hidden) {}
  Tensor operator()(const Tensor& x, const Tensor& h = {}) const { return narrow(h + narrow(x, -1, 0, 1), -1, 0, 1); }
  std::int64_t hidden_size;
};
}  // namespace

TEST_CASE("recurrent: a cell whose output changes its width is refused at the step that does it") {
  nn::Recurrent<Shrinking> rnn(1, 3);
  CHECK_THROWS_WITH_AS(rnn(ones({2, 1, 1})),
                       doctest::Contains("state whose tensor 0 has shape (1, 1), expected (1, 3)"), ShapeError);
}

namespace {
// Whose output is another dtype's from its second step on.
struct Widening : nn::Module {
  using State = Tensor;
  static constexpr const char* kLayer = "widening";
  Widening(std::int64_t, std::int64_t hidden) : hidden_size(hidden) {}
  Tensor operator()(const Tensor&, const Tensor& h) const { return any(ne(h, 0)) ? h.to(kDouble) : h + 1; }
  std::int64_t hidden_size;
};
}  // namespace

TEST_CASE("recurrent: what a cell returns is refused with the layer's name, the step and the dtype it had") {
  nn::Recurrent<Widening> rnn(1, 3);
  CHECK(rnn(ones({1, 1, 1})).output.dtype() == DType::Float32);
  CHECK_THROWS_WITH_AS(rnn(ones({4, 1, 1})),
                       "widening: at step 1 the cell returned a state whose tensor 0 is float64, expected float32",
                       DTypeError);
}
