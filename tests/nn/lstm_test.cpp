#include <doctest/doctest.h>
#include <unroll/autograd/engine.h>
#include <unroll/autograd/ops/arithmetic.h>
#include <unroll/autograd/ops/compare.h>
#include <unroll/autograd/ops/reduce.h>
#include <unroll/autograd/ops/shape.h>
#include <unroll/core/random.h>
#include <unroll/nn/lstm.h>

#include <limits>

using namespace unroll;
using doctest::Contains;

TEST_CASE("lstm: starts with torch's numbers and computes them") {
  manual_seed(0);
  nn::LSTM rnn(2, 2);
  CHECK(rnn.cell(0).weight_ih.to_vector<float>() ==
        std::vector<float>{-0.00529398117f, 0.379322886f, -0.581980765f, -0.520387471f, -0.272345245f, 0.18961589f,
                           -0.0140100336f, 0.560657501f, -0.0627515167f, 0.187109336f, -0.213696912f, -0.138992712f,
                           -0.675533414f, -0.468304157f, -0.291485757f, 0.0261937603f});
  CHECK(rnn.cell(0).bias_hh.to_vector<float>() == std::vector<float>{0.0371878482f, -0.362521976f, 0.119631633f,
                                                                     -0.660221875f, -0.510931492f, -0.364534736f,
                                                                     0.446140498f, 0.4145917f});
  auto [output, state] = rnn(ones({2, 1, 2}));
  CHECK(allclose(output, reshape(tensor({-0.127008721, -0.00967052579, -0.172369242, -0.0203788467}), {2, 1, 2}), 0,
                 1e-7));
  CHECK(allclose(state.c, reshape(tensor({-0.436419517, -0.0324924253}), {1, 1, 2}), 0, 1e-7));
}

TEST_CASE("lstm: torch's numbers, LSTM(10, 20, 2)") {
  manual_seed(0);
  nn::LSTM rnn(10, 20, {.num_layers = 2});
  Tensor x = randn({5, 3, 10}), h0 = randn({2, 3, 20}), c0 = randn({2, 3, 20});
  auto [last, last_state] = rnn(x, {h0, c0});
  CHECK(allclose(
      flatten(select(last, 0, 4)),
      tensor({0.00519581884,  -0.122377418,  -0.038408421,  -0.0706778616,  -0.143377692,  -0.0172078833, -0.0287927762,
              0.0126374196,   -0.0714695901, -0.0655462667, -0.0422201455,  -0.0479285195, -0.0533758216, 0.197268575,
              -0.0882581174,  -0.0512767024, -0.0163125023, -0.0434748642,  -0.0567488559, 0.0388401039,  0.0295779575,
              -0.116403863,   -0.076083228,  -0.0613988265, -0.00654409407, 0.00716298074, -0.0513469204, -0.0258994959,
              -0.112935215,   -0.0497115143, -0.0994015336, 0.011857898,    -0.0179542806, 0.209037989,   -0.0370760299,
              -0.0526379347,  0.0269245636,  0.0791062862,  -0.079512924,   0.189745083,   0.069908008,   -0.0760795176,
              -0.0231297538,  -0.0902016461, -0.139442608,  0.020624401,    -0.0538785681, 0.0601187907,  -0.100892149,
              0.000229669109, -0.0175908208, -0.0960278362, -0.0177938081,  0.16757831,    -0.0857244805, -0.0494860783,
              0.0259741526,   -0.0474559441, -0.107419454,  -0.0586043037}),
      0, 1e-6));
  CHECK(equal(select(last_state.h, 0, 1), select(last, 0, 4)));
  CHECK(allclose(
      flatten(last_state.c),
      tensor({0.267680794,   0.116054282,   0.0600067899,  -0.284036368,  -0.21063605,   -0.141882107,  -0.0558601879,
              -0.269744068,  -0.0208974425, -0.367685586,  0.252985418,   -0.219632298,  0.0845296681,  0.20038113,
              0.159939826,   -0.559763193,  -0.244373351,  0.0270454306,  0.253752321,   -0.24539119,   -0.101006716,
              0.244002581,   -0.395178974,  -0.200504884,  0.282679945,   0.322694719,   0.328813612,   -0.578867257,
              -0.0723710358, -0.281949341,  0.0803583339,  -0.171271697,  0.173046991,   -0.0934065506, 0.638150156,
              -0.08089827,   0.188614413,   0.140104115,   0.0263877083,  -0.373135298,  -0.0413735323, 0.342638493,
              -0.159739897,  -0.426025301,  -0.195046604,  0.200973511,   -0.266771287,  0.0278338268,  -0.240392953,
              0.118885808,   0.16746445,    -0.25575617,   -0.171406344,  -0.22254765,   0.357597381,   -0.0784958377,
              -0.155045494,  0.119098984,   0.185331032,   0.122078024,   0.00977057964, -0.257788718,  -0.0710278824,
              -0.172644377,  -0.376431227,  -0.0305709243, -0.0574108809, 0.0273610018,  -0.145605132,  -0.138430133,
              -0.0956238732, -0.095881924,  -0.11316447,   0.46547842,    -0.189305797,  -0.107305922,  -0.0365544222,
              -0.0808403045, -0.0951619893, 0.0660511032,  0.0536842905,  -0.241826162,  -0.138617232,  -0.173214361,
              -0.0159027223, 0.0125681302,  -0.1062297,    -0.0557370968, -0.213499799,  -0.099377133,  -0.20016636,
              0.0212863125,  -0.0369462334, 0.488834471,   -0.0757725015, -0.109052993,  0.0532307103,  0.141627178,
              -0.134822637,  0.34709084,    0.133029282,   -0.150508717,  -0.0404232144, -0.210400835,  -0.34075287,
              0.0381023213,  -0.108170286,  0.132181913,   -0.217488691,  0.0004752237,  -0.0385148376, -0.174835205,
              -0.0384002142, 0.369182348,   -0.182164282,  -0.104285426,  0.0579282157,  -0.0901110843, -0.176298201,
              -0.101911008}),
      0, 1e-6));
  rnn.to(DType::Float64);
  auto [output, state] = rnn(x.to(DType::Float64), {h0.to(DType::Float64), c0.to(DType::Float64)});
  CHECK(sum(output).item() == doctest::Approx(-8.5814192996039402).epsilon(1e-13));
  CHECK(sum(abs(output)).item() == doctest::Approx(30.741757894272375).epsilon(1e-14));
  CHECK(sum(state.h).item() == doctest::Approx(-2.0308997501561477).epsilon(1e-13));
  CHECK(sum(state.c).item() == doctest::Approx(-4.9132584187000115).epsilon(1e-13));
}

