// What somebody loads while a program runs, as Python loads an extension; see load_plugin.cpp.
#include <unroll/unroll.h>

extern "C" [[gnu::visibility("default")]] double unroll_train() {
  using namespace unroll;
  manual_seed(1);
  nn::LSTM lstm(3, 4);
  auto [output, state] = lstm(randn({5, 2, 3}));
  sum(output).backward();
  double square_of_all = 0;
  for (const Tensor& p : lstm.parameters()) square_of_all += sum(square(p.grad())).item();
  return square_of_all;
}
