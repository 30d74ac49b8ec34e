#include "usual.h"

#include <unroll/autograd/grad_mode.h>
#include <unroll/autograd/ops/arithmetic.h>
#include <unroll/autograd/ops/reduce.h>
#include <unroll/autograd/ops/shape.h>

#include <cmath>

#include "problem.h"

namespace planted {

const std::vector<UsualCheck> kUsualChecks = {
    {"A", "T = 1, N = 1, one layer, h0 = 0, loss = sum(output)", 1, 1, 1},
    {"B", "T = 3, N = 2 (the usual)", 3, 2, 1},
    {"C", "B, random gradients of all outputs, random h0", 3, 2, 1, true},
    {"D", "C, two layers, both directions", 3, 2, 2, true, true},
    {"E", "D, three layers, dropout, lengths", 4, 3, 3, true, true, true},
    {"F", "E, strided gradients, a second backward", 4, 3, 3, true, true, true, true},
    {"G", "F, loss x 1e-6, tolerances of torch", 4, 3, 3, true, true, true, true, 1e-6, 1e-6, 1e-5, 1e-3},
};

bool passes(const UsualCheck& c, MakeLayer make, Mode mode) {
  Setting setting;
  setting.options = {.mode = mode, .num_layers = c.layers, .bidirectional = c.bidirectional};
  setting.T = c.T, setting.N = c.N;
  if (c.dropout_and_lengths) setting.options.dropout = 0.4, setting.lengths = {3, 4, 2};
  const Problem p(make, setting);
  if (!c.random)
    for (const Tensor& s : p.state) s.detach().fill_(0);

  Tensors cotangents = p.cotangents;
  if (!c.random)
    for (std::size_t j = 0; j < cotangents.size(); ++j)
      cotangents[j] = j == 0 ? ones_like(cotangents[j]) : zeros_like(cotangents[j]);
  for (Tensor& g : cotangents) {
    g = g * c.scale;
    if (c.strided_and_twice) g = transpose(transpose(g, 0, 1).contiguous(), 0, 1);
  }
  Tensors used = cotangents;
  if (!c.random) used.assign(cotangents.size(), Tensor()), used[0] = cotangents[0];
  const Tensors ys = p.outputs(), leaves = p.leaves();
  std::vector<Tensors> analytic = {gradients(ys, used, leaves)};
  if (c.strided_and_twice) analytic.push_back(gradients(ys, used, leaves));

  NoGrad guard;
  Generator generator(3);
  for (std::size_t i = 0; i < leaves.size(); ++i)
    for (int direction = 0; direction < 3; ++direction) {
      const Tensor v = normal(leaves[i].shape(), generator);
      const Tensor x = leaves[i].detach(), before = x.clone();
      auto loss_at = [&](double step) {
        x.copy_(before + v * step);
        return loss(p.outputs(), cotangents).item();
      };
      const double numeric = (loss_at(c.eps) - loss_at(-c.eps)) / (2 * c.eps);
      x.copy_(before);
      for (const Tensors& dx : analytic)
        if (!(std::abs(sum(dx[i] * v).item() - numeric) <= c.atol + c.rtol * std::abs(numeric))) return false;
    }
  return true;
}

}  // namespace planted
