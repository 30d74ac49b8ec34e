#include <unroll/autograd/fused.h>
#include <unroll/core/kernels/copy.h>
#include <unroll/core/kernels/recurrent_plan.h>
#include <unroll/core/kernels/recurrent_segments.h>
#include <unroll/core/kernels/scratch.h>
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
  DType dtype;              // of all tensors, then; a module may have been converted since
  std::int64_t groups = 1;  // of sequences in the workspace

  bool has_cells() const { return sizes.kind == RecurrentKind::LSTM; }
  /// Where the states of a direction stand among the outputs.
  std::size_t h_at(std::size_t d) const { return 1 + (has_cells() ? 2 : 1) * d; }
  std::size_t c_at(std::size_t d) const { return h_at(d) + (single ? 0 : 1); }
  std::size_t outputs() const { return single ? c_at(0) + (has_cells() ? 1 : 0) : h_at(directions); }
  kernels::RecurrentSteps of(std::size_t direction) const {
    kernels::RecurrentSteps result{.steps = steps, .batch = batch, .reverse = direction == 1, .groups = groups};
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
              memory,
              x.dtype()};
  layer.sizes.hidden = w.hh.size(0) / layer.sizes.gates();
  if (layout.single) layer.steps = 1;
  if (layout.packed) {
    layer.steps = static_cast<std::int64_t>(layout.packed->size());
    layer.offsets.resize(layout.packed->size());
    std::exclusive_scan(layout.packed->begin(), layout.packed->end(), layer.offsets.begin(), std::int64_t{0});
  }
  return layer;
}

// Kernels read memory by these types and shapes; weights may come from a cell of the user's that prepares them.
void check_weights(const char* op, const Layer& layer, const FusedDirection& d) {
  const kernels::RecurrentSizes& s = layer.sizes;
  auto expect = [op, dtype = layer.dtype](const char* name, const Tensor& x,
                                          std::initializer_list<std::int64_t> sizes) {
    if (!x.defined()) return;
    if (x.dtype() != dtype) [[unlikely]]
      unroll::detail::fail<DTypeError>("{}: {} is {}, the input {}", op, name, x.dtype(), dtype);
    if (!x.shape().is(sizes)) [[unlikely]]
      unroll::detail::fail<ShapeError>("{}: {} has shape {}, expected {}", op, name, x.shape(), Shape(sizes));
  };
  const std::int64_t rows = s.gates() * s.hidden;
  expect("weight_ih", d.weights.ih, {rows, s.input});
  expect("weight_hh", d.weights.hh, {rows, s.output()});
  expect("bias_ih", d.weights.bias_ih, {rows});
  expect("bias_hh", d.weights.bias_hh, {rows});
  expect("weight_hr", d.weights.hr, {s.projected, s.hidden});
}

Tensor contiguous(Tensor x) { return !x.defined() || x.is_contiguous() ? std::move(x) : x.contiguous(); }

using unroll::detail::Elements;

const Elements* elements(const Tensor& x) { return x.defined() ? &x.body() : nullptr; }
template <class T>
T* data(const Elements* x) {
  return x != nullptr ? x->data<T>() : nullptr;
}
template <class T>
T* data(const Tensor& x) {
  return data<T>(elements(x));
}

template <class T>
using Work = std::array<T*, kWorkspaces>;

// x's storage, if x is all that lies there.
unroll::detail::Storage* home(const Elements* x) {
  return x != nullptr && static_cast<std::size_t>(x->numel) * size_of(x->dtype) == x->storage->bytes ? x->storage.get()
                                                                                                     : nullptr;
}

// `in` tells each of the direction's inputs.
template <class T, class In>
kernels::RecurrentInputs<T> inputs_of(const T* x, In in) {
  auto at = [&in](std::size_t i) { return data<T>(in(i)); };
  return {x,           at(kH),  at(kC),        at(kIh),       at(kHh),      at(kBiasIh),
          at(kBiasHh), at(kHr), home(in(kIh)), home(in(kHh)), home(in(kHr))};
}

