#include "support/error_table.h"

#include <doctest/doctest.h>

#include <cmath>

using namespace unroll;

namespace {

constexpr DType f64 = DType::Float64;
using Tensors = std::vector<Tensor>;

struct Fixture {
  Fixture() {
    w.set_grad(ones(3, f64));
    table.watch(x, y, w, plain, n, computed);
  }

  Tensor x = tensor({1.0, 2.0, 3.0}, f64), y = ones({2, 3}, f64), w = ones(3, f64).requires_grad_();
  Tensor plain = ones(3, f64), n = tensor({1, 2, 3}), computed = w * 2, none;
  ErrorTable table{"functional"};
};

Tensor squares(const Tensor& x) { return square(x); }
Tensor total(const Tensor& x) { return sum(square(x)); }
Tensor constant(const Tensor& x) { return x.detach() * 2; }
Tensor nothing(const Tensor&) { return {}; }
Tensors no_tensors(const Tensors&) { return {}; }
Tensor product(const Tensors& in) { return sum(in[0] * in[1]); }
Tensor first_only(const Tensors& in) { return sum(square(in[0])); }
Tensor linear_in(const Tensor& x) { return sum(x); }

// What every one of them refuses; call(f, inputs) takes lists.
template <class Call>
void shared_rows(ErrorTable& table, const std::string& op, const Fixture& f, Call call) {
  table.row<GradError>("no inputs", {op, "no inputs"}, [&] { return call(product, Tensors{}); });
  table.row<DTypeError>("an input of int64", {op, "input 1 is int64", "float32 or float64"}, [&] {
    return call(product, Tensors{f.x, f.n});
  });
  table.row<ValueError>("an undefined input", {op, "input 0 is undefined"}, [&] {
    return call(product, Tensors{f.none, f.x});
  });
  table.row<ValueError>("an undefined output", {op, "output 0 of the function is undefined"},
                        [&] { return call([](const Tensors&) { return Tensor(); }, Tensors{f.x}); });
  table.row<ValueError>("a function that raises", {"function", "1 of 2"}, [&] {
    return call([](const Tensors&) -> Tensor { throw ValueError("function: 1 of 2"); }, Tensors{f.x});
  });
}

struct Planted : Function<Planted> {
  enum Mode { TooMany, Secret, DirtyStranger, DirtyLost, Needs, SavedForward, Fine };
  static constexpr bool once_differentiable = true;
  struct Context : FunctionContext {
    Mode mode;
  };
  static Tensor forward(Context& ctx, const Tensor& x, Mode mode) {
    ctx.mode = mode;
    if (mode == Secret) x.mul_(1);
    if (mode == DirtyStranger) ctx.mark_dirty(ones(1));
    if (mode == DirtyLost) ctx.mark_dirty(x);
    if (mode == Needs) ctx.needs_input_grad(2);
    if (mode == SavedForward) ctx.saved(0);
    return mode == DirtyLost ? ones(3, f64) : x * 2;
  }
  static std::vector<Tensor> backward(Context& ctx, const Tensor& g) {
    if (ctx.mode == TooMany) return {g * 2, {}, g};
    return {g * 2, {}};
  }
};

}  // namespace