TEST_CASE("lstm: torch's numbers with layers, directions and projection") {
  manual_seed(0);
  nn::LSTM rnn(2, 3, {.num_layers = 2, .bidirectional = true, .proj_size = 2, .dtype = DType::Float64});
  auto [output, state] = rnn(ones({3, 1, 2}, DType::Float64));
  CHECK(sum(output).item() == doctest::Approx(-0.2172597702036414).epsilon(1e-13));
  CHECK(sum(state.h).item() == doctest::Approx(0.1974468180107309).epsilon(1e-13));
  CHECK(sum(state.c).item() == doctest::Approx(0.66739601979866).epsilon(1e-13));
}

TEST_CASE("lstm: torch's numbers with dropout") {
  manual_seed(1);
  nn::LSTM rnn(2, 3,
               {.num_layers = 3, .batch_first = true, .dropout = 0.5, .bidirectional = true, .dtype = DType::Float64});
  Tensor x = randn({2, 4, 2}, DType::Float64);
  manual_seed(7);
  auto [output, state] = rnn(x);
  CHECK(sum(output).item() == doctest::Approx(6.220316137205874).epsilon(1e-13));
  CHECK(sum(state.h).item() == doctest::Approx(3.6009588763474127).epsilon(1e-13));
  CHECK(sum(state.c).item() == doctest::Approx(7.39474439302677).epsilon(1e-13));
}

TEST_CASE("lstm: names, shapes and order of the parameters") {
  nn::LSTM rnn(3, 4, {.num_layers = 2, .bidirectional = true, .proj_size = 2});
  NamedTensors parameters = rnn.named_parameters();
  REQUIRE(parameters.size() == 20);
  std::size_t i = 0;
  for (const auto& [suffix, features] : std::vector<std::pair<std::string, std::int64_t>>{
           {"_l0", 3}, {"_l0_reverse", 3}, {"_l1", 4}, {"_l1_reverse", 4}})
    for (const auto& [name, shape] : std::vector<std::pair<std::string, Shape>>{{"weight_ih", {16, features}},
                                                                                {"weight_hh", {16, 2}},
                                                                                {"bias_ih", 16},
                                                                                {"bias_hh", 16},
                                                                                {"weight_hr", {2, 4}}}) {
      CHECK(parameters[i].first == name + suffix);
      CHECK(parameters[i++].second.shape() == shape);
    }
  std::int64_t count = 0;
  for (const Tensor& p : nn::LSTM(10, 20, {.num_layers = 2}).parameters()) count += p.numel();
  CHECK(count == 5920);
  CHECK(nn::LSTM(3, 4, {.bias = false}).parameters().size() == 2);
}

