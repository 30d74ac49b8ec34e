#include "train_step/workload.h"

#include <unroll/unroll.h>

namespace bench {
namespace {

using namespace unroll;
using Forward = std::function<Tensor()>;

/// The minimal gated unit as a user writes it, with the ops that are there (docs/writing-a-cell.md).
struct MGUCell : nn::Module {
  using State = Tensor;
  MGUCell(std::int64_t in, std::int64_t hidden) : forget(in + hidden, hidden), candidate(in + hidden, hidden) {
    add("forget", forget);
    add("candidate", candidate);
  }
  Tensor operator()(const Tensor& x, const Tensor& h) const {
    Tensor f = sigmoid(forget(cat({x, h}, 1)));
    return (1 - f) * h + f * tanh(candidate(cat({x, f * h}, 1)));
  }
  nn::Linear forget, candidate;
};

/// `module` over x (T, N, I), which is packed first where it is to be.
template <class Layer>
Forward over_layer(const Layer& module, const Config& config, Tensor& x) {
  if (!config.packed) return [&module, x] { return module(x).output; };
  nn::PackedSequence packed = nn::pack_padded_sequence(x, config.lengths());
  x = packed.data();
  return [&module, packed] { return module(packed).output.data(); };
}

/// `cell` in a loop, as in torch's documentation: x (T, N, I) → (T, N, H).
template <class Cell>
Forward over_cell(const Cell& cell, const Tensor& x) {
  return [&cell, x] {
    typename Cell::State state;
    std::vector<Tensor> outputs;
    for (const Tensor& step : unbind(x)) {
      state = cell(step, state);
      outputs.push_back(nn::output_of(state));
    }
    return stack(outputs);
  };
}

/// An op T times in a row, each on what came out of the one before: what eager execution costs.
Forward over_op(const Config& config, const Tensor& x, const Tensor& factor) {
  return [x, factor, steps = config.seq_len] {
    Tensor y = x;
    for (std::int64_t t = 0; t < steps; ++t) y = factor.defined() ? y * factor : tanh(y);
    return y;
  };
}

template <class M, class Owner, class... Args>
M& make(Owner& owner, const Config& config, const Args&... args) {
  auto made = std::make_unique<M>(config.input_size, config.hidden_size, args...);
  made->to(config.dtype);
  M& module = *made;
  owner = std::move(made);
  return module;
}

}  // namespace

Workload::Workload(const Config& c) {
  c.validate();
  manual_seed(0);
  std::vector<Tensor> trained;
  if (c.module == "Tanh" || c.module == "Mul") {
    trained.push_back(rand({c.batch, c.hidden_size}, c.dtype));
    if (c.module == "Mul") trained.push_back(ones({c.batch, c.hidden_size}, c.dtype));
    for (const Tensor& x : trained) x.requires_grad_();
    forward_ = over_op(c, trained[0], c.module == "Mul" ? trained[1] : Tensor());
  } else {
    x_ = randn({c.seq_len, c.batch, c.input_size}, c.dtype);
    if (c.module == "LSTM") {
      const nn::LSTMOptions options{
          .num_layers = c.num_layers, .bidirectional = c.bidirectional, .proj_size = c.proj_size, .memory = c.memory};
      forward_ = over_layer(make<nn::LSTM>(module_, c, options), c, x_);
    } else if (c.module == "GRU") {
      const nn::GRUOptions options{.num_layers = c.num_layers, .bidirectional = c.bidirectional, .memory = c.memory};
      forward_ = over_layer(make<nn::GRU>(module_, c, options), c, x_);
    } else if (c.module == "RNN") {
      const nn::RNNOptions options{.num_layers = c.num_layers, .bidirectional = c.bidirectional, .memory = c.memory};
      forward_ = over_layer(make<nn::RNN>(module_, c, options), c, x_);
    } else if (c.module == "MGU") {
      forward_ = over_layer(make<nn::Recurrent<MGUCell>>(module_, c), c, x_);
    } else if (c.module == "LSTMCell") {
      forward_ = over_cell(make<nn::LSTMCell>(module_, c), x_);
    } else if (c.module == "GRUCell") {
      forward_ = over_cell(make<nn::GRUCell>(module_, c), x_);
    } else {
      check<ValueError>(c.module == "RNNCell", "train_step: there is no module {}", c.module);
      forward_ = over_cell(make<nn::RNNCell>(module_, c), x_);
    }
    x_.requires_grad_(c.input_grad);
    trained = module_->parameters();
  }
  if (c.forward_only) return;
  NoGrad unrecorded;
  weight_ = randn_like(forward_());
  // So little that the weights of the last repetition are still those of the first: saturated gates would be faster.
  optimizer_.emplace(trained, optim::SGDOptions{.lr = 1e-9});
}

void Workload::step() {
  if (!optimizer_) {
    NoGrad unrecorded;
    forward_();
    return;
  }
  optimizer_->zero_grad();
  if (x_.defined()) x_.set_grad({});
  sum(forward_() * weight_).backward();
  optimizer_->step();
}

}  // namespace bench
