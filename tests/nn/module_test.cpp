#include <doctest/doctest.h>
#include <unroll/autograd/engine.h>
#include <unroll/autograd/grad_mode.h>
#include <unroll/autograd/ops/arithmetic.h>
#include <unroll/autograd/ops/compare.h>
#include <unroll/autograd/ops/reduce.h>
#include <unroll/autograd/ops/shape.h>
#include <unroll/core/random.h>
#include <unroll/nn/dropout.h>
#include <unroll/nn/linear.h>
#include <unroll/nn/lstm.h>

#include <sstream>

#include "support/memory.h"

using namespace unroll;

namespace {
struct Model : nn::Module {
  explicit Model(bool bias = true) : head(3, 2, {.bias = bias}) {
    add("head", head);  // torch lists a module's own tensors first, whenever they were added
    add("steps", steps, Kind::Buffer);
    add("scale", scale);
    add("dropout", dropout);
  }
  nn::Linear head;
  nn::Dropout dropout;
  Tensor scale = ones(3), steps = zeros(1, DType::Int64);
};

// For the errors of add().
struct Bare : nn::Module {
  using Module::add;
  using Module::add_members_of;
  using Module::Kind;
};

std::vector<std::string> names(const NamedTensors& tensors) {
  std::vector<std::string> found;
  for (const auto& [name, tensor] : tensors) found.push_back(name);
  return found;
}

using Names = std::vector<std::string>;
}  // namespace

TEST_CASE("module: names and order are torch's") {
  Model model;
  CHECK(names(model.named_parameters()) == Names{"scale", "head.weight", "head.bias"});
  CHECK(names(model.named_buffers()) == Names{"steps"});
  CHECK(names(model.state_dict()) == Names{"scale", "steps", "head.weight", "head.bias"});
  CHECK(model.parameters()[1].is_same(model.head.weight));
  for (const Tensor& p : model.parameters()) CHECK(p.requires_grad());
  CHECK_FALSE(model.steps.requires_grad());

  Names modules;
  for (const auto& [name, module] : model.named_modules()) modules.push_back(name);
  CHECK(modules == Names{"", "head", "dropout"});
  CHECK(model.named_modules()[0].second == &model);
  CHECK(model.named_children()[1].second == &model.dropout);
}

TEST_CASE("module: an undefined parameter is in no list until something is assigned to it") {
  Model model(false);
  CHECK(names(model.named_parameters()) == Names{"scale", "head.weight"});
  model.head.bias = ones(2);
  CHECK(names(model.state_dict()) == Names{"scale", "steps", "head.weight", "head.bias"});
  CHECK(model.head(zeros({1, 3})).to_vector<float>() == std::vector<float>{1, 1});
}

TEST_CASE("module: a tensor assigned to a member takes part at once") {
  Model model;
  Tensor other = full({2, 3}, 0.5).requires_grad_();
  model.head.weight = other;
  sum(model.head(ones({1, 3}))).backward();
  CHECK(equal(other.grad(), ones({2, 3})));
  CHECK(model.parameters()[1].is_same(other));
}

TEST_CASE("module: a shared parameter is listed once, loaded under each name, and stays shared when converted") {
  struct Tied : nn::Module {
    Tied() : a(2, 2), b(2, 2) {
      add("a", a);
      add("b", b);
      b.weight = a.weight;
    }
    nn::Linear a, b;
  } model;
  CHECK(names(model.named_parameters()) == Names{"a.weight", "a.bias", "b.bias"});
  CHECK(names(model.state_dict()) == Names{"a.weight", "a.bias", "b.weight", "b.bias"});
  model.to(DType::Float64);
  CHECK(model.a.weight.is_same(model.b.weight));
  CHECK(model.b.weight.dtype() == DType::Float64);
}

TEST_CASE("module: add refuses names that would not be found again, and tensors with a history") {
  Bare module;
  Tensor a = ones(1), b = ones(1);
  module.add("a", a);
  CHECK_THROWS_WITH_AS(module.add("a", b), "add: Bare already has a member \"a\"", ValueError);
  CHECK_THROWS_WITH_AS(module.add("", b), "add: the name of a member of Bare is empty", ValueError);
  CHECK_THROWS_WITH_AS(module.add("b.c", b), doctest::Contains("\"b.c\" contains '.'"), ValueError);
  nn::Dropout child;
  CHECK_THROWS_AS(module.add("a", child), ValueError);
  CHECK_THROWS_WITH_AS(module.add("self", module), "add: \"self\" contains the Bare that it is added to", ValueError);
  Bare parent;
  parent.add("module", module);
  CHECK_THROWS_AS(module.add("parent", parent), ValueError);
  Tensor computed = a * 2;
  CHECK_THROWS_WITH_AS(module.add("b", computed), doctest::Contains("\"b\" was computed"), ValueError);
  Tensor integer = zeros(1, DType::Int64);
  CHECK_THROWS_AS(module.add("b", integer), DTypeError);
  module.add("b", integer, Bare::Kind::Buffer);
  CHECK(names(module.state_dict()) == Names{"a", "b"});
}