TEST_CASE_FIXTURE(Fixture, "errors of functional: inputs and outputs") {
  shared_rows(table, "jacobian: ", *this, [](auto function, const Tensors& in) { return jacobian(function, in); });
  shared_rows(table, "jacobian_batched: ", *this,
              [](auto function, const Tensors& in) { return jacobian_batched(function, in); });
  shared_rows(table, "hessian: ", *this, [](auto function, const Tensors& in) { return hessian(function, in); });
  shared_rows(table, "vjp: ", *this, [](auto function, const Tensors& in) { return vjp(function, in); });
  shared_rows(table, "jvp: ", *this, [&](auto function, const Tensors& in) { return jvp(function, in, in); });
  shared_rows(table, "vhp: ", *this, [&](auto function, const Tensors& in) { return vhp(function, in, in); });
  shared_rows(table, "hvp: ", *this, [&](auto function, const Tensors& in) { return hvp(function, in, in); });
  table.row<ValueError>("no outputs", {"jacobian: ", "returned no tensors"},
                        [&] { return jacobian(no_tensors, Tensors{x}); });
  table.row<ValueError>("no outputs", {"vjp: ", "returned no tensors"}, [&] { return vjp(no_tensors, Tensors{x}); });

  // What several rows of a batch, or a second derivative, ask of shapes.
  table.row<ShapeError>("batched: inputs of other rows", {"jacobian_batched: ", "input 1", "(3,)", "(2, 3)"}, [&] {
    return jacobian_batched(product, Tensors{y, x});
  });
  table.row<ShapeError>("batched: a scalar", {"jacobian_batched: ", "input 0", "()", "(N, …)"},
                        [&] { return jacobian_batched(squares, sum(x)); });
  table.row<ShapeError>("batched: outputs of other rows", {"jacobian_batched: ", "output 0", "()", "3 rows"},
                        [&] { return jacobian_batched(total, x); });
  table.row<ShapeError>("hessian of several elements", {"hessian: ", "(3,)", "one element"},
                        [&] { return hessian(squares, x); });
  table.row<ShapeError>("vhp of several elements", {"vhp: ", "(3,)", "one element"},
                        [&] { return vhp(squares, x, x); });
  table.row<ShapeError>("hvp of several elements", {"hvp: ", "(3,)", "one element"},
                        [&] { return hvp(squares, x, x); });

  // Of what has been computed already.
  table.row<GradError>("jacobian of what has no history", {"jacobian: ", "output", "no history"},
                       [&] { return jacobian(plain, {w}); });
  table.row<GradError>("jacobian by what needs no gradient", {"jacobian: ", "input 1", "does not require a gradient"},
                       [&] {
                         return jacobian(computed, {w, plain});
                       });
  table.row<GradError>("jacobian by nothing", {"jacobian: ", "no inputs"}, [&] { return jacobian(computed, {}); });
}

TEST_CASE_FIXTURE(Fixture, "errors of functional: the vector of a product") {
  auto rows = [&](const std::string& op, const Tensor& v_like, auto call) {
    const std::string shape = fmt::format("{}", v_like.shape());
    table.row<GradError>("left out", {op, "v may be left out", "one element"}, [&] { return call(none); });
    table.row<ShapeError>("of another shape", {op, "tensor 0 of v", "(4,)", "expected " + shape},
                          [&] { return call(ones(4, f64)); });
    table.row<ShapeError>("of one element, not broadcast", {op, "tensor 0 of v", "()", "expected " + shape},
                          [&] { return call(scalar(1, f64)); });
    table.row<DTypeError>("of another dtype", {op, "tensor 0 of v", "float32", "expected float64"},
                          [&] { return call(ones(v_like.shape())); });
  };
  rows("vjp: ", x, [&](const Tensor& v) { return vjp(squares, x, v); });
  rows("jvp: ", x, [&](const Tensor& v) { return jvp(squares, x, v); });
  rows("vhp: ", x, [&](const Tensor& v) { return vhp(total, x, v); });
  rows("hvp: ", x, [&](const Tensor& v) { return hvp(total, x, v); });
  table.row<GradError>("too few tensors", {"jvp: ", "v has 1 tensors", "expected 2"}, [&] {
    return jvp(product, Tensors{x, x}, Tensors{x});
  });
  table.row<GradError>("too many tensors", {"vhp: ", "v has 3 tensors", "expected 2"}, [&] {
    return vhp(product, Tensors{x, x}, Tensors{x, x, x});
  });
  table.row<ValueError>("an undefined one among several", {"hvp: ", "tensor 1 of v", "undefined"}, [&] {
    return hvp(product, Tensors{x, x}, Tensors{x, none});
  });
}

TEST_CASE_FIXTURE(Fixture, "errors of functional: strict") {
  const FunctionalOptions strict{.strict = true};
  auto independent = [&](const std::string& op, auto call) {
    table.row<GradError>("an output that depends on nothing", {op, "output 0", "does not depend on its inputs"}, call);
  };
  independent("jacobian: ", [&] { return jacobian(constant, x, strict); });
  independent("vjp: ", [&] { return vjp(constant, x, x, strict); });
  independent("jvp: ", [&] { return jvp(constant, x, x, strict); });
  table.row<GradError>("an input that is not used", {"jacobian: ", "output 0", "does not depend on input 1"}, [&] {
    return jacobian(first_only, Tensors{x, x}, strict);
  });
  table.row<GradError>("an input that is not used", {"vjp: ", "no derivative reaches input 1"}, [&] {
    return vjp(first_only, Tensors{x, x}, Tensor(), strict);
  });
  table.row<GradError>("an input that is not used", {"hessian: ", "does not depend on input 1"}, [&] {
    return hessian(first_only, Tensors{x, x}, strict);
  });
  table.row<GradError>("a gradient that is constant", {"hessian: ", "input 0", "does not depend on the inputs"},
                       [&] { return hessian(linear_in, x, strict); });
  table.row<ValueError>("an undefined output", {"vhp: ", "output 0", "undefined"},
                        [&] { return vhp(nothing, x, x, strict); });
}

