// Gradients that are right for most cotangents and sets of inputs: each is wrong in the one case that only one law
// sees.
#include <doctest/doctest.h>
#include <unroll/autograd/function.h>
#include <unroll/autograd/grad_mode.h>
#include <unroll/autograd/gradcheck.h>
#include <unroll/autograd/ops/activation.h>
#include <unroll/autograd/ops/arithmetic.h>
#include <unroll/autograd/ops/compare.h>
#include <unroll/autograd/ops/shape.h>
#include <unroll/autograd/record.h>

#include <cmath>

using namespace unroll;

namespace {
using Tensors = std::vector<Tensor>;

Tensor input() { return ones(2, DType::Float64).requires_grad_(); }

template <class F>
bool finds(GradcheckFault fault, const F& f, const Tensors& inputs = {input()}, const GradcheckOptions& options = {}) {
  return gradcheck_report(f, inputs, options).has(fault);
}

// `what` of an expanded cotangent.
template <class What>
auto if_expanded(What what) {
  return [=](const Tensors& in) {
    Tensor y = in[0].detach() * 1;
    return record("planted", {in[0]}, y, [=](const Tensor& g) { return g.stride(0) == 0 ? what(g) : g; });
  };
}

// Two results; where both have gradients, wrong if these are so.
template <bool (*are_so)(Gradients)>
struct WrongIf : Function<WrongIf<are_so>> {
  static Tensors forward(FunctionContext& context, const Tensor& x) {
    context.set_materialize_grads(false);
    return {x * 1, x * 2};
  }
  static Tensors backward(FunctionContext&, Gradients g) {
    if (!g[1].defined()) return {g[0]};
    if (!g[0].defined()) return {g[1] * 2};
    return {(g[0] + g[1] * 2) * (are_so(g) ? 3 : 1)};
  }
};
bool second_is_zeros(Gradients g) { return all(eq(g[1], 0)); }
bool only_second_is_zeros(Gradients g) { return second_is_zeros(g) && any(ne(g[0], 0)); }
bool none_has_zeros(Gradients g) { return !any(eq(g[0], 0)) && !any(eq(g[1], 0)); }

// Where just two of three results have a gradient.
struct WrongIfTwo : Function<WrongIfTwo> {
  static Tensors forward(FunctionContext& context, const Tensor& x) {
    context.set_materialize_grads(false);
    return {x * 1, x * 2, x * 3};
  }
  static Tensors backward(FunctionContext&, Gradients g) {
    Tensor sum;
    int arrived = 0;
    for (std::size_t j = 0; j < 3; ++j) {
      if (!g[j].defined()) continue;
      const Tensor term = g[j] * static_cast<double>(j + 1);
      sum = ++arrived == 1 ? term : sum + term;
    }
    return {arrived == 2 ? sum * 2 : sum};
  }
};

// Where all inputs but the last want their gradients.
struct WrongWithoutLast : Function<WrongWithoutLast> {
  static Tensor forward(FunctionContext&, const Tensor& a, const Tensor& b, const Tensor& c, const Tensor& d,
                        const Tensor& e) {
    return a + b + c + d + e;
  }
  static Tensors backward(FunctionContext& context, const Tensor& g) {
    const bool wrong = context.needs_input_grad(0) && context.needs_input_grad(3) && !context.needs_input_grad(4);
    return {wrong ? g * 2 : g, g, g, g, g};
  }
};
}  // namespace

TEST_CASE("gradcheck laws: an expanded cotangent") {
  CHECK(finds(GradcheckFault::Layout, if_expanded([](const Tensor& g) { return g * 2; })));
}

TEST_CASE("gradcheck laws: a cotangent of zeros beside another, and one that did not arrive") {
  CHECK(finds(GradcheckFault::Undefined, [](const Tensors& in) { return WrongIf<second_is_zeros>::apply(in[0]); }));
  CHECK(finds(GradcheckFault::Undefined, [](const Tensors& in) { return WrongIfTwo::apply(in[0]); }, {input()},
              {.torch_procedure = true}));
}

TEST_CASE("gradcheck laws: each of many inputs left out") {
  CHECK(finds(GradcheckFault::Subset,
              [](const Tensors& in) { return WrongWithoutLast::apply(in[0], in[1], in[2], in[3], in[4]); },
              {input(), input(), input(), input(), input()}));
}

