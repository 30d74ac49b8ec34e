#include <unroll/autograd/engine.h>

#include "support/layers.h"

using namespace unroll;

// What a layer makes of unusual inputs and states, and where their gradients go.

TEST_CASE_TEMPLATE("recurrent: sizes of one are no special case", K, TanhRNN, ReluRNN, PlainLSTM, PlainGRU,
                   ResetBeforeGRU, MGU, Counting) {
  manual_seed(1);
  for (std::int64_t T : {1, 3})
    for (std::int64_t N : {1, 2})
      for (std::int64_t I : {1, 3})
        for (std::int64_t H : {1, 4}) {
          auto rnn = K::make(I, H, {.bidirectional = true});
          Tensor x = randn({T, N, I}, kDouble);
          auto start = random_state(rnn, N);
          auto [output, state] = rnn(x, start);
          const std::int64_t width = rnn.output_size();
          REQUIRE(output.shape() == Shape{T, N, 2 * width});
          auto forward = nn::map_state(start, [](const Tensor& s) { return select(s, 0, 0); });
          auto reverse = nn::map_state(start, [](const Tensor& s) { return select(s, 0, 1); });
          for (std::int64_t t = 0; t < T; ++t) {
            forward = rnn.cell(0, 0)(select(x, 0, t), forward);
            reverse = rnn.cell(0, 1)(select(x, 0, T - 1 - t), reverse);
            CHECK(equal(narrow(select(output, 0, t), 1, 0, width), nn::output_of(forward)));
            CHECK(equal(narrow(select(output, 0, T - 1 - t), 1, width, width), nn::output_of(reverse)));
          }
          CHECK(same(state, nn::stack_states(std::vector{forward, reverse})));
        }
}

TEST_CASE_TEMPLATE("recurrent: views separate directions and layers", K, ALL_LAYERS) {
  manual_seed(2);
  auto rnn = K::make(3, 4, {.num_layers = 2, .bidirectional = true});
  Tensor x = randn({5, 2, 3}, kDouble);
  auto [output, state] = rnn(x);
  const std::int64_t width = rnn.output_size();
  Tensor directions = view(output, {5, 2, 2, width});          // (T, N, D, Ho)
  Tensor last = view(nn::output_of(state), {2, 2, 2, width});  // (L, D, N, Ho)
  CHECK(equal(select(select(directions, 0, 4), 1, 0), select(select(last, 0, 1), 0, 0)));
  CHECK(equal(select(select(directions, 0, 0), 1, 1), select(select(last, 0, 1), 0, 1)));
  CHECK_FALSE(equal(select(select(directions, 0, 4), 1, 1), select(select(last, 0, 1), 0, 1)));

  // Of the lower layer, what a layer of its parameters returns.
  auto lower = K::make(3, 4, {.bidirectional = true});
  for (std::int64_t direction : {0, 1}) copy_parameters(lower, 0, rnn, 0, direction, direction);
  CHECK(equal(select(last, 0, 0), nn::output_of(lower(x).state)));
}

TEST_CASE_TEMPLATE("recurrent: an input without features leaves the biases", K, BUILTIN_LAYERS) {
  manual_seed(3);
  auto rnn = K::make(0, 4, {.num_layers = 2, .bidirectional = true});
  auto fed = K::make(1, 4, {.num_layers = 2, .bidirectional = true});
  for (std::int64_t layer : {0, 1})
    for (std::int64_t direction : {0, 1}) {
      auto p = rnn.cell(layer, direction).parameters(), q = fed.cell(layer, direction).parameters();
      for (std::size_t i = layer == 0 ? 1 : 0; i < p.size(); ++i) q[i].detach().copy_(p[i].detach());
    }
  auto [output, state] = rnn(zeros({5, 2, 0}, kDouble));
  auto expected = fed(zeros({5, 2, 1}, kDouble));
  CHECK(close(output, expected.output));
  CHECK(close(state, expected.state));
  sum(output).backward();
  CHECK(rnn.cell(0).weight_ih.grad().shape() == rnn.cell(0).weight_ih.shape());
  CHECK(any(ne(rnn.cell(0).bias_ih.grad(), 0)));
}

