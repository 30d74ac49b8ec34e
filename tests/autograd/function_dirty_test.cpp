#include "support/any_function.h"
#include "support/gradients.h"
#include "support/memory.h"

#include <doctest/doctest.h>
#include <unroll/autograd/engine.h>
#include <unroll/autograd/grad_mode.h>
#include <unroll/autograd/ops/arithmetic.h>
#include <unroll/autograd/ops/reduce.h>
#include <unroll/autograd/ops/shape.h>
#include <unroll/core/view.h>

#include <stdexcept>

using namespace unroll;
using doctest::Contains;

namespace {
// x · 2 in place, with a context of which backward gets no copy.
struct Doubled : Function<Doubled> {
  struct Context : FunctionContext {
    Context() = default;
    Context(const Context&) : FunctionContext() { throw std::runtime_error("no copy"); }
  };
  static Tensor forward(Context& context, const Tensor& x) {
    context.mark_dirty(x);
    return x.mul_(2);
  }
  static std::vector<Tensor> backward(Context&, const Tensor& g) { return {g * 2}; }
};
}  // namespace

TEST_CASE("Function: an argument keeps its history when the call cannot be recorded") {
  Tensor x = leaf({1, 2}), y = x * 3;
  CHECK_THROWS_WITH_AS(Doubled::apply(y), "no copy", std::runtime_error);
  CHECK(y.requires_grad());
  sum(y).backward();
  CHECK(of(x.grad()) == Values{3, 3});
}

TEST_CASE("Function: mark_dirty") {
  auto forward = [](FunctionContext& ctx, const Tensors& in) {
    ctx.mark_dirty(in[0]);
    in[0].mul_(3);
    return Tensors{in[0]};
  };
  auto backward = [](FunctionContext&, Gradients g) { return Tensors{g[0] * 3, {}, {}}; };
  auto tripled = [&](const Tensor& x) {
    return Any::apply(Tensors{x}, Any::Forward(forward), Any::Backward(backward))[0];
  };
  Tensor x = leaf({1, 2});
  Tensor h = x * 1;
  h.retain_grad();
  Tensor y = tripled(h);
  CHECK(y.is_same(h));
  CHECK(of(h) == Values{3, 6});
  CHECK(h.version() == 1);
  sum(h * h).backward();
  CHECK(of(x.grad()) == Values{18, 36});
  CHECK(of(h.grad()) == Values{6, 12});  // of what h is now

  CHECK_THROWS_WITH_AS(tripled(x), Contains("Any: mark_dirty: a leaf that requires a gradient"), GradError);
  CHECK(of(x) == Values{1, 2});
  CHECK_THROWS_AS(tripled(narrow(x * 1, 0, 0, 1)), GradError);
  CHECK_THROWS_AS(tripled(views::expand(leaf({1}), 3)), ValueError);
  SUBCASE("a gradient that was kept stays") {
    Tensor kept = x * 1;
    kept.retain_grad();
    sum(kept).backward();
    tripled(kept);
    CHECK(of(kept.grad()) == Values{1, 1});
  }
  SUBCASE("integers, which have no history, with a gradient that somebody gave them") {
    Tensor counts = tensor({1, 2});
    counts.set_grad(tensor({5, 6}));
    tripled(counts);
    CHECK(counts.to_vector<std::int64_t>() == std::vector<std::int64_t>{3, 6});
    CHECK(counts.grad().to_vector<std::int64_t>() == std::vector<std::int64_t>{5, 6});
  }
  SUBCASE("views of it follow") {
    Tensor z = leaf({1, 2}), base = z * 1, second = narrow(base, 0, 1, 1);
    tripled(base);
    CHECK(of(second) == Values{6});
    CHECK(of(grad({second}, {z})[0]) == Values{0, 3});
  }
  SUBCASE("under NoGrad a leaf may be written") {
    NoGrad guard;
    CHECK(of(tripled(x)) == Values{3, 6});
    CHECK(x.is_leaf());
  }
  SUBCASE("what was saved of it before is stale") {
    Tensor before = x * 1, square = before * before;
    tripled(before);
    CHECK_THROWS_WITH_AS(sum(square).backward(), Contains("modified in place"), GradError);
  }
  SUBCASE("must be true, and the argument a result") {
    auto silent = [](FunctionContext&, const Tensors& in) {
      in[0].mul_(3);
      return Tensors{in[0] * 1};
    };
    CHECK_THROWS_WITH_AS(Any::apply(Tensors{x * 1}, Any::Forward(silent), Any::Backward(backward)),
                         Contains("wrote argument 0 in place without mark_dirty"), GradError);
    auto lost = [](FunctionContext& ctx, const Tensors& in) {
      ctx.mark_dirty(in[0]);
      return Tensors{in[0] * 1};
    };
    CHECK_THROWS_WITH_AS(Any::apply(Tensors{x * 1}, Any::Forward(lost), Any::Backward(backward)),
                         Contains("did not return it"), GradError);
  }
}

TEST_CASE("Function: mark_dirty of one argument twice, and memory that runs out") {
  struct Double : Function<Double> {
    static Tensor forward(FunctionContext& ctx, const Tensor& x) {
      ctx.mark_dirty(x);
      ctx.mark_dirty(x);
      return x.mul_(2);
    }
    static Tensors backward(FunctionContext&, const Tensor& g) { return {g * 2}; }
  };
  int failures = 0;
  for (bool done = false; !done; ++failures) {
    Tensor x = leaf({1, 2});
    Tensor h = x * 1;
    h.retain_grad();
    try {
      FailAfter fail(failures);
      Double::apply(h);
      done = true;
    } catch (const OutOfMemory&) {}
    REQUIRE(h.requires_grad());  // its history, old or new
    sum(h).backward();
    CHECK(of(x.grad()) == (done ? Values{2, 2} : Values{1, 1}));
    CHECK(of(h.grad()) == Values{1, 1});
  }
  CHECK(failures > 2);
}
