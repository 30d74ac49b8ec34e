#include <doctest/doctest.h>
#include <unroll/autograd/engine.h>
#include <unroll/autograd/ops/arithmetic.h>
#include <unroll/autograd/ops/compare.h>
#include <unroll/autograd/ops/reduce.h>
#include <unroll/autograd/ops/shape.h>
#include <unroll/core/random.h>
#include <unroll/nn/rnn.h>

using namespace unroll;
using doctest::Approx;
using doctest::Contains;

TEST_CASE("rnn: torch's numbers, RNN(10, 20, 2)") {
  manual_seed(0);
  nn::RNN rnn(10, 20, {.num_layers = 2});
  Tensor x = randn({5, 3, 10}), h0 = randn({2, 3, 20});
  CHECK(allclose(select(select(rnn(x, h0).output, 0, 4), 0, 0),
                 tensor({0.151115045,  -0.583010852, -0.183997929, -0.814123392, -0.18575801, 0.0845999643, 0.193230525,
                         0.630702436,  0.367349029,  0.174440548,  0.120515302,  0.423946679, 0.354733676,  0.292590618,
                         -0.321271539, -0.833126783, -0.195498988, -0.245136261, 0.343453795, 0.527151346}),
                 0, 1e-6));
  rnn.to(DType::Float64);
  auto [output, h_n] = rnn(x.to(DType::Float64), h0.to(DType::Float64));
  CHECK(sum(output).item() == Approx(3.3793730264565562).epsilon(1e-13));
  CHECK(sum(abs(output)).item() == Approx(99.930733227938433).epsilon(1e-14));
  CHECK(sum(h_n).item() == Approx(1.3771477261183063).epsilon(1e-13));
}

TEST_CASE("rnn: torch's numbers, with relu") {
  manual_seed(0);
  nn::RNN rnn(10, 20, {.num_layers = 2, .nonlinearity = nn::Nonlinearity::ReLU});
  Tensor x = randn({5, 3, 10}), h0 = randn({2, 3, 20});
  CHECK(allclose(select(select(rnn(x, h0).output, 0, 4), 0, 0),
                 tensor({0.148466915, 0.0,         0.0736088753, 0.0,        0.0,         0.0,         0.0860268772,
                         0.394286543, 0.359539896, 0.0406800807, 0.21860452, 0.317131311, 0.307579637, 0.266765356,
                         0.0,         0.0,         0.289037287,  0.0,        0.366352618, 0.0979645029}),
                 0, 1e-6));
  rnn.to(DType::Float64);
  auto [output, h_n] = rnn(x.to(DType::Float64), h0.to(DType::Float64));
  CHECK(sum(output).item() == Approx(46.666815159864889).epsilon(1e-14));
  CHECK(sum(h_n).item() == Approx(23.658526541819889).epsilon(1e-14));
}

TEST_CASE("rnn: torch's numbers, two directions in float64") {
  for (auto [nonlinearity, of_output, of_state] :
       {std::tuple{nn::Nonlinearity::Tanh, 4.9745378268907565, 1.3731659818195978},
        std::tuple{nn::Nonlinearity::ReLU, 7.5913583679503587, 3.5383173914805104}}) {
    manual_seed(0);
    nn::RNN rnn(2, 3, {.num_layers = 2, .nonlinearity = nonlinearity, .bidirectional = true, .dtype = DType::Float64});
    auto [output, h_n] = rnn(ones({3, 1, 2}, DType::Float64));
    CHECK(sum(output).item() == Approx(of_output).epsilon(1e-13));
    CHECK(sum(h_n).item() == Approx(of_state).epsilon(1e-13));
  }
}

TEST_CASE("rnn: names, shapes and order of the parameters") {
  NamedTensors parameters = nn::RNN(3, 4, {.num_layers = 2, .bidirectional = true}).named_parameters();
  REQUIRE(parameters.size() == 16);
  std::size_t i = 0;
  for (const auto& [suffix, features] : std::vector<std::pair<std::string, std::int64_t>>{
           {"_l0", 3}, {"_l0_reverse", 3}, {"_l1", 8}, {"_l1_reverse", 8}})
    for (const auto& [name, shape] : std::vector<std::pair<std::string, Shape>>{
             {"weight_ih", {4, features}}, {"weight_hh", {4, 4}}, {"bias_ih", 4}, {"bias_hh", 4}}) {
      CHECK(parameters[i].first == name + suffix);
      CHECK(parameters[i++].second.shape() == shape);
    }
  CHECK(nn::RNN(3, 4, {.bias = false}).parameters().size() == 2);
}

