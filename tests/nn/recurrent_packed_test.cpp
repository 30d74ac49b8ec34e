#include <unroll/autograd/engine.h>
#include <unroll/autograd/ops/dropout.h>

#include <limits>

#include "support/layers.h"

using namespace unroll;

// A packed sequence is as if it were alone.
namespace {
const std::vector<std::int64_t> kLengths{2, 5, 1, 5, 3};
constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();

template <class K>
void check_alone(const nn::RecurrentOptions& options) {
  CAPTURE(options.num_layers);
  CAPTURE(options.bidirectional);
  manual_seed(1);
  auto rnn = K::make(3, 4, options);
  const std::int64_t width = rnn.num_directions() * rnn.output_size();
  Tensor x = randn({5, 5, 3}, kDouble).requires_grad_();  // (T, N, I)
  auto start = nn::map_state(random_state(rnn, 5), [](const Tensor& s) { return s.requires_grad_(); });
  std::vector<Tensor> leaves = rnn.parameters();
  leaves.push_back(x);
  for (Tensor* s : nn::state_tensors(start)) leaves.push_back(*s);

  auto packed = rnn(nn::pack_padded_sequence(x, kLengths, {.enforce_sorted = false}), start);
  auto [output, lengths] = nn::pad_packed_sequence(packed.output);
  CHECK(lengths == kLengths);
  REQUIRE(output.shape() == Shape{5, 5, width});

  Tensor weights = randn(output.shape(), kDouble);
  std::vector<Tensor> state_weights, packed_states, alone_states;
  for (Tensor* s : nn::state_tensors(packed.state)) {
    packed_states.push_back(*s);
    state_weights.push_back(randn(s->shape(), kDouble));
  }
  Tensor alone_total = scalar(0, kDouble);
  std::vector<typename K::Layer::State> last;
  for (std::int64_t n = 0; n < 5; ++n) {
    const std::int64_t length = kLengths[static_cast<std::size_t>(n)];
    auto of_row = [&](const Tensor& s) { return select(s, 1, n); };
    auto alone = rnn(narrow(of_row(x), 0, 0, length), nn::map_state(start, of_row));  // without a batch
    CHECK(close(narrow(of_row(output), 0, 0, length), alone.output));
    CHECK(close(nn::map_state(packed.state, of_row), alone.state));
    CHECK(equal(narrow(of_row(output), 0, length, 5 - length), zeros({5 - length, width}, kDouble)));
    alone_total = alone_total + sum(alone.output * narrow(of_row(weights), 0, 0, length));
    last.push_back(alone.state);
  }
  auto together = nn::combine_states(last, [](const std::vector<Tensor>& s) { return stack(s, 1); });
  for (Tensor* s : nn::state_tensors(together)) alone_states.push_back(*s);

  GradOptions unused{.allow_unused = true};
  auto a = grad({sum(output * weights) + weighted(packed_states, state_weights)}, leaves, unused);
  auto b = grad({alone_total + weighted(alone_states, state_weights)}, leaves, unused);
  for (std::size_t i = 0; i < leaves.size(); ++i) {
    CAPTURE(i);
    CHECK((a[i].defined() ? b[i].defined() && close(a[i], b[i]) : !b[i].defined()));
  }
  const Tensor& of_input = a[rnn.parameters().size()];
  for (std::int64_t n = 0; n < 5; ++n) {
    const std::int64_t length = kLengths[static_cast<std::size_t>(n)];
    CHECK(equal(narrow(select(of_input, 1, n), 0, length, 5 - length), zeros({5 - length, 3}, kDouble)));
    CHECK(all(ne(narrow(select(of_input, 1, n), 0, 0, length), 0)));
  }
}
}  // namespace

TEST_CASE_TEMPLATE("recurrent: packed, each sequence is as if it were alone, in values and all gradients", K, TanhRNN,
                   PlainLSTM, ProjectedLSTM, PlainGRU, ResetBeforeGRU, UnbiasedRNN, UnbiasedLSTM, UnbiasedGRU, MGU) {
  for (std::int64_t layers : {1, 2})
    for (bool bidirectional : {false, true}) check_alone<K>({.num_layers = layers, .bidirectional = bidirectional});
}

