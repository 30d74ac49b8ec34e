// The smallest program that trains an LSTM: hello.sh measures what it costs to compile, to start and to hold.
#include <unroll/unroll.h>

#include <iostream>

int main() {
  unroll::nn::LSTM rnn(8, 8);
  unroll::Tensor loss = unroll::sum(rnn(unroll::randn({20, 1, 8})).output);
  loss.backward();
  std::cout << loss.item() << '\n';
}