TEST_CASE("gradcheck laws: an input that is written, with what it was") {
  CHECK(finds(GradcheckFault::Written, [](const Tensors& in) {
    NoGrad no_grad;
    in[0].detach().mul_(1);
    GradMode on(true);
    return in[0] * 2;
  }));
}

TEST_CASE("gradcheck laws: tensors that a run leaves behind") {
  Tensors left;
  CHECK(finds(GradcheckFault::Leak, [&](const Tensors& in) {
    left.push_back(zeros(1));
    return in[0] * in[0];
  }));
}

TEST_CASE("gradcheck laws: what differs in the eighth digit, is no number or raises, is a difference") {
  using enum GradcheckFault;
  CHECK(finds(Layout, if_expanded([](const Tensor& g) { return g * (1 + 1e-8); })));
  CHECK(finds(Layout, if_expanded([](const Tensor& g) { return g * NAN; })));
  CHECK(finds(Layout, if_expanded([](const Tensor&) -> Tensor { throw ValueError("no"); })));
}

TEST_CASE("gradcheck laws: all results at once") {
  CHECK(finds(GradcheckFault::Undefined, [](const Tensors& in) { return WrongIf<none_has_zeros>::apply(in[0]); }));
}

TEST_CASE("gradcheck laws: an output that minds which inputs require a gradient") {
  auto f = [](const Tensors& in) { return in[0] * in[1] + (in[0].requires_grad() ? 0 : 1); };
  CHECK(finds(GradcheckFault::Subset, f, {input(), input()}));
}

TEST_CASE("gradcheck laws: two of four inputs, left out together") {
  auto f = [](const Tensors& in) {
    const bool wrong =
        in[0].requires_grad() && in[1].requires_grad() && !in[2].requires_grad() && !in[3].requires_grad();
    const Tensor first =
        record("planted", {in[0]}, in[0].detach() * 1, [=](const Tensor& g) { return g * (wrong ? 2 : 1); });
    return first + in[1] + in[2] + in[3];
  };
  CHECK(finds(GradcheckFault::Subset, f, {input(), input(), input(), input()}));
}

TEST_CASE("gradcheck laws: what is left of a cotangent of zeros, however little") {
  auto f = [](const Tensors& in) {
    return record("planted", {in[0]}, in[0].detach() * 1, [](const Tensor& g) { return g + 1e-13; });
  };
  CHECK(finds(GradcheckFault::Cotangent, f));
}

TEST_CASE("gradcheck laws: a gradient that minds the sign of its cotangent") {
  auto f = [](const Tensors& in) {
    return record("planted", {in[0]}, in[0].detach() * 1, [](const Tensor& g) { return abs(g); });
  };
  CHECK(finds(GradcheckFault::Value, f, {ones(20, DType::Float64).requires_grad_()}));
}

TEST_CASE("gradcheck laws: tensors that are left behind where the gradient is recorded, if that is asked for") {
  Tensors left;
  auto f = [&](const Tensors& in) {
    return record("planted", {in[0]}, in[0].detach() * 2, [&left](const Tensor& g) {
      if (GradMode::enabled()) left.push_back(zeros(1));
      return g * 2;
    });
  };
  CHECK(finds(GradcheckFault::Leak, f));
  CHECK(gradcheck(f, {input()}, {.check_create_graph = false}));
}

TEST_CASE("gradcheck laws: torch's procedure leaves out one of two outputs, unless told not to") {
  auto f = [](const Tensors& in) { return WrongIf<only_second_is_zeros>::apply(in[0]); };
  GradcheckOptions options = GradcheckOptions::torch();
  CHECK(finds(GradcheckFault::Undefined, f, {input()}, options));
  options.check_undefined_grad = false;
  CHECK(gradcheck(f, {input()}, options));
}

TEST_CASE("gradcheck laws: the last element of an input that is written, in torch's procedure too") {
  auto f = [](const Tensors& in) {
    in[0].raw<double>()[15] += 1e-9;
    return narrow(in[0], 0, 0, 15) * 2;
  };
  CHECK(finds(GradcheckFault::Written, f, {ones(16, DType::Float64).requires_grad_()}, GradcheckOptions::torch()));
}
