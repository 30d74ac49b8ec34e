// The tester is tested: each planted fault must be found, under its name.
#include <doctest/doctest.h>
#include <unroll/autograd/engine.h>
#include <unroll/autograd/fused.h>
#include <unroll/autograd/gradcheck.h>
#include <unroll/autograd/ops/activation.h>
#include <unroll/autograd/ops/arithmetic.h>
#include <unroll/autograd/ops/reduce.h>
#include <unroll/autograd/ops/shape.h>
#include <unroll/core/random.h>
#include <unroll/core/view.h>

#include <cmath>
#include <memory>

using namespace unroll;

namespace {

using Tensors = std::vector<Tensor>;
using Fault = GradcheckFault;

Tensor input(const Shape& shape) {
  Generator generator(7);
  return (rand(shape, DType::Float64, generator) + 0.5).requires_grad_();
}

template <class F>
auto unrecorded(F f) {
  NoGrad guard;
  return f();
}

Tensor value_of_sin(const Tensor& x) {
  return unrecorded([&] { return sin(x); });
}

// sin x with the given gradient function.
template <class Gradient>
auto sin_with(Gradient gradient) {
  return [=](const Tensors& in) { return record("planted", {in[0]}, value_of_sin(in[0]), save(in[0]), gradient); };
}

bool contains(const std::string& text, const char* part) { return text.find(part) != std::string::npos; }

// Exactly this fault is found, with that text.
void check_only(const GradcheckReport& report, Fault fault, const char* part) {
  std::string text = to_string(report);
  CAPTURE(text);
  CHECK(report.verdict == GradcheckVerdict::Failed);
  REQUIRE(report.findings.size() == 1);
  CHECK(report.has(fault));
  CHECK(contains(text, part));
}

}  // namespace

TEST_CASE("gradcheck finds a wrong first derivative, however small the error and however small the gradient") {
  for (double off : {1e-2, 1e-4, 1e-6}) {
    CAPTURE(off);
    auto wrong = sin_with([=](const Tensor& g, const Saved& s) { return g * cos(s[0]) * (1 + off); });
    for (double loss_scale : {1.0, 1e-6, 1e-9}) {
      auto f = [=](const Tensors& in) { return sum(wrong(in)) * loss_scale; };
      check_only(gradcheck_report(f, {input(3)}), Fault::Value, "does not match in 3 of 3 elements");
      check_only(gradcheck_report(f, {input(3)}, {.fast_mode = true}), Fault::Value, "does not match in 3 of 3");
      // Where torch's fixed tolerance sees nothing.
      if (off < 1e-3 || loss_scale < 1) CHECK(gradcheck(f, {input(3)}, GradcheckOptions::torch()));
    }
    CHECK_THROWS_AS(gradcheck(wrong, {input(3)}), GradcheckError);
    CHECK_FALSE(gradcheck(wrong, {input(3)}, {.raise_exception = false}));
    CHECK(gradcheck(wrong, {input(3)}, {.rtol = 2 * off}));
  }
}

TEST_CASE("gradcheck finds one wrong element among many, and says which") {
  auto f = [](const Tensors& in) {
    Tensor factor = ones({5, 7}, DType::Float64);
    factor.data<double>()[3 * 7 + 4] = 1 + 1e-5;
    Tensor y = record("planted", {in[1]}, value_of_sin(in[1]), save(in[1]),
                      [=](const Tensor& g, const Saved& s) { return g * cos(s[0]) * factor; });
    return Tensors{in[0] * 2, y};
  };
  for (bool fast : {false, true}) {
    GradcheckReport report = gradcheck_report(f, {input(1), input({5, 7})}, {.fast_mode = fast});
    check_only(report, Fault::Value, "input 1: the gradient does not match in 1 of 35 elements");
    CHECK(report.row("input 1").worst.index == Shape{3, 4});
    CHECK(report.row("input 0").wrong == 0);
    REQUIRE(report.pair);
    CHECK(report.pair->output == 1);
    CHECK(report.pair->output_index == Shape{3, 4});
    CHECK(report.pair->input_index == Shape{3, 4});
    CHECK(report.pair->analytic / report.pair->numeric == doctest::Approx(1 + 1e-5).epsilon(1e-8));
  }
}