TEST_CASE_TEMPLATE("recurrent: a batch of none", K, ALL_LAYERS) {
  auto rnn = K::make(3, 4, {.num_layers = 2, .bidirectional = true});
  const std::int64_t width = rnn.output_size();
  Tensor x = zeros({5, 0, 3}, kDouble).requires_grad_();
  for (const auto& start : {typename K::Layer::State{}, random_state(rnn, 0)}) {
    rnn.zero_grad();
    auto result = rnn(x, start);
    CHECK(result.output.shape() == Shape{5, 0, 2 * width});
    CHECK(nn::output_of(result.state).shape() == Shape{4, 0, width});
    Tensor total = scalar(0, kDouble);
    for (const Tensor& y : all_of(result)) total = total + sum(y);
    total.backward();
    CHECK(x.grad().shape() == x.shape());
    for (const Tensor& p : rnn.parameters()) CHECK(equal(p.grad(), zeros_like(p)));
  }
  auto batch_first = K::make(3, 4, {.batch_first = true});
  CHECK(batch_first(zeros({0, 5, 3}, kDouble)).output.shape() == Shape{0, 5, width});
}

TEST_CASE_TEMPLATE("recurrent: no steps, where they are allowed", K, ALL_LAYERS) {
  auto rnn = K::make(3, 4, {.num_layers = 2, .dropout = 0.5, .bidirectional = true, .allow_empty = true});
  auto start = nn::map_state(random_state(rnn, 2), [](const Tensor& s) { return s.requires_grad_(); });
  auto [output, state] = rnn(zeros({0, 2, 3}, kDouble), start);
  CHECK(output.shape() == Shape{0, 2, 2 * rnn.output_size()});
  CHECK(output.dtype() == kDouble);
  CHECK(same(state, start));
  Tensor g = grad({sum(nn::output_of(state) * 3)}, {nn::output_of(start)})[0];
  CHECK(equal(g, full(g.shape(), 3, kDouble)));
  auto zero = rnn(zeros({0, 2, 3}, kDouble)).state;
  CHECK(equal(nn::output_of(zero), zeros({4, 2, rnn.output_size()}, kDouble)));
  CHECK(rnn(zeros({0, 3}, kDouble)).output.shape() == Shape{0, 2 * rnn.output_size()});
  auto batch_first = K::make(3, 4, {.batch_first = true, .allow_empty = true});
  CHECK(batch_first(zeros({2, 0, 3}, kDouble)).output.shape() == Shape{2, 0, rnn.output_size()});
  auto masked = rnn(zeros({0, 2, 3}, kDouble), start, {.done = zeros({0, 2}, DType::Bool)});
  CHECK(same(masked.state, start));
  CHECK(rnn.trace(zeros({0, 2, 3}, kDouble), start).steps[3].empty());
  // The rules for everything else hold.
  CHECK_THROWS_AS(rnn(zeros({0, 2, 5}, kDouble), start), ShapeError);

  auto strict = K::make(3, 4);
  CHECK_THROWS_WITH_AS(strict(zeros({0, 2, 3}, kDouble)),
                       doctest::Contains("the sequence length must be > 0, got 0; the option allow_empty permits it"),
                       ShapeError);
  CHECK_THROWS_AS(strict(zeros({0, 3}, kDouble)), ShapeError);
  CHECK_THROWS_AS(strict.trace(zeros({0, 2, 3}, kDouble)), ShapeError);
}