// Most units of relu are off, and states that none reads have no gradient: values only.
TEST_CASE_TEMPLATE("recurrent: packed, the same of unusual cells", K, ReluRNN, Counting) {
  manual_seed(2);
  auto rnn = K::make(3, 4, {.num_layers = 2, .bidirectional = true});
  Tensor x = randn({5, 5, 3}, kDouble);
  auto start = random_state(rnn, 5);
  auto packed = rnn(nn::pack_padded_sequence(x, kLengths, {.enforce_sorted = false}), start);
  std::vector<Tensor> outputs = nn::unpack_sequence(packed.output);
  for (std::int64_t n = 0; n < 5; ++n) {
    auto of_row = [&](const Tensor& s) { return select(s, 1, n); };
    const std::int64_t length = kLengths[static_cast<std::size_t>(n)];
    auto alone = rnn(narrow(of_row(x), 0, 0, length), nn::map_state(start, of_row));
    CHECK(close(outputs[static_cast<std::size_t>(n)], alone.output));
    CHECK(close(nn::map_state(packed.state, of_row), alone.state));
  }
}

TEST_CASE_TEMPLATE("recurrent: packed sequences of equal lengths are a dense batch", K, ALL_LAYERS) {
  manual_seed(3);
  for (bool enforce_sorted : {true, false}) {
    auto rnn = K::make(3, 4, {.num_layers = 2, .batch_first = true, .bidirectional = true});
    Tensor x = randn({2, 4, 3}, kDouble);  // (N, T, I)
    auto start = random_state(rnn, 2);
    auto dense = rnn(x, start);
    auto packed =
        rnn(nn::pack_padded_sequence(x, {4, 4}, {.batch_first = true, .enforce_sorted = enforce_sorted}), start);
    CHECK(equal(nn::pad_packed_sequence(packed.output, {.batch_first = true}).padded, dense.output));
    CHECK(same(packed.state, dense.state));
    CHECK(same(rnn(nn::pack_padded_sequence(x, {4, 4}, {.batch_first = true})).state, rnn(x).state));  // from zeros
  }
}

TEST_CASE_TEMPLATE("recurrent: what stands in padding reaches neither values nor gradients", K, ALL_LAYERS) {
  manual_seed(4);
  auto rnn = K::make(3, 4, {.num_layers = 2, .bidirectional = true});
  Tensor clean = randn({5, 5, 3}, kDouble), dirty = clean.clone();
  for (std::int64_t n = 0; n < 5; ++n) {
    const std::int64_t length = kLengths[static_cast<std::size_t>(n)];
    narrow(select(dirty, 1, n), 0, length, 5 - length).fill_(n % 2 == 0 ? kNaN : 1e300);
  }
  std::vector<Tensor> leaves = rnn.parameters();
  auto run = [&](const Tensor& x) {
    x.requires_grad_();
    auto result = rnn(nn::pack_padded_sequence(x, kLengths, {.enforce_sorted = false}));
    std::vector<Tensor> all = all_of(result), wanted = leaves, sums;
    wanted.push_back(x);
    for (const Tensor& y : all)
      if (y.requires_grad()) sums.push_back(sum(square(y)));
    auto g = grad(sums, wanted, {.allow_unused = true});
    all.insert(all.end(), g.begin(), g.end());
    return all;
  };
  auto a = run(clean), b = run(dirty);
  for (std::size_t i = 0; i < a.size(); ++i) CHECK((a[i].defined() ? equal(a[i], b[i]) : !b[i].defined()));
  CHECK(all(isfinite(a.back())));
}

