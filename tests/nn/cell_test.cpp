#include <unroll/autograd/engine.h>

#include "support/gradients.h"
#include "support/layers.h"
#include "support/raises.h"

#include <unroll/nn/weight_drop.h>
#include <unroll/nn/zoneout.h>

using namespace unroll;
using doctest::Contains;

namespace {
struct Stateless : nn::Module {
  using State = int;
  int operator()(const Tensor&, int s) const { return s; }
};
struct NotAModule {
  using State = Tensor;
  Tensor operator()(const Tensor&, const Tensor& h) const { return h; }
};
static_assert(nn::Cell<nn::LSTMCell>);
static_assert(!nn::Cell<nn::Linear> && !nn::Cell<Stateless> && !nn::Cell<NotAModule>);
static_assert(nn::Cell<nn::RNNCell> && nn::Cell<nn::GRUCell> && nn::Cell<MGUCell> && nn::Cell<CountingCell>);
static_assert(nn::state_size<Tensor> == 1 && nn::state_size<nn::LSTMState> == 2);

// Cells in float64, and the names of their parameters.
template <class C, class Options, void (*change)(Options&) = as_they_are<Options>>
struct TorchCell {
  using Cell = C;
  static C make(std::int64_t input_size, std::int64_t hidden_size) {
    Options options;
    options.dtype = kDouble;
    change(options);
    return C(input_size, hidden_size, options);
  }
};
void relu_cell(nn::RNNCellOptions& options) { options.nonlinearity = nn::Nonlinearity::ReLU; }
void projected_cell(nn::LSTMCellOptions& options) { options.proj_size = 1; }
void reset_before_cell(nn::GRUCellOptions& options) { options.reset_after = false; }

using RNNKind = TorchCell<nn::RNNCell, nn::RNNCellOptions>;
using ReluKind = TorchCell<nn::RNNCell, nn::RNNCellOptions, relu_cell>;
using LSTMKind = TorchCell<nn::LSTMCell, nn::LSTMCellOptions>;
using ProjectedKind = TorchCell<nn::LSTMCell, nn::LSTMCellOptions, projected_cell>;
using GRUKind = TorchCell<nn::GRUCell, nn::GRUCellOptions>;
using ResetBeforeKind = TorchCell<nn::GRUCell, nn::GRUCellOptions, reset_before_cell>;
using UnbiasedRNNKind = TorchCell<nn::RNNCell, nn::RNNCellOptions, no_bias<nn::RNNCellOptions>>;
using UnbiasedLSTMKind = TorchCell<nn::LSTMCell, nn::LSTMCellOptions, no_bias<nn::LSTMCellOptions>>;
using UnbiasedGRUKind = TorchCell<nn::GRUCell, nn::GRUCellOptions, no_bias<nn::GRUCellOptions>>;
#define CELLS RNNKind, ReluKind, LSTMKind, ProjectedKind, GRUKind, ResetBeforeKind
#define UNBIASED_CELLS UnbiasedRNNKind, UnbiasedLSTMKind, UnbiasedGRUKind

template <class C>
typename C::State state_for(const C& cell, Shape lead) {
  const Shape widths = nn::detail::state_widths(cell, cell.hidden_size);
  return nn::make_state<typename C::State>([&](std::size_t i) {
    Shape shape = lead;
    shape.push_back(widths[i]);
    return randn(shape, kDouble);
  });
}
template <class S>
std::vector<Tensor> tensors(const S& state) {
  std::vector<Tensor> all;
  for (const Tensor* s : nn::state_tensors(state)) all.push_back(*s);
  return all;
}
}  // namespace

TEST_CASE_TEMPLATE("cell: no batch is a batch of one, to the bit; no state is zeros", K, CELLS, UNBIASED_CELLS) {
  manual_seed(1);
  auto cell = K::make(3, 4);
  Tensor x = randn({1, 3}, kDouble);
  auto state = state_for(cell, {1});
  auto without = [](const Tensor& s) { return squeeze(s, 0); };
  CHECK(same(cell(without(x), nn::map_state(state, without)), nn::map_state(cell(x, state), without)));
  CHECK(same(cell(without(x)), nn::map_state(cell(x), without)));
  auto zero = nn::map_state(state, [](const Tensor& s) { return zeros_like(s); });
  CHECK(same(cell(x), cell(x, zero)));
  CHECK_FALSE(same(cell(x), cell(x, state)));
}

