// bench/hello.cpp with PyTorch's C++ library, as its wheel brings it.
#include <torch/torch.h>

#include <iostream>

int main() {
  torch::nn::LSTM rnn(8, 8);
  torch::Tensor loss = std::get<0>(rnn(torch::randn({20, 1, 8}))).sum();
  loss.backward();
  std::cout << loss.item<double>() << '\n';
}