TEST_CASE_TEMPLATE("recurrent: packed states are in the caller's order", K, ALL_LAYERS) {
  manual_seed(5);
  auto rnn = K::make(3, 4, {.bidirectional = true});
  Tensor x = randn({3, 3, 3}, kDouble);
  auto start = random_state(rnn, 3);
  const std::vector<std::int64_t> lengths{1, 3, 2};
  auto packed = rnn(nn::pack_padded_sequence(x, lengths, {.enforce_sorted = false}), start);
  CHECK(equal(packed.output.sorted_indices(), tensor({1, 2, 0})));
  CHECK(equal(packed.output.unsorted_indices(), tensor({2, 0, 1})));
  CHECK(packed.output.batch_sizes() == std::vector<std::int64_t>{3, 2, 1});

  // Sorted by hand, the same states arrive at other places.
  const Tensor order = tensor({1, 2, 0});
  auto sort = [&](const Tensor& s) { return index_select(s, 1, order); };
  auto sorted = rnn(nn::pack_padded_sequence(sort(x), {3, 2, 1}), nn::map_state(start, sort));
  CHECK_FALSE(sorted.output.sorted_indices().defined());
  CHECK(equal(sorted.output.data(), packed.output.data()));
  CHECK(same(sorted.state, nn::map_state(packed.state, sort)));
  CHECK_FALSE(same(sorted.state, packed.state));

  // Each row's own state matters to it alone.
  for (std::int64_t n = 0; n < 3; ++n) {
    auto other = nn::map_state(start, [&](const Tensor& s) {
      Tensor changed = s.clone();
      select(changed, 1, n).fill_(0.75);
      return changed;
    });
    auto [output, state] = rnn(nn::pack_padded_sequence(x, lengths, {.enforce_sorted = false}), other);
    for (std::int64_t row = 0; row < 3; ++row) {
      auto of_row = [&](const Tensor& s) { return select(s, 1, row); };
      CHECK(same(nn::map_state(state, of_row), nn::map_state(packed.state, of_row)) == (row != n));
    }
  }
}

TEST_CASE_TEMPLATE("recurrent: sequences of length 0 give padding and their initial state", K, ALL_LAYERS) {
  manual_seed(6);
  auto rnn = K::make(3, 4, {.num_layers = 2, .bidirectional = true, .allow_empty = true});
  Tensor x = randn({4, 4, 3}, kDouble);
  auto start = nn::map_state(random_state(rnn, 4), [](const Tensor& s) { return s.requires_grad_(); });
  auto empty = nn::PackOptions{.enforce_sorted = false, .allow_empty = true};
  auto packed = rnn(nn::pack_padded_sequence(x, {0, 4, 0, 2}, empty), start);
  Tensor output = nn::pad_packed_sequence(packed.output, {.padding_value = -7}).padded;
  CHECK(packed.output.lengths() == std::vector<std::int64_t>{0, 4, 0, 2});
  auto full_rows = rnn(nn::pack_padded_sequence(index_select(x, 1, tensor({1, 3})), {4, 2}),
                       nn::map_state(start, [](const Tensor& s) {
                         return index_select(s, 1, tensor({1, 3}));
                       }));
  CHECK(equal(packed.output.data(), full_rows.output.data()));
  for (std::int64_t n : {0, 2}) {
    auto of_row = [&](const Tensor& s) { return select(s, 1, n); };
    CHECK(equal(of_row(output), full({4, 2 * rnn.output_size()}, -7, kDouble)));
    CHECK(same(nn::map_state(packed.state, of_row), nn::map_state(start, of_row)));
  }
  // h_n of such a row is h0, so its gradient is 1.
  Tensor h0 = nn::output_of(start);
  Tensor g = grad({sum(select(nn::output_of(packed.state), 1, 0))}, {h0})[0];
  CHECK(equal(select(g, 1, 0), ones_like(select(g, 1, 0))));
  CHECK(equal(narrow(g, 1, 1, 3), zeros_like(narrow(g, 1, 1, 3))));

  // None has a step: no output, all states as they came.
  auto none = rnn(nn::pack_padded_sequence(x, {0, 0, 0, 0}, empty), start);
  CHECK(none.output.data().shape() == Shape{0, 2 * rnn.output_size()});
  CHECK(same(none.state, start));
  CHECK(nn::pad_packed_sequence(none.output).padded.shape() == Shape{0, 4, 2 * rnn.output_size()});
}

