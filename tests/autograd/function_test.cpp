#include "support/any_function.h"
#include "support/gradients.h"
#include "support/memory.h"

#include <doctest/doctest.h>
#include <unroll/autograd/engine.h>
#include <unroll/autograd/function.h>
#include <unroll/autograd/grad_mode.h>
#include <unroll/autograd/ops/activation.h>
#include <unroll/autograd/ops/arithmetic.h>
#include <unroll/autograd/ops/reduce.h>
#include <unroll/autograd/ops/shape.h>

#include <atomic>
#include <stdexcept>
#include <thread>

using namespace unroll;
using doctest::Contains;

namespace {

// x³ · factor
struct Cube : Function<Cube> {
  struct Context : FunctionContext {
    double factor = 0;
  };
  static Tensor forward(Context& ctx, const Tensor& x, double factor) {
    CHECK_FALSE(GradMode::enabled());
    ctx.factor = factor;
    ctx.save_for_backward({x});
    return x * x * x * factor;
  }
  static Tensors backward(Context& ctx, const Tensor& g) {
    const Tensor& x = ctx.saved(0);
    return {g * x * x * (3 * ctx.factor), {}};
  }
};

// {a·b, a + b, a count of calls}: several arguments and results, one of which is not floating.
struct Pair : Function<Pair> {
  static std::tuple<Tensor, Tensor, Tensor, std::string> forward(FunctionContext& ctx, const Tensor& a,
                                                                 const std::string& text, const Tensor& b) {
    ctx.save_for_backward({a, b});
    CHECK_FALSE(ctx.needs_input_grad(1));
    needs = {ctx.needs_input_grad(0), ctx.needs_input_grad(2)};
    return {a * b, a + b, arange(2), text};
  }
  static Tensors backward(FunctionContext& ctx, Gradients g) {
    CHECK(g.size() == 3);
    defined = {g[0].defined(), g[1].defined()};
    auto saved = ctx.saved_tensors();
    return {ctx.needs_input_grad(0) ? g[0] * saved[1] + g[1] : Tensor(), Tensor(),
            ctx.needs_input_grad(2) ? g[0] * saved[0] + g[1] : Tensor()};
  }
  static inline std::vector<bool> needs, defined;
};

struct Once : Function<Once> {
  static constexpr bool once_differentiable = true;
  static Tensor forward(FunctionContext& ctx, const Tensor& x) {
    ctx.save_for_backward({x});
    return x * x;
  }
  static Tensor backward(FunctionContext& ctx, const Tensor& g) {
    CHECK_FALSE(GradMode::enabled());
    return g * ctx.saved(0) * 2;
  }
};

struct Returned : Function<Returned> {  // its own argument
  static Tensor forward(FunctionContext&, const Tensor& x) { return x; }
  static Tensor backward(FunctionContext&, const Tensor& g) { return g * 5; }
};

struct TwoForOne : Function<TwoForOne> {
  static Tensors forward(FunctionContext&, const Tensor& x) { return {x * 1, x * 2}; }
  static Tensor backward(FunctionContext&, const Tensor& g) { return g; }
};

const Any::Forward kDouble = [](FunctionContext&, const Tensors& x) { return Tensors{x[0] * 2}; };

}  // namespace

TEST_CASE("Function: values and derivatives of every order") {
  Tensor x = leaf({0.5, -2});
  Tensor y = Cube::apply(x, 2.0);
  CHECK(of(y) == Values{0.25, -16});
  CHECK_FALSE(y.is_leaf());
  CHECK(detail::gradient_suffix(y) == "grad_fn=<Cube>");
  sum(y).backward();
  CHECK(of(x.grad()) == Values{1.5, 24});
  check_gradients([](const Tensors& in) { return Tensors{Cube::apply(in[0], 2.0)}; }, {x});
  Tensor d = sum(Cube::apply(x, 2.0));
  for (const Values& expected : {Values{1.5, 24}, Values{6, -24}, Values{12, 12}}) {
    d = grad({sum(d)}, {x}, {.create_graph = true})[0];
    CHECK(of(d) == expected);
  }
}

TEST_CASE("Function: what is not recorded") {
  Tensor plain = tensor({2.0}, DType::Float64);
  CHECK_FALSE(Cube::apply(plain, 1.0).requires_grad());
  NoGrad guard;
  CHECK_FALSE(Cube::apply(leaf({1}), 1.0).requires_grad());
}