TEST_CASE_TEMPLATE("recurrent: strided inputs, expanded and sliced states, in values and gradients", K, ALL_LAYERS) {
  manual_seed(4);
  auto rnn = K::make(3, 4, {.num_layers = 2, .bidirectional = true});
  Tensor wide = randn({2, 5, 6}, kDouble).requires_grad_();
  Tensor x = slice(transpose(wide, 0, 1), 2, 0, 6, 2);  // (5, 2, 3), no stride of 1
  auto one = nn::map_state(random_state(rnn, 1), [](const Tensor& s) { return s.requires_grad_(); });
  auto many = nn::map_state(random_state(rnn, 6), [](const Tensor& s) { return s.requires_grad_(); });
  auto expanded = nn::map_state(one, [](const Tensor& s) { return expand(s, {4, 2, s.size(2)}); });
  auto sliced = nn::map_state(many, [](const Tensor& s) { return slice(s, 1, 1, 5, 2); });
  for (const auto& [start, source] : {std::pair{expanded, one}, std::pair{sliced, many}}) {
    REQUIRE_FALSE(x.is_contiguous());
    auto plain = nn::map_state(start, [](const Tensor& s) { return s.detach().contiguous().requires_grad_(); });
    Tensor dense = x.detach().contiguous().requires_grad_();
    auto a = rnn(x, start), b = rnn(dense, plain);
    CHECK(equal(a.output, b.output));
    CHECK(same(a.state, b.state));
    CHECK(a.output.version() == 0);
    CHECK(x.version() == 0);
    CHECK(nn::output_of(start).version() == 0);

    std::vector<Tensor> weights;
    for (const Tensor& y : all_of(a)) weights.push_back(randn(y.shape(), kDouble));
    Tensor first = nn::output_of(source), first_plain = nn::output_of(plain);
    auto g = grad({weighted(all_of(a), weights)}, {x, nn::output_of(start), first});
    auto h = grad({weighted(all_of(b), weights)}, {dense, first_plain});
    CHECK(equal(g[0], h[0]));
    CHECK(equal(g[1], h[1]));
    CHECK(g[2].shape() == first.shape());
    CHECK(close(sum(g[2]), sum(h[1])));
  }
}

// One initial state for all sequences, learned: (L·D, 1, width) expanded.
TEST_CASE("recurrent: a learnable initial state receives the gradient of every row") {
  manual_seed(5);
  nn::GRU rnn(3, 4, {.dtype = kDouble});
  Tensor h0 = randn({1, 1, 4}, kDouble).requires_grad_(), x = randn({3, 5, 3}, kDouble);
  sum(rnn(x, expand(h0, {1, 5, 4})).output).backward();
  Tensor total = zeros({1, 1, 4}, kDouble);
  for (std::int64_t row = 0; row < 5; ++row) {
    Tensor own = h0.detach().clone().requires_grad_();
    total = total + grad({sum(rnn(narrow(x, 1, row, 1), own).output)}, {own})[0];
  }
  CHECK(close(h0.grad(), total));
}

TEST_CASE_TEMPLATE("recurrent: gradients of chunks with carried state are those of the whole", K, ALL_LAYERS) {
  manual_seed(6);
  auto rnn = K::make(3, 4, {.num_layers = 2});
  Tensor x = randn({6, 2, 3}, kDouble).requires_grad_(), weights = randn({6, 2, rnn.output_size()}, kDouble);
  std::vector<Tensor> leaves = rnn.parameters();
  leaves.push_back(x);
  GradOptions unused{.allow_unused = true};
  auto whole = grad({sum(rnn(x).output * weights)}, leaves, unused);

  auto first = rnn(narrow(x, 0, 0, 4)), second = rnn(narrow(x, 0, 4, 2), first.state);
  auto chunks = grad({sum(cat({first.output, second.output}) * weights)}, leaves, unused);
  for (std::size_t i = 0; i < leaves.size(); ++i)
    CHECK((whole[i].defined() ? close(chunks[i], whole[i]) : !chunks[i].defined()));

  // Detached, the later chunk says nothing about the earlier one.
  auto detached = rnn(narrow(x, 0, 4, 2), nn::detach(first.state));
  CHECK(equal(detached.output, second.output));
  Tensor g = grad({sum(detached.output)}, {x})[0];
  CHECK(equal(narrow(g, 0, 0, 4), zeros({4, 2, 3}, kDouble)));
  CHECK(any(ne(narrow(g, 0, 4, 2), 0)));
}

