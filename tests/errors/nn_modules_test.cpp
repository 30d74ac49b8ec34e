#include "support/error_table.h"

#include <doctest/doctest.h>

#include <cmath>

using namespace unroll;

namespace {

constexpr DType f64 = DType::Float64;

struct Model : nn::Module {
  Model() {
    add("rnn", rnn);
    add("head", head);
    add("steps", steps, Kind::Buffer);
  }
  Tensor operator()(const Tensor& x) const {
    return hooked([this](const Tensor& input) { return head(rnn(input).output); }, x);
  }
  using nn::Module::add;
  using nn::Module::add_members_of;

  nn::GRU rnn{3, 4};
  nn::Linear head{4, 2};
  Tensor steps = tensor({7});
};

// A layer that contains whatever it is given.
struct Around : nn::Module {
  explicit Around(nn::Module& inner) { add("inner", inner); }
  Tensor operator()(const Tensor& x) const { return x; }
};

struct Fixture {
  Fixture() {
    model.head.weight.set_grad(ones({2, 4}));
    table.watch(model, other, x, leaf, net, *rows);
    table.watch_state("names", [this] { return to_string(model) + to_string(net); });
    net.append<nn::Linear>(3, 4).append("Tanh", tanh);
  }

  Model model;
  nn::Linear other{2, 2};
  nn::Sequential net;
  std::unique_ptr<nn::Embedding> rows = std::make_unique<nn::Embedding>(5, 3);
  Tensor x = ones({5, 2, 3}), leaf = ones({2, 3}).requires_grad_(), none;
  ErrorTable table{"nn: modules"};
};

}  // namespace

TEST_CASE_FIXTURE(Fixture, "errors of nn: state_dict and dtype") {
  auto load = [&](bool strict, auto change) {
    return [this, strict, change] {
      NamedTensors state;
      for (const auto& [name, tensor] : model.state_dict()) state.emplace_back(name, tensor.clone() + 1);
      change(state);
      return model.load_state_dict(state, strict);
    };
  };
  using State = NamedTensors&;
  auto at = [](State s, std::string_view name) -> Tensor& {
    for (auto& [key, tensor] : s)
      if (key == name) return tensor;
    throw std::out_of_range(std::string(name));
  };
  const std::string op = "load_state_dict: ";
  table.row<ValueError>("nothing", {op, "Model", "missing keys: \"steps\", \"rnn.weight_ih_l0\"", "\"head.bias\""},
                        load(true, [](State s) { s.clear(); }));
  table.row<ValueError>("a key too few", {op, "missing keys: \"steps\""},
                        load(true, [](State s) { s.erase(s.begin()); }));
  table.row<ValueError>("a tensor that is undefined", {op, "missing keys: \"head.bias\""},
                        load(true, [at](State s) { at(s, "head.bias") = {}; }));
  table.row<ValueError>("a key too many", {op, "unexpected keys: \"rnn.weight_ih_l1\""},
                        load(true, [](State s) { s.emplace_back("rnn.weight_ih_l1", ones(2)); }));
  table.row<ValueError>("a tensor of another shape", {op, "differing shapes", "\"head.bias\" is (3,), expected (2,)"},
                        load(true, [at](State s) { at(s, "head.bias") = ones(3); }));
  table.row<ValueError>("a tensor of a further dimension", {op, "\"head.bias\" is (1, 2), expected (2,)"},
                        load(true, [at](State s) {
                          at(s, "head.bias") = ones({1, 2});
                        }));
  auto all = [at](State s) {
    at(s, "head.weight") = ones({2, 5});
    at(s, "head.bias") = ones(3);
    s.erase(s.begin());
    s.emplace_back("tail", ones(1));
    s.emplace_back("tail2", ones(1));
  };
  table.row<ValueError>("everything at once",
                        {op, "\"head.weight\" is (2, 5), expected (2, 4)", "\"head.bias\" is (3,), expected (2,)",
                         "missing keys: \"steps\"", "unexpected keys: \"tail\", \"tail2\""},
                        load(true, all));
  table.row<ValueError>("a tensor of another shape, not strict", {op, "\"head.weight\" is (2, 5), expected (2, 4)"},
                        load(false, all));
  const Tensor kept = std::exchange(other.bias, expand(ones(1), 2).requires_grad_());
  table.row<ValueError>("into a parameter whose elements share memory", {"load_state_dict", "(2,)", "share memory"},
                        [&] {
                          other.load_state_dict({{"weight", zeros({2, 2})}, {"bias", zeros(2)}});
                        });
  other.bias = kept;

  for (DType dtype : {DType::Int64, DType::Bool})
    table.row<DTypeError>("to what is not floating", {"to: ", "float32 or float64", fmt::format("got {}", dtype)},
                          [&] { model.to(dtype); });
}

