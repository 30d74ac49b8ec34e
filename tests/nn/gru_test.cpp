#include <doctest/doctest.h>
#include <unroll/autograd/engine.h>
#include <unroll/autograd/ops/arithmetic.h>
#include <unroll/autograd/ops/compare.h>
#include <unroll/autograd/ops/reduce.h>
#include <unroll/autograd/ops/shape.h>
#include <unroll/core/random.h>
#include <unroll/nn/gru.h>

using namespace unroll;
using doctest::Approx;
using doctest::Contains;

TEST_CASE("gru: torch's numbers, GRU(2, 4, 2, bidirectional=True)") {
  manual_seed(0);
  nn::GRU rnn(2, 4, {.num_layers = 2, .bidirectional = true});
  Tensor x = randn({2, 2, 2}), h0 = randn({4, 2, 4});
  auto [output, h_n] = rnn(x, h0);
  CHECK(output.shape() == Shape{2, 2, 8});
  CHECK(h_n.shape() == Shape{4, 2, 4});
  CHECK(allclose(flatten(output),
                 tensor({-0.224243358, 0.387847066,  0.0807344317, 0.287997067, 0.420382708,  -0.286920875, 0.134765565,
                         -0.158250898, 0.137374982,  0.864596248,  -0.50910759, 0.891510725,  0.309594214,  -0.34865436,
                         0.659410417,  0.332799554,  -0.14695251,  0.513550818, -0.291949123, 0.343373686,  0.125801891,
                         -0.468109787, -0.181575045, -0.341394067, 0.267975837, 0.811735928,  -0.307473361, 0.883498371,
                         0.133197248,  0.378980577,  0.208844721,  0.0134608746}),
                 0, 1e-6));
  CHECK(
      allclose(flatten(h_n),
               tensor({0.695898414,  -0.0260433704, 0.418041557, -0.729529381, -0.176804408, -0.402129054, 0.112124063,
                       -0.721545517, -0.646208405,  0.930996954, 0.185856447,  -0.060449291, -0.390402377, 1.08756506,
                       0.229401484,  -0.168246597,  -0.14695251, 0.513550818,  -0.291949123, 0.343373686,  0.267975837,
                       0.811735928,  -0.307473361,  0.883498371, 0.420382708,  -0.286920875, 0.134765565,  -0.158250898,
                       0.309594214,  -0.34865436,   0.659410417, 0.332799554}),
               0, 1e-6));
}

TEST_CASE("gru: torch's numbers in float64") {
  manual_seed(0);
  nn::GRU rnn(2, 3, {.num_layers = 2, .bidirectional = true, .dtype = DType::Float64});
  auto [output, h_n] = rnn(ones({3, 1, 2}, DType::Float64));
  CHECK(sum(output).item() == Approx(-4.6619999378986954).epsilon(1e-13));
  CHECK(sum(h_n).item() == Approx(-3.9974893233055546).epsilon(1e-13));
}

TEST_CASE("gru: starts with torch's numbers") {
  manual_seed(0);
  nn::GRU rnn(2, 2);
  CHECK(rnn.cell(0).weight_ih.to_vector<float>() ==
        std::vector<float>{-0.00529398117f, 0.379322886f, -0.581980765f, -0.520387471f, -0.272345245f, 0.18961589f,
                           -0.0140100336f, 0.560657501f, -0.0627515167f, 0.187109336f, -0.213696912f, -0.138992712f});
  CHECK(rnn.cell(0).bias_hh.to_vector<float>() ==
        std::vector<float>{-0.275630176f, 0.610940814f, -0.458332211f, -0.325504482f, -0.494013399f, -0.662248611f});
}

