#include "support/gradients.h"
#include "support/memory.h"
#include "support/raises.h"

#include <doctest/doctest.h>
#include <unroll/autograd/engine.h>
#include <unroll/autograd/grad_mode.h>
#include <unroll/autograd/graph.h>
#include <unroll/autograd/node.h>
#include <unroll/autograd/ops/activation.h>
#include <unroll/autograd/ops/arithmetic.h>
#include <unroll/autograd/ops/matmul.h>
#include <unroll/autograd/ops/reduce.h>
#include <unroll/nn/lstm_cell.h>

#include <algorithm>
#include <thread>

using namespace unroll;

namespace {

std::size_t count(const std::string& text, std::string_view part) {
  std::size_t n = 0;
  for (std::size_t at = text.find(part); at != std::string::npos; at = text.find(part, at + 1)) ++n;
  return n;
}

// linear and tanh of a constant x (4, 3).
struct Layer {
  Tensor x = ones({4, 3}), weight = ones({2, 3}).requires_grad_(), bias = zeros(2).requires_grad_();
  Tensor y = tanh(linear(x, weight, bias));
  NamedTensors names{{"x", x}, {"weight", weight}, {"bias", bias}};
};

}  // namespace

TEST_CASE("graph: as text, a line a tensor") {
  Layer layer;
  CHECK(to_text(graph(layer.y, layer.names)) ==
        "weight (2, 3)\n"
        "bias (2,)\n"
        "%1 (4, 2) = linear(_, weight, bias)\n"
        "%2 (4, 2) = tanh(%1)\n"
        "return %2\n");
  CHECK(to_text(graph(layer.y)) ==
        "leaf1 (2, 3)\n"
        "leaf2 (2,)\n"
        "%1 (4, 2) = linear(_, leaf1, leaf2)\n"
        "%2 (4, 2) = tanh(%1)\n"
        "return %2\n");
}

TEST_CASE("graph: what it consists of") {
  Layer layer;
  Graph g = graph(layer.y, layer.names);
  REQUIRE(g.nodes.size() == 4);
  CHECK_FALSE(g.truncated);
  CHECK(g.root.node == 3);
  CHECK(g.nodes[0].is_leaf());
  CHECK(g.nodes[0].outputs[0].name == "weight");
  CHECK(g.nodes[0].outputs[0].shape == Shape{2, 3});
  CHECK(g.nodes[0].inputs.empty());
  CHECK(g.nodes[3].op == "tanh");
  CHECK(g.nodes[3].sequence == layer.y.grad_slot()->grad_fn->sequence());
  CHECK(g.nodes[2].sequence < g.nodes[3].sequence);
  REQUIRE(g.nodes[2].inputs.size() == 3);
  CHECK(g.nodes[2].inputs[0].node == Graph::Edge::kConstant);
  CHECK(g.nodes[2].inputs[2].node == 1);
}

TEST_CASE("graph: several outputs, unread ones, other dtypes, a tensor read twice, names of computed tensors") {
  Tensor x = ones(6, DType::Float64).requires_grad_();
  std::vector<Tensor> parts = split(x, 2);
  Tensor h = parts[2] * parts[0];
  CHECK(to_text(graph(h + h, {{"x", x}, {"again", x}, {"h", h}, {"other", ones(1).requires_grad_()}, {"", {}}})) ==
        "x (6,) float64\n"
        "%1.0 (2,) float64, %1.1 unread, %1.2 (2,) float64 = split(x)\n"
        "h (2,) float64 = mul(%1.2, %1.0)\n"
        "%3 (2,) float64 = add(h, h)\n"
        "return %3\n");
}

TEST_CASE("graph: of a leaf, of a gradient, and after backward has freed it") {
  Tensor x = leaf({1, 2});
  CHECK(to_text(graph(x, {{"x", x}})) == "x (2,) float64\nreturn x\n");
  Tensor y = sum(x * x);
  Tensor d = grad({y}, {x}, {.create_graph = true})[0];
  const std::string text = to_text(graph(d, {{"x", x}}));
  CHECK(count(text, "= mul(") == 2);
  CHECK(count(text, "return %3\n") == 1);
  y.backward();
  CHECK(to_text(graph(y, {{"x", x}})) ==
        "x (2,) float64\n%1 (2,) float64 = mul(x, x)\n%2 () float64 = sum(%1)\nreturn %2\n");
}

