#include <doctest/doctest.h>
#include <unroll/autograd/engine.h>
#include <unroll/autograd/gradcheck.h>
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

TEST_CASE("lstm: empty batches and inputs, strided inputs and expanded states") {
  nn::LSTM rnn(3, 4, {.num_layers = 2, .bidirectional = true});
  auto [output, state] = rnn(zeros({5, 0, 3}));
  CHECK(output.shape() == Shape{5, 0, 8});
  CHECK(state.h.shape() == Shape{4, 0, 4});
  backward({sum(output) + sum(state.c)});
  for (const Tensor& p : rnn.parameters()) CHECK(equal(p.grad(), zeros_like(p)));
  CHECK(nn::LSTM(0, 4)(zeros({5, 2, 0})).output.shape() == Shape{5, 2, 4});

  Tensor x = transpose(randn({2, 5, 3}), 0, 1), h = expand(randn({4, 1, 4}), {4, 2, 4}),
         c = narrow(randn({4, 3, 4}), 1, 1, 2);
  auto a = rnn(x, {h, c}), b = rnn(x.contiguous(), {h.contiguous(), c.contiguous()});
  CHECK(equal(a.output, b.output));
  CHECK(equal(a.state.c, b.state.c));
  CHECK(x.version() == 0);
  CHECK(h.version() == 0);
  CHECK(a.output.version() == 0);
}

TEST_CASE("lstm: a gradient of c_n alone reaches every step, and a module used twice adds up") {
  nn::LSTM rnn(3, 4);
  Tensor x = randn({5, 2, 3}).requires_grad_();
  sum(rnn(x).state.c).backward();
  for (const Tensor& step : unbind(x.grad())) CHECK(all(ne(step, 0)));

  Tensor once = rnn.cell(0).weight_hh.grad().clone();
  rnn.zero_grad();
  backward({sum(rnn(x).state.c) + sum(rnn(x).state.c)});
  CHECK(allclose(rnn.cell(0).weight_hh.grad(), once * 2));
}

TEST_CASE("lstm: the output may be written in place") {
  nn::LSTM rnn(3, 4, {.num_layers = 2});
  Tensor x = randn({5, 2, 3}).requires_grad_();
  sum(rnn(x).output).backward();
  Tensor once = x.grad().clone();
  x.set_grad({});
  Tensor y = rnn(x).output;
  y.mul_(2);
  sum(y).backward();
  CHECK(allclose(x.grad(), once * 2));
}

TEST_CASE("lstm: a truncated chunk hands no gradient back") {
  nn::LSTM rnn(3, 4);
  Tensor x = randn({4, 2, 3}).requires_grad_();
  auto parts = split(x, 2);
  auto first = rnn(parts[0]);
  sum(rnn(parts[1], nn::detach(first.state)).output).backward();
  CHECK(equal(narrow(x.grad(), 0, 0, 2), zeros({2, 2, 3})));
  CHECK(all(ne(narrow(x.grad(), 0, 2, 2), 0)));
}

TEST_CASE("lstm: gradients of everything") {
  for (nn::LSTMOptions options : {nn::LSTMOptions{.num_layers = 2, .bidirectional = true, .proj_size = 1},
                                  nn::LSTMOptions{.bias = false, .batch_first = true}}) {
    manual_seed(4);
    options.dtype = DType::Float64;
    nn::LSTM rnn(2, 2, options);
    std::vector<Tensor> inputs{randn({2, 2, 2}, DType::Float64).requires_grad_()};
    for (const Tensor& p : rnn.parameters()) inputs.push_back(p);
    auto f = [&](const std::vector<Tensor>& in) {
      auto [output, state] = rnn(in[0]);
      return std::vector<Tensor>{output, state.h, state.c};
    };
    CHECK(gradcheck(f, inputs));
    CHECK(gradgradcheck(f, inputs));
  }
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
  CHECK_THROWS_WITH_AS(rnn(zeros({0, 2, 3})), "lstm: the sequence length must be > 0, got an input of shape (0, 2, 3)",
                       ShapeError);
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
