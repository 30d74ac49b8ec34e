#include <unroll/autograd/engine.h>
#include <unroll/autograd/functional.h>
#include <unroll/autograd/ops/shape.h>
#include <unroll/autograd/record.h>
#include <unroll/core/view.h>

namespace unroll {
namespace {

using detail::Along;
using detail::Product;
using detail::TensorFunction;
using detail::Tensors;

Shape joined(Shape a, const Shape& b, std::size_t from = 0) {
  for (std::size_t d = from; d < b.size(); ++d) a.push_back(b[d]);
  return a;
}

void check_inputs(const char* op, TensorList inputs) {
  check<GradError>(!inputs.empty(), "{}: no inputs to differentiate with respect to", op);
  for (std::size_t i = 0; i < inputs.size(); ++i) {
    check<ValueError>(inputs[i].defined(), "{}: input {} is undefined", op, i);
    check<DTypeError>(inputs[i].is_floating_point(), "{}: input {} is {}, expected float32 or float64", op, i,
                      inputs[i].dtype());
  }
}

// Outputs that were computed from inputs, and derivatives between them. Undefined gradients are those without a path.
class Call {
 public:
  Call(const char* op, const Tensor& y, TensorList xs, const FunctionalOptions& options)
      : inputs(xs.begin(), xs.end()), outputs{y}, op_(op), options_(options) {
    check_inputs(op, xs);
    check<GradError>(y.requires_grad(), "{}: the output does not require a gradient and has no history", op);
    for (std::size_t i = 0; i < inputs.size(); ++i)
      check<GradError>(inputs[i].requires_grad(), "{}: input {} does not require a gradient", op, i);
  }

  // Calls f.
  Call(const char* op, const TensorFunction& f, const Tensors& given, const FunctionalOptions& options)
      : op_(op), options_(options) {
    check_inputs(op, given);
    for (const Tensor& x : given)
      inputs.push_back(options.create_graph && x.requires_grad() ? record("alias", {x}, views::alias(x), unchanged)
                                                                 : x.detach().requires_grad_());
    outputs = f(inputs);
    check<ValueError>(!outputs.empty(), "{}: the function returned no tensors", op);
    for (std::size_t i = 0; i < outputs.size(); ++i) {
      check<ValueError>(outputs[i].defined(), "{}: output {} of the function is undefined", op, i);
      check<GradError>(!options.strict || outputs[i].requires_grad(),
                       "{}: output {} of the function does not depend on its inputs", op, i);
    }
  }

  // The only output, if it has but one element.
  const Tensor& scalar_output() const {
    check<ShapeError>(outputs[0].numel() == 1, "{}: the function returned shape {}, expected one element", op_,
                      outputs[0].shape());
    return outputs[0];
  }

  // vᵀJ.
  Tensors backward(const Tensors& ys, const Tensors& v, bool create_graph) const {
    Tensors used, cotangents;
    for (std::size_t i = 0; i < ys.size(); ++i)
      if (ys[i].requires_grad()) {
        used.push_back(ys[i]);
        cotangents.push_back(v.empty() ? Tensor() : v[i]);
      }
    if (used.empty()) return Tensors(inputs.size());
    return grad(used, inputs,
                {.grad_outputs = cotangents, .retain_graph = true, .create_graph = create_graph, .allow_unused = true});
  }

  // Jv: u ↦ uᵀJ is linear, and v's product with its derivative is Jv whatever u is. Ones make no NaN of an infinite
  // derivative.
  Tensors forward(const Tensors& ys, const Tensors& v) const {
    Tensors u;
    for (const Tensor& y : ys) u.push_back(y.requires_grad() ? ones_like(y).requires_grad_() : Tensor());
    Tensors back = backward(ys, u, true), used, tangents, duals;
    for (std::size_t i = 0; i < back.size(); ++i) {
      check_path(back[i], [&] { return fmt::format("the function does not depend on input {}", i); });
      if (!back[i].defined() || !back[i].requires_grad()) continue;
      used.push_back(back[i]);
      tangents.push_back(v.empty() ? Tensor() : v[i]);
    }
    for (const Tensor& dual : u)
      if (dual.defined()) duals.push_back(dual);
    Tensors result(ys.size());
    if (used.empty()) return result;
    Tensors found = grad(
        used, duals,
        {.grad_outputs = tangents, .retain_graph = true, .create_graph = options_.create_graph, .allow_unused = true});
    for (std::size_t i = 0, k = 0; i < ys.size(); ++i)
      if (u[i].defined()) result[i] = found[k++];
    return result;
  }