TEST_CASE("lstm: reset_parameters draws all of them anew, within the square root of hidden_size") {
  nn::LSTM rnn(3, 4, {.proj_size = 1});
  for (const Tensor& p : rnn.parameters()) p.detach().fill_(9);
  manual_seed(3);
  rnn.reset_parameters();
  manual_seed(3);
  nn::LSTM other(3, 4, {.proj_size = 1});
  for (std::size_t i = 0; i < rnn.parameters().size(); ++i) {
    CHECK(equal(rnn.parameters()[i].detach(), other.parameters()[i].detach()));
    CHECK(amax(abs(rnn.parameters()[i])).item() <= 0.5);
  }
}

TEST_CASE("lstm: attributes and printing") {
  nn::LSTM rnn(
      4, 6,
      {.num_layers = 2, .bias = false, .batch_first = true, .dropout = 0.5, .bidirectional = true, .proj_size = 2});
  CHECK(nn::to_string(rnn) ==
        "LSTM(4, 6, proj_size=2, num_layers=2, bias=False, batch_first=True, dropout=0.5, bidirectional=True)");
  CHECK(nn::to_string(nn::LSTM(4, 6, {.num_layers = 2, .dropout = 1})) == "LSTM(4, 6, num_layers=2, dropout=1.0)");
  CHECK(nn::to_string(nn::LSTM(4, 6)) == "LSTM(4, 6)");
  CHECK(rnn.input_size == 4);
  CHECK(rnn.hidden_size == 6);
  CHECK(rnn.num_layers == 2);
  CHECK_FALSE(rnn.bias);
  CHECK(rnn.batch_first);
  CHECK(rnn.dropout == 0.5);
  CHECK(rnn.bidirectional);
  CHECK(rnn.proj_size == 2);
  CHECK(rnn.mode == "LSTM");
  rnn.flatten_parameters();
}

TEST_CASE("lstm: a parameter that is replaced takes effect, and receives the gradient") {
  nn::LSTM rnn(3, 4, {.num_layers = 2, .bidirectional = true});
  Tensor x = randn({5, 2, 3}), before = rnn(x).output, old = rnn.cell(1, 1).weight_hh;
  rnn.cell(1, 1).weight_hh = ones({16, 4}).requires_grad_();
  Tensor after = rnn(x).output;
  CHECK(equal(narrow(before, 2, 0, 4), narrow(after, 2, 0, 4)));
  CHECK_FALSE(equal(before, after));
  sum(after).backward();
  CHECK(rnn.cell(1, 1).weight_hh.grad().defined());
  CHECK_FALSE(old.grad().defined());
  CHECK(rnn.named_parameters()[13].first == "weight_hh_l1_reverse");
  CHECK(rnn.named_parameters()[13].second.is_same(rnn.cell(1, 1).weight_hh));
  CHECK_THROWS_WITH_AS(rnn.cell(2), "lstm: there is no layer 2 among 2", IndexError);
  CHECK_THROWS_WITH_AS(rnn.cell(0, 2), "lstm: there is no direction 2 among 2", IndexError);
  CHECK_THROWS_AS(rnn.cell(-1), IndexError);
}

TEST_CASE("lstm: an output written in place is noticed, since backward reads it; of the equations it may be written") {
  nn::LSTM rnn(3, 4, {.num_layers = 2, .dtype = DType::Float64});  // in which ops and kernels agree to 1e-13
  Tensor x = randn({5, 2, 3}, DType::Float64).requires_grad_();
  sum(rnn(x).output).backward();
  Tensor once = x.grad().clone();
  x.set_grad({});
  Tensor y = rnn(x).output;
  y.mul_(2);
  CHECK_THROWS_WITH_AS(sum(y).backward(), doctest::Contains("lstm: a tensor of shape (5, 2, 4)"), GradError);
  FusedMode composed(false);
  y = rnn(x).output;
  y.mul_(2);
  sum(y).backward();
  CHECK(allclose(x.grad(), once * 2));
}

TEST_CASE("lstm: construction errors") {
  CHECK_THROWS_WITH_AS(nn::LSTM(3, 4, {.dropout = 1.5}), Contains("lstm: dropout must be in [0, 1]"), ValueError);
  CHECK_THROWS_WITH_AS(nn::LSTM(3, 4, {.dropout = -0.5}), Contains("got -0.5"), ValueError);
  CHECK_THROWS_WITH_AS(nn::LSTM(3, 4, {.dropout = std::numeric_limits<double>::quiet_NaN()}), Contains("got nan"),
                       ValueError);
  CHECK_THROWS_WITH_AS(nn::LSTM(3, 0), "lstm: hidden_size must be positive, got 0", ValueError);
  CHECK_THROWS_WITH_AS(nn::LSTM(3, 4, {.num_layers = 0}), "lstm: num_layers must be positive, got 0", ValueError);
  CHECK_THROWS_WITH_AS(nn::LSTM(-3, 4), "lstm: input_size must not be negative, got -3", ValueError);
  CHECK_THROWS_WITH_AS(nn::LSTM(3, 4, {.proj_size = -1}), "lstm: proj_size must not be negative, got -1", ValueError);
  CHECK_THROWS_WITH_AS(nn::LSTM(3, 4, {.proj_size = 4}),
                       "lstm: proj_size must be smaller than hidden_size, got 4 and 4", ValueError);
  CHECK_THROWS_AS(nn::LSTM(3, 4, {.dtype = DType::Int64}), DTypeError);
  CHECK_THROWS_AS(nn::LSTM(3, std::int64_t{1} << 62), ShapeError);
}

