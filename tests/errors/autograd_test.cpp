#include "support/error_table.h"

#include <doctest/doctest.h>

#include <cmath>

using namespace unroll;

namespace {

constexpr DType f64 = DType::Float64;

struct Fixture {
  Fixture() {
    w.set_grad(ones(3, f64));
    table.watch(w, u, plain, y, n, spread);
  }

  Tensor w = tensor({1.0, 2.0, 3.0}, f64).requires_grad_(), u = ones(3, f64).requires_grad_();
  Tensor plain = ones(3, f64), y = exp(w), n = tensor({1, 2, 3});
  Tensor spread = expand(ones(1, f64), 3).requires_grad_(), none;
  ErrorTable table{"autograd"};
};

struct Planted : Function<Planted> {
  enum Mode { TooFew, WrongShape, Undefined, Dirty, ForNumber, Saved };
  struct Context : FunctionContext {
    Mode mode;
  };
  static Tensor forward(Context& ctx, const Tensor& x, Mode mode) {
    ctx.mode = mode;
    if (mode == Undefined) return {};
    if (mode == Dirty) ctx.mark_dirty(x);
    return x * 2;
  }
  static std::vector<Tensor> backward(Context& ctx, const Tensor& g) {
    if (ctx.mode == TooFew) return {g};
    if (ctx.mode == WrongShape) return {ones({5}, f64), {}};
    if (ctx.mode == ForNumber) return {g, g};
    if (ctx.mode == Saved) return {ctx.saved(0), {}};
    return {g, {}};
  }
};

}  // namespace

TEST_CASE_FIXTURE(Fixture, "errors of autograd: leaves and gradients") {
  table.row<DTypeError>("a gradient of int64", {"requires_grad_", "float32", "int64"}, [&] { n.requires_grad_(); });
  table.row<DTypeError>("a gradient of bool", {"requires_grad_", "float32", "bool"},
                        [] { tensor({true}).requires_grad_(); });
  table.row<GradError>("switching off what was computed", {"requires_grad_", "exp", "detach()"},
                       [&] { y.requires_grad_(false); });
  table.row<GradError>("retain_grad where there is none", {"retain_grad", "does not require a gradient"},
                       [&] { plain.retain_grad(); });
  table.row<ShapeError>("a gradient of another shape", {"set_grad", "(2,)", "(3,)"}, [&] { w.set_grad(ones(2, f64)); });
  table.row<DTypeError>("a gradient of another dtype", {"set_grad", "float32", "float64"},
                        [&] { w.set_grad(ones(3)); });
  table.row<GradError>("a tensor as its own gradient", {"set_grad", "its own gradient"}, [&] { w.set_grad(w); });
  table.row<GradError>("a hook where there is no gradient", {"register_hook", "does not require a gradient"},
                       [&] { plain.register_hook([](const Tensor& g) { return g; }); });
  table.row<ValueError>("requires_grad_ of an undefined tensor", {"tensor", "undefined"},
                        [&] { none.requires_grad_(); });
}

TEST_CASE_FIXTURE(Fixture, "errors of autograd: backward") {
  table.row<GradError>("without a history", {"backward", "output 0", "no history"}, [&] { sum(plain).backward(); });
  table.row<GradError>("of several elements without a gradient", {"backward", "output 0", "(3,)"},
                       [&] { (w * 2).backward(); });
  table.row<ShapeError>("with a gradient of another shape", {"backward", "(1,)", "(3,)"},
                        [&] { (w * 2).backward({.gradient = ones(1, f64)}); });
  table.row<GradError>("with fewer gradients than outputs", {"backward", "1 gradients", "2 outputs"}, [&] {
    backward({w * 2, u * 2}, {plain});
  });
  table.row<GradError>("of no outputs", {"backward", "no outputs"}, [] { backward(std::vector<Tensor>()); });
  table.row<GradError>("with an empty list of inputs", {"backward", "inputs", "empty"},
                       [&] { sum(w).backward({.inputs = std::vector<Tensor>()}); });
  table.row<GradError>("with an input that has no gradient", {"backward", "inputs", "does not require a gradient"},
                       [&] { sum(w).backward({.inputs = std::vector{plain}}); });
  table.row<GradError>("with gradients twice", {"backward", "argument", "option"},
                       [&] { backward({w * 2}, {plain}, {.gradient = plain}); });
  {
    Tensor loss = sum(square(u)), kept = u.grad();
    loss.backward();
    table.watch(u);
    table.row<GradError>("a second time", {"sum", "second time", "retain_graph", "detach()"}, [&] { loss.backward(); });
    // The classic of truncated backpropagation: a state that is carried over without detach().
    Tensor h = u * u, first = sum(h);
    first.backward();
    table.row<GradError>("through what an earlier chunk freed", {"mul", "second time", "detach()"},
                         [&] { sum(h * 2).backward(); });
  }
  {
    Tensor h = exp(w);
    Tensor loss = sum(h);
    h.zero_();
    table.row<GradError>("of a saved output that was overwritten", {"exp", "(3,)", "zero_", "version 1", "version 0"},
                         [&] { loss.backward(); });
    Tensor factor = u.detach().clone(), product = sum(w * factor);
    factor.add_(1);
    table.row<GradError>("of a saved input that was overwritten", {"mul", "(3,)", "add_", "version 1", "version 0"},
                         [&] { product.backward(); });
    Tensor v = ones(3, f64).requires_grad_(), step = sum(square(v));
    {
      NoGrad guard;
      v.add_(-0.1);
    }
    // The other classic: optimizer.step() between forward and backward.
    table.row<GradError>("of a parameter that has moved", {"(3,)", "add_", "version 1"}, [&] { step.backward(); });
  }
  Tensor hooked = w * 1;
  HookHandle shape = hooked.register_hook([](const Tensor&) { return ones(7, f64); });
  table.row<ShapeError>("with a hook that returns another shape", {"hook", "(7,)", "(3,)"},
                        [&] { sum(hooked).backward({.retain_graph = true}); });
  shape.remove();
  HookHandle raises = hooked.register_hook([](const Tensor&) -> Tensor { throw ValueError("hook: 1 of 2"); });
  table.row<ValueError>("with a hook that raises", {"hook", "1 of 2"},
                        [&] { sum(hooked).backward({.retain_graph = true}); });
  raises.remove();
}

