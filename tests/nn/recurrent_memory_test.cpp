#include <unroll/autograd/engine.h>
#include <unroll/autograd/grad_mode.h>

#include <stdexcept>

#include "support/layers.h"
#include "support/memory.h"

using namespace unroll;

// What a layer leaves behind: nothing.

TEST_CASE_TEMPLATE("recurrent: many thousand steps, forward, backward and gone", K, TanhRNN, PlainLSTM, PlainGRU) {
  FusedMode composed(false);
  auto rnn = K::make(1, 1);
  const std::int64_t steps = std::same_as<K, TanhRNN> ? 100'000 : 5'000;
  Tensor x = zeros({steps, 1, 1}, kDouble);
  rnn.zero_grad();
  const Live before;
  {
    auto [output, state] = rnn(x);
    CHECK(Live().nodes > before.nodes + steps);
    sum(nn::output_of(state)).backward();
    CHECK(all(isfinite(rnn.cell(0).weight_hh.grad())));
    rnn.zero_grad();
  }
  CHECK(Live() == before);
  {
    auto dropped = rnn(x);  // never differentiated
  }
  CHECK(Live() == before);
}

TEST_CASE_TEMPLATE("recurrent: without recording no graph is held", K, ALL_LAYERS) {
  auto rnn = K::make(3, 4, {.num_layers = 2, .bidirectional = true});
  Tensor x = randn({20, 2, 3}, kDouble);
  NoGrad no_grad;
  const Live before;
  auto result = rnn(x);
  CHECK(Live().nodes == before.nodes);
  CHECK_FALSE(result.output.requires_grad());
}

namespace {
// Fails at a step of its choice.
struct FailingCell : MGUCell {
  using MGUCell::MGUCell;
  Tensor operator()(const Tensor& x, const Tensor& h) const {
    if (left-- == 0) throw std::runtime_error("failed");
    return MGUCell::operator()(x, h);
  }
  mutable std::int64_t left = -1;
};
}  // namespace

TEST_CASE("recurrent: a cell that throws leaves nothing behind and the layer usable") {
  nn::Recurrent<FailingCell> rnn(3, 4, {.num_layers = 2, .bidirectional = true});
  Tensor x = randn({6, 2, 3}, kDouble);
  Tensor expected = rnn(x).output.detach();
  const Live before;
  for (std::int64_t layer : {0, 1})
    for (std::int64_t direction : {0, 1})
      for (std::int64_t step : {0, 3, 5}) {
        rnn.cell(layer, direction).left = step;
        CHECK_THROWS_WITH_AS(rnn(x), "failed", std::runtime_error);
        rnn.cell(layer, direction).left = step;
        CHECK_THROWS_WITH_AS(rnn.trace(x), "failed", std::runtime_error);
        nn::note("a trace that failed no longer listens", x);
        CHECK(Live() == before);
        rnn.cell(layer, direction).left = -1;
      }
  CHECK(equal(rnn(x).output, expected));
}

TEST_CASE_TEMPLATE("recurrent: memory that fails anywhere in a step leaves no trace", K, PlainLSTM, PlainGRU) {
  for (bool fused : {false, true}) {
    FusedMode mode(fused);
    auto rnn = K::make(3, 4, {.num_layers = 2, .dropout = 0.5, .bidirectional = true});
    Tensor x = randn({3, 3, 3}, kDouble);
    auto packed = nn::pack_padded_sequence(x, {1, 3, 2}, {.enforce_sorted = false});
    auto step = [&] {
      auto result = rnn(packed);
      sum(result.output.data()).backward();
    };
    for (int i = 0; i < 2; ++i) step();  // weights that stay as they are have panels from the second time on
    rnn.zero_grad();
    const Live before;
    std::int64_t failures = 0;
    for (std::int64_t n = 0;; n += fused ? 1 : 7) {
      bool failed = false;
      try {
        FailAfter fail(n);
        step();
      } catch (const std::bad_alloc&) {
        failed = true;
      }
      if (!failed) break;
      ++failures;
      for (const Tensor& p : rnn.parameters()) REQUIRE_FALSE(p.grad().defined());
      REQUIRE(Live() == before);
    }
    CHECK(failures > 50);
  }
}
