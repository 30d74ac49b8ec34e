#include "replay.h"

#include <unroll/autograd/engine.h>
#include <unroll/autograd/ops/arithmetic.h>
#include <unroll/autograd/ops/loss.h>
#include <unroll/autograd/ops/reduce.h>
#include <unroll/autograd/ops/shape.h>
#include <unroll/core/random.h>
#include <unroll/nn/clip_grad.h>
#include <unroll/nn/gru.h>
#include <unroll/nn/linear.h>
#include <unroll/nn/lstm.h>
#include <unroll/nn/packed_sequence.h>
#include <unroll/nn/rnn.h>

#include <functional>

namespace conformance {
namespace {

/// A module of any type, with one way of calling it. The state is nothing, h0, or h0 and c0.
struct Model {
  using PackedResult = std::pair<nn::PackedSequence, NamedTensors>;
  std::shared_ptr<nn::Module> module;
  /// Outputs by name.
  std::function<NamedTensors(const Tensor& x, const std::vector<Tensor>& state)> call;
  /// The output, and the states by name; none for a cell.
  std::function<PackedResult(const nn::PackedSequence& x, const std::vector<Tensor>& state)> call_packed = {};
};

template <class Options>
Options module_options(Case& c) {
  Options options;
  c.option("bias", options.bias);
  c.option("dtype", options.dtype);
  if constexpr (requires { options.num_layers; }) {
    c.option("num_layers", options.num_layers);
    c.option("batch_first", options.batch_first);
    c.option("dropout", options.dropout);
    c.option("bidirectional", options.bidirectional);
  }
  if constexpr (requires { options.proj_size; }) c.option("proj_size", options.proj_size);
  if constexpr (requires { options.nonlinearity; }) {
    std::string name = "tanh";
    c.option("nonlinearity", name);
    check<ValueError>(name == "tanh" || name == "relu", "nonlinearity {} is unknown", name);
    options.nonlinearity = name == "relu" ? nn::Nonlinearity::ReLU : nn::Nonlinearity::Tanh;
  }
  return options;
}

template <class M, class Options>
std::shared_ptr<M> construct(Case& c) {
  return std::make_shared<M>(c.option<std::int64_t>("input_size"), c.option<std::int64_t>("hidden_size"),
                             module_options<Options>(c));
}

template <class State>
State to_state(const std::vector<Tensor>& tensors) {
  if (tensors.empty()) return {};
  check<ValueError>(tensors.size() == nn::state_size<State>, "the state has {} tensors", tensors.size());
  return nn::make_state<State>([&](std::size_t i) { return tensors[i]; });
}

/// Appends the tensors of `state` as "hn", "cn" or "h1", "c1".
template <class State>
void append(NamedTensors& outputs, const State& state, char step) {
  const char* letter = "hc";
  for (const Tensor* tensor : nn::state_tensors(state)) outputs.emplace_back(std::string{*letter++, step}, *tensor);
}

template <class Layer, class Options>
Model layer(Case& c) {
  auto module = construct<Layer, Options>(c);
  return {module,
          [module](const Tensor& x, const std::vector<Tensor>& initial) {
            const auto [output, state] = (*module)(x, to_state<typename Layer::State>(initial));
            NamedTensors outputs = {{"output", output}};
            append(outputs, state, 'n');
            return outputs;
          },
          [module](const nn::PackedSequence& x, const std::vector<Tensor>& initial) {
            auto [output, state] = (*module)(x, to_state<typename Layer::State>(initial));
            NamedTensors states;
            append(states, state, 'n');
            return Model::PackedResult{std::move(output), std::move(states)};
          }};
}

template <class Cell, class Options>
Model cell(Case& c) {
  auto module = construct<Cell, Options>(c);
  return {module, [module](const Tensor& x, const std::vector<Tensor>& initial) {
            NamedTensors outputs;
            append(outputs, (*module)(x, to_state<typename Cell::State>(initial)), '1');
            return outputs;
          }};
}

Model make_model(Case& c) {
  static const std::map<std::string_view, Model (*)(Case&)> factories = {
      {"RNN", layer<nn::RNN, nn::RNNOptions>},
      {"LSTM", layer<nn::LSTM, nn::LSTMOptions>},
      {"GRU", layer<nn::GRU, nn::GRUOptions>},
      {"RNNCell", cell<nn::RNNCell, nn::RNNCellOptions>},
      {"LSTMCell", cell<nn::LSTMCell, nn::LSTMCellOptions>},
      {"GRUCell", cell<nn::GRUCell, nn::GRUCellOptions>},
  };
  const std::string name = c.option("module");
  const auto factory = factories.find(name);
  check<ValueError>(factory != factories.end(), "module {} is unknown", name);
  return factory->second(c);
}

/// The model of a case with the case's parameters, and what it is differentiated by.
struct Setup {
  Model model;
  NamedTensors leaves;  // input, h0, c0, param.NAME…
  std::vector<Tensor> state() const {
    std::vector<Tensor> tensors;
    for (const auto& [name, tensor] : leaves)
      if (name == "h0" || name == "c0") tensors.push_back(tensor);
    return tensors;
  }
  NamedTensors call() const { return model.call(leaves[0].second, state()); }
};

Setup set_up(Case& c) {
  Setup setup{make_model(c), {{"input", c.leaf("input")}}};
  for (const char* name : {"h0", "c0"})
    if (c.has(name)) setup.leaves.emplace_back(name, c.leaf(name));
  NamedTensors state;
  for (const auto& [name, parameter] : setup.model.module->named_parameters()) {
    setup.leaves.emplace_back("param." + name, parameter);
    state.emplace_back(name, c.given("param." + name));
    check<ValueError>(state.back().second.dtype() == parameter.dtype(), "param.{} is not {}", name, parameter.dtype());
  }
  setup.model.module->load_state_dict(state);
  return setup;
}

}  // namespace

Answers replay_module(Case& c) {
  const Setup setup = set_up(c);
  return with_gradients(c, setup.call(), setup.leaves);
}

Answers replay_dropout(Case& c) {
  const Setup setup = set_up(c);
  manual_seed(c.option<std::int64_t>("seed"));
  return with_gradients(c, setup.call(), setup.leaves);
}

Answers replay_packed(Case& c) {
  const Setup setup = set_up(c);
  bool batch_first = false;
  c.option("batch_first", batch_first);
  const auto x = nn::pack_padded_sequence(setup.leaves[0].second, c.given("lengths"),
                                          {.batch_first = batch_first, .enforce_sorted = false});
  check<ValueError>(setup.model.call_packed != nullptr, "a cell takes no packed input");
  auto [output, states] = setup.model.call_packed(x, setup.state());

  NamedTensors outputs = {{"output", nn::pad_packed_sequence(output, {.batch_first = batch_first}).padded}};
  outputs.insert(outputs.end(), states.begin(), states.end());
  Answers answers = with_gradients(c, outputs, setup.leaves);
  const std::vector<std::int64_t>& sizes = output.batch_sizes();
  answers.push_back({"packed.data", output.data()});
  answers.push_back({"packed.batch_sizes", from_data(sizes, static_cast<std::int64_t>(sizes.size()))});
  answers.push_back({"packed.sorted_indices", output.sorted_indices()});
  answers.push_back({"packed.unsorted_indices", output.unsorted_indices()});
  return answers;
}

Answers replay_double(Case& c) {
  const Setup setup = set_up(c);
  const NamedTensors outputs = setup.call();
  const std::vector<Tensor> leaves = values(setup.leaves);
  const std::vector<Tensor> first = grad({weighted_sum(c, outputs)}, leaves, {.create_graph = true});

  NamedTensors gradients;
  for (std::size_t i = 0; i < leaves.size(); ++i) gradients.emplace_back(setup.leaves[i].first, first[i]);
  const std::vector<Tensor> second = grad({weighted_sum(c, gradients, "weight2.")}, leaves, {.allow_unused = true});

  Answers answers;
  for (const auto& [name, output] : outputs) answers.push_back({name, output});
  for (std::size_t i = 0; i < leaves.size(); ++i) {
    answers.push_back({"grad." + gradients[i].first, gradients[i].second});
    answers.push_back({"grad2." + gradients[i].first, second[i].defined() ? second[i] : zeros_like(leaves[i])});
  }
  return answers;
}

Answers replay_init(Case& c) {
  manual_seed(c.option<std::int64_t>("seed"));
  Answers answers;
  for (const auto& [name, parameter] : make_model(c).module->named_parameters())
    answers.push_back({"param." + name, parameter});
  return answers;
}

/// generate.py's train_case: a layer and a Linear on its last output learn the sum of their input.
Answers replay_train(Case& c) {
  c.imply("dtype", "float64");
  c.imply("batch_first", "true");
  const auto steps = c.option<std::int64_t>("steps"), batch = c.option<std::int64_t>("batch");
  const auto input_size = c.option<std::int64_t>("input_size"), hidden_size = c.option<std::int64_t>("hidden_size");

  manual_seed(c.option<std::int64_t>("seed"));
  const Model rnn = make_model(c);
  const nn::Linear head(hidden_size, 1, {.dtype = DType::Float64});
  const Tensor x = randn({batch, steps, input_size}, DType::Float64);
  const Tensor y = 0.1 * unsqueeze(sum(x, {1, 2}), 1);

  std::vector<Tensor> params = rnn.module->parameters();
  for (const Tensor& p : head.parameters()) params.push_back(p);
  const auto optimizer = make_optimizer(c, params);
  std::vector<double> curve(static_cast<std::size_t>(c.option<std::int64_t>("iterations")));
  for (double& value : curve) {
    optimizer->zero_grad();
    const Tensor output = rnn.call(x, {})[0].second;
    const Tensor loss = mse_loss(head(select(output, 1, -1)), y);
    loss.backward();
    nn::clip_grad_norm_(params, 1);
    optimizer->step();
    value = loss.item();
  }
  return {{"loss", from_data(curve, static_cast<std::int64_t>(curve.size()))}};
}

}  // namespace conformance
