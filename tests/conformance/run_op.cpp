#include "replay.h"

#include <unroll/autograd/ops/activation.h>
#include <unroll/autograd/ops/arithmetic.h>
#include <unroll/autograd/ops/index.h>
#include <unroll/autograd/ops/matmul.h>
#include <unroll/autograd/ops/normalize.h>
#include <unroll/autograd/ops/reduce.h>
#include <unroll/autograd/ops/shape.h>

#include <functional>
#include <nlohmann/json.hpp>
#include <optional>

namespace conformance {
namespace {

using nlohmann::json;

/// The JSON object of an op's arguments. An argument is taken out when it is read; what is left at the end was not
/// understood.
class Arguments {
 public:
  explicit Arguments(const std::string& text) : left_(json::parse(text)) {}

  template <class T>
  T get(const std::string& name) {
    return take(name).get<T>();
  }
  std::int64_t integer(const std::string& name) { return get<std::int64_t>(name); }
  Shape shape(const std::string& name) {
    return Shape(std::span<const std::int64_t>(get<std::vector<std::int64_t>>(name)));
  }
  /// Null stands for all dimensions.
  std::optional<std::int64_t> dim() {
    const json dim = take("dim");
    return dim.is_null() ? std::nullopt : std::optional(dim.get<std::int64_t>());
  }
  /// A tensor of rank 1, or of rank 2 from nested lists.
  template <class T>
  Tensor tensor(const std::string& name) {
    const json list = take(name);
    const bool nested = list.at(0).is_array();
    std::vector<T> flat;
    for (const json& row : list)
      for (const json& x : nested ? row : json::array({row})) flat.push_back(x.get<T>());
    Shape shape = static_cast<std::int64_t>(list.size());
    if (nested) shape.push_back(static_cast<std::int64_t>(list[0].size()));
    return from_data(flat, shape);
  }

  void check_all_read() const { check<ValueError>(left_.empty(), "arguments not understood: {}", left_.dump()); }

 private:
  json take(const std::string& name) {
    json value = left_.at(name);
    left_.erase(name);
    return value;
  }
  json left_;
};

using Inputs = std::vector<Tensor>;
using Op = std::function<Tensor(const Inputs&, Arguments&)>;

Op unary(Tensor (*op)(const Tensor&)) {
  return [op](const Inputs& x, Arguments&) { return op(x.at(0)); };
}
Op binary(Tensor (*op)(const Tensor&, const Tensor&)) {
  return [op](const Inputs& x, Arguments&) { return op(x.at(0), x.at(1)); };
}
Op along(Tensor (*op)(const Tensor&, std::int64_t)) {
  return [op](const Inputs& x, Arguments& a) { return op(x.at(0), a.integer("dim")); };
}
/// Over one dimension, or over all of them.
Op reduction(Tensor (*some)(const Tensor&, const Shape&, bool), Tensor (*all)(const Tensor&) = nullptr) {
  return [=](const Inputs& x, Arguments& a) {
    const auto dim = a.dim();
    const bool keepdim = a.get<bool>("keepdim");
    check<ValueError>(dim || all, "expected a dimension, got null");
    return dim ? some(x.at(0), *dim, keepdim) : all(x.at(0));
  };
}

const std::map<std::string_view, Op>& ops() {
  static const std::map<std::string_view, Op> table = {
      {"add", binary(add)},
      {"sub", binary(sub)},
      {"mul", binary(mul)},
      {"div", binary(div)},
      {"maximum", binary(maximum)},
      {"minimum", binary(minimum)},
      {"matmul", binary(matmul)},
      {"neg", unary(neg)},
      {"exp", unary(exp)},
      {"log", unary(log)},
      {"sqrt", unary(sqrt)},
      {"tanh", unary(tanh)},
      {"sigmoid", unary(sigmoid)},
      {"relu", unary(relu)},
      {"abs", unary(abs)},
      {"sin", unary(sin)},
      {"cos", unary(cos)},
      {"square", unary(square)},
      {"softplus", [](auto& x, auto&) { return softplus(x.at(0)); }},
      {"pow", [](auto& x, auto& a) { return pow(x.at(0), a.template get<double>("exponent")); }},
      {"clamp",
       [](auto& x, auto& a) { return clamp(x.at(0), a.template get<double>("min"), a.template get<double>("max")); }},
      {"where", [](auto& x, auto& a) { return where(a.template tensor<bool>("condition"), x.at(0), x.at(1)); }},
      {"linear", [](auto& x, auto&) { return linear(x.at(0), x.at(1), x.at(2)); }},

      {"sum", reduction(sum, sum)},
      {"mean", reduction(mean, mean)},
      {"amax", reduction(amax)},
      {"amin", reduction(amin)},
      {"logsumexp", reduction(logsumexp)},
      {"softmax", along(softmax)},
      {"log_softmax", along(log_softmax)},
      {"layer_norm",
       [](auto& x, auto& a) {
         return layer_norm(x.at(0), a.shape("normalized_shape"), x.at(1), x.at(2), a.template get<double>("eps"));
       }},

      {"cat", [](auto& x, auto& a) { return cat(x, a.integer("dim")); }},
      {"stack", [](auto& x, auto& a) { return stack(x, a.integer("dim")); }},
      {"unsqueeze", along(unsqueeze)},
      {"squeeze", along(squeeze)},
      {"reshape", [](auto& x, auto& a) { return reshape(x.at(0), a.shape("shape")); }},
      {"expand", [](auto& x, auto& a) { return expand(x.at(0), a.shape("shape")); }},
      {"permute", [](auto& x, auto& a) { return permute(x.at(0), a.shape("dims")); }},
      {"flip", [](auto& x, auto& a) { return flip(x.at(0), a.shape("dims")); }},
      {"transpose", [](auto& x, auto& a) { return transpose(x.at(0), a.integer("dim0"), a.integer("dim1")); }},
      {"select", [](auto& x, auto& a) { return select(x.at(0), a.integer("dim"), a.integer("index")); }},
      {"narrow",
       [](auto& x, auto& a) { return narrow(x.at(0), a.integer("dim"), a.integer("start"), a.integer("length")); }},

      {"gather",
       [](auto& x, auto& a) { return gather(x.at(0), a.integer("dim"), a.template tensor<std::int64_t>("index")); }},
      {"index_select",
       [](auto& x, auto& a) {
         return index_select(x.at(0), a.integer("dim"), a.template tensor<std::int64_t>("index"));
       }},
      {"embedding", [](auto& x, auto& a) { return embedding(a.template tensor<std::int64_t>("index"), x.at(0)); }},
  };
  return table;
}

}  // namespace

Answers replay_op(Case& c) {
  const std::string name = c.option("op");
  const auto op = ops().find(name);
  check<ValueError>(op != ops().end(), "op {} is unknown", name);

  NamedTensors leaves;
  const DType dtype = c.option<DType>("dtype");
  while (c.has(fmt::format("input.{}", leaves.size()))) {
    const std::string input = fmt::format("input.{}", leaves.size());
    leaves.emplace_back(input, c.leaf(input));
    check<ValueError>(leaves.back().second.dtype() == dtype, "{} is not {}", input, dtype);
  }
  Arguments arguments(c.option("arguments"));
  const Tensor output = op->second(values(leaves), arguments);
  arguments.check_all_read();
  return with_gradients(c, {{"output", output}}, leaves);
}

}  // namespace conformance