TEST_CASE_TEMPLATE("cell: a batch of none, no features, no units", K, RNNKind, ReluKind, LSTMKind, GRUKind,
                   ResetBeforeKind, UNBIASED_CELLS) {
  manual_seed(2);
  auto cell = K::make(3, 4);
  for (const auto& state : {state_for(cell, {0}), typename K::Cell::State{}}) {
    cell.zero_grad();
    Tensor x = zeros({0, 3}, kDouble).requires_grad_(), total = scalar(0, kDouble);
    for (const Tensor& s : tensors(cell(x, state))) {
      CHECK(s.shape() == Shape{0, 4});
      total = total + sum(s);
    }
    total.backward();
    CHECK(x.grad().shape() == Shape{0, 3});
    for (const Tensor& p : cell.parameters()) CHECK(equal(p.grad(), zeros_like(p)));
  }
  auto no_units = K::make(3, 0);
  CHECK(nn::output_of(no_units(randn({2, 3}, kDouble))).shape() == Shape{2, 0});
  CHECK(nn::output_of(no_units(randn(3, kDouble), state_for(no_units, {}))).shape() == Shape{0});
  sum(nn::output_of(no_units(randn({2, 3}, kDouble)))).backward();
  auto no_features = K::make(0, 4);
  auto fed = K::make(1, 4);
  for (std::size_t i = 1; i < fed.parameters().size(); ++i)
    fed.parameters()[i].detach().copy_(no_features.parameters()[i].detach());
  auto state = state_for(no_features, {2});
  CHECK(close(no_features(zeros({2, 0}, kDouble), state), fed(zeros({2, 1}, kDouble), state)));
}

TEST_CASE_TEMPLATE("cell: strided inputs and expanded states, which are never written", K, CELLS) {
  manual_seed(3);
  auto cell = K::make(3, 4);
  Tensor x = slice(transpose(randn({6, 2}, kDouble), 0, 1), 1, 0, 6, 2);  // (2, 3)
  auto state = nn::map_state(state_for(cell, {1}), [](const Tensor& s) { return expand(s, {2, s.size(1)}); });
  Tensor kept = x.clone();
  auto plain = nn::map_state(state, [](const Tensor& s) { return s.contiguous(); });
  CHECK(same(cell(x, state), cell(x.contiguous(), plain)));
  CHECK(equal(x, kept));
  CHECK(x.version() == 0);
  CHECK(nn::output_of(state).version() == 0);
}

TEST_CASE_TEMPLATE("cell: gradients of everything to second order", K, RNNKind, LSTMKind, ProjectedKind, GRUKind,
                   ResetBeforeKind, UNBIASED_CELLS) {
  manual_seed(4);
  auto cell = K::make(2, 3);
  std::vector<Tensor> inputs{randn({2, 2}, kDouble)};
  for (const Tensor& s : tensors(state_for(cell, {2}))) inputs.push_back(s);
  for (const Tensor& x : inputs) x.requires_grad_();
  for (const Tensor& p : cell.parameters()) inputs.push_back(p);
  auto with_state = [&](const std::vector<Tensor>& in) {
    return tensors(cell(in[0], nn::make_state<typename K::Cell::State>([&](std::size_t i) { return in[i + 1]; })));
  };
  check_gradients(with_state, inputs);
  check_gradients([&](const std::vector<Tensor>& in) { return tensors(cell(in[0])); }, {inputs[0], inputs.back()});
}

TEST_CASE_TEMPLATE("cell: all parameters are drawn in order, within the square root of hidden_size", K, CELLS,
                   UNBIASED_CELLS) {
  auto cell = K::make(3, 16);
  for (const Tensor& p : cell.parameters()) p.detach().fill_(9);
  manual_seed(5);
  cell.reset_parameters();
  manual_seed(5);
  double greatest = 0;
  for (const Tensor& p : cell.parameters()) {
    CHECK(equal(p.detach(), uniform_(empty(p.shape(), kDouble), -0.25, 0.25)));
    greatest = std::max(greatest, amax(abs(p)).template item<double>());
  }
  CHECK(greatest <= 0.25);
  CHECK(greatest > 0.24);  // all of the interval
}

