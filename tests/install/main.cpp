#include <unroll/unroll.h>

#include <cstdio>

int main() {
  unroll::manual_seed(0);
  unroll::nn::LSTM lstm(3, 4);
  unroll::Tensor x = unroll::randn({5, 2, 3});
  auto [output, state] = lstm(x);
  unroll::Tensor loss = unroll::sum(output * output);
  loss.backward();
  for (const auto& [name, parameter] : lstm.named_parameters()) {
    if (!parameter.grad().defined()) return 1;
    std::printf("%s\n", name.c_str());
  }
  return loss.item<float>() > 0 ? 0 : 1;
}