TEST_CASE("gradcheck finds one wrong entry of a Jacobian") {
  // d y_i / d x_k of y = Σ x² each; one of the 16 entries is off.
  auto f = [](const Tensors& in) {
    Tensor y = unrecorded([&] { return expand(sum(square(in[0])), {4}); });
    return record("planted", {in[0]}, y.clone(), save(in[0]), [](const Tensor& g, const Saved& s) {
      Tensor off = zeros(4, DType::Float64);
      off.data<double>()[2] = 1e-3;
      return sum(g) * s[0] * 2 + off * select(g, 0, 1);
    });
  };
  GradcheckReport report = gradcheck_report(f, {input(4)});
  check_only(report, Fault::Value, "in 1 of 4 elements");
  REQUIRE(report.pair);
  CHECK(report.pair->output_index == Shape{1});
  CHECK(report.pair->input_index == Shape{2});
  CHECK(report.pair->analytic - report.pair->numeric == doctest::Approx(1e-3).epsilon(1e-6));
}

TEST_CASE("gradcheck finds a missing gradient") {
  auto missing = sin_with([](const Tensor&, const Saved&) { return Tensor(); });
  GradcheckReport report = gradcheck_report(missing, {input(3)});
  check_only(report, Fault::Value, "3 of 3");
  CHECK(contains(to_string(report), "hint: input 0: the gradient is exactly zero"));
  check_only(gradcheck_report([](const Tensors& in) { return exp(in[0]).detach(); }, {input(3)}), Fault::Value,
             "3 of 3");
}

TEST_CASE("gradgradcheck finds a wrong second derivative under a right first") {
  auto wrong = sin_with([](const Tensor& g, const Saved& s) { return g * cos(s[0]).detach(); });
  CHECK(gradcheck(wrong, {input(3)}));
  check_only(gradgradcheck_report(wrong, {input(3)}), Fault::Value, "input 0: the gradient does not match in 3 of 3");
  CHECK_FALSE(gradgradcheck(wrong, {input(3)}, {}, {.raise_exception = false}));
  CHECK_THROWS_AS(gradgradcheck(wrong, {input(3)}, {}, GradcheckOptions::torch()), GradcheckError);
  // A second derivative that is silently zero, beside another gradient that is recorded: torch's procedure looks only
  // at what requires a gradient, and misses it.
  auto silent = [](const Tensors& in) {
    return record(
        "planted", {in[0], in[1]}, unrecorded([&] { return in[0] * in[1]; }), save(in[0], in[1]),
        [](const Tensor& g, const Saved& s) { return (g * s[1]).detach(); },
        [](const Tensor& g, const Saved& s) { return g * s[0]; });
  };
  CHECK(gradcheck(silent, {input(3), input(3)}));
  CHECK(gradgradcheck_report(silent, {input(3), input(3)}).has(Fault::Value));
  CHECK(gradgradcheck(silent, {input(3), input(3)}, {}, GradcheckOptions::torch()));
}

TEST_CASE("gradcheck finds a node that owns itself") {
  // It would stay forever; here the capture is behind a pointer, so that the test can let go of it.
  std::vector<std::shared_ptr<Tensor>> leaked;
  auto leaking = [&](const Tensors& in) {
    auto own = std::make_shared<Tensor>(value_of_sin(in[0]));
    leaked.push_back(own);
    return record("planted", {in[0]}, *own, save(in[0]),
                  [own](const Tensor& g, const Saved& s) { return g * cos(s[0]); });
  };
  check_only(gradcheck_report(leaking, {input(2)}), Fault::Leak, "leaves 1 nodes");
  CHECK(gradcheck(leaking, {input(2)}, {.check_leaks = false}));
  for (auto& own : leaked) *own = Tensor();
}

TEST_CASE("gradcheck finds an input that is counted twice under create_graph") {
  // x·h, whose gradient under create_graph differentiates the definition at the very tensors that came in: h was
  // computed from x.
  auto product = [](const Tensor& x, const Tensor& h) {
    return record_all("planted", {x, h}, unrecorded([&] { return x * h; }), save(x, h),
                      [](Gradients g, const Saved& s, std::span<Tensor> dx) {
                        dx[0] = g[0] * s[1];
                        dx[1] = g[0] * s[0];
                        if (!GradMode::enabled()) return;
                        auto d = grad({s[0] * s[1]}, {s[0], s[1]}, {.grad_outputs = {g[0]}, .create_graph = true});
                        std::copy(d.begin(), d.end(), dx.begin());
                      });
  };
  auto f = [=](const Tensors& in) { return product(in[0], tanh(in[0])); };
  check_only(gradcheck_report(f, {input(3)}), Fault::CreateGraph, "under create_graph");
  CHECK(gradcheck(f, {input(3)}, {.check_create_graph = false}));
}