TEST_CASE("module: one that is added twice is listed once, and its tensors are part of the state under both names") {
  nn::Linear layer(2, 1, {.bias = false});
  Bare inner, module;
  inner.add("layer", layer);
  module.add("a", layer);
  module.add("b", layer);
  module.add("inner", inner);
  CHECK(module.named_children().size() == 2);
  CHECK(module.named_modules().size() == 3);
  CHECK(names(module.state_dict()) == Names{"a.weight", "b.weight", "inner.layer.weight"});
}

TEST_CASE("module: members of another module appear as its own") {
  Model inner;
  Bare module;
  module.add_members_of(inner, "_l0");
  CHECK(names(module.state_dict()) == Names{"scale_l0", "steps_l0", "head_l0.weight", "head_l0.bias"});
  CHECK(module.named_children()[0].first == "head_l0");
  CHECK(module.named_modules().size() == 3);
  CHECK_THROWS_WITH_AS(module.add_members_of(inner, "_l0"), doctest::Contains("already has a member \"head_l0\""),
                       ValueError);
  Tensor tensor = ones(1);
  CHECK_THROWS_AS(module.add("scale_l0", tensor), ValueError);
  module.add("scale", tensor);
  module.eval();
  CHECK_FALSE(inner.dropout.training());

  Bare outer;
  outer.add_members_of(module, "_reverse");
  CHECK(names(outer.state_dict()) == Names{"scale_reverse", "scale_l0_reverse", "steps_l0_reverse",
                                           "head_l0_reverse.weight", "head_l0_reverse.bias"});
  CHECK(outer.named_children()[0].first == "head_l0_reverse");

  Bare lifted, twice;  // names that are merged at two levels are checked as well
  lifted.add_members_of(inner, "_l0");
  twice.add_members_of(lifted, "_reverse");
  CHECK_THROWS_AS(twice.add_members_of(lifted, "_reverse"), ValueError);
}

TEST_CASE("module: train and eval reach all within") {
  Model model;
  CHECK(model.training());
  CHECK(&model.eval() == &model);
  CHECK_FALSE(model.training());
  CHECK_FALSE(model.dropout.training());
  CHECK(equal(model.dropout(ones(100)), ones(100)));
  model.train();
  CHECK(model.dropout.training());
  CHECK_FALSE(equal(model.dropout(ones(100)), ones(100)));
}

TEST_CASE("module: to converts in place, gradients too") {
  Model model;
  Tensor handle = model.head.weight;  // as an optimizer holds it
  sum(model.head(model.scale)).backward();
  CHECK(model.dtype() == DType::Float32);
  model.to(DType::Float64);
  CHECK(model.dtype() == DType::Float64);
  CHECK(handle.is_same(model.head.weight));
  CHECK(handle.dtype() == DType::Float64);
  CHECK(handle.is_leaf());
  CHECK(handle.requires_grad());
  CHECK(equal(handle.grad(), ones({2, 3}, DType::Float64)));
  CHECK(model.steps.dtype() == DType::Int64);

  sum(model.head(ones(3, DType::Float64))).backward();
  CHECK(equal(handle.grad(), full({2, 3}, 2, DType::Float64)));
  CHECK_THROWS_WITH_AS(model.to(DType::Int64), "to: a module can be float32 or float64, got int64", DTypeError);

  Tensor loss = sum(model.head(ones(3, DType::Float64).requires_grad_()));
  model.to(DType::Float32);
  CHECK_THROWS_AS(loss.backward(), GradError);  // it needs the weight as it was
}

TEST_CASE("module: converted between forward and backward, gradients that need no old value are of the new dtype") {
  struct Scale : nn::Module {
    Scale() { add("w", w); }
    Tensor w = rand({3, 4});
  };
  const std::vector<std::pair<DType, DType>> conversions = {{DType::Float32, DType::Float64},
                                                            {DType::Float64, DType::Float32}};
  for (const auto& conversion : conversions)
    for (bool own_output : {false, true}) {  // what the op saves: the other operand, or its output
      const auto before = conversion.first, after = conversion.second;
      CAPTURE(before);
      CAPTURE(own_output);
      Scale scale;
      scale.to(before);
      const Tensor x = rand({3, 4}, before), z = rand({3, 4}, before), e = exp(scale.w.detach());
      auto read = [&](const Tensor& factor) { return (own_output ? exp(scale.w) : scale.w) * factor * factor; };
      const Tensor loss = sum(read(x) + read(z));
      const Tensor expected = (x * x + z * z) * (own_output ? e : ones_like(e));
      scale.to(after);
      loss.backward();
      CHECK(scale.w.grad().dtype() == after);
      CHECK(allclose(scale.w.grad().to(DType::Float64), expected.to(DType::Float64), 1e-6, 1e-6));
    }
}

