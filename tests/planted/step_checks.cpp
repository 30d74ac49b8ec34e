#include <fmt/format.h>
#include <unroll/autograd/ops/arithmetic.h>

#include <cmath>

#include "checks.h"
#include "problem.h"

namespace planted {
namespace {

/// Two parameters of unlike gradients.
Tensors parameters(std::uint64_t seed = 1) {
  Generator generator(static_cast<std::int64_t>(seed));
  Tensors all = {normal({3, 2}, generator), normal({4}, generator)};
  for (const Tensor& p : all) p.requires_grad_();
  return all;
}

void set_gradients(const Tensors& params, Generator& generator) {
  double size = 1;
  for (const Tensor& p : params) p.set_grad(normal(p.shape(), generator, size *= 5));
}

double norm_of(const Tensors& gradients) {
  double square = 0;
  for (const Tensor& g : gradients)
    for (double v : g.to_vector<double>()) square += v * v;
  return std::sqrt(square);
}

Tensors gradients_of(const Tensors& params) {
  Tensors all;
  for (const Tensor& p : params) all.push_back(p.grad().clone());
  return all;
}

Tensors copies(const Tensors& params) {
  Tensors all;
  for (const Tensor& p : params) all.push_back(p.detach().clone().requires_grad_());
  return all;
}

/// Clipping scales all gradients by one factor, to a norm of max_norm, and leaves small ones alone.
std::string clipping(const Subject& subject) {
  const Tensors params = parameters();
  Generator generator(2);
  set_gradients(params, generator);
  const Tensors before = gradients_of(params);
  const double norm = norm_of(before), got = subject.clip(params, norm / 4);
  Tensors expected;
  for (const Tensor& g : before) expected.push_back(g * 0.25);
  if (std::abs(got - norm) > 1e-12 * norm) return fmt::format("returned {} for a norm of {}", got, norm);
  if (std::string wrong = differ(gradients_of(params), expected, {"first", "second"}, 1e-6); !wrong.empty())
    return wrong;
  subject.clip(params, norm);
  return differ(gradients_of(params), expected, {"first", "second"}, 1e-6);
}

/// Adam's first step is lr in the direction of each element's gradient, however large that is.
std::string adam_first_step(const Subject& subject) {
  const Tensors params = parameters(), before = copies(params);
  Generator generator(2);
  set_gradients(params, generator);
  subject.make_stepper(params, {.adam = true, .lr = 0.1})->step();
  Tensors expected;
  for (std::size_t i = 0; i < params.size(); ++i) expected.push_back(before[i] - 0.1 * sign(params[i].grad()));
  return differ(params, expected, {"first", "second"}, 1e-6);
}

/// With weight decay d, each step is that without it on the gradient g + d p.
std::string decay_is_a_gradient(const Subject& subject) {
  for (bool adam : {false, true}) {
    const Tensors with = parameters(), without = copies(with);
    const auto decaying = subject.make_stepper(with, {adam, 0.1, 0.3}),
               plain = subject.make_stepper(without, {adam, 0.1, 0});
    Generator generator(2);
    for (int step = 0; step < 3; ++step) {
      set_gradients(with, generator);
      for (std::size_t i = 0; i < with.size(); ++i)
        without[i].set_grad((with[i].grad() + 0.3 * without[i].detach()).detach());
      decaying->step();
      plain->step();
    }
    if (std::string wrong = differ(with, without, {"first", "second"}, 1e-9); !wrong.empty()) return wrong;
  }
  return "";
}

/// A run that is resumed from the optimizer's state goes on as if nothing had happened, to the bit.
std::string resumed_run(const Subject& subject) {
  for (bool adam : {false, true}) {
    const OptimizerOptions options{adam, 0.1, 0.01};
    const Tensors through = parameters();
    const auto optimizer = subject.make_stepper(through, options);
    Generator generator(2);
    for (int step = 0; step < 3; ++step) set_gradients(through, generator), optimizer->step();
    const Tensors again = copies(through);
    const auto resumed = optimizer->resumed(again);
    for (int step = 0; step < 3; ++step) {
      set_gradients(through, generator);
      for (std::size_t i = 0; i < again.size(); ++i) again[i].set_grad(through[i].grad());
      optimizer->step();
      resumed->step();
    }
    if (std::string wrong = differ(again, through, {"first", "second"}, 0); !wrong.empty()) return wrong;
  }
  return "";
}

}  // namespace

const std::vector<Check> kStepChecks = {
    {"clip", clipping}, {"first step", adam_first_step}, {"decay", decay_is_a_gradient}, {"resume", resumed_run}};

}  // namespace planted
