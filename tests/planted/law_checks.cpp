#include <fmt/format.h>
#include <unroll/autograd/ops/arithmetic.h>
#include <unroll/autograd/ops/shape.h>

#include <limits>
#include <map>

#include "checks.h"
#include "problem.h"

// What must hold between runs of a layer, whatever it computes.
namespace planted {
namespace {

constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();

std::string strides_of_gradients(const Subject& subject) {
  const Problem p(subject.make, strong(subject.mode));
  const Tensors ys = p.outputs();
  for (const Shape& order : {Shape{1, 0, 2}, Shape{2, 1, 0}, Shape{0, 2, 1}}) {  // each its own inverse
    Tensors strided;
    for (const Tensor& g : p.cotangents) strided.push_back(permute(permute(g, order).contiguous(), order));
    const std::string wrong =
        differ(gradients(ys, strided, p.leaves()), gradients(p.outputs(), p.cotangents, p.leaves()), p.names(), 1e-13);
    if (!wrong.empty()) return wrong;
  }
  Tensors expanded, same;
  for (const Tensor& g : p.cotangents) {
    expanded.push_back(expand(select(g, 0, 0), g.shape()));
    same.push_back(expanded.back().contiguous());
  }
  return differ(gradients(ys, expanded, p.leaves()), gradients(p.outputs(), same, p.leaves()), p.names(), 1e-13);
}

/// A second backward through the same graph gives the same bits.
std::string backward_twice(const Subject& subject) {
  const Problem p(subject.make, strong(subject.mode));
  const Tensor total = loss(p.outputs(), p.cotangents);
  std::vector<Tensors> runs;
  for (int run = 0; run < 3; ++run) {
    for (const Tensor& leaf : p.leaves()) leaf.set_grad({});
    subject.backward(total, run < 2);
    runs.emplace_back();
    for (const Tensor& leaf : p.leaves()) runs.back().push_back(leaf.grad());
  }
  return either(differ(runs[1], runs[0], p.names(), 0), differ(runs[2], runs[0], p.names(), 0));
}

/// The gradient is linear in that of the outputs, and an output that is left out counts as zero.
std::string one_output_each(const Subject& subject) {
  const Problem p(subject.make, strong(subject.mode));
  const Tensors ys = p.outputs(), all = gradients(ys, p.cotangents, p.leaves());
  Tensors summed(all.size());
  for (std::size_t j = 0; j < ys.size(); ++j) {
    Tensors one(ys.size());
    one[j] = p.cotangents[j];
    const Tensors part = gradients(p.outputs(), one, p.leaves());
    for (std::size_t i = 0; i < all.size(); ++i) summed[i] = j == 0 ? part[i] : summed[i] + part[i];
  }
  return differ(summed, all, p.names(), 1e-12);
}

/// A batch of different lengths does what each sequence does alone.
std::string each_alone(const Subject& subject) {
  for (bool batch_first : {false, true}) {
    Setting setting = strong(subject.mode);
    setting.options.dropout = 0, setting.options.batch_first = batch_first;
    const Problem p(subject.make, setting);
    const Tensors ys = p.outputs(), all = gradients(ys, p.cotangents, p.leaves());
    const std::int64_t time = batch_first ? 1 : 0, batch = 1 - time;

    Tensors summed(all.size());
    for (std::int64_t n = 0; n < setting.N; ++n) {
      auto row = [&](const Tensor& z, std::int64_t dim) { return narrow(z, dim, n, 1); };
      auto part = [&](const Tensor& z) {
        return narrow(row(z, batch), time, 0, p.lengths[static_cast<std::size_t>(n)]);
      };
      Tensors initial, cotangents = {part(p.cotangents[0])}, expected = {part(ys[0])};
      for (const Tensor& s : p.state) initial.push_back(row(s, 1));
      for (std::size_t i = 1; i < ys.size(); ++i) {
        cotangents.push_back(row(p.cotangents[i], 1));
        expected.push_back(row(ys[i], 1));
      }
      const Tensors alone = p.outputs(part(p.x), initial);
      if (std::string wrong = differ_outputs(expected, alone); !wrong.empty()) return wrong;
      const Tensors dx = gradients(alone, cotangents, p.leaves());
      for (std::size_t i = 0; i < dx.size(); ++i) summed[i] = n == 0 ? dx[i] : summed[i] + dx[i];
    }
    if (std::string wrong = differ(all, summed, p.names()); !wrong.empty()) return wrong;
  }
  return "";
}

/// The gradient of a batch is the sum of those of its parts.
std::string batch_in_parts(const Subject& subject) {
  const Problem p(subject.make, plain(subject.mode));
  const Tensors ys = p.outputs(), all = gradients(ys, p.cotangents, p.leaves());
  auto rows = [](const Tensors& tensors, std::int64_t first, std::int64_t count) {
    Tensors result;
    for (const Tensor& z : tensors) result.push_back(narrow(z, 1, first, count));
    return result;
  };
  Tensors summed(all.size());
  for (const auto& [first, count] : {std::pair{0, 1}, {1, 2}}) {
    const Tensors part = p.outputs(narrow(p.x, 1, first, count), rows(p.state, first, count));
    if (std::string wrong = differ_outputs(part, rows(ys, first, count)); !wrong.empty()) return wrong;
    const Tensors dx = gradients(part, rows(p.cotangents, first, count), p.leaves());
    for (std::size_t i = 0; i < dx.size(); ++i) summed[i] = first == 0 ? dx[i] : summed[i] + dx[i];
  }
  return differ(all, summed, p.names());
}

/// A sequence in two parts, the second from where the first ended, is the sequence.
std::string time_in_parts(const Subject& subject) {
  const Problem p(subject.make, plain(subject.mode, 2, false));
  const Tensors ys = p.outputs(), all = gradients(ys, p.cotangents, p.leaves());
  const Tensors first = p.outputs(narrow(p.x, 0, 0, 1), p.state);
  const Tensors then = p.outputs(narrow(p.x, 0, 1, 3), Tensors(first.begin() + 1, first.end()));
  Tensors joined = then;
  joined[0] = cat({first[0], then[0]});
  return either(differ_outputs(ys, joined), differ(all, gradients(joined, p.cotangents, p.leaves()), p.names()));
}

/// What stands in the padding, of x or of the gradient, reaches nothing.
std::string nan_in_padding(const Subject& subject) {
  const Problem p(subject.make, strong(subject.mode));
  const Tensors clean = gradients(p.outputs(), p.cotangents, p.leaves());
  const Tensor x = p.x.detach().clone().requires_grad_();
  Tensors cotangents = p.cotangents;
  cotangents[0] = cotangents[0].clone();
  for (std::size_t n = 0; n < p.lengths.size(); ++n)
    if (const std::int64_t behind = p.x.size(0) - p.lengths[n]; behind > 0)
      for (const Tensor& z : {x.detach(), cotangents[0]})
        narrow(narrow(z, 1, static_cast<std::int64_t>(n), 1), 0, p.lengths[n], behind).fill_(kNaN);
  Tensors leaves = p.leaves();
  leaves[0] = x;
  return differ(gradients(p.outputs(x, p.state, p.lengths), cotangents, leaves), clean, p.names(), 1e-13);
}

/// Dropout belongs to training.
std::string evaluation(const Subject& subject) {
  Setting with = strong(subject.mode), without = with;
  without.options.dropout = 0;
  const Problem p(subject.make, with), q(subject.make, without);
  p.layer->train(false);
  const Tensors ys = p.outputs(), expected = q.outputs();
  return either(differ_outputs(ys, expected, 0), differ(gradients(ys, p.cotangents, p.leaves()),
                                                        gradients(expected, q.cotangents, q.leaves()), p.names(), 0));
}

/// Two backwards add up in .grad.
std::string accumulation(const Subject& subject) {
  const Problem p(subject.make, strong(subject.mode));
  Tensors expected;
  for (const Tensor& g : gradients(p.outputs(), p.cotangents, p.leaves())) expected.push_back(2 * g);
  for (int run = 0; run < 2; ++run) subject.backward(loss(p.outputs(), p.cotangents), false);
  Tensors sums;
  for (const Tensor& leaf : p.leaves()) sums.push_back(leaf.grad());
  return differ(sums, expected, p.names());
}

/// A parameter that is used twice gets the sum of what both uses would get.
std::string tied_directions(const Subject& subject) {
  const Problem tied(subject.make, plain(subject.mode)), apart(subject.make, plain(subject.mode));
  tied.layer->tie_directions();
  std::map<std::string, Tensor> from, to;
  for (const auto& [name, parameter] : tied.layer->parameters()) from[name] = parameter;
  for (const auto& [name, parameter] : apart.layer->parameters()) {
    to[name] = parameter;
    auto source = from.find(name);  // one that is tied may be listed once
    if (source == from.end()) source = from.find(name.substr(0, name.size() - std::string("_reverse").size()));
    parameter.detach().copy_(source->second.detach());
  }
  for (const Problem* p : {&tied, &apart}) subject.backward(loss(p->outputs(), p->cotangents), false);
  const char* forward[] = {"weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0"};
  for (const std::string name : forward) {
    const Tensor sum = to[name].grad() + to[name + "_reverse"].grad();
    if (std::string wrong = differ({from[name].grad()}, {sum}, {name}); !wrong.empty()) return wrong;
  }
  return "";
}

/// What was written in place since forward makes backward refuse, unless it does not read it.
std::string written_in_place(const Subject& subject) {
  const Problem before(subject.make, plain(subject.mode));
  const Tensors expected = gradients(before.outputs(), before.cotangents, before.leaves());
  std::size_t refusals = 0;
  for (std::size_t i = 0; i < expected.size(); ++i) {
    const Problem p(subject.make, plain(subject.mode));
    const Tensor total = loss(p.outputs(), p.cotangents);
    subject.scale(p.leaves()[i], 2);
    try {
      subject.backward(total, false);
    } catch (const GradError&) {
      ++refusals;
      continue;
    }
    Tensors got;
    for (const Tensor& leaf : p.leaves()) got.push_back(leaf.grad());
    if (std::string wrong = differ(got, expected, p.names()); !wrong.empty())
      return fmt::format("{} was written before backward, which did not notice: {}", p.names()[i], wrong);
  }
  return refusals == 0 ? "nothing that was written was refused" : "";
}

/// relu'(0) = 0: where all is zero no gradient flows.
std::string relu_at_zero(const Subject& subject) {
  if (subject.mode != Mode::ReLU) return "";
  const Problem p(subject.make, plain(subject.mode));
  for (const auto& [name, parameter] : p.layer->parameters()) parameter.detach().fill_(0);
  for (const Tensor& g : gradients(p.outputs(), p.cotangents, p.leaves()))
    for (double v : g.to_vector<double>())
      if (v != 0) return fmt::format("a gradient of {} at the kink", v);
  return "";
}

}  // namespace

const std::vector<Check> kLawChecks = {
    {"strides", strides_of_gradients}, {"outputs", one_output_each}, {"alone", each_alone}, {"batch", batch_in_parts},
    {"time", time_in_parts},           {"padding", nan_in_padding},  {"eval", evaluation},  {"kink", relu_at_zero},
};

const std::vector<Check> kEngineChecks = {
    {"twice", backward_twice}, {"accumulate", accumulation}, {"tied", tied_directions}, {"written", written_in_place}};

}  // namespace planted
