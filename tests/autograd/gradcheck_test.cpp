// The tester is tested: each planted fault must be found, and what is right must pass.
#include <doctest/doctest.h>
#include <unroll/autograd/engine.h>
#include <unroll/autograd/gradcheck.h>
#include <unroll/autograd/ops/activation.h>
#include <unroll/autograd/ops/arithmetic.h>
#include <unroll/autograd/ops/reduce.h>
#include <unroll/autograd/record.h>
#include <unroll/core/random.h>
#include <unroll/core/view.h>

#include <memory>

using namespace unroll;

namespace {

using Tensors = std::vector<Tensor>;

Tensor input(Shape shape, DType dtype = DType::Float64) {
  Generator generator(7);
  return (rand(std::move(shape), dtype, generator) + 0.5).requires_grad_();
}

Tensor value_of_sin(const Tensor& x) {
  NoGrad guard;
  return sin(x);
}

// sin x with the given gradient function.
template <class Gradient>
auto sin_with(Gradient gradient) {
  return [=](const Tensors& in) { return record("planted", {in[0]}, value_of_sin(in[0]), save(in[0]), gradient); };
}

std::string message_of(const std::function<void()>& f) {
  try {
    f();
  } catch (const GradcheckError& error) {
    return error.what();
  }
  return "nothing was raised";
}

bool contains(const std::string& text, const char* part) { return text.find(part) != std::string::npos; }

}  // namespace

TEST_CASE("gradcheck: what is right passes") {
  CHECK(gradcheck([](const Tensors& in) { return tanh(in[0]) * in[1]; }, {input({2, 3}), input({3})}));
  CHECK(gradgradcheck([](const Tensors& in) { return tanh(in[0]) * in[1]; }, {input({2, 3}), input({3})}));
  CHECK(gradcheck(sin_with([](const Tensor& g, const Saved& s) { return g * cos(s[0]); }), {input(4)}));
  SUBCASE("functions of a span, with several outputs, one of them without a gradient") {
    auto f = [](std::span<const Tensor> in) { return Tensors{exp(in[0]), in[1].detach(), in[0] * in[1], Tensor()}; };
    CHECK(gradcheck(f, {input(2), input(2)}));
    CHECK(gradgradcheck(f, {input(2), input(2)}));
  }
  SUBCASE("linear functions and those that return an input") {
    CHECK(gradgradcheck([](const Tensors& in) { return in[0] * 3; }, {input(3)}));
    CHECK(gradgradcheck([](const Tensors& in) { return in[0]; }, {input(3)}));
  }
  SUBCASE("no elements") {
    CHECK(gradgradcheck([](const Tensors& in) { return exp(in[0]); }, {input({0, 3})}));
  }
  SUBCASE("a constant") {
    CHECK(gradcheck([](const Tensors& in) { return zeros_like(in[0]); }, {input(3)}));
  }
  SUBCASE("a parameter that the function reaches by itself") {
    Tensor w = input(3);
    CHECK(gradgradcheck([&](const Tensors&) { return tanh(w); }, {w}));
  }
  SUBCASE("under NoGrad") {
    NoGrad guard;
    CHECK(gradcheck([](const Tensors& in) { return tanh(in[0]); }, {input(3)}));
    CHECK_FALSE(GradMode::enabled());
  }
}

TEST_CASE("gradcheck: defaults are torch's") {
  GradcheckOptions options;
  CHECK(options.eps == 1e-6);
  CHECK(options.atol == 1e-5);
  CHECK(options.rtol == 1e-3);
  CHECK(options.nondet_tol == 0);
  CHECK(options.raise_exception);
  CHECK(options.check_undefined_grad);
}

TEST_CASE("gradcheck: leaves no trace") {
  Tensor x = views::transpose(input({2, 3}).detach(), 0, 1).requires_grad_();
  std::vector<double> before = x.to_vector<double>();
  Generator generator = default_generator();
  CHECK(gradgradcheck([](const Tensors& in) { return exp(in[0]); }, {x}));
  CHECK(x.to_vector<double>() == before);
  CHECK(x.version() == 0);
  CHECK_FALSE(x.grad().defined());
  CHECK(default_generator().get_state() == generator.get_state());
  SUBCASE("when the function raises, too") {
    int calls = 0;
    auto f = [&](const Tensors& in) {
      if (++calls == 3) throw std::runtime_error("mine");
      return exp(in[0]);
    };
    CHECK_THROWS_WITH_AS(gradcheck(f, {x}), "mine", std::runtime_error);
    CHECK(x.to_vector<double>() == before);
  }
}

