#include <fmt/format.h>
#include <unroll/autograd/fused.h>
#include <unroll/autograd/ops/dropout.h>
#include <unroll/autograd/ops/shape.h>

#include <algorithm>
#include <numeric>

#include "bugs.h"
#include "definition.h"

namespace planted {
namespace {

/// (A, B, C) of any strides → row-major, with sequence order[b] at b.
Array<double> read(const Tensor& z, std::int64_t A, std::int64_t B, std::int64_t C, bool swapped,
                   const LengthList& order, bool incoming = false) {
  Array<double> values(A * B * C);
  const std::int64_t sa = z.stride(swapped ? 1 : 0), sb = z.stride(swapped ? 0 : 1), sc = z.stride(2);
  const double* data = z.data<double>();
  const std::int64_t last = static_cast<std::int64_t>(z.body().storage->bytes / sizeof(double)) - z.body().offset - 1;
  for (std::int64_t a = 0; a < A; ++a)
    for (std::int64_t b = 0; b < B; ++b)
      for (std::int64_t c = 0; c < C; ++c) {
        const std::int64_t from = incoming && bug(62) ? b : order[b];
        std::int64_t at = a * sa + from * sb + c * sc;
        // What these bugs read is wrong, but it is there.
        if (incoming && bug(21))
          at = std::min(last, ((swapped ? from : a) * (swapped ? A : B) + (swapped ? a : from)) * C + c);
        if (incoming && bug(64)) at = std::min(last, (a * B + from) * C + c);
        values[(a * B + b) * C + c] = data[at];
      }
  return values;
}

/// Back to the caller's layout and order.
Tensor write(const Array<double>& values, std::int64_t A, std::int64_t B, std::int64_t C, bool swapped,
             const LengthList& order) {
  Tensor z = empty(swapped ? Shape{B, A, C} : Shape{A, B, C}, DType::Float64);
  double* data = z.data<double>();
  for (std::int64_t a = 0; a < A; ++a)
    for (std::int64_t b = 0; b < B; ++b)
      for (std::int64_t c = 0; c < C; ++c)
        data[((swapped ? order[b] : a) * (swapped ? A : B) + (swapped ? a : order[b])) * C + c] =
            values[(a * B + b) * C + c];
  return z;
}

/// One call: its sizes, and where its tensors stand among the inputs of the op: x, the states, the parameters.
struct Call {
  Plan plan;
  bool batch_first;
  LengthList order;  // of the sequences by length
  std::size_t states;

  Array<Cell> cells(const Tensors& parameters) const {
    Array<Cell> result;
    auto next = parameters.begin();
    auto take = [&](bool there) { return there ? (next++)->data<double>() : nullptr; };
    for (std::int64_t k = 0; k < plan.L * plan.D; ++k) {
      Cell cell{plan.mode, plan.features(k / plan.D), plan.H, plan.P, nullptr, nullptr, nullptr, nullptr, nullptr};
      cell.w_ih = take(true), cell.w_hh = take(true), cell.b_ih = take(plan.bias), cell.b_hh = take(plan.bias);
      cell.w_hr = take(plan.projected);
      result.push_back(cell);
    }
    return result;
  }