TEST_CASE_FIXTURE(Fixture, "errors of autograd: functions of one's own, further") {
  auto run = [&](Planted::Mode mode) {
    return [&, mode] {
      Tensor of = w * 1;
      sum(Planted::apply(of, mode)).backward();
    };
  };
  table.row<GradError>("too many gradients", {"Planted: ", "3 gradients", "2 arguments"}, run(Planted::TooMany));
  table.row<GradError>("forward writes an argument", {"Planted: ", "argument 0", "without mark_dirty"},
                       run(Planted::Secret));
  table.row<GradError>("mark_dirty of what is no argument", {"Planted: ", "mark_dirty", "no argument"},
                       run(Planted::DirtyStranger));
  table.row<GradError>("what was marked dirty is not returned", {"Planted: ", "marked dirty", "did not return it"},
                       run(Planted::DirtyLost));
  table.row<IndexError>("an argument that is not there", {"Planted: ", "needs_input_grad(2)", "2 arguments"},
                        run(Planted::Needs));
  table.row<IndexError>("saved() in forward", {"Planted: ", "saved(0)", "only backward"}, run(Planted::SavedForward));
  table.row<GradError>("a second derivative of what has none", {"Planted: ", "once_differentiable"}, [&] {
    Tensor g = grad({sum(square(Planted::apply(w, Planted::Fine)))}, {w}, {.create_graph = true})[0];
    return grad({sum(g)}, {w});
  });
}

TEST_CASE_FIXTURE(Fixture, "errors of autograd: hooks") {
  auto row = [&]<class E>(const char* what, std::vector<std::string> tokens, const Tensor& on, GradHook hook,
                          auto action) {
    HookHandle handle = on.register_hook(std::move(hook));
    table.row<E>(what, tokens, action);
    handle.remove();
  };
  Tensor h = w * 3;
  auto backward = [&] { sum(h * plain).backward({.retain_graph = true}); };
  const GradHook wider = [](const Tensor&) { return ones({2, 3}, f64); };
  const GradHook writes = [](const Tensor& g) { g.mul_(2); };
  const GradHook raises = [](const Tensor&) -> Tensor { throw ValueError("hook: 1 of 2"); };
  for (const Tensor& on : {w, h}) {
    row.operator()<ShapeError>("one that returns another shape", {"backward: ", "hook", "(2, 3)", "expected (3,)"}, on,
                               wider, backward);
    row.operator()<GradError>("one that writes its gradient", {"backward: ", "hook", "in place", "new tensor"}, on,
                              writes, backward);
    row.operator()<ValueError>("one that raises", {"hook", "1 of 2"}, on, raises, backward);
  }
  table.row<GradError>("on what needs no gradient", {"register_hook: ", "does not require a gradient"},
                       [&] { plain.register_hook(raises); });
  AnomalyMode anomaly;
  row.operator()<GradError>(
      "one that returns a NaN, under AnomalyMode", {"backward: ", "hook", "NaN at (0,)"}, w,
      [](const Tensor&) { return full(3, NAN, f64); }, backward);
}

TEST_CASE_FIXTURE(Fixture, "errors of autograd: anomaly") {
  Tensor zero = zeros(3, f64).requires_grad_(), odd = tensor({1.0, double(NAN), 3.0}, f64).requires_grad_();
  table.watch(zero, odd);
  AnomalyMode anomaly;
  table.row<GradError>("a NaN that arises forward", {"div: ", "output 0", "NaN at (0,)", "no input has one"},
                       [&] { return zero / zero; });
  table.row<GradError>("a NaN that came in", {"mul: ", "NaN at (1,)", "came in by input 0"}, [&] { return odd * w; });
  table.row<GradError>("a NaN that arises backward", {"sqrt", "gradient function", "NaN at (0,)"},
                       [&] { sum(sqrt(zero) * zero).backward(); });
  table.row<GradError>("a NaN that backward was given", {"backward: ", "output 0", "NaN at (1,)"},
                       [&] { (w * 2).backward({.gradient = odd.detach()}); });
  table.row<GradError>("the place of it", {"log: ", "step 7"}, [&] {
    AnomalyScope scope("step", 7);
    return log(w - 2);
  });
}
