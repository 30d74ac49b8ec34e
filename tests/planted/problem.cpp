#include "problem.h"

#include <fmt/format.h>
#include <unroll/autograd/engine.h>
#include <unroll/autograd/ops/arithmetic.h>
#include <unroll/autograd/ops/reduce.h>

#include <algorithm>
#include <cmath>

namespace planted {

Setting strong(Mode mode) {
  // The longest is not the first, so that the batch has to be sorted.
  return {{.mode = mode, .num_layers = 3, .bidirectional = true, .dropout = 0.4}, 4, 3, {3, 4, 2}};
}

Setting plain(Mode mode, std::int64_t layers, bool bidirectional) {
  return {{.mode = mode, .num_layers = layers, .bidirectional = bidirectional}};
}

std::vector<Setting> settings(Mode mode) {
  Setting batch_first = strong(mode), no_bias = strong(mode), projected = strong(mode), one = plain(mode, 1, false),
          no_lengths = strong(mode);
  batch_first.options.batch_first = true, batch_first.options.dropout = 0;
  no_bias.options.bias = false;
  projected.options.proj_size = 2;
  no_lengths.lengths = {}, no_lengths.options.batch_first = true;
  one.T = one.N = 1, one.initial_state = false;
  std::vector<Setting> all = {strong(mode), batch_first, no_bias, no_lengths, one};
  if (mode == Mode::LSTM) all.push_back(projected);
  return all;
}

Problem::Problem(MakeLayer make, const Setting& setting, std::uint64_t seed)
    : layer(make(setting.options)), lengths(setting.lengths) {
  const LayerOptions& o = setting.options;
  Generator generator(static_cast<std::int64_t>(seed));
  for (const auto& [name, parameter] : layer->parameters())
    parameter.detach().copy_(normal(parameter.shape(), generator, 0.4));
  auto sequences = [&](std::int64_t features) {
    return o.batch_first ? Shape{setting.N, setting.T, features} : Shape{setting.T, setting.N, features};
  };
  const std::int64_t states = o.num_layers * o.directions();
  x = normal(sequences(o.input_size), generator).requires_grad_();
  cotangents.push_back(normal(sequences(o.directions() * o.output_size()), generator));
  for (std::size_t i = 0; i < o.states(); ++i) {
    const Shape shape{states, setting.N, i == 0 ? o.output_size() : o.hidden_size};
    if (setting.initial_state) state.push_back(normal(shape, generator).requires_grad_());
    cotangents.push_back(normal(shape, generator));
  }
}

Tensors Problem::outputs(const Tensor& input, const Tensors& initial, const LengthList& length_list) const {
  manual_seed(7);
  return (*layer)(input, initial, length_list);
}

Tensors Problem::leaves() const {
  Tensors all = {x};
  all.insert(all.end(), state.begin(), state.end());
  for (const auto& [name, parameter] : layer->parameters()) all.push_back(parameter);
  return all;
}

std::vector<std::string> Problem::names() const {
  std::vector<std::string> all = {"x"};
  for (std::size_t i = 0; i < state.size(); ++i) all.push_back(i == 0 ? "h0" : "c0");
  for (const auto& [name, parameter] : layer->parameters()) all.push_back(name);
  return all;
}

Tensors gradients(const Tensors& outputs, const Tensors& cotangents, const Tensors& leaves, bool create_graph) {
  Tensors ys, gs;
  for (std::size_t j = 0; j < outputs.size(); ++j)
    if (cotangents[j].defined()) ys.push_back(outputs[j]), gs.push_back(cotangents[j]);
  Tensors dx =
      grad(ys, leaves, {.grad_outputs = gs, .retain_graph = true, .create_graph = create_graph, .allow_unused = true});
  for (std::size_t i = 0; i < dx.size(); ++i)
    if (!dx[i].defined()) dx[i] = zeros_like(leaves[i]);
  return dx;
}

Tensor loss(const Tensors& outputs, const Tensors& cotangents) {
  Tensor total;
  for (std::size_t j = 0; j < outputs.size(); ++j) {
    const Tensor term = sum(outputs[j] * cotangents[j]);
    total = total.defined() ? total + term : term;
  }
  return total;
}

Tensor normal(const Shape& shape, Generator& generator, double deviation) {
  return randn(shape, DType::Float64, generator) * deviation;
}

std::string differ(const Tensors& got, const Tensors& expected, const std::vector<std::string>& names,
                   double tolerance) {
  if (got.size() != expected.size()) return fmt::format("{} tensors instead of {}", got.size(), expected.size());
  for (std::size_t i = 0; i < got.size(); ++i) {
    if (!got[i].defined()) return names[i] + " is undefined";
    if (!(got[i].shape() == expected[i].shape())) return names[i] + " has another shape";
    const std::vector<double> a = got[i].to_vector<double>(), b = expected[i].to_vector<double>();
    double scale = 1e-3;
    for (double v : b) scale = std::max(scale, std::abs(v));
    for (std::size_t k = 0; k < a.size(); ++k)
      if (!(std::abs(a[k] - b[k]) <= tolerance * scale))
        return fmt::format("{}[{}] is {:.6g}, expected {:.6g}", names[i], k, a[k], b[k]);
  }
  return "";
}

std::string differ_outputs(const Tensors& got, const Tensors& expected, double tolerance) {
  return differ(got, expected, {"output", "h_n", "c_n"}, tolerance);
}

}  // namespace planted
