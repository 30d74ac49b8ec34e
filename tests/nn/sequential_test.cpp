#include <doctest/doctest.h>
#include <unroll/autograd/ops/activation.h>
#include <unroll/autograd/ops/compare.h>
#include <unroll/core/random.h>
#include <unroll/nn/dropout.h>
#include <unroll/nn/linear.h>
#include <unroll/nn/sequential.h>

using namespace unroll;

TEST_CASE("sequential: is its modules one after the other") {
  nn::Sequential net;
  net.append<nn::Linear>(2, 3)
      .append("Tanh", tanh)
      .append(std::make_unique<nn::Linear>(3, 1, nn::LinearOptions{.bias = false}));
  Tensor x = randn({5, 2});
  const auto &first = dynamic_cast<nn::Linear&>(net[0]), &last = dynamic_cast<nn::Linear&>(net[2]);
  CHECK(equal(net(x), last(tanh(first(x)))));
  CHECK(equal(nn::Sequential()(x), x));

  CHECK(net.size() == 3);
  NamedTensors state = net.state_dict();
  REQUIRE(state.size() == 3);
  CHECK(state[0].first == "0.weight");
  CHECK(state[1].first == "0.bias");
  CHECK(state[2].first == "2.weight");
  CHECK_THROWS_WITH_AS(net[3], "sequential: index 3 is outside its 3 modules", IndexError);
  CHECK_THROWS_AS(net.append(std::unique_ptr<nn::Linear>()), ValueError);
  CHECK_THROWS_WITH_AS(net.append("Tanh", nullptr), "sequential: expected a function \"Tanh\", got a null pointer",
                       ValueError);
}

TEST_CASE("sequential: nests, prints and switches modes") {
  auto inner = std::make_unique<nn::Sequential>();
  inner->append<nn::Linear>(3, 1);
  nn::Sequential net;
  net.append<nn::Linear>(2, 3).append("Tanh", tanh).append(std::move(inner)).append<nn::Dropout>(0.5);
  CHECK(nn::to_string(net) ==
        "Sequential(\n"
        "  (0): Linear(in_features=2, out_features=3, bias=True)\n"
        "  (1): Tanh()\n"
        "  (2): Sequential(\n"
        "    (0): Linear(in_features=3, out_features=1, bias=True)\n"
        "  )\n"
        "  (3): Dropout(p=0.5, inplace=False)\n"
        ")");
  net.eval();
  CHECK_FALSE(net[3].training());
  CHECK(net(ones({4, 2})).shape() == Shape{4, 1});
}