TEST_CASE("gradcheck finds a definition that is not what the kernel computes") {
  auto f = [](const Tensors& in) {
    Tensors y{value_of_sin(in[0])};
    record_fused(
        "planted", in, y, {}, [](Gradients g, const Saved& s, std::span<Tensor> dx) { dx[0] = g[0] * cos(s[0]); },
        [](std::span<const Tensor> x) { return Tensors{sin(x[0]) * 1.0001}; });
    return y[0];
  };
  check_only(gradcheck_report(f, {input(3)}), Fault::CreateGraph, "under create_graph");
}

TEST_CASE("gradcheck notes a gradient that refuses to be recorded") {
  auto f = sin_with([](const Tensor& g, const Saved& s) {
    check<GradError>(!GradMode::enabled(), "only once");
    return g * cos(s[0]);
  });
  GradcheckReport report = gradcheck_report(f, {input(3)});
  CHECK(report.ok());
  CHECK(contains(to_string(report), "note: under create_graph, backward raises: only once"));
}

TEST_CASE("gradcheck finds a forward that is not the same twice") {
  int calls = 0;
  auto drifting = [&](const Tensors& in) { return sin(in[0]) * (1 + 1e-14 * ++calls); };
  check_only(gradcheck_report(drifting, {input(2)}), Fault::Nondeterministic, "output 0 of two runs");
  check_only(gradcheck_report([](const Tensors& in) { return in[0] * rand_like(in[0]); }, {input(2)}),
             Fault::Nondeterministic, "output 0 of two runs");
}

TEST_CASE("gradcheck finds a function that returns something else near by") {
  // From 1 on upward; the check begins at 1.
  auto above = [](const Tensors& in) { return in[0].data<double>()[0] > 1; };
  auto shape = [=](const Tensors& in) { return above(in) ? sum(in[0]) : in[0] * 2; };
  auto broader = [=](const Tensors& in) { return above(in) ? cat({in[0], in[0]}) : in[0] * 2; };
  auto transposed = [=](const Tensors& in) {
    Tensor y = reshape(in[0], {1, 2}) * 2;
    return above(in) ? t(y) : y;
  };
  auto dtype = [=](const Tensors& in) { return above(in) ? in[0].to(DType::Float32) : in[0] * 2; };
  auto fewer = [=](const Tensors& in) { return above(in) ? Tensors{in[0]} : Tensors{in[0], in[0] * 2}; };
  auto more = [=](const Tensors& in) { return above(in) ? Tensors{in[0], in[0] * 2} : Tensors{in[0]}; };
  GradcheckOptions torch = GradcheckOptions::torch(), torch_fast = torch;
  torch_fast.fast_mode = true;
  for (GradcheckOptions options : {GradcheckOptions{}, GradcheckOptions{.fast_mode = true}, torch, torch_fast}) {
    CAPTURE(options.torch_procedure);
    CAPTURE(options.fast_mode);
    const Tensors x{ones(2, DType::Float64).requires_grad_()};
    auto found = [&](auto f, const char* part) {
      check_only(gradcheck_report(f, x, options), Fault::Nondeterministic, part);
    };
    found(shape, "output 0 is not always there with shape (2,) and dtype float64");
    found(broader, "output 0 is not always there with shape (2,)");
    found(transposed, "output 0 is not always there with shape (1, 2)");
    found(dtype, "dtype float64");
    found(fewer, "there are 2 outputs, and in another run 1");
    found(more, "there are 1 outputs, and in another run 2");
    CHECK_THROWS_AS(gradcheck(shape, x, options), GradcheckError);
    CHECK_THROWS_AS(gradgradcheck(shape, x, {}, options), Error);  // nothing fits the cotangents any more
    CHECK(x[0].detach().to_vector<double>() == std::vector{1.0, 1.0});
  }
}

TEST_CASE("gradcheck: two runs of a backward may lie as far apart as nondet_tol, and no further") {
  // Between 1 − off/2 and 1 + off/2 times what is right, which is 1 at most; no two runs near each other are alike.
  auto jittering = [](double off) {
    return sin_with([=, runs = std::make_shared<int>()](const Tensor& g, const Saved& s) {
      return g * cos(s[0]) * (1 + off * (std::fmod(++*runs * 0.618, 1) - 0.5));
    });
  };
  GradcheckOptions torch = GradcheckOptions::torch(), torch_fast = torch;
  torch_fast.fast_mode = true;
  for (GradcheckOptions options : {GradcheckOptions{}, GradcheckOptions{.fast_mode = true}, torch, torch_fast})
    for (double off : {1e-13, 1e-9, 1e-6}) {
      CAPTURE(options.torch_procedure);
      CAPTURE(options.fast_mode);
      CAPTURE(off);
      auto checked = [&](double nondet_tol) {
        options.nondet_tol = nondet_tol;
        return gradcheck_report(jittering(off), {input({2, 3})}, options);
      };
      CHECK(checked(2 * off).ok());
      for (double too_little : {0.0, off / 100}) {
        GradcheckReport report = checked(too_little);
        CHECK(report.verdict == GradcheckVerdict::Failed);
        CHECK(report.has(Fault::NotReentrant));
        CHECK(contains(to_string(report), "not reentrant"));
      }
    }
  // It excuses nothing that is larger.
  auto wrong = sin_with([](const Tensor& g, const Saved& s) { return g * cos(s[0]) * 1.01; });
  check_only(gradcheck_report(wrong, {input(3)}, {.nondet_tol = 1e-3}), Fault::Value, "3 of 3");
}