template <class T>
kernels::RecurrentOutputs<T> outputs_of(const Layer& layer, std::size_t direction, T* y, const Work<T>& work) {
  const std::int64_t width = layer.sizes.output();
  const bool checkpoints = layer.memory == Memory::Checkpoint;  // are what `work` holds
  return {y != nullptr ? y + static_cast<std::int64_t>(direction) * width : nullptr,
          static_cast<std::int64_t>(layer.directions) * width,
          nullptr,
          nullptr,
          checkpoints ? nullptr : work[0],
          checkpoints ? nullptr : work[1],
          checkpoints ? nullptr : work[2]};
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
kernels::RecurrentCheckpoints<T> checkpoints_of(const Layer& layer, const Work<T>& work) {
  if (layer.memory != Memory::Checkpoint) return {};
  return {work[0], work[1]};
}

// Makes room for the gradients of a direction's weights, of which the first is input number `first`. Those of a cell in
// a loop have most of their steps already, which the kernels then add to: returns whether they do.
bool prepare_weights(const Saved& s, DType dtype, std::span<Tensor> dw, std::size_t first) {
  bool add = false;
  for (std::size_t i = 0; i < dw.size(); ++i)
    if (s.needs(first + i)) add |= (dw[i] = s.take_sum(first + i, s.shape(first + i), dtype)).defined();
  for (std::size_t i = 0; i < dw.size(); ++i) {
    if (!s.needs(first + i) || dw[i].defined()) continue;
    dw[i] = unroll::detail::new_like(*s.layout(first + i), dtype);
    if (add) dw[i].zero_();
  }
  return add;
}

// What backward reads of x and of a direction's inputs, null for the others: those may be written between two passes,
// as the weights of a layer of one step are by an optimizer.
const Elements* read_x(const Layer& layer, const Saved& s) {
  bool read = layer.memory != Memory::KeepGates;  // to compute the gates again
  for (std::size_t d = 0; d < layer.directions; ++d) read = read || s.needs(1 + kInputs * d + kIh);
  return read ? s.elements(0) : nullptr;
}
std::array<const Elements*, kInputs> read_inputs(const Layer& layer, const Saved& s, std::size_t base) {
  const bool all = layer.memory != Memory::KeepGates, is_gru = layer.sizes.kind == kernels::RecurrentKind::GRU;
  auto if_read = [&](std::size_t i, bool read) { return all || read ? s.elements(base + i) : nullptr; };
  return {if_read(kH, is_gru || s.needs(base + kHh)),
          s.elements(base + kC),
          if_read(kIh, s.needs(0)),
          if_read(kHh, layer.steps > 1 || s.needs(base + kH)),
          if_read(kBiasIh, false),
          if_read(kBiasHh, false),
          s.elements(base + kHr)};
}

void backward(const Layer& layer, Gradients g, const Saved& s, std::span<Tensor> dx) {
  const std::size_t first_work = 1 + kInputs * layer.directions, y_at = first_work + kWorkspaces * layer.directions;
  bool add_x = false;
  if (s.needs(0)) {
    dx[0] = s.take_sum(0, s.shape(0), layer.dtype);
    add_x = dx[0].defined();
    if (!add_x) dx[0] = unroll::detail::new_like(*s.layout(0), layer.dtype);
  }
  const Tensor dy = contiguous(g[0]);
  dispatch_float("backward", layer.dtype, [&]<class T>() {
    auto saved = [&s](std::size_t i) { return data<T>(s.elements(i)); };
    const T* const x = data<T>(read_x(layer, s));
    for (std::size_t d = 0; d < layer.directions; ++d) {
      const std::size_t base = 1 + kInputs * d;
      const Tensor dh_n = layer.single ? Tensor() : contiguous(g[layer.h_at(d)]),
                   dc_n = layer.has_cells() ? contiguous(g[layer.c_at(d)]) : Tensor();
      if (!dy.defined() && !dh_n.defined() && !dc_n.defined()) {  // only the other direction was used
        if (d == 0 && layer.directions == 2 && s.needs(0) && !add_x) dx[0].zero_();
        continue;
      }
      const std::size_t work_at = first_work + kWorkspaces * d;
      const Work<T> work{saved(work_at), saved(work_at + 1), saved(work_at + 2)};
      const auto out = outputs_of<T>(layer, d, saved(y_at), work);
      const auto read = read_inputs(layer, s, base);
      const auto in = inputs_of<T>(x, [&read](std::size_t i) { return read[i]; });
      const kernels::RecurrentCotangents<T> of_outputs{
          dy.defined() ? dy.raw<T>() + static_cast<std::int64_t>(d) * layer.sizes.output() : nullptr, out.y_row,
          data<T>(dh_n), data<T>(dc_n)};
      for (std::size_t i = base; i < base + kIh; ++i)
        if (s.needs(i)) dx[i] = unroll::detail::new_like(*s.layout(i), layer.dtype);
      // weight_hr is the last of them; c_1 alone does not depend on it.
      const bool has_h = layer.steps > 1 || dy.defined() || dh_n.defined();
      const bool add = prepare_weights(s, layer.dtype, dx.subspan(base + kIh, kHr - kIh + has_h), base + kIh);
      auto to = [&](std::size_t i) { return data<T>(dx[base + i]); };
      const kernels::RecurrentGradients<T> of_inputs{data<T>(dx[0]), add_x || d == 1, to(kH),      to(kC),  to(kIh),
                                                     to(kHh),        to(kBiasIh),     to(kBiasHh), to(kHr), add};
      if (layer.memory != Memory::KeepGates) {
        kernels::recurrent_backward_in_segments(layer.sizes, layer.of(d), in, out, layer.segments(),
                                                checkpoints_of<T>(layer, work), of_outputs, of_inputs);
        continue;
      }
      // The gates' gradients take the gates' places, unless somebody will come and read these again.
      const bool in_place = work[0] != nullptr && s.last();
      const kernels::Scratch<T> apart(in_place ? 0 : layer.of(d).all() * kernels::gate_row<T>(layer.sizes));
      // Should memory run out on the way, a second attempt must not take what is there now for gates.
      if (in_place) kernels::wrote(s[work_at], "a backward that failed");
      kernels::recurrent_backward(layer.sizes, layer.of(d), in, out, in_place ? work[0] : apart.data(), of_outputs,
                                  of_inputs);
    }
  });
}

}  // namespace

