#pragma once
#include "support/raises.h"

#include <doctest/doctest.h>
#include <unroll/optim/optimizer.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <vector>

// Twenty steps from (1, −2, 0.5): these gradients in turn, larger by a quarter each time round. The answers in the
// tables are PyTorch 2.15's, float64; its float32 is within 1e-6 of them.
namespace golden {

inline const std::vector<std::vector<double>> kGradients = {{0.5, -1, 2}, {-0.25, 0, 1.5}, {1, 1, -1}, {0, 0.125, -3}};

inline unroll::Tensor parameter(unroll::DType dtype = unroll::DType::Float64) {
  return unroll::tensor({1.0, -2.0, 0.5}, dtype).requires_grad_();
}

inline void set_grad(const unroll::Tensor& p, std::size_t step) {
  std::vector<double> g = kGradients[step % kGradients.size()];
  for (double& n : g) n *= 1 + 0.25 * static_cast<double>(step / kGradients.size());
  p.set_grad(unroll::from_data(g, {3}).to(p.dtype()));
}

/// The parameter after these steps.
constexpr std::size_t kSeen[] = {1, 10, 20};
using Seen = std::array<std::array<double, 3>, std::size(kSeen)>;

template <class Options>
struct Row {
  Options options;
  Seen expected;
};

template <class Optimizer, class Options>
void check(const std::vector<Row<Options>>& rows) {
  for (std::size_t r = 0; r < rows.size(); ++r)
    for (unroll::DType dtype : {unroll::DType::Float64, unroll::DType::Float32}) {
      const double bound = dtype == unroll::DType::Float64 ? 1e-14 : 1e-6;
      CAPTURE(r);
      CAPTURE(bound);
      unroll::Tensor p = parameter(dtype);
      Optimizer opt({p}, rows[r].options);
      std::size_t step = 0;
      for (std::size_t k = 0; k < std::size(kSeen); ++k) {
        for (; step < kSeen[k]; ++step) {
          set_grad(p, step);
          opt.step();
        }
        CAPTURE(step);
        std::vector<double> values = p.detach().to(unroll::DType::Float64).template to_vector<double>();
        for (std::size_t i = 0; i < 3; ++i) {
          const double expected = rows[r].expected[k][i];
          CHECK(std::abs(values[i] - expected) <= bound * std::max(1.0, std::abs(expected)));
        }
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