TEST_CASE_TEMPLATE("cell: a parameter that is replaced takes effect, one of another shape is refused", K, CELLS) {
  manual_seed(6);
  auto cell = K::make(3, 4);
  Tensor x = randn({2, 3}, kDouble);
  auto before = cell(x);
  Tensor old = cell.bias_hh;
  cell.bias_hh = randn(old.shape(), kDouble).requires_grad_();
  CHECK_FALSE(same(cell(x), before));
  sum(nn::output_of(cell(x))).backward();
  CHECK(cell.bias_hh.grad().defined());
  CHECK_FALSE(old.grad().defined());
  for (auto [name, parameter] : {std::pair{"weight_ih", &cell.weight_ih}, std::pair{"weight_hh", &cell.weight_hh},
                                 std::pair{"bias_ih", &cell.bias_ih}, std::pair{"bias_hh", &cell.bias_hh}}) {
    Tensor right = std::exchange(*parameter, zeros({2, 2}, kDouble));
    CHECK_THROWS_WITH_AS(cell(x), Contains((std::string(name) + " has been replaced by one of shape (2, 2)").c_str()),
                         ShapeError);
    *parameter = right;
  }
  cell.bias_ih = cell.bias_hh = Tensor();  // without them is possible
  CHECK(cell.parameters().size() == (K::make(3, 4).parameters().size() - 2));
  CHECK(nn::output_of(cell(x)).size(0) == 2);
}

TEST_CASE_TEMPLATE("cell: arguments that do not fit", K, CELLS) {
  auto cell = K::make(3, 4);
  const std::size_t size = nn::state_size<typename K::Cell::State>;
  Tensor x = zeros({2, 3}, kDouble);
  auto good = nn::map_state(state_for(cell, {2}), [](const Tensor& s) { return zeros_like(s); });
  CHECK_THROWS_WITH_AS(cell(zeros({1, 2, 3}, kDouble)),
                       Contains("expected an input of 2 dimensions, or 1 without a batch, got 3"), ShapeError);
  CHECK_THROWS_WITH_AS(cell(scalar(1, kDouble)), Contains("got 0 in shape ()"), ShapeError);
  CHECK_THROWS_WITH_AS(cell(zeros({2, 5}, kDouble)), Contains("input has 5 features, expected input_size = 3"),
                       ShapeError);
  CHECK_THROWS_WITH_AS(cell(zeros({2, 3})), Contains("input is float32, the parameters are float64"), DTypeError);
  CHECK_THROWS_WITH_AS(cell(zeros({2, 3}, DType::Int64)), Contains("input is int64, the parameters are float64"),
                       DTypeError);
  CHECK_THROWS_WITH_AS(cell(Tensor()), Contains("undefined"), ValueError);
  for (std::size_t i = 0; i < size; ++i) {
    const std::string name = "hidden[" + std::to_string(i) + "]";
    const std::int64_t width = nn::state_tensors(good)[i]->size(1);
    auto with = [&](const Tensor& wrong) {
      auto state = good;
      *nn::state_tensors(state)[i] = wrong;
      return state;
    };
    for (const Shape& wrong : {Shape{width}, Shape{1, 2, width}})
      CHECK_THROWS_WITH_AS(cell(x, with(zeros(wrong, kDouble))), Contains((name + " must have 2, got").c_str()),
                           ShapeError);
    for (const Shape& wrong : {Shape{3, width}, Shape{1, width}, Shape{2, width + 1}, Shape{2, 0}})
      CHECK_THROWS_WITH_AS(
          cell(x, with(zeros(wrong, kDouble))),
          Contains((name + " has shape " + to_string(wrong) + ", expected " + to_string(Shape{2, width})).c_str()),
          ShapeError);
    CHECK_THROWS_WITH_AS(cell(x, with(zeros({2, width}))),
                         Contains((name + " is float32, the parameters are float64").c_str()), DTypeError);
    if (size > 1) CHECK_THROWS_WITH_AS(cell(x, with({})), Contains((name + " is missing").c_str()), ValueError);
  }
  CHECK_THROWS_WITH_AS(cell(zeros(3, kDouble), good), Contains("hidden[0] must have 1, got 2"), ShapeError);
  CHECK_THROWS_AS(K::make(-1, 4), ValueError);
  CHECK_THROWS_AS(K::make(3, -1), ValueError);
}