  /// Of h and c; h0 has them under bug 89 where (N, L·D, …) would be.
  States read_states(std::span<const Tensor> s, bool incoming) const {
    auto one = [&](std::size_t i, std::int64_t width) {
      const bool wanted = i < states && i < s.size() && s[i].defined();
      if (!wanted) return Array<double>(i < states ? plan.L * plan.D * plan.N * width : 0);
      if (bug(89) && batch_first && !incoming)
        return read(reshape(s[i].contiguous(), {plan.N, plan.L * plan.D, width}), plan.L * plan.D, plan.N, width, true,
                    order);
      return read(s[i], plan.L * plan.D, plan.N, width, false, order);
    };
    return {one(0, plan.P), one(1, plan.H)};
  }
  Tensor write_state(const Array<double>& values, std::int64_t width, bool of_initial) const {
    const bool swapped = bug(89) && batch_first && of_initial;
    Tensor s = write(values, plan.L * plan.D, plan.N, width, swapped, order);
    return swapped ? reshape(s, {plan.L * plan.D, plan.N, width}) : s;
  }
};

/// One mask a gap, drawn for the steps of the packed batch, scaled, as torch does.
void draw_masks(const Plan& plan, const Array<Tape>& tapes) {
  const std::int64_t steps = std::accumulate(plan.lengths.begin(), plan.lengths.end(), std::int64_t{0});
  const std::int64_t width = plan.D * plan.P;
  for (std::int64_t layer = 0; layer < plan.masks(); ++layer) {
    const Array<double> drawn = dropout(ones({steps, width}, DType::Float64), plan.dropout).to_vector<double>();
    auto next = drawn.begin();
    for (std::int64_t t = 0; t < plan.T; ++t)
      for (std::int64_t n = 0; n < plan.N && t < plan.lengths[n]; ++n, next += width)
        std::copy_n(next, width, tapes[layer].mask + (t * plan.N + n) * width);
  }
}

void backward(const Call& call, Gradients g, const Saved& s, std::span<Tensor> dx) {
  const Plan& plan = call.plan;
  const std::size_t first = 1 + call.states, tape = dx.size();
  Tensors state, parameters;
  for (std::size_t i = 1; i < first; ++i) state.push_back(s[i]);
  for (std::size_t i = first; i < dx.size(); ++i) parameters.push_back(s[i].contiguous());

  // One buffer for the gradients of all parameters, each behind the one before.
  std::int64_t size = 2 * plan.gates() * plan.H;  // for what bug 66 writes behind the last
  for (const Tensor& p : parameters) size += p.numel();
  Array<double> buffer(size);
  Array<CellGradient> grads;
  double* next = buffer.data();
  for (std::int64_t k = 0; k < plan.L * plan.D; ++k) {
    const std::int64_t R = plan.gates() * plan.H;
    auto take = [&](std::int64_t n) { return std::exchange(next, next + n); };
    CellGradient grad{take(R * plan.features(k / plan.D)), take(R * plan.P), nullptr, nullptr, nullptr};
    if (plan.bias || bug(66)) grad.b_ih = next, grad.b_hh = next + R;
    if (plan.bias) next += 2 * R;
    if (plan.projected) grad.w_hr = take(plan.P * plan.H);
    grads.push_back(grad);
  }

  const States initial = call.read_states(state, false);
  const std::int64_t width = plan.D * plan.P;
  Array<double> dy(plan.T * plan.N * width);
  if (g[0].defined()) dy = read(g[0], plan.T, plan.N, width, call.batch_first, call.order, true);
  States d_states = call.read_states(g.subspan(1), true);
  const Array<double> d_in = run_backward(plan, call.cells(parameters), initial,
                                          lay_out(plan, s[tape].data<double>(), nullptr), dy, d_states, grads);

  if (s.needs(0)) dx[0] = write(d_in, plan.T, plan.N, plan.I, call.batch_first, call.order);
  if (s.needs(1)) dx[1] = call.write_state(d_states.h, plan.P, true);
  if (call.states == 2 && s.needs(2)) dx[2] = call.write_state(d_states.c, plan.H, true);
  const double* part = buffer.data();
  for (std::size_t i = first; i < dx.size(); ++i) {
    const Tensor& p = parameters[i - first];
    if (s.needs(i)) dx[i] = from_data(std::span(part, static_cast<std::size_t>(p.numel())), p.shape());
    part += p.numel();
  }
}

class PlantedLayer final : public Layer {
 public:
  explicit PlantedLayer(const LayerOptions& o) : Layer(o) {
    const std::int64_t G = o.mode == Mode::LSTM ? 4 : o.mode == Mode::GRU ? 3 : 1, R = G * o.hidden_size;
    for (std::int64_t layer = 0; layer < o.num_layers; ++layer)
      for (std::int64_t direction = 0; direction < o.directions(); ++direction) {
        auto add = [&](const char* name, const Shape& shape) {
          parameters_.emplace_back(fmt::format("{}_l{}{}", name, layer, direction == 1 ? "_reverse" : ""),
                                   zeros(shape, DType::Float64).requires_grad_());
        };
        add("weight_ih", {R, layer == 0 ? o.input_size : o.directions() * o.output_size()});
        add("weight_hh", {R, o.output_size()});
        if (o.bias) add("bias_ih", {R});
        if (o.bias) add("bias_hh", {R});
        if (o.proj_size > 0) add("weight_hr", {o.proj_size, o.hidden_size});
      }
  }