TEST_CASE("rnn: attributes and printing") {
  nn::RNN rnn(4, 6,
              {.num_layers = 2,
               .nonlinearity = nn::Nonlinearity::ReLU,
               .bias = false,
               .batch_first = true,
               .dropout = 0.25,
               .bidirectional = true});
  CHECK(nn::to_string(rnn) ==
        "RNN(4, 6, num_layers=2, bias=False, batch_first=True, dropout=0.25, bidirectional=True)");
  CHECK(nn::to_string(nn::RNN(4, 6)) == "RNN(4, 6)");
  CHECK(rnn.mode == "RNN_RELU");
  CHECK(nn::RNN(4, 6).mode == "RNN_TANH");
  CHECK(rnn.nonlinearity == nn::Nonlinearity::ReLU);
  CHECK(rnn.input_size == 4);
  CHECK(rnn.hidden_size == 6);
  CHECK(rnn.num_layers == 2);
  CHECK_FALSE(rnn.bias);
  CHECK(rnn.batch_first);
  CHECK(rnn.dropout == 0.25);
  CHECK(rnn.bidirectional);
  CHECK(rnn.num_directions() == 2);
  CHECK(rnn.output_size() == 6);
  CHECK_FALSE(rnn.allow_empty);
  CHECK(rnn.training());
  rnn.eval();
  CHECK_FALSE(rnn.training());
  rnn.flatten_parameters();
}

TEST_CASE("rnn: errors") {
  CHECK_THROWS_WITH_AS(nn::RNN(3, 4, {.dropout = 1.5}), Contains("rnn: dropout must be in [0, 1]"), ValueError);
  CHECK_THROWS_WITH_AS(nn::RNN(3, 0), "rnn: hidden_size must be positive, got 0", ValueError);
  CHECK_THROWS_WITH_AS(nn::RNN(3, 4, {.num_layers = -1}), "rnn: num_layers must be positive, got -1", ValueError);
  CHECK_THROWS_WITH_AS(nn::RNN(-3, 4), "rnn: input_size must not be negative, got -3", ValueError);
  nn::RNN rnn(3, 4, {.num_layers = 2});
  Tensor x = zeros({5, 2, 3});
  CHECK_THROWS_WITH_AS(rnn(zeros(3)), Contains("rnn: expected an input of 3 dimensions"), ShapeError);
  CHECK_THROWS_WITH_AS(rnn(zeros({5, 2, 7})), "rnn: input has 7 features, expected input_size = 3", ShapeError);
  CHECK_THROWS_WITH_AS(rnn(x, zeros({2, 4})), Contains("hidden[0] must have 3, got 2"), ShapeError);
  for (const Shape& wrong : {Shape{1, 2, 4}, Shape{2, 1, 4}, Shape{2, 2, 1}, Shape{2, 3, 4}})
    CHECK_THROWS_WITH_AS(rnn(x, zeros(wrong)),
                         ("rnn: hidden[0] has shape " + to_string(wrong) + ", expected (2, 2, 4)").c_str(), ShapeError);
  CHECK_THROWS_WITH_AS(rnn(zeros({5, 2, 3}, DType::Float64)), "rnn: input is float64, the parameters are float32",
                       DTypeError);
  CHECK_THROWS_WITH_AS(rnn(x, zeros({2, 2, 4}, DType::Float64)),
                       "rnn: hidden[0] is float64, the parameters are float32", DTypeError);
  CHECK_THROWS_WITH_AS(rnn(zeros({0, 2, 3})), Contains("rnn: the sequence length must be > 0"), ShapeError);
  rnn.cell(1).weight_ih = zeros({4, 3});
  CHECK_THROWS_WITH_AS(rnn(x), Contains("weight_ih has been replaced by one of shape (4, 3), expected (4, 4)"),
                       ShapeError);
}
