#include <doctest/doctest.h>
#include <unroll/autograd/engine.h>
#include <unroll/autograd/function.h>
#include <unroll/autograd/ops/arithmetic.h>
#include <unroll/autograd/ops/compare.h>
#include <unroll/autograd/ops/reduce.h>
#include <unroll/autograd/ops/shape.h>
#include <unroll/nn/module.h>

using namespace unroll;

// Module::to gives a tensor other memory: what shared the old one is its kin no more.
namespace {
struct Buffer : nn::Module {
  explicit Buffer(Tensor x) : b(std::move(x)) { add("b", b, Kind::Buffer); }
  Tensor b;
};

// A view with a history of its own.
struct OwnView : Function<OwnView> {
  static Tensor forward(FunctionContext&, const Tensor& x) { return view(x, x.shape()); }
  static std::vector<Tensor> backward(FunctionContext&, const Tensor& g) { return {g}; }
};

template <class A, class B>
struct Pair : nn::Module {};
struct Left {};
struct Right {};
}  // namespace

TEST_CASE("module to: a view of what has other memory now is not written with a record") {
  Buffer module(ones(3));
  const Tensor part = narrow(module.b, 0, 0, 2), w = ones(2).requires_grad_();
  module.to(DType::Float64);
  CHECK_THROWS_AS(part.mul_(w), GradError);
  CHECK_FALSE(module.b.requires_grad());
}

TEST_CASE("module to: a view becomes a tensor of its own") {
  const Tensor whole = ones(3), w = full(2, 3, DType::Float64).requires_grad_();
  Buffer module(narrow(whole, 0, 0, 2));
  module.to(DType::Float64);
  module.b.mul_(w);
  CHECK(module.b.requires_grad());
  CHECK_FALSE(whole.requires_grad());
  CHECK(equal(whole, ones(3)));
}

TEST_CASE("module to: memory is free to be written once the view with a history of its own has left it") {
  const Tensor x = ones(2).requires_grad_(), h = 2 * x;
  Buffer module(OwnView::apply(h));
  module.to(DType::Float64);
  CHECK_NOTHROW(h.mul_(2));
}

TEST_CASE("module: the name of a template's type has all its arguments") {
  CHECK(Pair<Left, Right>().type_name() == "Pair<Left, Right>");
}
