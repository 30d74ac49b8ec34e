#include <unroll/autograd/engine.h>

#include "support/layers.h"

using namespace unroll;

// A mask of where new sequences begin is the same as cutting there.
namespace {
using Positions = std::vector<std::int64_t>;

// Row n of x alone, cut before each of `begins`, against row n of what the whole call returned.
template <class L, class State>
void check_row(const L& rnn, const Tensor& x, const State& start, const State& reset_to, const Positions& begins,
               const Tensor& output, const State& state) {
  const std::int64_t steps = x.size(0), cells = rnn.num_layers * rnn.num_directions();
  Positions cuts{0};
  for (std::int64_t t : begins)
    if (t > 0 && t < steps) cuts.push_back(t);
  cuts.push_back(steps);
  const bool at_start = !begins.empty() && begins[0] == 0;
  std::vector<State> last(static_cast<std::size_t>(cells));
  for (std::size_t k = 0; k + 1 < cuts.size(); ++k) {
    // Forward the first part begins with the initial state, in reverse the last.
    auto from = nn::make_state<State>([&](std::size_t i) {
      std::vector<Tensor> of_cells;
      for (std::int64_t cell = 0; cell < cells; ++cell) {
        const bool reverse = rnn.bidirectional && cell % 2 == 1;
        const bool initial = reverse ? k + 2 == cuts.size() : k == 0 && !at_start;
        of_cells.push_back(select(*nn::state_tensors(initial ? start : reset_to)[i], 0, cell));
      }
      return stack(of_cells);
    });
    auto part = rnn(narrow(x, 0, cuts[k], cuts[k + 1] - cuts[k]), from);
    CHECK(close(narrow(output, 0, cuts[k], cuts[k + 1] - cuts[k]), part.output));
    for (std::int64_t cell = 0; cell < cells; ++cell) {
      const bool reverse = rnn.bidirectional && cell % 2 == 1;
      if (reverse ? k == 0 : k + 2 == cuts.size()) {
        auto of_cell = [&](const Tensor& s) { return select(s, 0, cell); };
        CHECK(close(nn::map_state(state, of_cell), nn::map_state(part.state, of_cell)));
      }
    }
  }
}

Tensor mask(std::int64_t steps, const std::vector<Positions>& begins) {
  std::vector<Tensor> columns;
  for (const Positions& of_row : begins) {
    std::vector<bool> column(static_cast<std::size_t>(steps));
    for (std::int64_t t : of_row) column[static_cast<std::size_t>(t)] = true;
    columns.push_back(from_data(column, steps));
  }
  return stack(columns, 1);  // (T, N)
}

const std::vector<Positions> kBegins{{2}, {}, {0, 3, 4}, {5}, {1, 2, 3, 4, 5}};
}  // namespace

TEST_CASE_TEMPLATE("recurrent: done cuts each row at its own places", K, ALL_LAYERS) {
  for (bool bidirectional : {false, true}) {
    manual_seed(1);
    auto rnn = K::make(3, 4, {.num_layers = 2, .bidirectional = bidirectional});
    Tensor x = randn({6, 5, 3}, kDouble), done = mask(6, kBegins);
    auto start = random_state(rnn, 5), reset_to = random_state(rnn, 5);
    auto zero = nn::map_state(start, [](const Tensor& s) { return zeros_like(s); });
    auto to_zero = rnn(x, start, {.done = done}), to_given = rnn(x, start, {.done = done, .reset_to = reset_to});
    for (std::int64_t n = 0; n < 5; ++n) {
      auto of_row = [&](const Tensor& s) { return select(s, 1, n); };
      auto row = [&](const auto& s) { return nn::map_state(s, of_row); };
      const Positions& begins = kBegins[static_cast<std::size_t>(n)];
      check_row(rnn, of_row(x), row(start), row(zero), begins, of_row(to_zero.output), row(to_zero.state));
      check_row(rnn, of_row(x), row(start), row(reset_to), begins, of_row(to_given.output), row(to_given.state));
    }
  }
}

TEST_CASE_TEMPLATE("recurrent: done cuts packed sequences", K, ALL_LAYERS) {
  manual_seed(2);
  auto rnn = K::make(3, 4, {.num_layers = 2, .bidirectional = true});
  Tensor x = randn({6, 5, 3}, kDouble);
  const std::vector<std::int64_t> lengths{4, 6, 5, 6, 2};
  auto start = random_state(rnn, 5), reset_to = random_state(rnn, 5);
  auto pack = [&](const Tensor& y) { return nn::pack_padded_sequence(y, lengths, {.enforce_sorted = false}); };
  auto packed = rnn(pack(x), start, {.done = pack(mask(6, kBegins)).data(), .reset_to = reset_to});
  auto outputs = nn::unpack_sequence(packed.output);
  for (std::int64_t n = 0; n < 5; ++n) {
    auto of_row = [&](const Tensor& s) { return select(s, 1, n); };
    auto row = [&](const auto& s) { return nn::map_state(s, of_row); };
    const auto i = static_cast<std::size_t>(n);
    check_row(rnn, narrow(of_row(x), 0, 0, lengths[i]), row(start), row(reset_to), kBegins[i], outputs[i],
              row(packed.state));
  }
}