FusedDirection fused_direction(std::span<const Tensor> inputs, std::size_t direction) {
  const std::span<const Tensor> in = inputs.subspan(1 + kInputs * direction, kInputs);
  return {{in[kIh], in[kHh], in[kBiasIh], in[kBiasHh], in[kHr]}, in[kH], in[kC]};
}

FusedResult fused_layer(const char* op, FusedKind kind, Memory memory, const StepLayout& layout, const Tensor& x,
                        std::span<FusedDirection> directions, unroll::detail::Definition definition) {
  std::array<Tensor, 1 + 2 * kInputs> inputs{x.contiguous()};
  std::array<Tensor, 5> outputs;
  std::array<Tensor, 2 * kWorkspaces + 1> work;
  std::size_t count = 1;
  Layer layer = describe(kind, memory, layout, inputs[0], directions);
  for (FusedDirection& d : directions) {
    check_weights(op, layer, d);
    RNNWeights& w = d.weights;
    for (Tensor* p : {&d.h, &d.c, &w.ih, &w.hh, &w.bias_ih, &w.bias_hh, &w.hr})
      inputs[count++] = contiguous(std::move(*p));
  }
  const bool records = unroll::detail::recording(std::span<const Tensor>(inputs).first(count));
  auto like_x = [&](std::int64_t width) {
    Shape shape = x.shape();
    shape.back() = width;
    return empty(shape, x.dtype());
  };
  auto state = [&](const Tensor& initial, std::int64_t width) {
    if (initial.defined()) return empty_like(initial);
    return layer.single ? like_x(width) : empty({layer.batch, width}, x.dtype());
  };
  FusedResult result;
  const std::int64_t width = layer.sizes.output();
  result.output = outputs[0] =
      layer.single ? state(inputs[1 + kH], width) : like_x(static_cast<std::int64_t>(directions.size()) * width);
  dispatch_float(op, x.dtype(), [&]<class T>() {
    if (!layer.single && (memory == Memory::KeepGates || !records))
      layer.groups = kernels::sequence_groups<T>(layer.sizes, layer.of(0));
    for (std::size_t d = 0; d < directions.size(); ++d) {
      const std::span<Tensor, kWorkspaces> mine(&work[kWorkspaces * d], kWorkspaces);
      if (records) std::ranges::move(workspace<T>(layer, x.dtype()), mine.begin());
      const Work<T> held{data<T>(mine[0]), data<T>(mine[1]), data<T>(mine[2])};
      auto out = outputs_of<T>(layer, d, data<T>(outputs[0]), held);
      const std::size_t base = 1 + kInputs * d;
      if (!layer.single) result.h[d] = outputs[layer.h_at(d)] = state(inputs[base + kH], width);
      if (layer.has_cells()) result.c[d] = outputs[layer.c_at(d)] = state(inputs[base + kC], layer.sizes.hidden);
      out.h_n = data<T>(result.h[d]), out.c_n = data<T>(result.c[d]);
      const auto in = inputs_of<T>(data<T>(inputs[0]), [&](std::size_t i) { return elements(inputs[base + i]); });
      if (records && memory == Memory::Checkpoint)
        kernels::recurrent_forward_in_segments(layer.sizes, layer.of(d), in, out, layer.segments(),
                                               checkpoints_of<T>(layer, held));
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