TEST_CASE("module: requires_grad_ and zero_grad") {
  Model model;
  sum(model.head(model.scale)).backward();
  Tensor grad = model.head.weight.grad();
  model.zero_grad(false);
  CHECK(equal(grad, zeros({2, 3})));
  CHECK(model.head.weight.grad().is_same(grad));
  model.head.weight.set_grad(expand(ones({1, 1}), {2, 3}));  // cannot be written in place
  model.zero_grad(false);
  CHECK(equal(model.head.weight.grad(), zeros({2, 3})));
  model.zero_grad();
  for (const Tensor& p : model.parameters()) CHECK_FALSE(p.grad().defined());

  model.requires_grad_(false);
  Tensor x = ones(3).requires_grad_();
  sum(model.head(x)).backward();  // a frozen model still hands on gradients
  CHECK(x.grad().defined());
  CHECK_FALSE(model.head.weight.grad().defined());
  model.requires_grad_();
  CHECK(model.scale.requires_grad());
}

TEST_CASE("module: state_dict shares memory and has no history") {
  Model model;
  for (const auto& [name, tensor] : model.state_dict()) CHECK_FALSE(tensor.requires_grad());
  model.state_dict()[0].second.fill_(7);
  CHECK(equal(model.scale.detach(), full(3, 7)));
}

TEST_CASE("module: load_state_dict copies in place and converts") {
  Model source, target;
  source.to(DType::Float64);
  source.steps.fill_(5);
  Tensor weight = target.head.weight;
  nn::IncompatibleKeys keys = target.load_state_dict(source.state_dict());
  CHECK(keys.missing_keys.empty());
  CHECK(keys.unexpected_keys.empty());
  CHECK(weight.is_same(target.head.weight));
  CHECK(weight.requires_grad());
  CHECK(weight.dtype() == DType::Float32);
  CHECK(equal(weight.detach(), source.head.weight.detach().to(DType::Float32)));
  CHECK(target.steps.item() == 5);
}

TEST_CASE("module: load_state_dict lists everything that is wrong and changes nothing") {
  Model model;
  const NamedTensors before = {{"scale", model.scale.detach().clone()},
                               {"head.weight", model.head.weight.detach().clone()}};
  const NamedTensors state = {{"scale", full(3, 9)},
                              {"head.weight", ones({3, 2})},
                              {"steps", ones({2, 1}, DType::Int64)},
                              {"tail.bias", ones(1)}};
  CHECK_THROWS_WITH_AS(
      model.load_state_dict(state),
      "load_state_dict: the state does not fit Model:\n"
      "  differing shapes: \"steps\" is (2, 1), expected (1,), \"head.weight\" is (3, 2), expected (2, 3)\n"
      "  missing keys: \"head.bias\"\n"
      "  unexpected keys: \"tail.bias\"",
      ValueError);
  // Shapes must fit even when names need not.
  CHECK_THROWS_WITH_AS(model.load_state_dict(state, false),
                       doctest::Contains("\"head.weight\" is (3, 2), expected (2, 3)"), ValueError);
  CHECK(equal(model.scale.detach(), before[0].second));
  CHECK(equal(model.head.weight.detach(), before[1].second));

  nn::IncompatibleKeys keys = model.load_state_dict({{"scale", full(3, 9)}, {"tail.bias", ones(1)}}, false);
  CHECK(keys.missing_keys == Names{"steps", "head.weight", "head.bias"});
  CHECK(keys.unexpected_keys == Names{"tail.bias"});
  CHECK(equal(model.scale.detach(), full(3, 9)));
}

TEST_CASE("module: load_state_dict changes nothing if one tensor cannot be written") {
  nn::Linear layer(2, 3);
  layer.bias = expand(ones(1), 3).requires_grad_();
  Tensor before = layer.weight.detach().clone();
  CHECK_THROWS_WITH_AS(layer.load_state_dict({{"weight", zeros({3, 2})}, {"bias", zeros(3)}}),
                       doctest::Contains("load_state_dict: elements of the expanded tensor"), ValueError);
  CHECK(equal(layer.weight, before));
}