TEST_CASE("gradcheck: a wrong first derivative") {
  auto wrong = sin_with([](const Tensor& g, const Saved& s) { return g * cos(s[0]) * 1.01; });
  CHECK_THROWS_AS(gradcheck(wrong, {input(3)}), GradcheckError);
  CHECK_FALSE(gradcheck(wrong, {input(3)}, {.raise_exception = false}));
  CHECK(gradcheck(wrong, {input(3)}, {.rtol = 0.02}));
}

TEST_CASE("gradcheck: a wrong second derivative under a right first") {
  auto wrong = sin_with([](const Tensor& g, const Saved& s) { return g * cos(s[0]).detach(); });
  CHECK(gradcheck(wrong, {input(3)}));
  CHECK_THROWS_AS(gradgradcheck(wrong, {input(3)}), GradcheckError);
  CHECK_FALSE(gradgradcheck(wrong, {input(3)}, {}, {.raise_exception = false}));
}

TEST_CASE("gradcheck: a missing gradient") {
  auto missing = sin_with([](const Tensor&, const Saved&) { return Tensor(); });
  CHECK_THROWS_AS(gradcheck(missing, {input(3)}), GradcheckError);
  CHECK_THROWS_AS(gradcheck([](const Tensors& in) { return exp(in[0]).detach(); }, {input(3)}), GradcheckError);
}

TEST_CASE("gradcheck: a node that owns itself") {
  // It would stay forever; here the capture is behind a pointer, so that the test can let go of it.
  std::vector<std::shared_ptr<Tensor>> leaked;
  auto leaking = [&](const Tensors& in) {
    auto own = std::make_shared<Tensor>(value_of_sin(in[0]));
    leaked.push_back(own);
    return record("planted", {in[0]}, *own, save(in[0]),
                  [own](const Tensor& g, const Saved& s) { return g * cos(s[0]); });
  };
  std::string text = message_of([&] { gradcheck(leaking, {input(2)}); });
  CHECK(contains(text, "leaves 1 nodes"));
  CHECK(gradcheck(leaking, {input(2)}, {.check_leaks = false}));
  for (auto& own : leaked) *own = Tensor();
}

TEST_CASE("gradcheck: an input counted twice under create_graph") {
  // x·h, whose gradient under create_graph differentiates the definition at the very tensors that came in: h was
  // computed from x.
  auto product = [](const Tensor& x, const Tensor& h) {
    Tensor y = [&] {
      NoGrad guard;
      return x * h;
    }();
    return record_all("planted", {x, h}, y, save(x, h), [](Gradients g, const Saved& s, std::span<Tensor> dx) {
      dx[0] = g[0] * s[1];
      dx[1] = g[0] * s[0];
      if (!GradMode::enabled()) return;
      auto d = grad({s[0] * s[1]}, {s[0], s[1]}, {.grad_outputs = {g[0]}, .create_graph = true});
      std::copy(d.begin(), d.end(), dx.begin());
    });
  };
  auto f = [=](const Tensors& in) { return product(in[0], tanh(in[0])); };
  std::string text = message_of([&] { gradcheck(f, {input(3)}); });
  CHECK(contains(text, "under create_graph"));
  CHECK(gradcheck(f, {input(3)}, {.check_create_graph = false}));
}

TEST_CASE("gradcheck: a gradient that ignores its cotangent") {
  auto ignoring = sin_with([](const Tensor&, const Saved& s) { return cos(s[0]); });
  std::string text = message_of([&] { gradcheck(ignoring, {input({})}); });
  CHECK(contains(text, "does not multiply"));
}

TEST_CASE("gradcheck: a backward that is not the same twice") {
  int calls = 0;
  auto drifting = sin_with([&calls](const Tensor& g, const Saved& s) { return g * cos(s[0]) * (1 + 1e-9 * ++calls); });
  std::string text = message_of([&] { gradcheck(drifting, {input(2)}); });
  CHECK(contains(text, "not reentrant"));
  CHECK(gradcheck(drifting, {input(2)}, {.nondet_tol = 1e-6}));
}

TEST_CASE("gradcheck: a gradient of the wrong size") {
  auto narrow = sin_with([](const Tensor& g, const Saved&) { return views::narrow(g, 0, 0, 2); });
  CHECK_THROWS_WITH_AS(gradcheck(narrow, {input(3)}), doctest::Contains("gradient of shape (2,), expected (3,)"),
                       ShapeError);
  // Too wide in a way that broadcasting could have caused: the engine sums it, so it is only wrong.
  auto wide = sin_with([](const Tensor& g, const Saved& s) { return views::expand(g * cos(s[0]), {2, 3}); });
  CHECK_THROWS_AS(gradcheck(wide, {input(3)}), GradcheckError);
}