TEST_CASE_TEMPLATE("recurrent: a gradient of each last state alone reaches every step", K, TanhRNN, PlainLSTM,
                   ProjectedLSTM, PlainGRU, ResetBeforeGRU, MGU) {
  manual_seed(7);
  auto rnn = K::make(3, 4, {.bidirectional = true});
  Tensor x = randn({5, 2, 3}, kDouble).requires_grad_();
  auto state = rnn(x).state;
  for (Tensor* s : nn::state_tensors(state)) {
    Tensor g = grad({sum(*s)}, {x}, {.retain_graph = true})[0];
    for (const Tensor& step : unbind(g)) CHECK(all(ne(step, 0)));
  }
}

TEST_CASE_TEMPLATE("recurrent: a module used twice in one graph adds up", K, ALL_LAYERS) {
  manual_seed(8);
  auto rnn = K::make(3, 4, {.num_layers = 2, .bidirectional = true});
  Tensor a = randn({5, 2, 3}, kDouble), b = randn({2, 3, 3}, kDouble);
  sum(rnn(a).output).backward();
  sum(rnn(b).output).backward();
  std::vector<Tensor> apart;
  for (const Tensor& p : rnn.parameters()) apart.push_back(p.grad().defined() ? p.grad().clone() : Tensor());
  rnn.zero_grad();
  backward({sum(rnn(a).output) + sum(rnn(b).output)});
  for (std::size_t i = 0; i < apart.size(); ++i)
    CHECK((apart[i].defined() ? close(rnn.parameters()[i].grad(), apart[i]) : true));
}

TEST_CASE_TEMPLATE("recurrent: frozen parameters stay without gradient, inputs get theirs", K, ALL_LAYERS) {
  manual_seed(9);
  auto rnn = K::make(3, 4, {.num_layers = 2, .bidirectional = true});
  Tensor x = randn({5, 2, 3}, kDouble).requires_grad_();
  Tensor before = grad({sum(rnn(x).output)}, {x})[0];
  rnn.requires_grad_(false);
  for (const Tensor& p : rnn.parameters()) CHECK_FALSE(p.requires_grad());
  CHECK_FALSE(rnn(x.detach()).output.requires_grad());
  sum(rnn(x).output).backward();
  CHECK(equal(x.grad(), before));
  for (const Tensor& p : rnn.parameters()) CHECK_FALSE(p.grad().defined());
  rnn.requires_grad_(true);
  sum(rnn(x).output).backward();
  CHECK(rnn.parameters().back().grad().defined());
}

TEST_CASE_TEMPLATE("recurrent: converted to another dtype, it wants inputs of that dtype", K, BUILTIN_LAYERS) {
  manual_seed(10);
  auto rnn = K::make(3, 4, {.num_layers = 2});
  Tensor x = randn({5, 2, 3}, kDouble), weight = rnn.cell(0).weight_ih;
  Tensor before = rnn(x).output;
  rnn.to(DType::Float32);
  CHECK_THROWS_WITH_AS(rnn(x), doctest::Contains("input is float64, the parameters are float32"), DTypeError);
  CHECK(allclose(rnn(x.to(DType::Float32)).output, before.to(DType::Float32), 0, 1e-6));
  CHECK(nn::output_of(rnn(x.to(DType::Float32)).state).dtype() == DType::Float32);
  rnn.to(kDouble);
  CHECK(rnn(x).output.dtype() == kDouble);
  CHECK(rnn.cell(0).weight_ih.is_same(weight));
}
