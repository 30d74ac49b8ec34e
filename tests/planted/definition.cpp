#include "definition.h"

#include <unroll/autograd/ops/activation.h>
#include <unroll/autograd/ops/arithmetic.h>
#include <unroll/autograd/ops/matmul.h>
#include <unroll/autograd/ops/shape.h>

#include "bugs.h"

namespace planted {
namespace {

struct Weights {
  Tensor w_ih, w_hh, b_ih, b_hh, w_hr;
};
struct State {
  Tensor h, c;
};

Tensor squash(const Tensor& a) { return bug(88) ? sigmoid(a) : tanh(a); }

/// One step of one sequence: x (F), h (P), c (H).
State step(const Plan& plan, const Weights& w, const Tensor& x, const State& s) {
  const Tensor h = bug(91) ? s.h.detach() : s.h;
  const Shape blocks(static_cast<std::size_t>(plan.gates()), plan.H);
  const std::vector<Tensor> from_x = split(linear(x, w.w_ih, w.b_ih), blocks, 0),
                            from_h = split(linear(h, w.w_hh, bug(84) ? Tensor() : w.b_hh), blocks, 0);
  auto block = [&](std::int64_t gate) { return static_cast<std::size_t>(block_of(plan.mode, gate)); };
  auto sum = [&](std::int64_t gate) { return from_x[block(gate)] + from_h[block(gate)]; };

  if (plan.mode == Mode::LSTM) {
    const Tensor i = sigmoid(sum(0)), f = sigmoid(bug(87) ? sum(1) + 1 : sum(1)), g = squash(sum(2)),
                 o = sigmoid(sum(3));
    const Tensor c = f * s.c + i * g, m = o * (bug(95) ? c : tanh(c));
    return {plan.projected ? linear(m, w.w_hr) : m, c};
  }
  if (plan.mode == Mode::GRU) {
    const Tensor r = sigmoid(sum(0)), z = sigmoid(sum(1));
    const Tensor b_hn = plan.bias ? narrow(w.b_hh, 0, 2 * plan.H, plan.H) : zeros(plan.H, DType::Float64);
    const Tensor w_hn = narrow(w.w_hh, 0, 2 * plan.H, plan.H);
    Tensor inner = r * from_h[2];
    if (bug(83)) inner = r * linear(h, w_hn) + b_hn;
    if (bug(82) || bug(94)) inner = linear(r * h, w_hn) + b_hn;
    const Tensor n = squash(from_x[2] + inner);
    return {(1 - z) * n + z * h, {}};
  }
  return {plan.mode == Mode::ReLU ? relu(sum(0)) : squash(sum(0)), {}};
}

}  // namespace

Tensors Definition::operator()(std::span<const Tensor> inputs) const {
  const bool lstm = plan.mode == Mode::LSTM;
  const std::int64_t states = plan.L * plan.D;
  Tensor y = batch_first ? transpose(inputs[0], 0, 1) : inputs[0];
  auto initial = [&](std::size_t i) {
    if (!bug(89) || !batch_first) return inputs[i];
    return transpose(reshape(inputs[i], {plan.N, states, inputs[i].size(2)}), 0, 1);
  };
  const Tensor h0 = initial(1), c0 = lstm ? initial(2) : Tensor();
  std::size_t next = lstm ? 3 : 2;
  auto take = [&](bool there) { return there ? inputs[next++] : Tensor(); };
  auto row = [](const Tensor& z, std::int64_t k, std::int64_t n) { return select(select(z, 0, k), 0, n); };

  Tensors h_n(static_cast<std::size_t>(states)), c_n = h_n;
  for (std::int64_t layer = 0; layer < plan.L; ++layer) {
    Tensors halves;
    for (std::int64_t direction = 0; direction < plan.D; ++direction) {
      Weights w{take(true), take(true), take(plan.bias), take(plan.bias), take(plan.projected)};
      const std::int64_t k = plan.state_index(layer, direction);
      Tensors columns, last_h, last_c;
      for (std::int64_t n = 0; n < plan.N; ++n) {
        const std::int64_t length = bug(93) ? plan.T : lengths[static_cast<std::size_t>(n)];
        State s{row(h0, k, n), lstm ? row(c0, k, n) : Tensor()};
        Tensors out(static_cast<std::size_t>(plan.T), zeros(plan.P, DType::Float64));
        for (std::int64_t i = 0; i < length; ++i) {
          const std::int64_t t = direction == 0 ? i : length - 1 - i;
          s = step(plan, w, row(y, t, n), s);
          out[static_cast<std::size_t>(t)] = s.h;
        }
        if (bug(90) && direction == 0 && length < plan.T) s = {zeros_like(s.h), lstm ? zeros_like(s.c) : Tensor()};
        columns.push_back(stack(out));
        last_h.push_back(s.h);
        if (lstm) last_c.push_back(s.c);
      }
      halves.push_back(stack(columns, 1));  // (T, N, P)
      h_n[static_cast<std::size_t>(k)] = stack(last_h);
      if (lstm) c_n[static_cast<std::size_t>(k)] = stack(last_c);
    }
    y = cat(halves, 2);
    if (layer < plan.masks() && !bug(92)) y = y * masks[static_cast<std::size_t>(layer)];
  }
  Tensors outputs = {batch_first ? transpose(y, 0, 1) : y, stack(h_n)};
  if (lstm) outputs.push_back(stack(c_n));
  return outputs;
}

}  // namespace planted