TEST_CASE("Function: several arguments and results, and what is no tensor") {
  Tensor a = leaf({2, 3}), b = leaf({5, 7});
  auto [product, total, count, text] = Pair::apply(a, std::string("text"), b);
  CHECK(text == "text");
  CHECK(of(product) == Values{10, 21});
  CHECK(product.requires_grad());
  CHECK(total.requires_grad());
  CHECK_FALSE(count.requires_grad());
  CHECK(Pair::needs == std::vector{true, true});
  sum(product * total).backward();
  CHECK(of(a.grad()) == Values{2 * 2 * 5 + 25, 2 * 3 * 7 + 49});
  SUBCASE("a gradient that does not arrive is zero") {
    auto results = Pair::apply(a, std::string(), b);
    CHECK(of(grad({sum(std::get<1>(results))}, {a})[0]) == Values{1, 1});
    CHECK(Pair::defined == std::vector{true, true});
  }
  SUBCASE("needs_input_grad") {
    Tensor fixed = b.detach();
    auto results = Pair::apply(a, std::string(), fixed);
    CHECK(Pair::needs == std::vector{true, false});
    CHECK(of(grad({sum(std::get<0>(results))}, {a})[0]) == Values{5, 7});
    auto more = Pair::apply(a, std::string(), b);
    CHECK(of(grad({sum(std::get<0>(more))}, {b})[0]) == Values{2, 3});  // a's is not wanted by this pass
  }
  SUBCASE("all subsets of what requires a gradient, twice differentiated") {
    auto f = [](const Tensors& in) {
      auto results = Pair::apply(in[0], std::string(), in[1]);
      return Tensors{std::get<0>(results), std::get<1>(results)};
    };
    check_gradients(f, {a, b});
    check_gradients(f, {a, b.detach()});
    check_gradients(f, {a.detach(), b});
  }
}

TEST_CASE("Function: set_materialize_grads(false) leaves undefined what did not arrive") {
  for (bool materialize : {true, false}) {
    Tensor x = leaf({1, 2});
    std::vector<bool> defined;
    Tensors y = Any::apply(Tensors{x}, Any::Forward([&](FunctionContext& ctx, const Tensors& in) {
                             ctx.set_materialize_grads(materialize);
                             return Tensors{in[0] * 1, in[0] * 2, in[0] * 3};
                           }),
                           Any::Backward([&](FunctionContext&, Gradients g) {
                             for (const Tensor& gradient : g) defined.push_back(gradient.defined());
                             if (materialize) CHECK(of(g[2]) == Values{0, 0});
                             return Tensors{g[1], {}, {}};
                           }));
    CHECK(of(grad({sum(y[1])}, {x})[0]) == Values{1, 1});
    CHECK(defined == std::vector{materialize, true, materialize});
  }
}

TEST_CASE("Function: saved tensors are checked, and freed with the graph") {
  Tensor x = leaf({1, 2}), h = x * 1;
  Tensor y = Cube::apply(h, 1.0);
  h.add_(1);
  CHECK_THROWS_WITH_AS(sum(y).backward(), Contains("Cube: a tensor of shape (2,) that backward needs was modified"),
                       GradError);
  Tensor z = Cube::apply(leaf({2}), 1.0);
  z.backward();
  CHECK_THROWS_WITH_AS(z.backward(), Contains("Cube: backward through the graph a second time"), GradError);
  CHECK_THROWS_WITH_AS(Any::apply(Tensors{x}, Any::Forward([](FunctionContext& ctx, const Tensors& in) {
                                    ctx.saved(0);
                                    return in;
                                  }),
                                  Any::Backward()),
                       Contains("Any: saved(0): only backward"), IndexError);
  Live before;
  {
    Tensor big = zeros(1000, DType::Float64).requires_grad_(), out = Cube::apply(big, 1.0);
    Live recorded;
    grad({sum(out)}, {big});
    big = Tensor();
    CHECK(Live().bytes < recorded.bytes);  // though `out` lives
  }
  CHECK(Live() == before);
}

TEST_CASE("Function: a saved result, and a result that is saved by nobody else") {
  struct Exp : Function<Exp> {
    static Tensor forward(FunctionContext& ctx, const Tensor& x) {
      Tensor y = exp(x);
      ctx.save_for_backward({y});
      return y;
    }
    static Tensor backward(FunctionContext& ctx, const Tensor& g) { return g * ctx.saved(0); }
  };
  Live before;
  {
    Tensor x = leaf({0.5, -1});
    check_gradients([](const Tensors& in) { return Tensors{Exp::apply(in[0])}; }, {x});
    Exp::apply(x);  // never walked: node and result must not own each other
  }
  CHECK(Live() == before);
}