TEST_CASE("cell: a state is its tensors") {
  Tensor a = ones(2), b = full(2, 3);
  nn::LSTMState state{a, b};
  CHECK(nn::state_tensors(state)[1] == &state.c);
  CHECK(&nn::output_of(state) == &state.h);
  CHECK(&nn::output_of(a) == &a);
  nn::LSTMState twice = nn::map_state(state, [](const Tensor& s) { return s * 2; });
  CHECK(equal(twice.h, full(2, 2)));
  CHECK(equal(twice.c, full(2, 6)));
  nn::LSTMState stacked = nn::stack_states(std::vector{state, twice, state});
  CHECK(stacked.c.shape() == Shape{3, 2});
  CHECK(stacked.c.to_vector<float>() == std::vector<float>{3, 3, 6, 6, 3, 3});
  CHECK(nn::stack_states(std::vector{a, b}).shape() == Shape{2, 2});
}

TEST_CASE("cell: detach keeps the values and drops the history") {
  Tensor x = ones(2).requires_grad_();
  nn::LSTMState state = nn::detach(nn::LSTMState{x * 2, x});
  CHECK_FALSE(state.h.requires_grad());
  CHECK_FALSE(state.c.requires_grad());
  CHECK(equal(state.h, full(2, 2)));
  CHECK(state.c.shares_memory(x));
  CHECK_FALSE(nn::detach(x * 2).requires_grad());
  CHECK_FALSE(nn::detach(nn::LSTMState{x, {}}).c.defined());
}

TEST_CASE("cell: states side by side") {
  Tensor a = ones({1, 2}), b = full({2, 2}, 3);
  nn::LSTMState joined = nn::combine_states(std::vector{nn::LSTMState{a, b}, nn::LSTMState{b, a}},
                                            [](const std::vector<Tensor>& s) { return cat(s); });
  CHECK(joined.h.to_vector<float>() == std::vector<float>{1, 1, 3, 3, 3, 3});
  CHECK(joined.c.to_vector<float>() == std::vector<float>{3, 3, 3, 3, 1, 1});
}

// A cell may prepare a sequence, once, from its complete initial state.
namespace {
struct Preparing : nn::Module {
  using State = Tensor;
  Preparing(std::int64_t, std::int64_t) {}
  auto begin(const Tensor& start) const {
    begun.push_back(start.size(0));
    return [offset = start](const Tensor& x, const Tensor& h) { return h + x + narrow(offset, 0, 0, x.size(0)); };
  }
  Tensor operator()(const Tensor& x, const Tensor& h) const { return begin(h)(x, h); }
  mutable std::vector<std::int64_t> begun;
};
}  // namespace

namespace {
// A cell of the library's with another operator().
struct Clipped : nn::LSTMCell {
  using LSTMCell::LSTMCell;
  nn::LSTMState operator()(const Tensor& x, const nn::LSTMState& state = {}) const {
    const nn::LSTMState next = LSTMCell::operator()(x, state);
    return {next.h, clamp(next.c, -0.01, 0.01)};
  }
};
static_assert(nn::OverridesCall<Clipped> && !nn::FusedCell<Clipped> && !nn::OverridesCall<nn::LSTMCell>);
// With several, and with a template.
struct Overloaded : Clipped {
  using Clipped::Clipped;
  nn::LSTMState operator()(const Tensor& x, const nn::LSTMState& state) const { return Clipped::operator()(x, state); }
  nn::LSTMState operator()(const Tensor& x) const { return Clipped::operator()(x); }
};
struct Templated : Clipped {
  using Clipped::Clipped;
  template <class X>
  nn::LSTMState operator()(const X& x, const nn::LSTMState& state = {}) const {
    return Clipped::operator()(x, state);
  }
};
static_assert(nn::OverridesCall<Overloaded> && !nn::FusedCell<Overloaded>);
static_assert(nn::OverridesCall<Templated> && !nn::FusedCell<Templated>);
// Other equations that nothing runs: neither the kernels nor what they are defined by.
struct OtherEquations : nn::GRUCell {
  using GRUCell::GRUCell;
  auto equations() const {
    return [](const nn::RNNWeights&, const Tensor&, const Tensor& h) { return h; };
  }
};
static_assert(!nn::FusedCell<OtherEquations>);
// A step of its own, which a call of the cell would not take, and one beside its call.
struct OtherStep : nn::LSTMCell {
  nn::LSTMState step(const nn::RNNWeights&, const Tensor&, const nn::LSTMState& state) const { return state; }
};
struct OtherStepAndCall : OtherStep {
  nn::LSTMState operator()(const Tensor&, const nn::LSTMState& state) const { return state; }
};
static_assert(!nn::detail::InheritsStep<OtherStep> && nn::detail::InheritsStep<OtherStepAndCall>);
static_assert(nn::detail::InheritsStep<Overloaded> && nn::detail::InheritsStep<nn::Zoneout<nn::LSTMCell>>);
static_assert(!nn::WeightedCell<Clipped> && nn::FusedCell<nn::WeightDrop<nn::LSTMCell>>);

// Forgets that x has a batch.
struct Averages : nn::Module {
  using State = Tensor;
  Averages(std::int64_t input_size, std::int64_t hidden_size) : w(input_size, hidden_size) { add("w", w); }
  Tensor operator()(const Tensor& x, const Tensor& h) const { return mean(tanh(w(x)) + h, {0}, true); }
  nn::Linear w;
};

struct Nothing : nn::Module {
  using State = Tensor;
  Nothing(std::int64_t, std::int64_t) {}
  Tensor operator()(const Tensor&, const Tensor&) const { return {}; }
};

// Whose state is as wide as its input.
struct AsWide : nn::Module {
  using State = Tensor;
  AsWide(std::int64_t input_size, std::int64_t) : width(input_size) {}
  Shape state_widths() const { return {width}; }
  Tensor operator()(const Tensor& x, const Tensor&) const { return x; }
  std::int64_t width;
};
}  // namespace