TEST_CASE_FIXTURE(Fixture, "errors of autograd: grad") {
  table.row<GradError>("of no outputs", {"grad", "no outputs"}, [&] { return grad(std::vector<Tensor>(), {w}); });
  table.row<GradError>("with respect to nothing", {"grad", "no inputs"},
                       [&] { return grad({sum(w)}, std::vector<Tensor>()); });
  table.row<GradError>("without a history", {"grad", "output 0", "no history"},
                       [&] { return grad({sum(plain)}, {w}); });
  table.row<GradError>("with respect to what has no gradient", {"grad", "input 1", "does not require a gradient"}, [&] {
    return grad({sum(w)}, {w, plain});
  });
  table.row<GradError>("with respect to what is not used", {"grad", "input 1", "allow_unused"}, [&] {
    return grad({sum(w)}, {w, u});
  });
  table.row<GradError>("of several elements", {"grad", "output 0", "(3,)"}, [&] { return grad({w * 2}, {w}); });
  table.row<GradError>("with fewer grad_outputs", {"grad", "1 gradients", "2 outputs"}, [&] {
    return grad({w * 2, u * 2}, {w}, {.grad_outputs = {plain}});
  });
  table.row<ShapeError>("with grad_outputs of another shape", {"grad", "(2,)", "(3,)"},
                        [&] { return grad({w * 2}, {w}, {.grad_outputs = {ones(2, f64)}}); });
  table.row<GradError>("of a gradient that was not recorded", {"grad", "output 0", "no history"}, [&] {
    Tensor dx = grad({sum(square(w))}, {w})[0];
    return grad({sum(dx)}, {w});
  });
}

TEST_CASE_FIXTURE(Fixture, "errors of autograd: functions of one's own") {
  auto run = [&](Planted::Mode mode) { return [&, mode] { sum(Planted::apply(w, mode)).backward(); }; };
  table.row<GradError>("too few gradients", {"Planted", "1 gradients", "2 arguments"}, run(Planted::TooFew));
  table.row<ShapeError>("a gradient of another shape", {"Planted", "(5,)", "(3,)"}, run(Planted::WrongShape));
  table.row<ValueError>("forward without a result", {"Planted", "undefined", "result 0"}, run(Planted::Undefined));
  table.row<GradError>("mark_dirty of a leaf", {"Planted", "mark_dirty", "leaf"}, run(Planted::Dirty));
  table.row<GradError>("a gradient of what is no tensor", {"Planted", "argument 1", "no tensor"},
                       run(Planted::ForNumber));
  table.row<IndexError>("a tensor that was not saved", {"Planted", "saved(0)", "0 tensors"}, run(Planted::Saved));
}

TEST_CASE_FIXTURE(Fixture, "errors of gradcheck") {
  auto squares = [](const std::vector<Tensor>& in) { return square(in[0]); };
  table.row<ValueError>("no input with a gradient", {"gradcheck", "none of the 1 inputs", "requires a gradient"},
                        [&] { return gradcheck(squares, {plain}); });
  table.row<ValueError>("an expanded input", {"gradcheck", "(3,)", "share memory", "clone()"},
                        [&] { return gradcheck(squares, {spread}); });
  auto wrong = [](const std::vector<Tensor>& in) { return square(in[0]) + in[0].detach(); };
  table.row<GradcheckError>("a gradient that is wrong", {"gradcheck", "input 0", "output 0"},
                            [&] { return gradcheck(wrong, {w}); });
}