TEST_CASE("module: load_state_dict changes nothing if memory runs out, however the tensors lie") {
  struct Two : nn::Module {
    Two() { add("a", a), add("b", b); }
    Tensor a = transpose(ones({2, 3, 2, 2, 2}), 0, 4).contiguous(), b = transpose(ones({2, 3, 2, 2, 2}), 0, 4).detach();
  } module;
  const NamedTensors state{{"a", full(module.a.shape(), 7, DType::Float64)}, {"b", full(module.b.shape(), 7)}};
  for (int n = 0;; ++n) try {
      FailAfter hook(n);
      module.load_state_dict(state);
      break;
    } catch (const OutOfMemory&) {
      REQUIRE(all(eq(module.a, 1)));
      REQUIRE(all(eq(module.b, 1)));
    }
  CHECK(all(eq(module.a, 7)));
  CHECK(all(eq(module.b, 7)));
}

TEST_CASE("module: prints as torch prints") {
  struct Net : nn::Module {
    Net() : rnn(4, 6, {.num_layers = 2, .batch_first = true}) {
      add("rnn", rnn);
      add("model", model);
    }
    nn::LSTM rnn;
    Model model;
  } net;
  CHECK(nn::to_string(net) ==
        "Net(\n"
        "  (rnn): LSTM(4, 6, num_layers=2, batch_first=True)\n"
        "  (model): Model(\n"
        "    (head): Linear(in_features=3, out_features=2, bias=True)\n"
        "    (dropout): Dropout(p=0.5, inplace=False)\n"
        "  )\n"
        ")");
  struct Two : nn::Module {
    std::string extra_repr() const override { return "x=1\ny=2"; }
  };
  std::ostringstream out;
  out << Two();
  CHECK(out.str() == "Two(\n  x=1\n  y=2\n)");
  CHECK(nn::to_string(Bare()) == "Bare()");
  CHECK(nn::to_string(nn::LSTMCell(4, 6, {.bias = false, .proj_size = 2})) ==
        "LSTMCell(4, 6, bias=False, proj_size=2)");
}

TEST_CASE("module: load_state_dict lets a module's own tensors change places") {
  struct Two : nn::Module {
    Two() { add("a", a), add("b", b); }
    Tensor a = full(3, 1), b = full(3, 2);
  } module;
  module.load_state_dict({{"a", module.b}, {"b", module.a}});
  CHECK(all(eq(module.a, 2)));
  CHECK(all(eq(module.b, 1)));
}

TEST_CASE("module: load_state_dict refuses a key given twice, and changes nothing") {
  nn::Linear layer(2, 3);
  const Tensor before = layer.bias.detach().clone();
  CHECK_THROWS_WITH_AS(layer.load_state_dict({{"weight", ones({3, 2})}, {"bias", ones(3)}, {"bias", zeros(3)}}),
                       "load_state_dict: the state does not fit Linear:\n  keys given twice: \"bias\"", ValueError);
  CHECK(equal(layer.bias, before));
}

TEST_CASE("module: load_state_dict tells a stranger's names on one line each, and not all of too many") {
  nn::Linear layer(2, 3);
  NamedTensors state = layer.state_dict();
  state.emplace_back("evil\x1b[31m\n\"" + std::string(1, '\0'), ones(1));
  CHECK_THROWS_WITH_AS(layer.load_state_dict(state),
                       "load_state_dict: the state does not fit Linear:\n"
                       "  unexpected keys: \"evil\\x1b[31m\\x0a\\x22\\x00\"",
                       ValueError);
  state.back().first = std::string(100'003, 'x');
  CHECK_THROWS_WITH_AS(layer.load_state_dict(state), doctest::Contains("xx\"… (100003 bytes)"), ValueError);
  for (int i = 0; i < 1000; ++i) state.emplace_back(std::to_string(i), ones(1));
  CHECK_THROWS_WITH_AS(layer.load_state_dict(state), doctest::Contains("\"98\", … (1001 in all)"), ValueError);
}

TEST_CASE("module: load_state_dict counts as a write to what was saved before") {
  nn::Linear layer(2, 2);
  Tensor x = randn({3, 2}).requires_grad_(), loss = sum(layer(x));
  layer.load_state_dict(layer.state_dict());
  CHECK_THROWS_WITH_AS(loss.backward(), doctest::Contains("modified in place by load_state_dict"), GradError);
}

TEST_CASE("module: load_state_dict of what overlaps the parameter, and is laid out otherwise") {
  nn::Linear layer(3, 3, {.bias = false});
  const std::vector<float> expected = t(layer.weight.detach()).clone().to_vector<float>();
  layer.load_state_dict({{"weight", t(layer.weight.detach())}});
  CHECK(layer.weight.to_vector<float>() == expected);
}