TEST_CASE_FIXTURE(Fixture, "errors of nn: members of a module") {
  Tensor fresh = ones(2), whole = tensor({1, 2}), computed = leaf * 2;
  nn::Linear part{2, 2};
  table.watch(fresh, whole, computed, part);
  table.row<ValueError>("a tensor without a name", {"add: ", "Model", "empty"}, [&] { model.add("", fresh); });
  table.row<ValueError>("a module without a name", {"add: ", "Model", "empty"}, [&] { model.add("", part); });
  table.row<ValueError>("a tensor with a dot in its name", {"add: ", "\"a.b\"", "'.'"},
                        [&] { model.add("a.b", fresh); });
  table.row<ValueError>("a module with a dot in its name", {"add: ", "\"a.b\"", "'.'"},
                        [&] { model.add("a.b", part); });
  table.row<ValueError>("a tensor named as a module", {"add: ", "Model", "\"rnn\""}, [&] { model.add("rnn", fresh); });
  table.row<ValueError>("a module named as a buffer", {"add: ", "Model", "\"steps\""},
                        [&] { model.add("steps", part); });
  table.row<ValueError>("members that would be named as others are", {"add: ", "Model", "\"head\""}, [&] {
    struct Named : nn::Module {
      Named() { add("he", w); }
      Tensor w = ones(1);
    } named;
    model.add_members_of(named, "ad");
  });
  table.row<ValueError>("a parameter that was computed", {"add: ", "\"w\"", "computed", "detach()"},
                        [&] { model.add("w", computed); });
  table.row<DTypeError>("a parameter of int64", {"add: ", "\"w\"", "float32 or float64", "int64"},
                        [&] { model.add("w", whole); });
  table.row<ValueError>("itself", {"add: ", "\"self\"", "contains the Model"}, [&] { model.add("self", model); });
  Around around(model);
  table.row<ValueError>("what contains it", {"add: ", "\"outer\"", "contains the Model"},
                        [&] { model.add("outer", around); });
}

TEST_CASE_FIXTURE(Fixture, "errors of nn: sequential, stack and what is in them") {
  table.row<ValueError>("no module", {"sequential: ", "expected a module", "null"},
                        [&] { net.append(std::unique_ptr<nn::Linear>()); });
  table.row<ValueError>("no function", {"sequential: ", "\"ReLU\"", "null"}, [&] { net.append("ReLU", nullptr); });
  table.row<ValueError>("what contains it", {"add: ", "\"2\"", "contains the Sequential"},
                        [&] { net.append(std::make_unique<Around>(net)); });
  table.row<ValueError>("a module that cannot be made", {"linear: ", "in_features", "-1"},
                        [&] { net.append<nn::Linear>(-1, 2); });
  table.row<IndexError>("no such module", {"sequential: ", "index 2", "2 modules"}, [&] { return &net[2]; });
  table.row<ShapeError>("an input that does not fit", {"linear: ", "(2, 4)", "3"}, [&] { return net(ones({2, 4})); });

  nn::Stack<nn::LSTM> stack(3, {4, 2}, {}, nn::LSTMOptions{.bidirectional = true});
  table.watch(stack);
  table.row<IndexError>("no such layer", {"stack: ", "index 2", "2 layers"}, [&] { return &stack[2]; });
  table.row<ValueError>("states of some layers", {"stack: ", "1 states", "2 layers", "one a layer"},
                        [&] { return stack(x, {nn::LSTMState{}}); });
  table.row<ShapeError>("states of the wrong layers", {"lstm: ", "hidden[0]", "(2, 2, 2)", "expected (2, 2, 4)"}, [&] {
    nn::LSTMState small{ones({2, 2, 2}), ones({2, 2, 2})};
    return stack(x, {small, small});
  });
  table.row<ShapeError>("an input of other features", {"lstm: ", "2 features", "input_size = 3"}, [&] {
    return stack(ones({5, 2, 2}));
  });
}