  // dy/dx of a scalar output, recorded.
  Tensors gradient() const {
    Tensors result = backward({scalar_output()}, {}, true);
    fill(result, inputs, [](std::size_t i) { return fmt::format("the function does not depend on input {}", i); });
    for (std::size_t i = 0; i < result.size(); ++i)
      check<GradError>(!options_.strict || result[i].requires_grad(),
                       "{}: the gradient with respect to input {} does not depend on the inputs", op_, i);
    return result;
  }

  // [y][x]: y.shape + x.shape, or batched (N, y.shape[1:], x.shape[1:]).
  std::vector<Tensors> jacobian(const Tensors& ys, bool batched) const {
    std::vector<Tensors> result;
    for (std::size_t i = 0; i < ys.size(); ++i) {
      const Tensor& y = ys[i];
      const std::int64_t rows = batched ? y.size(0) : 1, width = rows ? y.numel() / rows : 0;
      std::vector<Tensors> columns(inputs.size());
      for (std::int64_t e = 0; y.requires_grad() && e < width; ++e) {
        Tensors dx = backward({y}, {pick(y, rows, width, e)}, options_.create_graph);
        fill(dx, inputs,
             [=](std::size_t j) { return fmt::format("output {} of the function does not depend on input {}", i, j); });
        for (std::size_t j = 0; j < dx.size(); ++j) columns[j].push_back(std::move(dx[j]));
      }
      Tensors blocks;
      for (std::size_t j = 0; j < inputs.size(); ++j) {
        Shape shape = joined(y.shape(), inputs[j].shape(), batched ? 1 : 0);
        blocks.push_back(columns[j].empty() ? zeros(shape, inputs[j].dtype())
                                            : reshape(stack(columns[j], batched ? 1 : 0), shape));
      }
      result.push_back(std::move(blocks));
    }
    return result;
  }

  // Zeros where nothing flowed, an error in strict mode; what(i) says so of gradient i.
  template <class What>
  void fill(Tensors& gradients, const Tensors& like, What what) const {
    for (std::size_t i = 0; i < gradients.size(); ++i) {
      check_path(gradients[i], [&] { return what(i); });
      if (!gradients[i].defined()) gradients[i] = zeros_like(like[i]);
      check<GradError>(!options_.strict || !options_.create_graph || gradients[i].requires_grad(),
                       "{}: derivative {} does not depend on the inputs, so it cannot be differentiated again", op_, i);
    }
  }

  // What the caller gets: no history unless it was asked for.
  Tensors finished(Tensors results) const {
    if (!options_.create_graph)
      for (Tensor& x : results) x = x.detach();
    return results;
  }
  std::vector<Tensors> finished(std::vector<Tensors> results) const {
    for (Tensors& row : results) row = finished(std::move(row));
    return results;
  }

  // v as it is to be used: of the shapes and dtypes of `like`.
  Tensors checked_vector(const Tensors& v, const Tensors& like) const {
    if (v.empty() || (v.size() == 1 && !v[0].defined())) {
      check<GradError>(like.size() == 1 && like[0].numel() == 1,
                       "{}: v may be left out for a single tensor of one element only", op_);
      return {};
    }
    check<GradError>(v.size() == like.size(), "{}: v has {} tensors, expected {}", op_, v.size(), like.size());
    Tensors result;
    for (std::size_t i = 0; i < v.size(); ++i) {
      check<ValueError>(v[i].defined(), "{}: tensor {} of v is undefined", op_, i);
      check<ShapeError>(v[i].shape() == like[i].shape(), "{}: tensor {} of v has shape {}, expected {}", op_, i,
                        v[i].shape(), like[i].shape());
      check<DTypeError>(v[i].dtype() == like[i].dtype(), "{}: tensor {} of v is {}, expected {}", op_, i, v[i].dtype(),
                        like[i].dtype());
      result.push_back(options_.create_graph ? v[i] : v[i].detach());
    }
    return result;
  }