TEST_CASE("gradcheck: a backward that minds whether all outputs have gradients") {
  auto minding = [](const Tensors& in) {
    Tensors y;
    {
      NoGrad guard;
      y = {in[0] * 2, in[0] * 3};
    }
    record_all("planted", in, y, {}, [](Gradients g, const Saved&, std::span<Tensor> dx) {
      if (g[0].defined() && g[1].defined())
        dx[0] = g[0] * 2 + g[1] * 3 + g[0];
      else
        dx[0] = g[0].defined() ? g[0] * 2 : g[1] * 3;
    });
    return y;
  };
  std::string text = message_of([&] { gradcheck(minding, {input(2)}); });
  CHECK(contains(text, "output 1 has no gradient"));
  CHECK(gradcheck(minding, {input(2)}, {.check_undefined_grad = false}));
}

TEST_CASE("gradcheck: a backward that writes to its input") {
  auto writing = [](const Tensors& in) {
    return record("planted", {in[0]}, value_of_sin(in[0]) * 0 + 1, save(in[0]), [](const Tensor& g, const Saved& s) {
      s[0].data<double>()[0] += 1;
      return g * 0;
    });
  };
  std::string text = message_of([&] { gradcheck(writing, {input(2)}); });
  CHECK(contains(text, "wrote to input 0"));
}

TEST_CASE("gradcheck: an output whose shape depends on elements") {
  auto f = [](const Tensors& in) { return in[0].data<double>()[0] > 1 ? in[0] * 2 : sum(in[0]); };
  Tensor x = ones(2, DType::Float64).requires_grad_();
  CHECK_THROWS_WITH_AS(gradcheck(f, {x}), doctest::Contains("output 0 is not always there with shape"), GradcheckError);
}

TEST_CASE("gradcheck: NaN is never right") {
  Tensor x = full(2, -1, DType::Float64).requires_grad_();
  CHECK_THROWS_AS(gradcheck([](const Tensors& in) { return log(in[0]); }, {x}), GradcheckError);
}

TEST_CASE("gradcheck: the message names output, input and the worst element") {
  auto f = [](const Tensors& in) {
    Tensor factor = tensor({{1.0, 1.0, 1.0}, {1.0, 1.0, 1.5}}, DType::Float64);
    Tensor y = record("planted", {in[1]}, value_of_sin(in[1]), save(in[1]),
                      [=](const Tensor& g, const Saved& s) { return g * cos(s[0]) * factor; });
    return Tensors{in[0] * 2, y};
  };
  std::string text = message_of([&] { gradcheck(f, {input(1), zeros({2, 3}, DType::Float64).requires_grad_()}); });
  for (const char* part :
       {"output 1 by input 1", "1 of 36 elements", "d output(1, 2) / d input(1, 2)", "analytic is 1.5",
        "numeric is 0.99999", "absolute difference 0.500000", "relative 0.500000"})
    CHECK_MESSAGE(contains(text, part), part, " in: ", text);
  CHECK_FALSE(contains(text, "float32"));
  text = message_of([&] { gradcheck([](const Tensors& in) { return sin(in[0]); }, {input(3, DType::Float32)}); });
  CHECK(contains(text, "use float64"));
}

TEST_CASE("gradcheck: wrong use") {
  auto f = [](const Tensors& in) { return exp(in[0]); };
  CHECK_THROWS_WITH_AS(gradcheck(f, {zeros(2, DType::Float64)}), doctest::Contains("none of the 1 inputs"), ValueError);
  CHECK_THROWS_AS(gradcheck(f, {zeros(2, DType::Float64)}, {.raise_exception = false}), ValueError);
  Tensor expanded = views::expand(zeros(1, DType::Float64), 3).requires_grad_();
  CHECK_THROWS_WITH_AS(gradcheck(f, {expanded}), doctest::Contains("expanded"), ValueError);
  CHECK_THROWS_AS(gradgradcheck(f, {input(2)}, {ones(3, DType::Float64).requires_grad_()}), ShapeError);
  CHECK_THROWS_WITH_AS(gradgradcheck([](const Tensors& in) { return zeros_like(in[0]); }, {input(2)}),
                       doctest::Contains("none of the outputs"), ValueError);
}