TEST_CASE("gradcheck finds a gradient that ignores its cotangent") {
  auto ignoring = sin_with([](const Tensor&, const Saved& s) { return cos(s[0]); });
  GradcheckReport report = gradcheck_report(ignoring, {input(2)});
  CHECK(report.has(Fault::Cotangent));
  CHECK(contains(to_string(report), "does not multiply by a cotangent of 0"));
  GradcheckOptions torch = GradcheckOptions::torch();
  for (bool fast : {false, true}) {
    torch.fast_mode = fast;
    CHECK_THROWS_AS(gradcheck(ignoring, {input(2)}, torch), GradcheckError);
  }
  // Of one number at a cotangent of 1, only torch's last check sees it.
  torch.fast_mode = false;
  check_only(gradcheck_report(ignoring, {input({})}, torch), Fault::Cotangent,
             "when that of the outputs is 0: backward does not multiply by it");
  // One that does, but clips: any check at small cotangents passes.
  auto clipping = sin_with([](const Tensor& g, const Saved& s) { return clamp(g, -10, 10) * cos(s[0]); });
  check_only(gradcheck_report(clipping, {input(2)}), Fault::Cotangent, "not linear in a cotangent");
  CHECK(gradcheck(clipping, {input(2)}, GradcheckOptions::torch()));
}

TEST_CASE("gradcheck finds a cotangent that is taken for contiguous") {
  auto raw = sin_with([](const Tensor& g, const Saved& s) {
    Tensor dx = cos(s[0]);
    for (std::int64_t e = 0; e < dx.numel(); ++e) dx.data<double>()[e] *= g.data<double>()[e];
    return dx;
  });
  Tensor x = input({3, 4});
  GradcheckReport report = gradcheck_report(raw, {x}, {.check_create_graph = false});
  check_only(report, Fault::Layout, "not contiguous");
  CHECK(gradcheck(raw, {x}, GradcheckOptions::torch()));
}

TEST_CASE("gradcheck finds a saved tensor that is overwritten") {
  auto clobbering = [](const Tensors& in) {
    Tensor slope = unrecorded([&] { return cos(in[0]); });
    return record("planted", {in[0]}, value_of_sin(in[0]), save(slope), [](const Tensor& g, const Saved& s) {
      Tensor dx = g * s[0];
      s[0].data<double>()[0] += 1;
      return dx;
    });
  };
  CHECK(gradcheck_report(clobbering, {input(2)}).has(Fault::NotReentrant));
  int calls = 0;
  auto drifting = sin_with([&calls](const Tensor& g, const Saved& s) { return g * cos(s[0]) * (1 + 1e-13 * ++calls); });
  check_only(gradcheck_report(drifting, {input(2)}), Fault::NotReentrant, "not reentrant");
  CHECK(gradcheck(drifting, {input(2)}, {.nondet_tol = 1e-6}));
  // What is every second time as it was.
  auto swinging =
      sin_with([&calls](const Tensor& g, const Saved& s) { return g * cos(s[0]) * (1 + 1e-9 * (++calls % 2)); });
  CHECK(gradcheck_report(swinging, {input(2)}).has(Fault::NotReentrant));
}

TEST_CASE("gradcheck finds a backward that minds which outputs have gradients") {
  auto minding = [](const Tensors& in) {
    Tensors y = unrecorded([&] { return Tensors{in[0] * 2, in[0] * 3, in[0] * 4}; });
    record_all("planted", in, y, {}, [](Gradients g, const Saved&, std::span<Tensor> dx) {
      for (int j = 0; j < 3; ++j)
        if (g[static_cast<std::size_t>(j)].defined()) {
          Tensor part = g[static_cast<std::size_t>(j)] * (j + 2.0);
          dx[0] = dx[0].defined() ? dx[0] + part : part;
        }
      if (g[0].defined() && !g[1].defined() && g[2].defined()) dx[0] = dx[0] * 2;  // for this pair only
    });
    return y;
  };
  check_only(gradcheck_report(minding, {input(2)}), Fault::Undefined, "when output 1 has no gradient");
  CHECK(gradcheck(minding, {input(2)}, {.check_undefined_grad = false}));
}

