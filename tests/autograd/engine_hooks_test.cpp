// What hooks may do to the graph, the leaves and the caller's lists while a pass runs.
#include <doctest/doctest.h>
#include <unroll/autograd/detail/plan.h>
#include <unroll/autograd/engine.h>
#include <unroll/autograd/hooks.h>
#include <unroll/autograd/ops/activation.h>
#include <unroll/autograd/ops/arithmetic.h>
#include <unroll/autograd/ops/reduce.h>
#include <unroll/autograd/ops/shape.h>
#include <unroll/nn/module.h>

using namespace unroll;

namespace {
using Floats = std::vector<float>;

Floats numbers(const Tensor& x) { return x.to(DType::Float32).to_vector<float>(); }

Tensor leaf(double value, std::int64_t n = 3) { return full({n}, value).requires_grad_(); }

Tensor leaf_with_grad(double grad) {
  Tensor x = leaf(1);
  x.set_grad(full({3}, grad));
  return x;
}

struct Two : nn::Module {
  Tensor a = ones({4}), b = ones({4});
  Two() {
    add("a", a);
    add("b", b);
  }
};
}  // namespace

TEST_CASE("backward: a gradient that is another leaf's grad() is added as it was") {
  const Tensor a = leaf_with_grad(10), b = leaf_with_grad(100), none = leaf(1);
  auto is = [](const Tensor& x, float grad) { return numbers(x.grad()) == Floats{grad, grad, grad}; };
  SUBCASE("given by the caller") {
    (a + b).backward({.gradient = a.grad()});
    CHECK((is(a, 20) && is(b, 110)));
  }
  SUBCASE("returned by a hook") {
    b.register_hook([&](const Tensor&) { return a.grad(); });
    SUBCASE("of the second leaf") { sum(a + b).backward(); }
    SUBCASE("of the first leaf") { sum(b + a).backward(); }
    CHECK((is(a, 11) && is(b, 110)));
  }
  SUBCASE("of many leaves, each of the next") {
    constexpr std::size_t kLeaves = 16;
    std::vector<Tensor> leaves;
    Tensor y = none;
    for (std::size_t i = 0; i < kLeaves; ++i) leaves.push_back(leaf_with_grad(static_cast<double>(i)));
    for (std::size_t i = 0; i < kLeaves; ++i) {
      leaves[i].register_hook([&leaves, i](const Tensor&) { return leaves[(i + 1) % kLeaves].grad(); });
      y = y + leaves[i * 7 % kLeaves];
    }
    sum(y).backward();
    for (std::size_t i = 0; i < kLeaves; ++i) CHECK(is(leaves[i], static_cast<float>(i + (i + 1) % kLeaves)));
  }
  SUBCASE("for a leaf that had none") {
    (a + none).backward({.gradient = a.grad()});
    CHECK((is(a, 20) && is(none, 10)));
  }
}

TEST_CASE("backward: the graph is that of when it began, though a hook gives its output another history") {
  const Tensor w = leaf(1, 4), base = w * 2, v = narrow(base, 0, 1, 2);
  SUBCASE("of a view, whose base it writes") {
    v.register_hook([&](const Tensor& g) {
      const GradMode on(true);
      base.mul_(3);
      CHECK(v.requires_grad());  // asked, it follows its base
      return g;
    });
    CHECK(numbers(grad({v}, {w}, {.grad_outputs = {ones({2})}})[0]) == Floats{0, 2, 2, 0});
  }
  SUBCASE("of a tensor that it writes itself") {
    const Tensor y = w * 2;
    y.register_hook([&](const Tensor& g) {
      const GradMode on(true);
      y.mul_(3);
      return g;
    });
    CHECK(numbers(grad({y}, {w}, {.grad_outputs = {ones({4})}})[0]) == Floats{2, 2, 2, 2});
  }
}

TEST_CASE("backward: gradients have the dtype that a module has after a hook has converted it") {
  Two m;
  const auto convert = [&](const Tensor&) {
    m.to(DType::Float64);
    return Tensor();
  };
  auto check = [&](const Tensor& grad, const Floats& expected) {
    CHECK(grad.dtype() == DType::Float64);
    CHECK(numbers(grad) == expected);
  };
  SUBCASE("a leaf's hook, and a grad() that was there") {
    m.a.set_grad(ones({4}));
    m.a.register_hook(convert);
    sum(m.a * m.b).backward();
    check(m.a.grad(), {2, 2, 2, 2});
    check(m.b.grad(), {1, 1, 1, 1});
  }
  SUBCASE("a hook on the way, between two gradients of one leaf") {
    const Tensor h = m.b * 2;
    h.register_hook(convert);
    sum(h + m.b).backward();
    check(m.b.grad(), {3, 3, 3, 3});
  }
}

TEST_CASE("grad: a hook may empty the list of inputs that the caller gave") {
  const Tensor w = leaf(1), unused = leaf(1, 5), y = sum(w);
  std::vector<Tensor> inputs{w, unused};
  y.register_hook([&](const Tensor&) {
    inputs = std::vector<Tensor>{zeros({7}), zeros({7})};
    return Tensor();
  });
  const auto result = grad({y}, inputs, {.allow_unused = true, .materialize_grads = true});
  CHECK(result[1].shape() == Shape{5});
}

TEST_CASE("retain_grad: what reaches a tensor only as an op's saved output is kept too") {
  using Op = Tensor (*)(const Tensor&);
  for (Op op : {Op(sigmoid), Op(tanh), Op(exp), Op(sqrt)}) {
    const Tensor x = tensor({0.3, 0.8}, DType::Float64).requires_grad_(), y = op(x * 2);
    y.retain_grad();
    const Tensor g = grad({sum(y)}, {x}, {.create_graph = true})[0];
    const Tensor expected = grad({sum(g)}, {y}, {.retain_graph = true})[0];
    sum(g).backward();
    REQUIRE(y.grad().defined());
    CHECK(y.grad().to_vector<double>() == expected.to_vector<double>());
  }
  SUBCASE("but for nobody, once the tensor is gone") {
    const Tensor x = tensor({0.3, 0.8}, DType::Float64).requires_grad_();
    Tensor y = tanh(x);
    y.retain_grad();
    const Tensor g = grad({sum(y)}, {x}, {.create_graph = true})[0];
    y = Tensor();
    CHECK_NOTHROW(sum(g).backward());
  }
}

TEST_CASE("plan: of the graph behind what is wanted nothing is visited") {
  const Tensor x = leaf(1);
  Tensor y = x;
  for (int i = 0; i < 100; ++i) y = tanh(y);
  const Tensor wanted = y * 2;
  y = tanh(wanted);
  const detail::Plan whole({y}, false, 0), part({y}, false, wanted.grad_slot()->grad_fn->sequence());
  CHECK(whole.visits().size() == 102);
  CHECK(part.visits().size() == 2);
  CHECK(numbers(grad({y}, {wanted}, {.grad_outputs = {ones({3})}, .retain_graph = true})[0]) ==
        numbers(1 - square(tanh(wanted))));
  CHECK(grad({y}, {wanted, x}, {.grad_outputs = {ones({3})}})[1].defined());
}