TEST_CASE_FIXTURE(Fixture, "errors of nn: calls of simple modules") {
  nn::LayerNorm norm({2, 3});
  nn::Dropout dropout;
  table.watch(norm, dropout);
  table.row<ShapeError>("linear of other features", {"linear: ", "(5, 2, 3)", "4"}, [&] { return model.head(x); });
  table.row<ShapeError>("linear of a scalar", {"linear: ", "()", "4"}, [&] { return model.head(scalar(1)); });
  table.row<DTypeError>("linear of another dtype", {"linear: ", "float64", "float32"}, [&] {
    return model.head(ones({5, 4}, f64));
  });
  table.row<DTypeError>("linear of int64", {"linear: ", "int64", "float32"}, [&] {
    return model.head(ones({5, 4}, DType::Int64));
  });
  table.row<IndexError>("embedding of an index past the end", {"embedding", "index 5", "size 5"}, [&] {
    return (*rows)(tensor({0, 5}));
  });
  table.row<IndexError>("embedding of a negative index", {"embedding", "index -1", "size 5"},
                        [&] { return (*rows)(tensor({-1})); });
  table.row<DTypeError>("embedding of float32", {"embedding", "int64", "float32"}, [&] { return (*rows)(ones(2)); });
  table.row<ShapeError>("layer_norm of another shape", {"layer_norm: ", "(5, 3, 2)", "normalized_shape = (2, 3)"}, [&] {
    return norm(ones({5, 3, 2}));
  });
  table.row<ShapeError>("layer_norm of too few dimensions", {"layer_norm: ", "(3,)", "normalized_shape = (2, 3)"},
                        [&] { return norm(ones(3)); });
  table.row<DTypeError>("layer_norm of another dtype", {"layer_norm: ", "float64", "float32"}, [&] {
    return norm(ones({2, 3}, f64));
  });
  table.row<DTypeError>("dropout of int64", {"dropout: ", "float32 or float64", "int64"},
                        [&] { return dropout(ones(3, DType::Int64)); });
  table.row<ValueError>("linear of an undefined tensor", {"tensor", "undefined"}, [&] { return model.head(none); });
}

TEST_CASE_FIXTURE(Fixture, "errors of nn: hooks of a module") {
  // A row runs between registering a hook and removing it.
  auto row = [&]<class E>(const char* what, std::vector<std::string> tokens, HookHandle handle, auto action) {
    table.row<E>(what, tokens, action);
    handle.remove();
  };
  auto forward = [&] { return model(x); };
  row.operator()<ShapeError>("a forward-pre hook that leaves no input", {"head", "forward-pre hook", "0 inputs of 1"},
                             model.head.register_forward_pre_hook([](const nn::Module&, auto& in) { in.clear(); }),
                             forward);
  row.operator()<ShapeError>(
      "a forward hook that adds an output", {"head", "forward hook", "2 outputs of 1"},
      model.head.register_forward_hook([](const nn::Module&, const auto&, auto& out) { out.push_back(out[0]); }),
      forward);
  row.operator()<ValueError>(
      "a forward hook that raises", {"hook", "1 of 2"},
      model.head.register_forward_hook([](const nn::Module&, const auto&, auto&) { throw ValueError("hook: 1 of 2"); }),
      forward);
  row.operator()<ShapeError>("a forward-pre hook whose input does not fit", {"linear: ", "(7,)"},
                             model.head.register_forward_pre_hook([](const nn::Module&, auto& in) { in[0] = ones(7); }),
                             forward);

  const Tensor wide = ones({3, 4}).requires_grad_();
  table.watch(wide);
  auto backward = [&] { sum(model.head(wide)).backward(); };
  row.operator()<ShapeError>(
      "a backward hook that gives another shape", {"head", "backward hook", "(5,)", "(3, 4)"},
      model.head.register_full_backward_hook([](const nn::Module&, auto& in, const auto&) { in[0] = ones(5); }),
      backward);
  row.operator()<ShapeError>(
      "a backward hook that leaves no gradient", {"head", "backward hook", "0 gradients of 1"},
      model.head.register_full_backward_hook([](const nn::Module&, auto& in, const auto&) { in.clear(); }), backward);
}