TEST_CASE("graph: the same computation gives the same text, whatever came before and wherever it lies") {
  auto text = [] {
    manual_seed(1);
    nn::LSTMCell cell(3, 2);
    nn::LSTMState state = cell(ones({1, 3}));
    state = cell(ones({1, 3}), state);
    Graph g = graph(sum(state.h), cell.named_parameters());
    return to_text(g) + to_dot(g);
  };
  const std::string first = text();
  std::vector<Tensor> in_the_way;
  for (int i = 0; i < 100; ++i) in_the_way.push_back(exp(leaf({1})));
  CHECK(text() == first);
  std::thread([&] { CHECK(text() == first); }).join();
  CHECK(count(first, "weight_ih (8, 3)\n") == 1);
}

TEST_CASE("graph: only the last ops, where a limit is set") {
  Tensor x = leaf({1});
  Tensor y = x;
  for (int i = 0; i < 10; ++i) y = tanh(y + x);
  Graph g = graph(y, {{"x", x}}, {.max_nodes = 3});
  CHECK(g.truncated);
  CHECK(to_text(g) ==
        "x (1,) float64\n"
        "%1 (1,) float64 = tanh(…)\n"
        "%2 (1,) float64 = add(%1, x)\n"
        "%3 (1,) float64 = tanh(%2)\n"
        "return %3\n");
  CHECK(count(to_dot(g), "left_out -> n1;") == 1);
  CHECK_FALSE(graph(y, {}, {.max_nodes = 20}).truncated);
  CHECK(graph(y, {}, {.max_nodes = 20}).nodes.size() == 21);
  CHECK_RAISES(ValueError, "graph: max_nodes must be positive", graph(y, {}, {.max_nodes = 0}));
}

TEST_CASE("graph: as DOT") {
  Layer layer;
  const std::string dot = to_dot(graph(layer.y, layer.names));
  CHECK(dot.starts_with("digraph unroll {\n"));
  CHECK(dot.ends_with("}\n"));
  CHECK(count(dot, "n0 [label=\"weight\\n(2, 3)\", shape=box, fillcolor=\"#cfe2ff\"];") == 1);
  CHECK(count(dot, "n2 [label=\"linear\", shape=ellipse];") == 1);
  CHECK(count(dot, "n0 -> n2;") == 1);
  CHECK(count(dot, "n2 -> n3 [label=\"(4, 2)\"];") == 1);
  CHECK(count(dot, "n3 -> result;") == 1);
  CHECK(count(to_dot(graph(layer.y)), "shape=box, fillcolor=\"#eeeeee\"") == 2);
  CHECK(count(to_dot(graph(split(layer.y, 1)[1] * 1)), "[label=\"[1] (1, 2)\"]") == 1);
}

TEST_CASE("graph: names cannot break out of DOT's quotes or of a line") {
  Tensor x = leaf({1});
  Graph g = graph(exp(x), {{"a\"]; b\\", x}});
  CHECK(count(to_dot(g), "label=\"a\\\"]; b\\\\\\n(1,) float64\"") == 1);
  CHECK(count(to_text(graph(exp(x), {{"a\nb", x}})), "\n") == 3);
}

TEST_CASE("graph: what needs no gradient has none") {
  CHECK_RAISES(GradError, "graph: the tensor does not require a gradient", graph(ones(1)));
  CHECK_RAISES(GradError, "graph: the tensor does not require a gradient", graph(leaf({1}).detach()));
  CHECK_RAISES(ValueError, "undefined", graph(Tensor()));
}

TEST_CASE("graph: deeper than any stack") {
  constexpr int kDeep = 200'000;
  Tensor x = leaf({1}), y = x;
  for (int i = 0; i < kDeep; ++i) y = y * 0.5;
  Graph g = graph(y, {{"x", x}});
  CHECK(g.nodes.size() == kDeep + 1);
  CHECK(count(to_text(g), "\n") == kDeep + 2);
  CHECK(count(to_dot(g), " -> ") == kDeep + 1);
  CHECK(graph(y, {}, {.max_nodes = 5}).nodes.size() == 5);
}

TEST_CASE("graph: keeps nothing alive") {
  Tensor x = leaf({1});
  Live before;
  Graph g = graph(tanh(x));
  CHECK(Live() == before);
  CHECK(to_text(g) == "leaf1 (1,) float64\n%1 (1,) float64 = tanh(leaf1)\nreturn %1\n");
}