TEST_CASE("gradcheck finds a backward that minds which inputs want gradients") {
  auto minding = [](const Tensors& in) {
    return record_all("planted", {in[0], in[1]}, unrecorded([&] { return in[0] * in[1]; }), save(in[0], in[1]),
                      [](Gradients g, const Saved& s, std::span<Tensor> dx) {
                        dx[0] = g[0] * s[1];
                        dx[1] = s.needs(0) ? g[0] * s[0] : g[0] * s[1];  // shares what dx[0] has prepared
                      });
  };
  Tensor x = input(2), y = unrecorded([&] { return exp(x); }).requires_grad_();
  check_only(gradcheck_report(minding, {x, y}), Fault::Subset, "when only input 1 require gradients");
  CHECK(gradcheck(minding, {x, y}, {.check_subsets = false}));
}

TEST_CASE("gradcheck finds gradients that do not add up") {
  auto assigning = [](const Tensors& in) {
    Tensor x = in[0];
    return record("planted", {x}, value_of_sin(x), save(x), [x](const Tensor& g, const Saved& s) {
      return x.grad().defined() ? g * cos(s[0]) - x.grad() : g * cos(s[0]);
    });
  };
  check_only(gradcheck_report(assigning, {input(2)}), Fault::Accumulation, "do not add up");
}

TEST_CASE("gradcheck finds what writes to its input") {
  auto writing = [](const Tensors& in) {
    return record("planted", {in[0]}, value_of_sin(in[0]) * 0 + 1, save(in[0]), [](const Tensor& g, const Saved& s) {
      s[0].data<double>()[0] += 1;
      return g * 0;
    });
  };
  CHECK(gradcheck_report(writing, {input(2)}, {.check_subsets = false}).has(Fault::Written));
  CHECK(gradcheck_report(writing, {input(2)}, GradcheckOptions::torch()).has(Fault::Written));
  // Who does so in forward differs from run to run, which is not the fault that is told.
  auto stepping = [](const Tensors& in) { return unrecorded([&] { return in[0].add_(1); }), sin(in[0]); };
  for (DType dtype : {DType::Float64, DType::Float32})
    check_only(gradcheck_report(stepping, {ones(2, dtype).requires_grad_()}), Fault::Written, "wrote to input 0");
}

TEST_CASE("gradcheck: a gradient of the wrong size") {
  auto narrow = sin_with([](const Tensor& g, const Saved&) { return views::narrow(g, 0, 0, 2); });
  for (GradcheckOptions options : {GradcheckOptions{}, GradcheckOptions{.fast_mode = true}, GradcheckOptions::torch()})
    CHECK_THROWS_WITH_AS(gradcheck(narrow, {input(3)}, options),
                         doctest::Contains("gradient of shape (2,), expected (3,)"), ShapeError);
  // Too wide in a way that broadcasting could have caused: the engine sums it, so it is only wrong.
  auto wide = sin_with([](const Tensor& g, const Saved& s) { return views::expand(g * cos(s[0]), {2, 3}); });
  GradcheckReport report = gradcheck_report(wide, {input(3)});
  check_only(report, Fault::Value, "3 of 3");
  CHECK(contains(to_string(report), "off by a factor of 2 everywhere: it is added twice"));
}

TEST_CASE("gradcheck: NaN is never right") {
  Tensor x = full(2, -1, DType::Float64).requires_grad_();
  GradcheckOptions torch = GradcheckOptions::torch(), torch_fast = torch;
  torch_fast.fast_mode = true;
  for (const GradcheckOptions& options : {GradcheckOptions{}, GradcheckOptions{.fast_mode = true}, torch, torch_fast}) {
    auto f = [](const Tensors& in) { return log(in[0]); };
    CHECK_THROWS_AS(gradcheck(f, {x}, options), GradcheckError);
    CHECK_FALSE(contains(to_string(gradcheck_report(f, {x}, options)), "nothing was tested"));
    auto nan = sin_with([](const Tensor& g, const Saved&) { return g * NAN; });
    GradcheckReport report = gradcheck_report(nan, {input(2)}, options);
    CHECK(report.has(Fault::Value));
    CHECK_FALSE(report.has(Fault::NotReentrant));
  }
}
