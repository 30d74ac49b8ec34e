#pragma once
#include <unroll/core/tensor.h>

#include <limits>
#include <optional>
#include <string>
#include <vector>

#pragma GCC visibility push(default)
/// The recorded graph, to look at:
///
///     std::cout << to_text(graph(loss, model.named_parameters()));
///     std::ofstream("graph.dot") << to_dot(graph(loss, model.named_parameters()));    // dot -Tsvg graph.dot
///
/// Layers with fused kernels are one node; FusedMode(false) while they run shows what they are made of.
namespace unroll {

/// What stands behind a tensor, as plain values: it keeps neither tensors nor nodes alive.
struct Graph {
  /// Where an op reads one of its inputs.
  struct Edge {
    static constexpr std::int32_t kConstant = -1;  // a tensor that needs no gradient, or none at all
    static constexpr std::int32_t kLeftOut = -2;   // lies behind the limit

    std::int32_t node = kConstant;  // index in `nodes`
    std::uint32_t output = 0;       // of that node
  };
  struct Output {
    std::optional<Shape> shape;  // none where nothing in the graph reads it
    DType dtype = DType::Float32;
    std::string name;  // from `names`, or ""
  };
  /// An op, or a leaf: a tensor that was not computed, with itself as its only output.
  struct Node {
    std::string op;              // "tanh"; "" for a leaf
    std::uint64_t sequence = 0;  // Node::sequence of an op
    std::vector<Edge> inputs;
    std::vector<Output> outputs;
    bool is_leaf() const noexcept { return op.empty(); }
  };

  /// Leaves first, in the order in which ops read them; then ops, in the order in which they were recorded. Numbers
  /// depend on nothing but the computation.
  std::vector<Node> nodes;
  /// The tensor that was asked for.
  Edge root;
  /// Whether max_nodes left something out.
  bool truncated = false;
};

struct GraphOptions {
  /// How many ops to show at most: the last ones.
  std::size_t max_nodes = std::numeric_limits<std::size_t>::max();
};

/// The graph behind `root`. `names` names leaves and computed tensors, each by the first name it comes with; those that
/// are not in the graph do no harm. Takes time and memory in proportion to the nodes, on a small stack. Raises
/// GradError unless root requires a gradient, ValueError for max_nodes = 0.
Graph graph(const Tensor& root, const NamedTensors& names = {}, const GraphOptions& options = {});

/// As a program, a line a tensor: leaves, then ops by number. Constants are "_", what lies behind the limit "…".
///
///     weight (2, 3)
///     bias (2,)
///     %1 (4, 2) = linear(_, weight, bias)
///     %2 (4, 2) = tanh(%1)
///     return %2
std::string to_text(const Graph& graph);

/// In the language of Graphviz: leaves are boxes, coloured if they have names, ops are ellipses, and edges carry
/// shapes.
std::string to_dot(const Graph& graph);

}  // namespace unroll
#pragma GCC visibility pop