TEST_CASE("Function: mark_non_differentiable") {
  Tensor x = leaf({1, -2});
  auto forward = [](FunctionContext& ctx, const Tensors& in) {
    Tensor y = in[0] * 2, sign = in[0] * 0 + 1;
    ctx.mark_non_differentiable({sign});
    ctx.save_for_backward({sign});
    return Tensors{y, sign};
  };
  auto backward = [](FunctionContext& ctx, Gradients g) {
    CHECK(of(g[1]) == Values{0, 0});
    return Tensors{g[0] * 2 * ctx.saved(0), {}, {}};
  };
  Tensors y = Any::apply(Tensors{x}, Any::Forward(forward), Any::Backward(backward));
  CHECK(y[0].requires_grad());
  CHECK_FALSE(y[1].requires_grad());
  Tensor d = grad({sum(y[0] * y[0])}, {x}, {.create_graph = true})[0];
  CHECK(of(d) == Values{8, -16});
  CHECK(of(grad({sum(d)}, {x})[0]) == Values{8, 8});
}

TEST_CASE("Function: a result that is an argument, a parameter or another result is a tensor of its own") {
  Tensor x = leaf({1, 2});
  Tensor y = Returned::apply(x);
  CHECK(x.is_leaf());
  CHECK(y.shares_memory(x));
  sum(y).backward();
  CHECK(of(x.grad()) == Values{5, 5});
  Tensor parameter = leaf({7, 7});
  Tensors both = Any::apply(Tensors{x}, Any::Forward([&](FunctionContext&, const Tensors& in) {
                              Tensor z = in[0] * 1;
                              return Tensors{parameter, z, z};
                            }),
                            Any::Backward([](FunctionContext&, Gradients g) {
                              return Tensors{g[0] + g[1] * 10 + g[2] * 100, {}, {}};
                            }));
  CHECK(parameter.is_leaf());
  CHECK(of(grad({sum(both[1] + both[2])}, {x}, {.retain_graph = true})[0]) == Values{110, 110});
  CHECK(of(grad({sum(both[0])}, {x})[0]) == Values{1, 1});
}

TEST_CASE("Function: an argument that is returned is another tensor where nothing is recorded, too") {
  Tensor x = leaf({1, 2}), y;
  {
    NoGrad guard;
    y = Returned::apply(x);
  }
  CHECK_FALSE(y.is_same(x));
  CHECK_FALSE(y.requires_grad());
  CHECK(y.shares_memory(x));
}

TEST_CASE("Function: once_differentiable") {
  Tensor x = leaf({3});
  CHECK(grad({Once::apply(x)}, {x})[0].item() == 6);
  Tensor d = grad({Once::apply(x)}, {x}, {.create_graph = true})[0];
  CHECK(d.item() == 6);
  CHECK_THROWS_WITH_AS(grad({d}, {x}), Contains("Once: its gradient cannot be differentiated"), GradError);
  Tensor g = leaf({2});
  Tensor by_g = grad({Once::apply(x)}, {x}, {.grad_outputs = {g}, .create_graph = true})[0];
  CHECK_THROWS_WITH_AS(grad({by_g}, {g}), Contains("Once"), GradError);
  CHECK_FALSE(gradgradcheck([](const Tensors& in) { return Tensors{Cube::apply(in[0], 1.0)}; }, {x}) == false);
}

