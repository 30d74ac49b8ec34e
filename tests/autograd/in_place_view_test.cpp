#include "support/gradients.h"

#include <doctest/doctest.h>
#include <unroll/autograd/engine.h>
#include <unroll/autograd/function.h>
#include <unroll/autograd/gradcheck.h>
#include <unroll/autograd/hooks.h>
#include <unroll/autograd/node.h>
#include <unroll/autograd/ops/activation.h>
#include <unroll/autograd/ops/arithmetic.h>
#include <unroll/autograd/ops/reduce.h>
#include <unroll/autograd/ops/shape.h>
#include <unroll/core/print.h>

#include <memory>
#include <thread>

using namespace unroll;

namespace {
using Tensors = std::vector<Tensor>;
}  // namespace

// Numbers from torch.
TEST_CASE("in place through a view: base, view and other views have the new elements and gradients") {
  Tensor x = leaf({1, 2, 3, 4}), w = leaf({5, 6});
  const Tensor weights = tensor({1.0, 10.0, 100.0, 1000.0}, DType::Float64);
  SUBCASE("a view of a computed tensor") {
    Tensor h = x * 2, matrix = view(h, {2, 2}), row = select(matrix, 0, 1), column = select(matrix, 1, 1);
    row.mul_(w);
    CHECK(of(h) == Values{2, 4, 30, 48});
    CHECK(of(column) == Values{4, 48});
    CHECK(h.grad_slot()->grad_fn->name() == std::string("copy_slices"));
    CHECK(column.grad_slot()->grad_fn->name() == std::string("as_strided"));
    std::vector<Tensor> of_base = grad({sum(h * weights)}, {x, w}, {.retain_graph = true});
    CHECK(of(of_base[0]) == Values{2, 20, 1000, 12000});
    CHECK(of(of_base[1]) == Values{600, 8000});
    std::vector<Tensor> of_column = grad({sum(column)}, {x, w}, {.retain_graph = true});
    CHECK(of(of_column[0]) == Values{0, 2, 0, 12});
    CHECK(of(of_column[1]) == Values{0, 8});
    CHECK(of(grad({sum(row)}, {w})[0]) == Values{6, 8});
  }
  SUBCASE("a view of a plain tensor takes it into the graph") {
    Tensor h = zeros(4, DType::Float64), v = narrow(h, 0, 1, 2), before = v * 1;
    v.copy_(w);
    CHECK(h.requires_grad());
    CHECK_FALSE(h.is_leaf());
    CHECK_FALSE(before.requires_grad());
    sum(h * weights).backward();
    CHECK(of(w.grad()) == Values{10, 100});
  }
  SUBCASE("the base, of which a view was taken before") {
    Tensor h = x * 2, v = narrow(h, 0, 2, 2), pieces = unbind(h)[3], before = v * 1;
    h.mul_(x);
    CHECK(of(v) == Values{18, 32});
    CHECK(of(grad({sum(v)}, {x}, {.retain_graph = true})[0]) == Values{0, 0, 12, 16});
    CHECK(of(grad({pieces}, {x}, {.retain_graph = true})[0]) == Values{0, 0, 0, 16});
    CHECK(of(grad({sum(before)}, {x})[0]) == Values{0, 0, 2, 2});
  }
  SUBCASE("one of what expand repeats") {
    Tensor h = narrow(x, 0, 0, 2) * 2, e = expand(h, {3, 2});
    select(e, 0, 1).mul_(4);
    CHECK(of(e) == Values{8, 16, 8, 16, 8, 16});
    Tensor m = view(arange(6).to(DType::Float64), {3, 2});
    CHECK(of(grad({sum(e * m)}, {x})[0]) == Values{48, 72, 0, 0});
  }
  SUBCASE("a base that is not row-major") {
    Tensor h = transpose(view(x * 2, {2, 2}), 0, 1).detach(), v = select(h, 0, 1);
    auto f = [](const Tensors& in) {
      Tensor base = transpose(narrow(ones({3, 2}, DType::Float64), 0, 1, 2), 0, 1).detach();
      base.add_(view(in[0], {2, 2}));
      select(base, 0, 1).mul_(in[1]);
      return base * tanh(base);
    };
    v.mul_(w);
    CHECK(of(h) == Values{2, 6, 20, 48});
    CHECK(of(grad({sum(h * view(weights, {2, 2}))}, {w})[0]) == Values{400, 8000});
    CHECK(gradcheck(f, {(x.detach() * 0.1).requires_grad_(), w}));
  }
  SUBCASE("nothing, of a view that is expanded") {
    Tensor nothing = zeros({1, 0}, DType::Float64).requires_grad_(), h = nothing + 1;
    expand(h, {2, 0}).div_(2);
    sum(h).backward();
    CHECK(nothing.grad().shape() == Shape{1, 0});
  }
  SUBCASE("nothing at all") {
    Tensor h = x * 2, v = narrow(h, 0, 4, 0);
    v.mul_(v);
    sum(h).backward();
    CHECK(of(x.grad()) == Values{2, 2, 2, 2});
  }
}