TEST_CASE_FIXTURE(Fixture, "errors of nn: initialisation and clipping") {
  namespace init = nn::init;
  table.row<ShapeError>("xavier_uniform_ of a vector", {"xavier_uniform_", "at least 2", "(2,)"},
                        [&] { init::xavier_uniform_(other.bias); });
  table.row<ShapeError>("xavier_normal_ of a vector", {"xavier_normal_", "at least 2", "(2,)"},
                        [&] { init::xavier_normal_(other.bias); });
  table.row<ShapeError>("kaiming_uniform_ of a vector", {"kaiming_uniform_", "at least 2", "(2,)"},
                        [&] { init::kaiming_uniform_(other.bias); });
  table.row<ShapeError>("kaiming_normal_ of a vector", {"kaiming_normal_", "at least 2", "(2,)"},
                        [&] { init::kaiming_normal_(other.bias); });
  table.row<ValueError>("kaiming_normal_ for an unknown function", {"calculate_gain", "leaky_relu", "\"gelu\""},
                        [&] { init::kaiming_normal_(other.weight, {.nonlinearity = "gelu"}); });
  table.row<ValueError>("gain of an unknown function", {"calculate_gain", "tanh", "\"swish\""},
                        [] { init::calculate_gain("swish"); });
  table.row<ValueError>("uniform_ the wrong way", {"uniform_", "[1, 0)"}, [&] { init::uniform_(other.weight, 1, 0); });
  table.row<ValueError>("normal_ with a negative deviation", {"normal_", "-1"},
                        [&] { init::normal_(other.weight, 0, -1); });

  nn::LSTM plain(3, 4, {.num_layers = 2, .bias = false}), changed(3, 4);
  nn::LSTMCell cell(3, 4, {.bias = false});
  table.row<ValueError>("forget_bias_ of a cell without biases", {"forget_bias_", "no biases", "bias = false"},
                        [&] { init::forget_bias_(cell); });
  table.row<ValueError>("forget_bias_ of a layer without biases", {"forget_bias_", "no biases", "bias = false"},
                        [&] { init::forget_bias_(plain); });
  changed.cell(0).bias_hh = ones(4).requires_grad_();
  table.watch(changed);
  table.row<ShapeError>("forget_bias_ of one of another shape", {"forget_bias_", "(4,)", "expected (16,)"},
                        [&] { init::forget_bias_(changed); });

  Tensor whole = ones(3).requires_grad_(), spread = ones(3).requires_grad_();
  whole.set_grad(ones(3));
  spread.set_grad(expand(ones(1), 3));
  table.watch(whole, spread);
  table.row<ValueError>("clip_grad_norm_ of order NaN", {"clip_grad_norm_", "norm_type", "nan"},
                        [&] { nn::clip_grad_norm_({whole}, 1, NAN); });
  table.row<ValueError>("clip_grad_norm_ of gradients that share memory", {"clip_grad_norm_", "(3,)", "share memory"},
                        [&] {
                          nn::clip_grad_norm_({whole, spread}, 1);
                        });
  table.row<ValueError>("clip_grad_value_ of gradients that share memory", {"clip_grad_value_", "(3,)", "share memory"},
                        [&] {
                          nn::clip_grad_value_({whole, spread}, 1);
                        });
  whole.set_grad(full(3, INFINITY));
  table.row<ValueError>("clip_grad_norm_ of an infinite total", {"clip_grad_norm_", "order 1", "inf"},
                        [&] { nn::clip_grad_norm_({whole}, 1, 1, true); });
}

TEST_CASE_FIXTURE(Fixture, "errors of nn: around layers") {
  nn::InitialState start(model.rnn);
  table.watch(start);
  auto part = [&](const Tensor& chunk, std::int64_t, const Tensor& h) { return model.rnn(chunk, h).state; };
  const Tensor h0 = zeros({1, 2, 4});
  table.row<ValueError>("initial_state of a negative batch", {"initial_state: ", "batch", "got -1"},
                        [&] { return start(-1); });
  table.row<ShapeError>("initial_state of another batch", {"gru: ", "hidden[0]", "(1, 3, 4)", "expected (1, 2, 4)"},
                        [&] { return model.rnn(x, start(3)); });
  for (std::int64_t steps : {0, -1})
    table.row<ValueError>("chunks of no steps", {"truncated_bptt: ", "> 0", fmt::format("got {}", steps)},
                          [&] { return nn::truncated_bptt(x, h0, steps, part); });
  table.row<IndexError>("chunks along no dimension", {"truncated_bptt: ", "(5, 2, 3)", "no dimension 3"},
                        [&] { return nn::truncated_bptt(x, h0, 2, part, 3); });
  table.row<ShapeError>("chunks from a state that does not fit", {"gru: ", "hidden[0]", "(1, 3, 4)"}, [&] {
    return nn::truncated_bptt(x, zeros({1, 3, 4}), 2, part);
  });
  table.row<ValueError>("a part that raises", {"part", "1 of 2"}, [&] {
    return nn::truncated_bptt(x, h0, 2, [](const Tensor&, std::int64_t first, const Tensor& h) -> Tensor {
      if (first > 0) throw ValueError("part: 1 of 2");
      return h;
    });
  });
  nn::Recurrent<nn::Zoneout<nn::LSTMCell>> zoneout(3, 4);
  nn::Recurrent<nn::WeightDrop<nn::GRUCell>> dropped(3, 4);
  nn::VariationalDropout<nn::RNNCell> variational(3, 4);
  table.watch(zoneout, dropped, variational);
  table.row<ShapeError>("zoneout of other features", {"lstm: ", "2 features", "input_size = 3"}, [&] {
    return zoneout(ones({5, 2, 2}));
  });
  table.row<ShapeError>("weight_drop of another state", {"gru: ", "hidden[0]", "(1, 1, 4)"}, [&] {
    return dropped(x, ones({1, 1, 4}));
  });
  table.row<DTypeError>("variational_dropout of another dtype", {"rnn_cell: ", "float64", "float32"}, [&] {
    return variational(ones({2, 3}, f64));
  });
  dropped.cell(0).weight_hh = ones({4, 12}).requires_grad_();
  table.row<ShapeError>("weight_drop of a weight turned round", {"gru_cell: ", "weight_hh", "(4, 12)", "(12, 4)"},
                        [&] { return dropped(x); });
}
