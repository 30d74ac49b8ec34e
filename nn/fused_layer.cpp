#include <unroll/autograd/fused.h>
#include <unroll/autograd/ops/shape.h>
#include <unroll/core/kernels/copy.h>
#include <unroll/core/kernels/recurrent_segments.h>
#include <unroll/nn/fused_layer.h>

#include <algorithm>
#include <numeric>

namespace unroll::nn::detail {
namespace {

using kernels::RecurrentKind;

// One direction's tensors among the inputs, outputs and workspaces of the op.
constexpr std::size_t kInputs = 7;
enum Input : std::size_t { kH, kC, kIh, kHh, kBiasIh, kBiasHh, kHr };
constexpr std::size_t kWorkspaces = 3;

// What the kernels are told beside pointers; the node keeps it.
struct Layer {
  kernels::RecurrentSizes sizes;
  std::int64_t steps, batch;
  std::shared_ptr<const std::vector<std::int64_t>> packed;
  std::vector<std::int64_t> offsets;
  std::size_t directions;
  bool single;
  Memory memory;

  bool has_cells() const { return sizes.kind == RecurrentKind::LSTM; }
  /// Where the states of a direction stand among the outputs.
  std::size_t h_at(std::size_t d) const { return 1 + (has_cells() ? 2 : 1) * d; }
  std::size_t c_at(std::size_t d) const { return h_at(d) + (single ? 0 : 1); }
  std::size_t outputs() const { return single ? c_at(0) + (has_cells() ? 1 : 0) : h_at(directions); }
  kernels::RecurrentSteps of(std::size_t direction) const {
    kernels::RecurrentSteps result{.steps = steps, .batch = batch, .reverse = direction == 1};
    if (packed) result.packed = *packed, result.offsets = offsets;
    return result;
  }
  kernels::RecurrentSegments segments() const {
    return memory == Memory::Checkpoint ? kernels::checkpoint_segments(of(0)) : kernels::gate_segments(of(0));
  }
};

Layer describe(FusedKind kind, Memory memory, const StepLayout& layout, const Tensor& x,
               std::span<const FusedDirection> directions) {
  const RNNWeights& w = directions[0].weights;
  Layer layer{{kind.kind, x.size(-1), 0, w.hr.defined() ? w.hr.size(0) : 0, kind.relu},
              x.size(0),
              layout.batch,
              layout.packed,
              {},
              directions.size(),
              layout.single,
              memory};
  layer.sizes.hidden = w.hh.size(0) / layer.sizes.gates();
  if (layout.single) layer.steps = 1;
  if (layout.packed) {
    layer.steps = static_cast<std::int64_t>(layout.packed->size());
    layer.offsets.resize(layout.packed->size());
    std::exclusive_scan(layout.packed->begin(), layout.packed->end(), layer.offsets.begin(), std::int64_t{0});
  }
  return layer;
}

// Kernels read memory by these shapes; weights may come from a cell of the user's that prepares them.
void check_shapes(const char* op, const Layer& layer, const FusedDirection& d) {
  const kernels::RecurrentSizes& s = layer.sizes;
  auto expect = [op](const char* name, const Tensor& x, const Shape& expected) {
    if (!x.defined()) return;
    check<ShapeError>(x.shape() == expected, "{}: {} has shape {}, expected {}", op, name, x.shape(), expected);
  };
  const std::int64_t rows = s.gates() * s.hidden;
  expect("weight_ih", d.weights.ih, {rows, s.input});
  expect("weight_hh", d.weights.hh, {rows, s.output()});
  expect("bias_ih", d.weights.bias_ih, rows);
  expect("bias_hh", d.weights.bias_hh, rows);
  expect("weight_hr", d.weights.hr, {s.projected, s.hidden});
}

Tensor contiguous(const Tensor& x) { return x.defined() ? x.contiguous() : x; }

template <class T>
T* data(const Tensor& x) {
  return x.defined() ? x.data<T>() : nullptr;
}

// `in` begins with the direction's first input.
template <class T, class At>
kernels::RecurrentInputs<T> inputs_of(const Tensor& x, At in) {
  return {data<T>(x),       data<T>(in(kH)),      data<T>(in(kC)),      data<T>(in(kIh)),
          data<T>(in(kHh)), data<T>(in(kBiasIh)), data<T>(in(kBiasHh)), data<T>(in(kHr))};
}

template <class T>
kernels::RecurrentOutputs<T> outputs_of(const Layer& layer, std::size_t direction, const Tensor& y,
                                        std::span<const Tensor> work) {
  const std::int64_t width = layer.sizes.output();
  const bool checkpoints = layer.memory == Memory::Checkpoint;  // are what `work` holds
  return {y.defined() ? y.data<T>() + static_cast<std::int64_t>(direction) * width : nullptr,
          static_cast<std::int64_t>(layer.directions) * width,
          nullptr,
          nullptr,
          checkpoints ? nullptr : data<T>(work[0]),
          checkpoints ? nullptr : data<T>(work[1]),
          checkpoints ? nullptr : data<T>(work[2])};
}

// What one direction's backward reads beside inputs and output: gates, cells and unprojected outputs, or what it
// computes them from.
template <class T>
std::array<Tensor, kWorkspaces> workspace(const Layer& layer, DType dtype) {
  const std::int64_t rows = layer.of(0).all(), slab = kernels::pad<T>(layer.sizes.hidden);
  std::array<Tensor, kWorkspaces> work;
  if (layer.memory == Memory::Checkpoint) {
    const std::int64_t states = layer.segments().count(layer.of(0)) - 1;
    work[0] = empty({states, layer.batch, layer.sizes.output()}, dtype);
    if (layer.has_cells()) work[1] = empty({states, layer.batch, layer.sizes.hidden}, dtype);
    return work;
  }
  if (layer.has_cells()) work[1] = empty({rows, slab}, dtype);
  if (layer.memory == Memory::RecomputeGates) return work;
  if (layer.sizes.slabs() > 1) work[0] = empty({rows, kernels::gate_row<T>(layer.sizes)}, dtype);
  if (layer.sizes.projected > 0) work[2] = empty({rows, slab}, dtype);
  return work;
}

template <class T>
kernels::RecurrentCheckpoints<T> checkpoints_of(const Layer& layer, std::span<const Tensor> work) {
  if (layer.memory != Memory::Checkpoint) return {};
  return {data<T>(work[0]), data<T>(work[1])};
}

void backward(const Layer& layer, Gradients g, const Saved& s, std::span<Tensor> dx) {
  const std::size_t first_work = 1 + kInputs * layer.directions, y_at = first_work + kWorkspaces * layer.directions;
  for (std::size_t i = 0; i < dx.size(); ++i)
    if (s.needs(i)) dx[i] = empty_like(s[i]);
  const Tensor dy = contiguous(g[0]);
  dispatch_float("backward", s[0].dtype(), [&]<class T>() {
    for (std::size_t d = 0; d < layer.directions; ++d) {
      const std::size_t base = 1 + kInputs * d;
      const Tensor dh_n = layer.single ? Tensor() : contiguous(g[layer.h_at(d)]),
                   dc_n = layer.has_cells() ? contiguous(g[layer.c_at(d)]) : Tensor();
      if (!dy.defined() && !dh_n.defined() && !dc_n.defined()) {  // only the other direction was used
        for (std::size_t i = 0; i < kInputs; ++i)
          if (s.needs(base + i)) dx[base + i] = Tensor();
        if (d == 0 && layer.directions == 2 && s.needs(0)) dx[0].zero_();
        continue;
      }
      const std::array<Tensor, kWorkspaces> work{s[first_work + kWorkspaces * d], s[first_work + kWorkspaces * d + 1],
                                                 s[first_work + kWorkspaces * d + 2]};
      const auto out = outputs_of<T>(layer, d, s[y_at], work);
      const auto in = inputs_of<T>(s[0], [&](std::size_t i) -> const Tensor& { return s[base + i]; });
      const kernels::RecurrentCotangents<T> of_outputs{
          dy.defined() ? dy.data<T>() + static_cast<std::int64_t>(d) * layer.sizes.output() : nullptr, out.y_row,
          data<T>(dh_n), data<T>(dc_n)};
      auto to = [&](std::size_t i) { return data<T>(dx[base + i]); };
      const kernels::RecurrentGradients<T> of_inputs{data<T>(dx[0]), d == 1,      to(kH),      to(kC), to(kIh),
                                                     to(kHh),        to(kBiasIh), to(kBiasHh), to(kHr)};
      if (layer.memory != Memory::KeepGates) {
        kernels::recurrent_backward_in_segments(layer.sizes, layer.of(d), in, out, layer.segments(),
                                                checkpoints_of<T>(layer, work), of_outputs, of_inputs);
        continue;
      }
      // The gates' gradients take the gates' places, unless somebody will come and read these again.
      const Tensor grads = work[0].defined() && s.last()
                               ? work[0]
                               : empty({layer.of(d).all(), kernels::gate_row<T>(layer.sizes)}, s[0].dtype());
      // Should memory run out on the way, a second attempt must not take what is there now for gates.
      if (grads.is_same(work[0])) kernels::wrote(grads, "a backward that failed");
      kernels::recurrent_backward(layer.sizes, layer.of(d), in, out, grads.template data<T>(), of_outputs, of_inputs);
    }
  });
}

}  // namespace

FusedDirection fused_direction(std::span<const Tensor> inputs, std::size_t direction) {
  const std::span<const Tensor> in = inputs.subspan(1 + kInputs * direction, kInputs);
  return {{in[kIh], in[kHh], in[kBiasIh], in[kBiasHh], in[kHr]}, in[kH], in[kC]};
}

FusedResult fused_layer(const char* op, FusedKind kind, Memory memory, const StepLayout& layout, const Tensor& x,
                        std::span<const FusedDirection> directions, unroll::detail::Definition definition) {
  std::array<Tensor, 1 + 2 * kInputs> inputs{x.contiguous()};
  std::array<Tensor, 5> outputs;
  std::array<Tensor, 2 * kWorkspaces + 1> work;
  std::size_t count = 1;
  for (const FusedDirection& d : directions) {
    const RNNWeights& w = d.weights;
    for (const Tensor* p : {&d.h, &d.c, &w.ih, &w.hh, &w.bias_ih, &w.bias_hh, &w.hr}) inputs[count++] = contiguous(*p);
  }
  Layer layer = describe(kind, memory, layout, inputs[0], directions);
  for (const FusedDirection& d : directions) check_shapes(op, layer, d);
  const bool records = unroll::detail::recording(std::span<const Tensor>(inputs).first(count));
  auto like_x = [&](std::int64_t width) {
    Shape shape = x.shape();
    shape.back() = width;
    return empty(std::move(shape), x.dtype());
  };
  auto state = [&](std::int64_t width) {
    return layer.single ? like_x(width) : empty({layer.batch, width}, x.dtype());
  };
  FusedResult result;
  result.output = outputs[0] = like_x(static_cast<std::int64_t>(directions.size()) * layer.sizes.output());
  dispatch_float(op, x.dtype(), [&]<class T>() {
    for (std::size_t d = 0; d < directions.size(); ++d) {
      const std::span<Tensor, kWorkspaces> mine(&work[kWorkspaces * d], kWorkspaces);
      if (records) std::ranges::move(workspace<T>(layer, x.dtype()), mine.begin());
      auto out = outputs_of<T>(layer, d, outputs[0], mine);
      if (!layer.single) result.h[d] = outputs[layer.h_at(d)] = state(layer.sizes.output());
      if (layer.has_cells()) result.c[d] = outputs[layer.c_at(d)] = state(layer.sizes.hidden);
      out.h_n = data<T>(result.h[d]), out.c_n = data<T>(result.c[d]);
      const std::size_t base = 1 + kInputs * d;
      const auto in = inputs_of<T>(inputs[0], [&](std::size_t i) -> const Tensor& { return inputs[base + i]; });
      if (records && memory == Memory::Checkpoint)
        kernels::recurrent_forward_in_segments(layer.sizes, layer.of(d), in, out, layer.segments(),
                                               checkpoints_of<T>(layer, mine));
      else
        kernels::recurrent_forward(layer.sizes, layer.of(d), in, out);
    }
  });
  if (!records) return result;
  const std::size_t works = kWorkspaces * directions.size();
  if (memory != Memory::Checkpoint) work[works] = outputs[0];
  const std::span used = std::span<const Tensor>(outputs).first(layer.outputs());
  record_fused(
      op, std::span<const Tensor>(inputs).first(count), used, std::span<const Tensor>(work).first(works + 1),
      [layer = std::move(layer)](Gradients g, const Saved& s, std::span<Tensor> dx) { backward(layer, g, s, dx); },
      std::move(definition));
  return result;
}

}  // namespace unroll::nn::detail