TEST_CASE("in place through a view: retain_grad stays with base and view") {
  Tensor x = leaf({1, 2, 3}), h = x * 2, v = narrow(h, 0, 0, 2);
  h.retain_grad();
  v.retain_grad();
  v.mul_(3);
  sum(h * h + sum(v)).backward();
  CHECK(of(h.grad()) == Values{15, 27, 12});
  CHECK(of(v.grad()) == Values{3, 3});
  CHECK(of(x.grad()) == Values{90, 162, 24});
  Tensor y = sum(v);  // the gradient that is there stays when v's history changes
  h.mul_(2);
  CHECK(of(v.grad()) == Values{3, 3});
}

TEST_CASE("in place through a view: threads may ask one view for its new history") {
  Tensor x = leaf({1, 2, 3, 4}), h = x * 2, v = narrow(h, 0, 1, 2);
  h.mul_(x);
  std::vector<Tensor> results(4);
  std::vector<std::thread> threads;
  for (Tensor& result : results)
    threads.emplace_back([&] { result = grad({sum(v * v)}, {x}, {.retain_graph = true})[0]; });
  for (std::thread& t : threads) t.join();
  for (const Tensor& result : results) CHECK(of(result) == Values{0, 128, 432, 0});
}

TEST_CASE("in place through a view: what goes with its old history may ask another view for its new one") {
  Tensor x = leaf({1, 2}), h = x * 2, v = narrow(h, 0, 0, 1), u = narrow(h, 0, 1, 1);
  struct Asks {
    Tensor view;
    bool* asked;
    ~Asks() { *asked = view.requires_grad(); }
  };
  bool asked = false;
  v.register_hook([asks = std::shared_ptr<Asks>(new Asks{u, &asked})](const Tensor&) { return Tensor(); });
  h.mul_(2);
  CHECK(v.requires_grad());
  CHECK(asked);
}

namespace {
// A view with a history of its own: not one that a write to its base could be brought to.
struct OwnView : Function<OwnView> {
  static Tensor forward(FunctionContext&, const Tensor& x) { return view(x, x.shape()); }
  static Tensors backward(FunctionContext&, const Tensor& g) { return {g}; }
};

// Doubles its first argument in place; there may be others.
struct Double : Function<Double> {
  static Tensor forward(FunctionContext& context, const Tensor& x, const Tensor&) {
    context.mark_dirty(x);
    x.mul_(2);
    return x;
  }
  static Tensors backward(FunctionContext&, const Tensor& g) { return {g * 2, zeros_like(g)}; }
};
}  // namespace

TEST_CASE("mark_dirty: memory that a view with a history of its own shares, or another argument") {
  const Tensor x = ones(2).requires_grad_(), shared = 2 * x, h = 2 * x, other = view(h, {2, 1});
  const Tensor own = OwnView::apply(shared);
  CHECK_THROWS_AS(Double::apply(shared, x), GradError);
  CHECK_NOTHROW(Double::apply(h, other));
}

TEST_CASE("in place: when the last handle of a view with a history of its own is gone, memory may be written") {
  const Tensor x = ones(2).requires_grad_(), h = 2 * x;
  Tensor y;
  {
    const Tensor v = OwnView::apply(h);
    y = v * v;  // saves what v has
    CHECK_THROWS_AS(h.mul_(2), GradError);
  }
  CHECK_NOTHROW(h.mul_(2));
}

TEST_CASE("in place through a view: one that is taken afterwards is an op of its own") {
  const Tensor x = ones(4).requires_grad_(), y = exp(x);
  y.mul_(2);
  CHECK(to_string(narrow(y, 0, 0, 2)).find("grad_fn=<narrow>") != std::string::npos);
}
