#include <doctest/doctest.h>
#include <unroll/autograd/engine.h>
#include <unroll/autograd/function.h>
#include <unroll/autograd/ops/arithmetic.h>
#include <unroll/autograd/ops/compare.h>
#include <unroll/autograd/ops/reduce.h>
#include <unroll/autograd/ops/shape.h>
#include <unroll/core/random.h>
#include <unroll/nn/gru.h>
#include <unroll/nn/linear.h>
#include <unroll/nn/lstm.h>
#include <unroll/nn/rnn_cell.h>

#include <memory>

#include "support/memory.h"

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

TEST_CASE("module to: changes nothing if memory runs out, whatever the rank") {
  struct Two : nn::Module {
    Two() { add("a", a), add("b", b); }
    Tensor a = full({2, 2, 2, 2, 2}, 1.5), b = full({2, 2, 2, 2, 64}, 2.5);
  } module;
  int failed = 0;
  for (;; ++failed) try {
      FailAfter hook(failed);
      module.to(DType::Float64);
      break;
    } catch (const OutOfMemory&) {
      for (const Tensor& x : {module.a, module.b}) REQUIRE(x.dtype() == DType::Float32);
      REQUIRE(all(eq(module.a, 1.5)));
      REQUIRE(all(eq(module.b, 2.5)));
    }
  CHECK(failed > 3);
  CHECK(module.a.to_vector<double>() == std::vector<double>(32, 1.5));
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

TEST_CASE("module to: a step of a cell or layer that was taken before has its gradients all the same") {
  auto of_step = [](auto make, DType then, DType now) {
    manual_seed(4);
    auto module = make(then);
    const Tensor x = rand({1, 8, 16}, then);
    Tensor y;
    if constexpr (requires { module->num_layers; })
      y = (*module)(x).output;
    else
      y = nn::output_of((*module)(select(x, 0, 0)));
    module->to(now);
    sum(y).backward();
    std::vector<std::vector<double>> gradients;
    for (const Tensor& p : module->parameters()) {
      CHECK(p.grad().dtype() == now);
      gradients.push_back(p.grad().to(DType::Float64).template to_vector<double>());
    }
    return gradients;
  };
  auto check = [&](auto make) {
    for (DType then : {DType::Float32, DType::Float64}) {
      const DType other = then == DType::Float32 ? DType::Float64 : DType::Float32;
      const auto stayed = of_step(make, then, then), converted = of_step(make, then, other);
      REQUIRE(stayed.size() == converted.size());
      for (std::size_t i = 0; i < stayed.size(); ++i)
        for (std::size_t e = 0; e < stayed[i].size(); ++e)
          CHECK(converted[i][e] == doctest::Approx(stayed[i][e]).epsilon(1e-6));
    }
  };
  check([](DType dtype) { return std::make_unique<nn::RNNCell>(16, 64, nn::RNNCellOptions{.dtype = dtype}); });
  check([](DType dtype) { return std::make_unique<nn::LSTMCell>(16, 64, nn::LSTMCellOptions{.dtype = dtype}); });
  check([](DType dtype) { return std::make_unique<nn::GRUCell>(16, 64, nn::GRUCellOptions{.dtype = dtype}); });
  check([](DType dtype) { return std::make_unique<nn::LSTM>(16, 64, nn::LSTMOptions{.dtype = dtype}); });
  check([](DType dtype) { return std::make_unique<nn::GRU>(16, 64, nn::GRUOptions{.dtype = dtype}); });
}

TEST_CASE("module: the name of a template's type has all its arguments") {
  CHECK(Pair<Left, Right>().type_name() == "Pair<Left, Right>");
  CHECK(Pair<Pair<Left, Right>, Left>().type_name() == "Pair<Pair<Left, Right>, Left>");
  CHECK(Pair<Left, Pair<Left, Right>>().type_name() == "Pair<Left, Pair<Left, Right>>");
}

TEST_CASE("module: the name of a local type has nothing of the function it stands in") {
  struct Local : nn::Module {
    std::string of_member(int, float) const {
      struct Within : nn::Module {};
      return Pair<Within, Left>().type_name() + Within().type_name();
    }
  };
  CHECK(Local().type_name() == "Local");
  CHECK(Local().of_member(1, 2) == "Pair<Within, Left>Within");
  auto lambda = [](const std::vector<Left>&) {
    struct InLambda : nn::Module {};
    return InLambda().type_name();
  };
  CHECK(lambda({}) == "InLambda");
}

TEST_CASE("module to: the dtype that it has changes nothing") {
  nn::Linear layer(2, 3);
  const Tensor weight = layer.state_dict()[0].second;
  const auto version = layer.weight.version();
  layer.to(DType::Float32);
  CHECK(layer.weight.version() == version);
  CHECK(layer.weight.shares_memory(weight));
}
