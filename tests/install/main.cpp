#include <unroll/unroll.h>

#include <cstdio>
#include <span>
#include <vector>

// What is compiled into the library from templates: a shared one must export each.
static double made() {
  using namespace unroll;
  const std::vector<float> f{1};
  const std::vector<double> d{1};
  const std::vector<std::int64_t> i{1};
  const std::vector<bool> b{true};
  const bool one[] = {true};
  double sum = 0;
  for (const Tensor& x : {tensor({1.F}),
                          tensor({1.}),
                          tensor({1}),
                          tensor({1L}),
                          tensor({1LL}),
                          tensor({true}),
                          tensor({{1.F}}),
                          tensor({{1.}}),
                          tensor({{1}}),
                          tensor({{1L}}),
                          tensor({{1LL}}),
                          tensor({{true}}),
                          from_data(f, {1}),
                          from_data(d, {1}),
                          from_data(i, {1}),
                          from_data(b, {1}),
                          from_data(std::span(f), {1}),
                          from_data(std::span(d), {1}),
                          from_data(std::span(i), {1}),
                          from_data(std::span<const bool>(one), {1})})
    sum += x.to(DType::Float64).item();
  double product[1] = {};
  float narrow[1] = {};
  blas::gemm<double>({.m = 1, .n = 1, .k = 1}, {d.data(), 1}, {d.data(), 1}, {product, 1});
  blas::gemm<float>({.m = 1, .n = 1, .k = 1}, {f.data(), 1}, {f.data(), 1}, {narrow, 1});
  return sum + product[0] + static_cast<double>(narrow[0]);
}

int main() {
  if (made() != 22) return 2;
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
