#include <unroll/autograd/graph.h>
#include <unroll/autograd/node.h>

#include <fmt/format.h>

#include <algorithm>
#include <iterator>
#include <queue>
#include <unordered_map>

namespace unroll {
namespace {

using detail::GradSlot;
using Edge = Graph::Edge;

// Collects ops from the root down, the last recorded first, and turns them round.
class Collector {
 public:
  Collector(const NamedTensors& names, std::size_t max_nodes) {
    for (const auto& [name, x] : names)
      if (x.defined() && x.grad_slot()) names_.emplace(key(*x.grad_slot()), &name);
    max_nodes_ = max_nodes;
  }

  Graph collect(const GradSlot& root) {
    meet(root);
    while (!waiting_.empty() && ops_.size() < max_nodes_) {
      const Node* node = waiting_.top().node;
      waiting_.pop();
      ops_.push_back(node);
      for (const Ref<GradSlot>& slot : node->inputs())
        if (slot) meet(*slot);
    }
    graph_.truncated = !waiting_.empty();
    std::reverse(ops_.begin(), ops_.end());

    std::vector<const GradSlot*> leaves;
    auto meet_leaf = [&](const GradSlot* slot) {
      if (slot && !slot->grad_fn && index_.emplace(slot, static_cast<std::int32_t>(leaves.size())).second)
        leaves.push_back(slot);
    };
    for (const Node* op : ops_)
      for (const Ref<GradSlot>& slot : op->inputs()) meet_leaf(slot.get());
    meet_leaf(&root);
    graph_.nodes.resize(leaves.size() + ops_.size());
    for (std::size_t i = 0; i < leaves.size(); ++i) graph_.nodes[i].outputs.resize(1);
    for (std::size_t i = 0; i < ops_.size(); ++i) {
      Graph::Node& node = graph_.nodes[leaves.size() + i];
      node.op = ops_[i]->name();
      node.sequence = ops_[i]->sequence();
      node.outputs.resize(ops_[i]->outputs());
      index_[ops_[i]] = static_cast<std::int32_t>(leaves.size() + i);
    }
    for (std::size_t i = 0; i < ops_.size(); ++i)
      for (const Ref<GradSlot>& slot : ops_[i]->inputs())
        graph_.nodes[leaves.size() + i].inputs.push_back(slot ? edge_to(*slot) : Edge());
    graph_.root = edge_to(root);
    return std::move(graph_);
  }

 private:
  // A computed tensor is an output of its op, whichever slot leads there.
  using Key = std::pair<const void*, std::uint32_t>;
  static Key key(const GradSlot& slot) { return slot.grad_fn ? Key(slot.grad_fn.get(), slot.output) : Key(&slot, 0); }
  struct Hash {
    std::size_t operator()(const Key& k) const noexcept { return std::hash<const void*>()(k.first) * 31 + k.second; }
  };
  // Ops of different threads may have equal numbers; which was met first decides.
  struct Waiting {
    const Node* node;
    std::size_t met;
    bool operator<(const Waiting& other) const noexcept {
      return node->sequence() != other.node->sequence() ? node->sequence() < other.node->sequence() : met > other.met;
    }
  };

  void meet(const GradSlot& slot) {
    if (slot.grad_fn && index_.emplace(slot.grad_fn.get(), Edge::kLeftOut).second)
      waiting_.push({slot.grad_fn.get(), index_.size()});
  }

  Edge edge_to(const GradSlot& slot) {
    Edge edge{index_.at(key(slot).first), slot.grad_fn ? slot.output : 0};
    if (edge.node < 0) return {Edge::kLeftOut, 0};
    Graph::Output& output = graph_.nodes[static_cast<std::size_t>(edge.node)].outputs[edge.output];
    if (!output.shape) {
      output.shape = slot.shape;
      output.dtype = slot.dtype;
      if (auto name = names_.find(key(slot)); name != names_.end()) output.name = *name->second;
    }
    return edge;
  }

  std::size_t max_nodes_;
  std::unordered_map<Key, const std::string*, Hash> names_;
  std::unordered_map<const void*, std::int32_t> index_;  // of ops and leaves, in graph_.nodes
  std::priority_queue<Waiting> waiting_;
  std::vector<const Node*> ops_;
  Graph graph_;
};

// Fit to stand between quotes: DOT ends a string at ", and reads \ as the beginning of a command.
std::string escaped(std::string_view text) {
  std::string result;
  for (char c : text) {
    if (c == '"' || c == '\\') result += '\\';
    if (static_cast<unsigned char>(c) < ' ')
      result += fmt::format("\\\\x{:02x}", static_cast<unsigned>(c));
    else
      result += c;
  }
  return result;
}

std::string describe(const Graph::Output& output) {
  if (!output.shape) return "unread";
  return to_string(*output.shape) + (output.dtype == DType::Float32 ? "" : fmt::format(" {}", output.dtype));
}

// -- As text

class TextWriter {
 public:
  explicit TextWriter(const Graph& graph) : graph_(graph) {
    std::int32_t leaves = 0, ops = 0;
    for (const Graph::Node& node : graph.nodes) numbers_.push_back(node.is_leaf() ? ++leaves : ++ops);
  }