TEST_CASE("Function: what backward returns is checked") {
  Tensor x = leaf({1, 2}), w = leaf({3, 4});
  sum(x * w).backward();
  Values dx = of(x.grad()), dw = of(w.grad());
  auto run = [&](Any::Backward backward, bool other = false) {
    Tensors y = Any::apply(other ? Tensors{x, w} : Tensors{x}, kDouble, std::move(backward));
    sum(y[0] * w).backward();
  };
  auto returning = [](Tensors result) { return [result](FunctionContext&, Gradients) { return result; }; };
  Tensor one = ones(2, DType::Float64);
  // Of the arguments, the list counts as its elements, and the two functions are arguments, too.
  CHECK_THROWS_WITH_AS(run(returning({})), Contains("Any: backward returned 0 gradients for the 3 arguments"),
                       GradError);
  CHECK_THROWS_WITH_AS(run(returning({one, {}, {}, one})), Contains("returned 4 gradients for the 3 arguments"),
                       GradError);
  CHECK_THROWS_WITH_AS(run(returning({one, one, {}})), Contains("a gradient of argument 1, which is no tensor"),
                       GradError);
  CHECK_THROWS_WITH_AS(run(returning({ones(3, DType::Float64), {}, {}})),
                       Contains("Any: backward gave input 0 a gradient of shape (3,), expected (2,)"), ShapeError);
  CHECK_THROWS_WITH_AS(run(returning({one, ones({3, 2, 1}, DType::Float64), {}, {}}), true),
                       Contains("input 1 a gradient of shape (3, 2, 1), expected (2,)"), ShapeError);
  CHECK(of(x.grad()) == dx);
  CHECK(of(w.grad()) == dw);
  w.requires_grad_(false);
  run(returning({one, {}, {}, {}, {}}));  // undefined ones at the end are no harm
  CHECK(of(x.grad()) == Values{dx[0] + 1, dx[1] + 1});
  run(returning({one.to(DType::Float32), {}, {}}));
  CHECK(x.grad().dtype() == DType::Float64);
  run(returning({{}, {}, {}}));
  CHECK(of(x.grad()) == Values{dx[0] + 2, dx[1] + 2});
  run(returning({ones({3, 2}, DType::Float64), {}, {}}));  // as broadcasting made it
  CHECK(of(x.grad()) == Values{dx[0] + 5, dx[1] + 5});
}

TEST_CASE("Function: wrong use of apply") {
  Tensor x = leaf({1, 2});
  auto give = [&](Tensors results) { return [results](FunctionContext&, const Tensors&) { return results; }; };
  CHECK_THROWS_WITH_AS(Any::apply(Tensors{x}, Any::Forward(give({x, Tensor()})), Any::Backward()),
                       Contains("Any: forward returned an undefined tensor as result 1"), ValueError);
  CHECK_THROWS_WITH_AS(TwoForOne::apply(x), Contains("forward returned 2 results, backward takes the gradient of one"),
                       ValueError);
  CHECK_THROWS_AS(Any::apply(Tensors{x}, Any::Forward([](FunctionContext& ctx, const Tensors& in) {
                               ctx.needs_input_grad(9);
                               return in;
                             }),
                             Any::Backward()),
                  IndexError);
}

TEST_CASE("Function: what forward and backward raise arrives as it is") {
  struct Mine : std::exception {
    int code = 42;
  };
  Tensor x = leaf({1, 2});
  Any::Forward throwing = [](FunctionContext&, const Tensors&) -> Tensors { throw Mine(); };
  auto code_of = [&](auto f) {
    try {
      f();
    } catch (const Mine& mine) {
      return mine.code;
    }
    return 0;
  };
  CHECK(code_of([&] { Any::apply(Tensors{x}, throwing, Any::Backward()); }) == 42);
  CHECK(GradMode::enabled());
  Tensors y =
      Any::apply(Tensors{x}, kDouble, Any::Backward([](FunctionContext&, Gradients) -> Tensors { throw Mine(); }));
  CHECK(code_of([&] { sum(y[0]).backward(); }) == 42);
  CHECK(GradMode::enabled());
  CHECK_FALSE(x.grad().defined());
}

TEST_CASE("Function: passes through one graph at the same time and inside each other") {
  Tensor x = leaf({1, 2});
  Tensor y = sum(Cube::apply(x, 2.0));
  std::atomic<int> wrong = 0;
  std::vector<std::thread> threads;
  for (int i = 0; i < 8; ++i)
    threads.emplace_back([&] {
      for (int step = 0; step < 50; ++step) wrong += of(grad({y}, {x}, {.retain_graph = true})[0]) != Values{6, 24};
    });
  for (std::thread& thread : threads) thread.join();
  CHECK(wrong == 0);
  // A gradient function that goes back through its own function, retaining, and then reads what it saved.
  Tensor z;
  bool inside = false;
  z = Any::apply(Tensors{x}, Any::Forward([](FunctionContext& ctx, const Tensors& in) {
                   ctx.save_for_backward({in[0]});
                   return Tensors{in[0] * in[0]};
                 }),
                 Any::Backward([&](FunctionContext& ctx, Gradients g) -> Tensors {
                   if (!std::exchange(inside, true)) grad({z}, {x}, {.grad_outputs = {g[0]}, .retain_graph = true});
                   return {g[0] * ctx.saved(0) * 2, {}, {}};
                 }))[0];
  CHECK(of(grad({sum(z)}, {x})[0]) == Values{2, 4});
}
