#pragma once
#include "support/raises.h"

#include <doctest/doctest.h>
#include <unroll/optim/optimizer.h>

#include <vector>

// Four steps from (1, −2, 0.5) with these gradients; the answers in the tables are PyTorch 2.15's, float64.
namespace golden {

inline const std::vector<std::vector<double>> kGradients = {{0.5, -1, 2}, {-0.25, 0, 1.5}, {1, 1, -1}, {0, 0.125, -3}};

inline unroll::Tensor parameter(unroll::DType dtype = unroll::DType::Float64) {
  return unroll::tensor({1.0, -2.0, 0.5}, dtype).requires_grad_();
}

inline void set_grad(const unroll::Tensor& p, std::size_t step) {
  p.set_grad(unroll::from_data(kGradients[step % kGradients.size()], {3}).to(p.dtype()));
}

template <class Optimizer, class Options>
std::vector<double> run(const Options& options, unroll::DType dtype, std::size_t steps = 4) {
  unroll::Tensor p = parameter(dtype);
  Optimizer opt({p}, options);
  for (std::size_t t = 0; t < steps; ++t) {
    set_grad(p, t);
    opt.step();
  }
  return p.detach().to(unroll::DType::Float64).template to_vector<double>();
}

template <class Options>
struct Row {
  Options options;
  std::vector<double> expected;
};

template <class Optimizer, class Options>
void check(const std::vector<Row<Options>>& rows) {
  for (std::size_t r = 0; r < rows.size(); ++r) {
    CAPTURE(r);
    std::vector<double> f64 = run<Optimizer>(rows[r].options, unroll::DType::Float64),
                        f32 = run<Optimizer>(rows[r].options, unroll::DType::Float32);
    for (std::size_t i = 0; i < 3; ++i) {
      CHECK(std::abs(f64[i] - rows[r].expected[i]) <= 1e-15 * 4);
      CHECK(std::abs(f32[i] - rows[r].expected[i]) <= 1e-6);
    }
  }
}

/// Every number that makes up the optimizer, for comparisons before and after.
inline std::vector<double> everything(const unroll::optim::Optimizer& opt) {
  std::vector<double> all;
  auto add = [&](const unroll::Tensor& x) {
    for (double v : x.detach().to(unroll::DType::Float64).to_vector<double>()) all.push_back(v);
  };
  unroll::optim::StateDict dict = opt.state_dict();
  for (const auto& group : dict.param_groups)
    for (const auto& [name, value] : group.options) all.push_back(value);
  for (const auto& [index, named] : dict.state)
    for (const auto& [name, x] : named) add(x);
  for (const auto& group : opt.param_groups())
    for (const unroll::Tensor& p : group.params) add(p);
  return all;
}

}  // namespace golden