TEST_CASE("gru: names, shapes and order of the parameters") {
  NamedTensors parameters = nn::GRU(3, 4, {.num_layers = 2, .bidirectional = true}).named_parameters();
  REQUIRE(parameters.size() == 16);
  std::size_t i = 0;
  for (const auto& [suffix, features] : std::vector<std::pair<std::string, std::int64_t>>{
           {"_l0", 3}, {"_l0_reverse", 3}, {"_l1", 8}, {"_l1_reverse", 8}})
    for (const auto& [name, shape] : std::vector<std::pair<std::string, Shape>>{
             {"weight_ih", {12, features}}, {"weight_hh", {12, 4}}, {"bias_ih", 12}, {"bias_hh", 12}}) {
      CHECK(parameters[i].first == name + suffix);
      CHECK(parameters[i++].second.shape() == shape);
    }
  NamedTensors unbiased = nn::GRU(3, 4, {.bias = false}).named_parameters();
  REQUIRE(unbiased.size() == 2);
  CHECK(unbiased[0].first == "weight_ih_l0");
  CHECK(unbiased[1].first == "weight_hh_l0");
}

TEST_CASE("gru: attributes and printing") {
  nn::GRU rnn(4, 6, {.num_layers = 3, .bias = false, .batch_first = true, .dropout = 0.5, .bidirectional = true});
  CHECK(nn::to_string(rnn) == "GRU(4, 6, num_layers=3, bias=False, batch_first=True, dropout=0.5, bidirectional=True)");
  CHECK(nn::to_string(nn::GRU(4, 6)) == "GRU(4, 6)");
  CHECK(nn::to_string(nn::GRU(4, 6, {.reset_after = false})) == "GRU(4, 6, reset_after=False)");
  CHECK(rnn.mode == "GRU");
  CHECK(rnn.input_size == 4);
  CHECK(rnn.hidden_size == 6);
  CHECK(rnn.num_layers == 3);
  CHECK_FALSE(rnn.bias);
  CHECK(rnn.batch_first);
  CHECK(rnn.dropout == 0.5);
  CHECK(rnn.bidirectional);
  CHECK(rnn.reset_after);
  CHECK_FALSE(nn::GRU(4, 6, {.reset_after = false}).reset_after);
  rnn.flatten_parameters();
}

TEST_CASE("gru: errors") {
  CHECK_THROWS_WITH_AS(nn::GRU(3, 4, {.dropout = -1}), Contains("gru: dropout must be in [0, 1]"), ValueError);
  CHECK_THROWS_WITH_AS(nn::GRU(3, -4), "gru: hidden_size must be positive, got -4", ValueError);
  CHECK_THROWS_WITH_AS(nn::GRU(3, 4, {.num_layers = 0}), "gru: num_layers must be positive, got 0", ValueError);
  CHECK_THROWS_WITH_AS(nn::GRU(-3, 4), "gru: input_size must not be negative, got -3", ValueError);
  nn::GRU rnn(3, 4, {.num_layers = 2, .bidirectional = true});
  Tensor x = zeros({5, 2, 3});
  CHECK_THROWS_WITH_AS(rnn(zeros({1, 5, 2, 3})), Contains("gru: expected an input of 3 dimensions"), ShapeError);
  CHECK_THROWS_WITH_AS(rnn(zeros({5, 2, 7})), "gru: input has 7 features, expected input_size = 3", ShapeError);
  CHECK_THROWS_WITH_AS(rnn(x, zeros({2, 2, 4})), "gru: hidden[0] has shape (2, 2, 4), expected (4, 2, 4)", ShapeError);
  CHECK_THROWS_WITH_AS(rnn(zeros({5, 3}), zeros({4, 1, 4})), Contains("hidden[0] must have 2, got 3"), ShapeError);
  CHECK_THROWS_WITH_AS(rnn(zeros({5, 2, 3}, DType::Int64)), "gru: input is int64, the parameters are float32",
                       DTypeError);
  CHECK_THROWS_WITH_AS(rnn(zeros({0, 2, 3})), Contains("gru: the sequence length must be > 0"), ShapeError);
  rnn.cell(0, 1).bias_hh = zeros(4);
  CHECK_THROWS_WITH_AS(rnn(x), Contains("bias_hh has been replaced by one of shape (4,), expected (12,)"), ShapeError);
}