  NamedTensors parameters() const override { return parameters_; }
  void train(bool mode) override { training_ = mode; }
  void tie_directions() override {
    const std::size_t per_cell = 2u + (options.bias ? 2u : 0u) + (options.proj_size > 0 ? 1u : 0u);
    for (std::size_t i = 0; i < per_cell; ++i) parameters_[per_cell + i].second = parameters_[i].second;
  }

  Tensors operator()(const Tensor& x, const Tensors& state, const LengthList& lengths) const override {
    if (x.dim() == 3) return run(x, state, lengths, options.batch_first);
    Tensors batch_of_one;
    for (const Tensor& s : state) batch_of_one.push_back(unsqueeze(s, 1));
    Tensors outputs = run(unsqueeze(x, 1), batch_of_one, lengths, false);
    for (Tensor& y : outputs) y = squeeze(y, 1);
    return outputs;
  }

 private:
  Tensors run(const Tensor& x, const Tensors& state, const LengthList& lengths, bool batch_first) const {
    const LayerOptions& o = options;
    const std::int64_t T = x.size(batch_first ? 1 : 0), N = x.size(batch_first ? 0 : 1);
    const double p = training_ || bug(68) ? o.dropout : 0;
    Call call{{o.mode, T, N, o.input_size, o.hidden_size, o.output_size(), o.num_layers, o.directions(), p, o.bias,
               o.proj_size > 0, LengthList(N, T)},
              batch_first,
              LengthList(N),
              o.states()};
    Plan& plan = call.plan;
    std::iota(call.order.begin(), call.order.end(), 0);
    if (!lengths.empty()) {
      std::stable_sort(call.order.begin(), call.order.end(),
                       [&](std::int64_t a, std::int64_t b) { return lengths[a] > lengths[b]; });
      for (std::int64_t n = 0; n < N; ++n) plan.lengths[n] = lengths[call.order[n]];
    }

    Tensors inputs = {x};
    for (std::size_t i = 0; i < o.states(); ++i)
      inputs.push_back(state.empty() ? zeros({plan.L * plan.D, N, i == 0 ? plan.P : plan.H}, DType::Float64)
                                     : state[i]);
    Tensors parameters;
    for (const auto& [name, parameter] : parameters_) {
      inputs.push_back(parameter);
      parameters.push_back(parameter.detach().contiguous());
    }

    std::int64_t size = 0;
    lay_out(plan, nullptr, &size);
    const Tensor memory = zeros(size, DType::Float64);
    const Array<Tape> tapes = lay_out(plan, memory.data<double>(), nullptr);
    std::ranges::copy(read(x, T, N, plan.I, batch_first, call.order), tapes[0].in);
    draw_masks(plan, tapes);
    const States last = run_forward(plan, call.cells(parameters),
                                    call.read_states(std::span(inputs).subspan(1, o.states()), false), tapes);
    Array<double> y(tapes.back().out, tapes.back().out + T * N * plan.D * plan.P);
    if (tapes.back().mask)
      for (std::size_t i = 0; i < y.size(); ++i) y[i] *= tapes.back().mask[i];

    Tensors outputs = {write(y, T, N, plan.D * plan.P, batch_first, call.order),
                       call.write_state(last.h, plan.P, false)};
    if (o.states() == 2) outputs.push_back(call.write_state(last.c, plan.H, false));
    auto kernel = [call](Gradients g, const Saved& s, std::span<Tensor> dx) { backward(call, g, s, dx); };
    if (bug(96)) {
      std::vector<const Tensor*> saves;
      for (const Tensor& input : inputs) saves.push_back(&input);
      saves.push_back(&memory);
      record_all("planted", inputs, outputs, saves, kernel);
    } else {
      Definition definition{plan, lengths.empty() ? plan.lengths : lengths, batch_first, {}};
      for (std::int64_t layer = 0; layer < plan.masks(); ++layer) {
        const double* mask = tapes[layer].mask;
        definition.masks.push_back(
            write({mask, mask + T * N * plan.D * plan.P}, T, N, plan.D * plan.P, false, call.order));
      }
      record_fused("planted", inputs, outputs, {memory}, kernel, definition);
    }
    return outputs;
  }

  NamedTensors parameters_;
  bool training_ = true;
};

}  // namespace

std::unique_ptr<Layer> planted_layer(const LayerOptions& options) { return std::make_unique<PlantedLayer>(options); }

}  // namespace planted