  std::string write() {
    for (std::size_t i = 0; i < graph_.nodes.size(); ++i) {
      const Graph::Node& node = graph_.nodes[i];
      for (std::uint32_t j = 0; j < node.outputs.size(); ++j) {
        if (j > 0) put(", ");
        put_value({static_cast<std::int32_t>(i), j});
        put(" {}", describe(node.outputs[j]));
      }
      if (!node.is_leaf()) {
        put(" = {}(", node.op);
        for (std::size_t k = 0; k < node.inputs.size(); ++k) {
          if (k > 0) put(", ");
          put_value(node.inputs[k]);
        }
        put(")");
      }
      put("\n");
    }
    put("return ");
    put_value(graph_.root);
    put("\n");
    return std::move(text_);
  }

 private:
  template <class... Args>
  void put(fmt::format_string<const Args&...> format, const Args&... args) {
    fmt::format_to(std::back_inserter(text_), format, args...);
  }

  void put_value(const Edge& edge) {
    if (edge.node == Edge::kConstant) return put("_");
    if (edge.node == Edge::kLeftOut) return put("…");
    const auto i = static_cast<std::size_t>(edge.node);
    const Graph::Node& node = graph_.nodes[i];
    if (const std::string& name = node.outputs[edge.output].name; !name.empty()) return put("{}", escaped(name));
    put("{}{}", node.is_leaf() ? "leaf" : "%", numbers_[i]);
    if (node.outputs.size() > 1) put(".{}", edge.output);
  }

  const Graph& graph_;
  std::vector<std::int32_t> numbers_;  // of ops, and of leaves among themselves
  std::string text_;
};

}  // namespace

Graph graph(const Tensor& root, const NamedTensors& names, const GraphOptions& options) {
  root.body();
  check<GradError>(root.requires_grad(), "graph: the tensor does not require a gradient and has no history");
  check<ValueError>(options.max_nodes > 0, "graph: max_nodes must be positive");
  return Collector(names, options.max_nodes).collect(*root.grad_slot());
}

std::string to_text(const Graph& graph) { return TextWriter(graph).write(); }

std::string to_dot(const Graph& graph) {
  std::string text;
  auto put = [&]<class... Args>(fmt::format_string<const Args&...> format, const Args&... args) {
    fmt::format_to(std::back_inserter(text), format, args...);
  };
  put("digraph unroll {{\n"
      "  node [fontname=\"Helvetica\", fontsize=11, style=filled, fillcolor=white];\n"
      "  edge [fontname=\"Helvetica\", fontsize=9, arrowsize=0.6];\n");
  if (graph.truncated) put("  left_out [shape=plaintext, label=\"…\"];\n");
  for (std::size_t i = 0; i < graph.nodes.size(); ++i) {
    const Graph::Node& node = graph.nodes[i];
    if (!node.is_leaf()) {
      put("  n{} [label=\"{}\", shape=ellipse];\n", i, escaped(node.op));
    } else {
      const Graph::Output& leaf = node.outputs[0];
      put("  n{} [label=\"{}\\n{}\", shape=box, fillcolor=\"{}\"];\n", i,
          leaf.name.empty() ? "leaf" : escaped(leaf.name), describe(leaf), leaf.name.empty() ? "#eeeeee" : "#cfe2ff");
    }
    for (const Edge& edge : node.inputs) {
      if (edge.node == Edge::kConstant) continue;
      if (edge.node == Edge::kLeftOut) {
        put("  left_out -> n{};\n", i);
        continue;
      }
      const Graph::Node& from = graph.nodes[static_cast<std::size_t>(edge.node)];
      if (from.is_leaf()) {
        put("  n{} -> n{};\n", edge.node, i);
        continue;
      }
      const Graph::Output& output = from.outputs[edge.output];
      put("  n{} -> n{} [label=\"{}{}{}{}\"];\n", edge.node, i, escaped(output.name), output.name.empty() ? "" : " ",
          from.outputs.size() > 1 ? fmt::format("[{}] ", edge.output) : std::string(), describe(output));
    }
  }
  if (!graph.nodes[static_cast<std::size_t>(graph.root.node)].is_leaf()) {
    const Graph::Output& root = graph.nodes[static_cast<std::size_t>(graph.root.node)].outputs[graph.root.output];
    put("  result [label=\"{}\\n{}\", shape=box, fillcolor=\"#d9f2d9\"];\n"
        "  n{} -> result;\n",
        root.name.empty() ? "result" : escaped(root.name), describe(root), graph.root.node);
  }
  put("}}\n");
  return text;
}

}  // namespace unroll