TEST_CASE_TEMPLATE("recurrent: packed, a mask of dropout has a row for each row of data", K, PlainLSTM, PlainGRU, MGU) {
  manual_seed(7);
  auto rnn = K::make(3, 4, {.num_layers = 2, .dropout = 0.5, .bidirectional = true});
  auto lower = K::make(3, 4, {.bidirectional = true}), upper = K::make(8, 4, {.bidirectional = true});
  for (std::int64_t direction : {0, 1}) {
    copy_parameters(lower, 0, rnn, 0, direction, direction);
    copy_parameters(upper, 0, rnn, 1, direction, direction);
  }
  auto packed = nn::pack_padded_sequence(randn({5, 5, 3}, kDouble), kLengths, {.enforce_sorted = false});
  manual_seed(8);
  auto result = rnn(packed);
  auto drawn = default_generator().get_state();

  manual_seed(8);
  auto below = lower(packed);
  auto above = upper(below.output.with_data(dropout(below.output.data(), 0.5)));
  CHECK(equal(result.output.data(), above.output.data()));
  CHECK(equal(rows(nn::output_of(result.state), 0, 2), nn::output_of(below.state)));  // undropped
  CHECK(same(rows(result.state, 2, 2), above.state));

  manual_seed(8);
  for (std::int64_t i = 0; i < 2 * 16 * 8; ++i) default_generator().random32();  // two words an element of (ΣB_t, D·Ho)
  CHECK(default_generator().get_state() == drawn);
}

TEST_CASE("recurrent: errors of packed input") {
  nn::LSTM rnn(3, 4, {.num_layers = 2, .dtype = kDouble});
  auto pack = [](const Tensor& x) { return nn::pack_padded_sequence(x, {1, 3, 2}, {.enforce_sorted = false}); };
  auto x = pack(zeros({3, 3, 3}, kDouble));
  Tensor s = zeros({2, 3, 4}, kDouble), two = zeros({2, 2, 4}, kDouble);
  CHECK_THROWS_WITH_AS(rnn(pack(zeros({3, 3}, kDouble))),
                       doctest::Contains("expected packed data of 2 dimensions, got 1"), ShapeError);
  CHECK_THROWS_WITH_AS(rnn(pack(zeros({3, 3, 3, 1}, kDouble))), doctest::Contains("got 3 in shape (6, 3, 1)"),
                       ShapeError);
  CHECK_THROWS_WITH_AS(rnn(pack(zeros({3, 3, 5}, kDouble))), "lstm: input has 5 features, expected input_size = 3",
                       ShapeError);
  CHECK_THROWS_WITH_AS(rnn(x, {zeros({2, 4}, kDouble), s}), doctest::Contains("hidden[0] must have 3, got 2"),
                       ShapeError);
  CHECK_THROWS_WITH_AS(rnn(x, {two, s}), "lstm: hidden[0] has shape (2, 2, 4), expected (2, 3, 4)", ShapeError);
  CHECK_THROWS_WITH_AS(rnn(x, {s, two}), "lstm: hidden[1] has shape (2, 2, 4), expected (2, 3, 4)", ShapeError);
  CHECK_THROWS_WITH_AS(rnn(x, {s}), doctest::Contains("hidden[1] is missing"), ValueError);
  CHECK_THROWS_WITH_AS(rnn(x.to(DType::Float32)), "lstm: input is float32, the parameters are float64", DTypeError);
  auto empty = nn::PackOptions{.enforce_sorted = false, .allow_empty = true};
  CHECK_THROWS_WITH_AS(rnn(nn::pack_padded_sequence(zeros({3, 2, 3}, kDouble), {0, 0}, empty)),
                       doctest::Contains("sequence length"), ShapeError);
  // One of length 0 beside others needs a state of its own too.
  auto mixed = nn::pack_padded_sequence(zeros({3, 2, 3}, kDouble), {0, 3}, empty);
  CHECK_THROWS_WITH_AS(rnn(mixed, {narrow(s, 1, 0, 1), narrow(s, 1, 0, 1)}), doctest::Contains("expected (2, 2, 4)"),
                       ShapeError);
}