TEST_CASE_TEMPLATE("cell: one that derives from the library's and calls it is called by its layer at every step", C,
                   Clipped, Overloaded, Templated) {
  manual_seed(3);
  const Tensor x = randn({5, 4, 2});
  nn::Recurrent<C> rnn(2, 3);
  nn::LSTMState state{zeros({4, 3}), zeros({4, 3})};
  for (const Tensor& step : unbind(x)) state = rnn.cell(0)(step, state);
  CHECK(amax(abs(state.c)).item() <= 0.01f);
  for (const auto& last : {rnn(x).state, rnn.trace(x).state}) {
    CHECK(equal(select(last.h, 0, 0), state.h));
    CHECK(equal(select(last.c, 0, 0), state.c));
  }
  nn::Recurrent<nn::Zoneout<C>> zoned(2, 3, {}, nn::ZoneoutOptions{.h = 0, .c = 0});
  zoned.load_state_dict(rnn.state_dict());
  CHECK(equal(zoned(x).state.c, rnn(x).state.c));
}

TEST_CASE("cell: what it returns is looked at") {
  const Tensor x = ones({3, 4, 2});
  CHECK_RAISES(ShapeError, "tensor 0 has shape (1, 3), expected (4, 3)", nn::Recurrent<Averages>(2, 3)(x));
  CHECK_RAISES(ValueError, "tensor 0 is undefined", nn::Recurrent<Nothing>(2, 3)(x));
  CHECK_RAISES(ValueError, "a cell of 4 features has a state of widths (4,), one of 2 has (2,); nn::Stack",
               nn::Recurrent<AsWide>(2, 3, {.num_layers = 2, .bidirectional = true}));
}

TEST_CASE("cell: begin is called once a sequence and direction, with all rows") {
  nn::Recurrent<Preparing> rnn(2, 2, {.bidirectional = true});
  Tensor x = ones({3, 4, 2}), start = full({2, 4, 2}, 10);
  auto [output, state] = rnn(x, start);
  CHECK(equal(state, full({2, 4, 2}, 10 + 3 * 11)));
  CHECK(rnn.cell(0, 0).begun == std::vector<std::int64_t>{4});
  CHECK(rnn.cell(0, 1).begun == std::vector<std::int64_t>{4});

  Tensor own = view(arange(8, DType::Float32), {1, 4, 2});
  auto packed = rnn(nn::pack_padded_sequence(x, {1, 3, 2, 1}, {.enforce_sorted = false}), expand(own, {2, 4, 2}));
  CHECK(rnn.cell(0, 1).begun == std::vector<std::int64_t>{4, 4});
  Tensor steps = view(tensor({1.0, 3.0, 2.0, 1.0}), {4, 1});
  for (const Tensor& s : unbind(packed.state)) CHECK(equal(s, select(own, 0, 0) * (steps + 1) + steps));

  // Those of sequences of length 0 are among them.
  nn::Recurrent<Preparing> idle(2, 2, {.bidirectional = true, .allow_empty = true});
  idle(nn::pack_padded_sequence(x, {1, 0, 2, 0}, {.enforce_sorted = false, .allow_empty = true}));
  for (std::int64_t direction : {0, 1}) CHECK(idle.cell(0, direction).begun == std::vector<std::int64_t>{4});
}
