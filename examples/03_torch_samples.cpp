// The samples that torch.nn's users type first, in C++: same seed, same numbers.
#include <unroll/unroll.h>

#include <fmt/core.h>
#include <CLI/CLI.hpp>

#include <cstdio>
#include <iostream>

using namespace unroll;

namespace {

// rnn = nn.RNN(10, 20, 2)
// output, hn = rnn(torch.randn(5, 3, 10), torch.randn(2, 3, 20))
void rnn() {
  nn::RNN rnn(10, 20, {.num_layers = 2});
  Tensor input = randn({5, 3, 10}), h0 = randn({2, 3, 20});
  auto [output, hn] = rnn(input, h0);
  fmt::print("RNN       output {}  hn {}\n", output.shape(), hn.shape());
}

// rnn = nn.LSTM(10, 20, 2)
// output, (hn, cn) = rnn(torch.randn(5, 3, 10), (h0, c0))
void lstm() {
  nn::LSTM rnn(10, 20, {.num_layers = 2});
  Tensor input = randn({5, 3, 10}), h0 = randn({2, 3, 20}), c0 = randn({2, 3, 20});
  auto [output, state] = rnn(input, {h0, c0});
  fmt::print("LSTM      output {}  hn {}  cn {}\n", output.shape(), state.h.shape(), state.c.shape());
}

// rnn = nn.GRU(2, 4, 2, bidirectional=True)
// output, hn = rnn(torch.randn(2, 2, 2), torch.randn(4, 2, 4)); print(output, hn)
void gru() {
  nn::GRU rnn(2, 4, {.num_layers = 2, .bidirectional = true});
  Tensor input = randn({2, 2, 2}), h0 = randn({4, 2, 4});
  auto [output, hn] = rnn(input, h0);
  std::cout << "GRU\n" << output.detach() << '\n' << hn.detach() << '\n';
}

// rnn = nn.LSTMCell(10, 20)
// for i in range(2): hx, cx = rnn(input[i], (hx, cx)); output.append(hx)
void lstm_cell() {
  nn::LSTMCell rnn(10, 20);
  Tensor input = randn({2, 3, 10});
  nn::LSTMState state{randn({3, 20}), randn({3, 20})};
  std::vector<Tensor> output;
  for (const Tensor& x : unbind(input)) {
    state = rnn(x, state);
    output.push_back(state.h);
  }
  fmt::print("LSTMCell  output {}\n", stack(output).shape());
}

// A batch of 3 sequences of 4 steps with 5 features: (T, N, I), or (N, T, I) with batch_first.
void layouts() {
  nn::RNN time_first(5, 6), batch_first(5, 6, {.batch_first = true});
  batch_first.load_state_dict(time_first.state_dict());
  Tensor input = randn({3, 4, 5});
  Tensor a = time_first(transpose(input, 0, 1)).output, b = batch_first(input).output;
  fmt::print("layouts   output {} and {}, the same numbers: {}\n", a.shape(), b.shape(), equal(transpose(a, 0, 1), b));
}

// output.view(seq_len, batch, num_directions, hidden_size)
void directions() {
  nn::LSTM rnn(3, 4, {.bidirectional = true});
  auto [output, state] = rnn(randn({5, 2, 3}));
  Tensor both = view(output, {5, 2, 2, 4}), forward = select(both, 2, 0), reverse = select(both, 2, 1);
  fmt::print("directions  forward ends where hn[0] is: {}, reverse at step 0 where hn[1] is: {}\n",
             equal(select(forward, 0, -1), select(state.h, 0, 0)), equal(select(reverse, 0, 0), select(state.h, 0, 1)));
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app("The samples of torch.nn's documentation; the numbers are PyTorch's for the same seed.");
  std::uint64_t seed = 0;
  bool quick = false;
  app.add_option("--seed", seed, "of the random numbers, before each sample")->capture_default_str();
  app.add_flag("--quick", quick, "the same: there is nothing to shorten");
  CLI11_PARSE(app, argc, argv);
  for (auto sample : {rnn, lstm, gru, lstm_cell, layouts, directions}) {
    manual_seed(seed);
    sample();
  }
  return std::fflush(stdout) == 0 ? 0 : 1;
}