TEST_CASE_TEMPLATE("recurrent: done has the layout of x", K, PlainLSTM, PlainGRU) {
  manual_seed(3);
  auto rnn = K::make(3, 4, {.num_layers = 2, .bidirectional = true});
  auto batch_first = K::make(3, 4, {.num_layers = 2, .batch_first = true, .bidirectional = true});
  batch_first.load_state_dict(rnn.state_dict());
  Tensor x = randn({6, 5, 3}, kDouble), done = mask(6, kBegins);
  auto start = random_state(rnn, 5), reset_to = random_state(rnn, 5);
  auto a = rnn(x, start, {.done = done, .reset_to = reset_to});
  auto b = batch_first(transpose(x, 0, 1), start, {.done = transpose(done, 0, 1), .reset_to = reset_to});
  CHECK(equal(a.output, transpose(b.output, 0, 1)));
  CHECK(same(a.state, b.state));

  auto one = [](const Tensor& s) { return narrow(s, 1, 2, 1); };
  auto without = [](const Tensor& s) { return select(s, 1, 2); };
  auto c = rnn(one(x), nn::map_state(start, one), {.done = one(done), .reset_to = nn::map_state(reset_to, one)});
  auto d = rnn(without(x), nn::map_state(start, without),
               {.done = without(done), .reset_to = nn::map_state(reset_to, without)});
  CHECK(equal(squeeze(c.output, 1), d.output));
}

TEST_CASE_TEMPLATE("recurrent: no gradient gets across a reset, and reset_to receives its own", K, TanhRNN, PlainLSTM,
                   ProjectedLSTM, PlainGRU, ResetBeforeGRU, MGU) {
  manual_seed(4);
  auto rnn = K::make(3, 4);
  Tensor x = randn({6, 2, 3}, kDouble).requires_grad_();
  auto start = nn::map_state(random_state(rnn, 2), [](const Tensor& s) { return s.requires_grad_(); });
  auto reset_to = nn::map_state(random_state(rnn, 2), [](const Tensor& s) { return s.requires_grad_(); });
  auto result = rnn(x, start, {.done = mask(6, {{3}, {}}), .reset_to = reset_to});
  Tensor late = narrow(result.output, 0, 3, 3);
  auto g = grad({sum(late)}, {x, nn::output_of(start), nn::output_of(reset_to)});
  CHECK(equal(narrow(select(g[0], 1, 0), 0, 0, 3), zeros({3, 3}, kDouble)));
  CHECK(all(ne(narrow(select(g[0], 1, 1), 0, 0, 3), 0)));
  CHECK(equal(select(g[1], 1, 0), zeros_like(select(g[1], 1, 0))));
  CHECK(all(ne(select(g[1], 1, 1), 0)));
  CHECK(all(ne(select(g[2], 1, 0), 0)));
  CHECK(equal(select(g[2], 1, 1), zeros_like(select(g[2], 1, 1))));
}

TEST_CASE_TEMPLATE("recurrent: a mask of nothing is no mask", K, ALL_LAYERS) {
  FusedMode composed(false);  // masked layers take the equations
  auto rnn = K::make(3, 4, {.num_layers = 2, .bidirectional = true});
  Tensor x = randn({4, 2, 3}, kDouble);
  auto start = random_state(rnn, 2);
  auto plain = rnn(x, start), masked = rnn(x, start, {.done = zeros({4, 2}, DType::Bool)});
  CHECK(equal(plain.output, masked.output));
  CHECK(same(plain.state, masked.state));
}

TEST_CASE("recurrent: errors of done and reset_to") {
  nn::LSTM rnn(3, 4, {.dtype = kDouble}), batch_first(3, 4, {.batch_first = true, .dtype = kDouble});
  Tensor x = zeros({5, 2, 3}, kDouble), done = zeros({5, 2}, DType::Bool), s = zeros({1, 2, 4}, kDouble);
  CHECK_THROWS_WITH_AS(rnn(x, {}, {.done = zeros({5, 2})}), "lstm: done must be bool, got float32", DTypeError);
  CHECK_THROWS_WITH_AS(rnn(x, {}, {.done = transpose(done, 0, 1)}),
                       "lstm: done has shape (2, 5), expected (5, 2), one for each step of each sequence", ShapeError);
  CHECK_THROWS_WITH_AS(rnn(x, {}, {.done = zeros({5, 1}, DType::Bool)}), doctest::Contains("done has shape (5, 1)"),
                       ShapeError);
  CHECK_THROWS_WITH_AS(rnn(x, {}, {.done = zeros(5, DType::Bool)}), doctest::Contains("done has shape (5,)"),
                       ShapeError);
  CHECK_THROWS_WITH_AS(batch_first(transpose(x, 0, 1), {}, {.done = done}), doctest::Contains("expected (2, 5)"),
                       ShapeError);
  CHECK_THROWS_WITH_AS(rnn(x, {}, {.done = done, .reset_to = {s}}), doctest::Contains("hidden[1] is missing"),
                       ValueError);
  CHECK_THROWS_WITH_AS(rnn(x, {}, {.done = done, .reset_to = {s, narrow(s, 1, 0, 1)}}),
                       doctest::Contains("hidden[1] has shape (1, 1, 4), expected (1, 2, 4)"), ShapeError);
  CHECK_THROWS_WITH_AS(rnn(x, {}, {.done = done, .reset_to = {s, s.to(DType::Float32)}}),
                       doctest::Contains("hidden[1] is float32"), DTypeError);
  auto packed = nn::pack_padded_sequence(x, {5, 3});
  CHECK_THROWS_WITH_AS(rnn(packed, {}, {.done = done}), doctest::Contains("done has shape (5, 2), expected (8,)"),
                       ShapeError);
}
