#include <doctest/doctest.h>
#include <unroll/autograd/ops/arithmetic.h>
#include <unroll/autograd/ops/compare.h>
#include <unroll/autograd/ops/reduce.h>
#include <unroll/autograd/ops/shape.h>
#include <unroll/core/print.h>
#include <unroll/core/random.h>
#include <unroll/nn/gru.h>
#include <unroll/nn/lstm.h>
#include <unroll/nn/rnn.h>

using namespace unroll;

// The samples of torch.nn's documentation and of the forums, which people type first. The numbers are PyTorch 2.15's
// after torch.manual_seed(0).
namespace {
struct Expected {
  std::vector<double> first, last;  // elements
  double sum, sum_of_squares;
};

void check_values(const Tensor& x, const Expected& expected) {
  std::vector<double> values = x.detach().to(DType::Float64).to_vector<double>();
  for (std::size_t i = 0; i < expected.first.size(); ++i)
    CHECK(values[i] == doctest::Approx(expected.first[i]).epsilon(1e-6));
  for (std::size_t i = 0; i < expected.last.size(); ++i)
    CHECK(values[values.size() - expected.last.size() + i] == doctest::Approx(expected.last[i]).epsilon(1e-6));
  Tensor y = x.detach().to(DType::Float64);
  CHECK(sum(y).item() == doctest::Approx(expected.sum).epsilon(1e-5));
  CHECK(sum(y * y).item() == doctest::Approx(expected.sum_of_squares).epsilon(1e-5));
}
}  // namespace

TEST_CASE("torch samples: RNN(10, 20, 2) on randn(5, 3, 10)") {
  manual_seed(0);
  nn::RNN rnn(10, 20, {.num_layers = 2});
  Tensor input = randn({5, 3, 10}), h0 = randn({2, 3, 20});
  auto [output, hn] = rnn(input, h0);
  check_values(
      output,
      {{0.878143907, -0.673158109, 0.480976611, -0.049187243}, {0.150084302, 0.0936231837}, 3.37937234, 47.7890508});
  check_values(
      hn, {{0.328436553, 0.761156142, -0.049688559, 0.210099444}, {0.150084302, 0.0936231837}, 1.37714808, 22.1988027});
}

TEST_CASE("torch samples: LSTM(10, 20, 2) on randn(5, 3, 10)") {
  manual_seed(0);
  nn::LSTM rnn(10, 20, {.num_layers = 2});
  Tensor input = randn({5, 3, 10}), h0 = randn({2, 3, 20}), c0 = randn({2, 3, 20});
  auto [output, state] = rnn(input, {h0, c0});
  check_values(output, {{0.0137632238, -0.474054635, -0.047225602, 0.212771937},
                        {-0.107419454, -0.0586043037},
                        -8.58141974,
                        5.76412649});
  check_values(
      state.h,
      {{0.189967006, 0.0294461362, 0.0363932326, -0.132390052}, {-0.107419454, -0.0586043037}, -2.03089985, 1.4484595});
  check_values(
      state.c,
      {{0.267680794, 0.116054282, 0.0600067899, -0.284036368}, {-0.176298201, -0.101911008}, -4.91325863, 5.5255507});
}

TEST_CASE("torch samples: GRU(2, 4, 2, bidirectional) on randn(2, 2, 2), printed") {
  manual_seed(0);
  nn::GRU rnn(2, 4, {.num_layers = 2, .bidirectional = true});
  Tensor input = randn({2, 2, 2}), h0 = randn({4, 2, 4});
  auto [output, hn] = rnn(input, h0);
  check_values(
      output,
      {{-0.224243358, 0.387847066, 0.0807344317, 0.287997067}, {0.208844721, 0.0134608746}, 4.92280196, 5.85972981});
  check_values(
      hn,
      {{0.695898414, -0.0260433704, 0.418041557, -0.729529381}, {0.659410417, 0.332799554}, 3.47541155, 7.81631431});
  CHECK(to_string(output.detach()) ==
        "tensor([[[-0.2242,  0.3878,  0.0807,  0.2880,  0.4204, -0.2869,  0.1348,\n"
        "          -0.1583],\n"
        "         [ 0.1374,  0.8646, -0.5091,  0.8915,  0.3096, -0.3487,  0.6594,\n"
        "           0.3328]],\n"
        "\n"
        "        [[-0.1470,  0.5136, -0.2919,  0.3434,  0.1258, -0.4681, -0.1816,\n"
        "          -0.3414],\n"
        "         [ 0.2680,  0.8117, -0.3075,  0.8835,  0.1332,  0.3790,  0.2088,\n"
        "           0.0135]]])");
}

TEST_CASE("torch samples: LSTMCell(10, 20) stepped over randn(2, 3, 10) and stacked") {
  manual_seed(0);
  nn::LSTMCell rnn(10, 20);
  Tensor input = randn({2, 3, 10});
  nn::LSTMState state{randn({3, 20}), randn({3, 20})};
  std::vector<Tensor> output;
  for (const Tensor& x : unbind(input)) {
    state = rnn(x, state);
    output.push_back(state.h);
  }
  check_values(
      stack(output),
      {{0.0484646969, 0.289460987, -0.101360224, -0.232573926}, {0.0964472368, -0.268651158}, 1.92170089, 3.88136395});
  check_values(
      state.c,
      {{-0.316202015, 0.805210471, -0.0884914026, -0.371083617}, {0.213036239, -0.655462265}, 0.904760048, 6.35766275});
}

TEST_CASE("torch samples: batch 3, length 4, features 5, in both layouts") {
  manual_seed(0);
  nn::RNN time_first(5, 6);
  manual_seed(0);
  nn::RNN rnn(5, 6, {.batch_first = true});
  Tensor input = randn({3, 4, 5});
  auto [output, hn] = rnn(input);
  CHECK(output.shape() == Shape{3, 4, 6});
  CHECK(hn.shape() == Shape{1, 3, 6});
  check_values(
      output,
      {{0.116936922, 0.166698724, 0.630277932, 0.577004135}, {0.399606526, -0.356798738}, 12.3013048, 23.0876536});
  time_first.load_state_dict(rnn.state_dict());
  auto [transposed, same] = time_first(transpose(input, 0, 1));
  CHECK(equal(transpose(transposed, 0, 1), output));
  CHECK(equal(same, hn));
}

TEST_CASE("torch samples: separating directions by view") {
  manual_seed(0);
  nn::LSTM rnn(3, 4, {.bidirectional = true});
  Tensor input = randn({5, 2, 3});
  auto [output, state] = rnn(input);
  Tensor directions = view(output, {5, 2, 2, 4});
  Tensor forward = select(directions, 2, 0), reverse = select(directions, 2, 1);
  check_values(forward, {{0.0295026451, -0.105281137, 0.0493926555, 0.0424797125},
                         {0.0635671765, 0.167026937},
                         0.733871431,
                         0.479951266});
  check_values(
      reverse,
      {{-0.0130530028, -0.281755209, -0.128749028, 0.258847922}, {-0.128482178, 0.158991814}, -1.69310078, 1.50574583});
  CHECK(equal(select(forward, 0, -1), select(state.h, 0, 0)));
  CHECK(equal(select(reverse, 0, 0), select(state.h, 0, 1)));
}