TEST_CASE("lstm: call errors, in the order of torch's checks") {
  nn::LSTM rnn(3, 4, {.num_layers = 2});
  Tensor x = zeros({5, 2, 3}), s = zeros({2, 2, 4});
  CHECK_THROWS_WITH_AS(rnn(zeros(3)),
                       Contains("expected an input of 3 dimensions, or 2 without a batch, got 1 in shape (3,)"),
                       ShapeError);
  CHECK_THROWS_WITH_AS(rnn(zeros({1, 5, 2, 3})), Contains("got 4"), ShapeError);
  CHECK_THROWS_WITH_AS(rnn(scalar(1)), Contains("got 0"), ShapeError);
  CHECK_THROWS_WITH_AS(rnn(zeros({5, 2, 7})), "lstm: input has 7 features, expected input_size = 3", ShapeError);
  CHECK_THROWS_WITH_AS(rnn(x, {zeros({2, 4}), s}),
                       Contains("for an input of 3 dimensions hidden[0] must have 3, got 2"), ShapeError);
  CHECK_THROWS_WITH_AS(rnn(zeros({5, 3}), {zeros({2, 4}), s}),
                       Contains("for an input of 2 dimensions hidden[1] must have 2, got 3"), ShapeError);
  for (const Shape& wrong : {Shape{1, 2, 4}, Shape{2, 1, 4}, Shape{2, 2, 1}, Shape{2, 3, 4}}) {
    CHECK_THROWS_WITH_AS(rnn(x, {zeros(wrong), s}),
                         Contains(("hidden[0] has shape " + to_string(wrong) + ", expected (2, 2, 4)").c_str()),
                         ShapeError);
    CHECK_THROWS_WITH_AS(rnn(x, {s, zeros(wrong)}),
                         Contains(("hidden[1] has shape " + to_string(wrong) + ", expected (2, 2, 4)").c_str()),
                         ShapeError);
  }
  CHECK_THROWS_WITH_AS(rnn(x, {s}), "lstm: the state is 2 tensors, of which hidden[1] is missing", ValueError);
  CHECK_THROWS_WITH_AS(rnn(zeros({5, 2, 3}, DType::Float64)), "lstm: input is float64, the parameters are float32",
                       DTypeError);
  CHECK_THROWS_WITH_AS(rnn(zeros({5, 2, 3}, DType::Int64)), "lstm: input is int64, the parameters are float32",
                       DTypeError);
  CHECK_THROWS_WITH_AS(rnn(x, {s, zeros({2, 2, 4}, DType::Float64)}),
                       "lstm: hidden[1] is float64, the parameters are float32", DTypeError);
  CHECK_THROWS_WITH_AS(rnn(zeros({0, 2, 3})), Contains("lstm: the sequence length must be > 0, got 0"), ShapeError);
  CHECK_THROWS_WITH_AS(rnn(zeros({0, 3})), Contains("sequence length"), ShapeError);
  CHECK_THROWS_WITH_AS(nn::LSTM(3, 4, {.batch_first = true})(zeros({2, 0, 3})), Contains("sequence length"),
                       ShapeError);
  // One thing wrong after the other: the first in the list is named.
  CHECK_THROWS_WITH_AS(rnn(zeros({0, 2, 7}, DType::Float64), {zeros({2, 4}), s}), Contains("must have 3, got 2"),
                       ShapeError);
  CHECK_THROWS_WITH_AS(rnn(zeros({0, 2, 7}, DType::Float64), {zeros({2, 1, 4}), s}), Contains("input has 7 features"),
                       ShapeError);
  CHECK_THROWS_WITH_AS(rnn(zeros({0, 2, 3}, DType::Float64), {zeros({2, 1, 4}), s}), Contains("hidden[0] has shape"),
                       ShapeError);
  CHECK_THROWS_WITH_AS(rnn(zeros({0, 2, 3}, DType::Float64), {s, s}), Contains("float64"), DTypeError);
  rnn.to(DType::Float64);
  CHECK(rnn(zeros({5, 2, 3}, DType::Float64)).output.dtype() == DType::Float64);
}