  Tensors inputs, outputs;

 private:
  template <class What>
  void check_path(const Tensor& gradient, What what) const {
    if (options_.strict && !gradient.defined()) detail::fail<GradError>("{}: {}", op_, what());
  }

  // Zeros like y, (rows, width) in memory, with ones in column e.
  static Tensor pick(const Tensor& y, std::int64_t rows, std::int64_t width, std::int64_t e) {
    Tensor v = zeros(y.shape(), y.dtype());
    dispatch_float("jacobian", v.dtype(), [&]<class T>() {
      for (std::int64_t n = 0; n < rows; ++n) v.raw<T>()[n * width + e] = 1;
    });
    return v;
  }

  const char* op_;
  const FunctionalOptions& options_;
};

// vᵀJ or Jv of ys, which `call` computed from its inputs.
Tensors product_of(const Call& call, const Tensors& ys, const Tensors& v, Along along, bool create_graph) {
  bool back = along == Along::Outputs;
  Tensors result = back ? call.backward(ys, v, create_graph) : call.forward(ys, v);
  call.fill(result, back ? call.inputs : ys,
            [=](std::size_t i) { return fmt::format("no derivative reaches {} {}", back ? "input" : "output", i); });
  return call.finished(std::move(result));
}

}  // namespace

std::vector<Tensors> detail::jacobian(const TensorFunction& f, const Tensors& inputs, bool batched,
                                      const FunctionalOptions& options) {
  const char* op = batched ? "jacobian_batched" : "jacobian";
  GradMode recorded(true);
  Call call(op, f, inputs, options);
  if (batched) {
    auto leads = [&](const Tensor& x) { return x.dim() > 0 && inputs[0].dim() > 0 && x.size(0) == inputs[0].size(0); };
    check<ShapeError>(inputs[0].dim() > 0, "{}: input 0 has shape (), expected (N, …)", op);
    for (std::size_t i = 0; i < inputs.size(); ++i)
      check<ShapeError>(leads(inputs[i]),
                        "{}: input {} has shape {}, that of input 0 is {}: expected one first dimension", op, i,
                        inputs[i].shape(), inputs[0].shape());
    for (std::size_t i = 0; i < call.outputs.size(); ++i)
      check<ShapeError>(leads(call.outputs[i]), "{}: output {} has shape {}, expected {} rows as the inputs", op, i,
                        call.outputs[i].shape(), inputs[0].size(0));
  }
  return call.finished(call.jacobian(call.outputs, batched));
}

std::vector<Tensor> jacobian(const Tensor& output, TensorList inputs, const FunctionalOptions& options) {
  GradMode recorded(true);
  Call call("jacobian", output, inputs, options);
  return call.finished(call.jacobian(call.outputs, false))[0];
}

std::vector<Tensors> detail::hessian(const TensorFunction& f, const Tensors& inputs, const FunctionalOptions& options) {
  GradMode recorded(true);
  Call call("hessian", f, inputs, options);
  return call.finished(call.jacobian(call.gradient(), false));
}

Product detail::product(const TensorFunction& f, const Tensors& inputs, const Tensors& v, Along along,
                        const FunctionalOptions& options) {
  GradMode recorded(true);
  Call call(along == Along::Outputs ? "vjp" : "jvp", f, inputs, options);
  Tensors vector = call.checked_vector(v, along == Along::Outputs ? call.outputs : call.inputs);
  return {call.finished(call.outputs), product_of(call, call.outputs, vector, along, options.create_graph)};
}

Product detail::hessian_product(const TensorFunction& f, const Tensors& inputs, const Tensors& v, Along along,
                                const FunctionalOptions& options) {
  GradMode recorded(true);
  Call call(along == Along::Outputs ? "vhp" : "hvp", f, inputs, options);
  Tensors vector = call.checked_vector(v, call.inputs);
  return {call.finished(call.outputs), product_of(call, call.gradient(), vector, along, options.create_graph)};
}

}  // namespace unroll
