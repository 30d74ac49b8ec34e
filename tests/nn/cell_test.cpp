#include <doctest/doctest.h>
#include <unroll/autograd/ops/arithmetic.h>
#include <unroll/autograd/ops/compare.h>
#include <unroll/nn/linear.h>
#include <unroll/nn/lstm_cell.h>

using namespace unroll;

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
static_assert(nn::state_size<Tensor> == 1 && nn::state_size<nn::LSTMState> == 2);
}  // namespace

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
}
