// Third derivatives of everything: along one direction against differences of the values, which no wrong or missing
// derivative of any order gets past, and mixed ones against differences of second derivatives.
#include "support/memory.h"
#include "support/op_table.h"

#include <doctest/doctest.h>
#include <unroll/unroll.h>

#include <cmath>
#include <memory>

using namespace unroll;

namespace {

using T = const Tensor&;
using Tensors = std::vector<Tensor>;

constexpr DType f64 = DType::Float64;

// A function of leaves, which it reads wherever it reaches them.
struct Subject {
  Tensors leaves;
  std::function<Tensors()> f;
};

Tensors direction(const Tensors& like, Generator& generator) {
  Tensors result;
  for (T x : like) {
    Tensor sign = bernoulli(full_like(x, 0.5), generator) * 2 - 1;
    result.push_back(sign * (rand(x.shape(), f64, generator) * 0.4 + 0.2));
  }
  return result;
}

// Σ c·(y³ + y) over all outputs y, with random c: even of a linear function no derivative up to the third is zero.
Tensor value(const Subject& s) {
  Generator generator(11);
  Tensor total = scalar(0, f64);
  for (T y : s.f())
    if (y.is_floating_point()) total = total + sum((rand(y.shape(), f64, generator) + 0.5) * (y * y * y + y));
  return total;
}

// The derivative of y along u, recorded; undefined where there is no path.
Tensor along(T y, const Tensors& leaves, const Tensors& u) {
  if (!y.defined() || !y.requires_grad()) return {};
  Tensors g = grad({y}, leaves, {.create_graph = true, .allow_unused = true});
  Tensor total;
  for (std::size_t i = 0; i < g.size(); ++i)
    if (g[i].defined()) total = total.defined() ? total + sum(g[i] * u[i]) : sum(g[i] * u[i]);
  return total;
}

double number(T x) { return x.defined() ? x.item() : 0; }

// f with all leaves moved by t·u, where they are; they are put back.
template <class F>
double moved(const Subject& s, const Tensors& u, double t, F f) {
  Tensors before;
  for (T x : s.leaves) before.push_back(x.detach().clone());
  for (std::size_t i = 0; i < u.size(); ++i) s.leaves[i].detach().add_(u[i], t);
  double result = f();
  for (std::size_t i = 0; i < u.size(); ++i) s.leaves[i].detach().copy_(before[i]);
  return result;
}

// By six values, exact up to h⁴.
double third_difference(const Subject& s, const Tensors& u, double h) {
  auto at = [&](double steps) { return moved(s, u, steps * h, [&] { return value(s).item(); }); };
  return ((at(-3) - at(3)) / 8 + at(2) - at(-2) + (at(-1) - at(1)) * 13 / 8) / (h * h * h);
}

constexpr double kStep = 0.01;

double third_derivative(const Subject& s, const Tensors& u) {
  return number(along(along(along(value(s), s.leaves, u), s.leaves, u), s.leaves, u));
}

// Whether there is no kink so near that differences cannot tell a derivative.
bool smooth(const Subject& s) {
  Generator generator(12);
  const Tensors u = direction(s.leaves, generator);
  const double wide = third_difference(s, u, kStep), narrow = third_difference(s, u, kStep / 2);
  return std::abs(wide - narrow) <= 1e-2 * std::abs(wide) + 1e-4;
}

// What all subjects go through. Returns the third derivative along a direction, by differences.
double check_third_derivatives(const Subject& s) {
  Generator generator(12);
  const Tensors u = direction(s.leaves, generator), w = direction(s.leaves, generator);
  const Tensors z = direction(s.leaves, generator);

  const double differences = third_difference(s, u, kStep);
  const double third = third_derivative(s, u);
  const bool straight = std::abs(third - differences) <= 2e-3 * std::abs(differences) + 1e-5;

  auto second = [&] { return number(along(along(value(s), s.leaves, u), s.leaves, w)); };
  auto at = [&](double t) { return moved(s, z, t, second); };
  const double h = 1e-3;
  const double mixed_differences = (8 * (at(h) - at(-h)) - (at(2 * h) - at(-2 * h))) / (12 * h);
  const double mixed = number(along(along(along(value(s), s.leaves, u), s.leaves, w), s.leaves, z));
  const bool crosswise = std::abs(mixed - mixed_differences) <= 1e-6 * std::abs(mixed_differences) + 1e-8;

  CAPTURE(third);
  CAPTURE(differences);
  CAPTURE(mixed);
  CAPTURE(mixed_differences);
  CHECK(straight);
  CHECK(crosswise);
  return differences;
}

// -- Ops

Subject of_row(const OpRow& row, const std::vector<Shape>& shapes) {
  Generator generator(31);
  for (int attempt = 0;; ++attempt) {
    Subject s;
    for (const Shape& shape : shapes) {
      Tensor x = rand(shape, f64, generator) + 0.3;
      if (row.domain == Domain::Signed) x = x * (bernoulli(full_like(x, 0.5), generator) * 2 - 1);
      s.leaves.push_back(x.requires_grad_());
    }
    s.f = [&row, in = s.leaves] { return row.f.call(in); };
    if (smooth(s)) return s;
    REQUIRE(attempt < 10);
  }
}

// -- Modules

Tensor drawn(const Shape& shape, Generator& generator) { return randn(shape, f64, generator).requires_grad_(); }

// Leaves: x, the tensors of an initial state, and all parameters, which are moved off their symmetries.
template <class M, class State>
Subject subject(const std::shared_ptr<M>& module, T x, State& state, Generator& generator) {
  Subject s;
  s.leaves.push_back(x);
  for (Tensor* tensor : nn::state_tensors(state)) s.leaves.push_back(*tensor = drawn(tensor->shape(), generator));
  for (T p : module->parameters()) {
    p.detach().copy_(randn(p.shape(), f64, generator) * 0.7);
    s.leaves.push_back(p);
  }
  return s;
}

template <class State>
Tensors listed(Tensor output, const State& state) {
  Tensors result{std::move(output)};
  for (const Tensor* tensor : nn::state_tensors(state)) result.push_back(*tensor);
  return result;
}

/// Two steps of a cell C(3, 2, args…).
template <class C, class... Args>
Subject cell(const Args&... args) {
  Generator generator(21);
  auto module = std::make_shared<C>(3, 2, args...);
  Tensor x = drawn({2, 2, 3}, generator);
  typename C::State state = (*module)(select(x, 0, 0), typename C::State{});
  Subject s = subject(module, x, state, generator);
  s.f = [=] {
    typename C::State next = (*module)(select(x, 0, 1), (*module)(select(x, 0, 0), state));
    return listed(nn::output_of(next), next);
  };
  return s;
}

/// A layer L(2, 2, options) over three steps of two sequences, or packed, of one and three steps. Random numbers are
/// the same at every call.
template <class L, class Options>
Subject layer(const Options& options, bool packed = false) {
  Generator generator(22);
  auto module = std::make_shared<L>(2, 2, options);
  Tensor x = drawn({3, 2, 2}, generator);
  auto state = (*module)(x).state;
  Subject s = subject(module, x, state, generator);
  s.f = [=] {
    manual_seed(5);
    if (packed) {
      auto [output, last] = (*module)(nn::pack_padded_sequence(x, {1, 3}, {.enforce_sorted = false}), state);
      return listed(output.data(), last);
    }
    auto [output, last] = (*module)(x, state);
    return listed(output, last);
  };
  return s;
}

template <class L, class Options>
Subject packed(const Options& options) {
  return layer<L>(options, true);
}

struct Row {
  const char* name;
  std::function<Subject()> make;
};

const Row kModules[] = {
    {"LSTMCell", [] { return cell<nn::LSTMCell>(nn::LSTMCellOptions{.dtype = f64}); }},
    {"LSTMCell, projected", [] { return cell<nn::LSTMCell>(nn::LSTMCellOptions{.dtype = f64, .proj_size = 1}); }},
    {"GRUCell", [] { return cell<nn::GRUCell>(nn::GRUCellOptions{.dtype = f64}); }},
    {"GRUCell, reset before", [] { return cell<nn::GRUCell>(nn::GRUCellOptions{.dtype = f64, .reset_after = false}); }},
    {"RNNCell", [] { return cell<nn::RNNCell>(nn::RNNCellOptions{.dtype = f64}); }},
    {"LayerNormLSTMCell", [] { return cell<nn::LayerNormLSTMCell>(nn::LayerNormCellOptions{.dtype = f64}); }},
    {"LayerNormGRUCell", [] { return cell<nn::LayerNormGRUCell>(nn::LayerNormCellOptions{.dtype = f64}); }},
    {"PeepholeLSTMCell", [] { return cell<nn::PeepholeLSTMCell>(nn::PeepholeLSTMCellOptions{.dtype = f64}); }},
    {"LSTM", [] { return layer<nn::LSTM>(nn::LSTMOptions{.dtype = f64}); }},
    {"LSTM, deep",
     [] { return layer<nn::LSTM>(nn::LSTMOptions{.num_layers = 2, .bidirectional = true, .dtype = f64}); }},
    {"LSTM, dropout", [] { return layer<nn::LSTM>(nn::LSTMOptions{.num_layers = 2, .dropout = 0.4, .dtype = f64}); }},
    {"LSTM, packed",
     [] { return packed<nn::LSTM>(nn::LSTMOptions{.num_layers = 2, .bidirectional = true, .dtype = f64}); }},
    {"GRU, deep", [] { return layer<nn::GRU>(nn::GRUOptions{.num_layers = 2, .bidirectional = true, .dtype = f64}); }},
    {"GRU, packed", [] { return packed<nn::GRU>(nn::GRUOptions{.bidirectional = true, .dtype = f64}); }},
    {"RNN, deep", [] { return layer<nn::RNN>(nn::RNNOptions{.num_layers = 2, .bidirectional = true, .dtype = f64}); }},
    {"RNN, packed", [] { return packed<nn::RNN>(nn::RNNOptions{.bidirectional = true, .dtype = f64}); }},
};

}  // namespace

TEST_CASE("third derivatives of every op") {
  int cases = 0, constant = 0;
  auto go = [&](const OpRow& row, const std::vector<Shape>& shapes) {
    Subject s = of_row(row, shapes);
    const double third = check_third_derivatives(s);
    std::int64_t inputs = 0, outputs = 0;
    for (T x : s.leaves) inputs += x.numel();
    for (T y : s.f()) outputs += y.numel();
    if (inputs == 0 || outputs == 0) return;
    ++cases;
    // y³ + y has a third derivative unless y is constant: fill_, sign, clamp beyond its bounds.
    if (std::abs(third) > 1e-4) return;
    ++constant;
    Generator generator(12);
    CHECK(moved(s, direction(s.leaves, generator), kStep, [&] { return value(s).item(); }) == value(s).item());
  };
  for (const OpRow& row : op_table())
    for (const std::vector<Shape>& shapes : row.shapes) {
      std::string name = row.name + " of";
      for (const Shape& shape : shapes) name += fmt::format(" {}", shape);
      CAPTURE(name);
      Live before;
      go(row, shapes);
      CHECK(Live() == before);
    }
  CHECK(cases > 100);
  CHECK(constant < cases / 5);
}

TEST_CASE("third derivatives of cells and layers, by everything they depend on") {
  for (const Row& row : kModules) {
    CAPTURE(std::string(row.name));
    Live before;
    {
      Subject s = row.make();
      CHECK(std::abs(check_third_derivatives(s)) > 0.01);
      // Fused or not.
      Generator generator(12);
      Tensors u = direction(s.leaves, generator);
      const double fused = third_derivative(s, u);
      FusedMode plain(false);
      CHECK(third_derivative(s, u) == doctest::Approx(fused).epsilon(1e-10));
    }
    CHECK(Live() == before);
  }
}

TEST_CASE("third derivatives by hand") {
  Tensor x = scalar(0.7, f64).requires_grad_();
  auto third = [&](auto f) {
    Tensor y = f(x);
    for (int i = 0; i < 3; ++i) y = grad({y}, {x}, {.create_graph = true})[0];
    return y.item();
  };
  const double t = std::tanh(0.7), s = 1 / (1 + std::exp(-0.7));
  CHECK(third([](T v) { return v * v * v; }) == doctest::Approx(6));
  CHECK(third([](T v) { return tanh(v); }) == doctest::Approx((1 - t * t) * (6 * t * t - 2)));
  CHECK(third([](T v) { return sigmoid(v); }) == doctest::Approx(s * (1 - s) * (1 - 6 * s + 6 * s * s)));
  CHECK(third([](T v) { return 1 / v; }) == doctest::Approx(-6 / std::pow(0.7, 4)));
}

TEST_CASE("the check sees a derivative that has gone missing, of any order") {
  Generator generator(41);
  Tensor x = drawn({3}, generator);
  // exp with its gradient broken: `order` derivatives are right, the next one is forgotten.
  auto forgetful = [](T v, int order) {
    Tensor y = exp(v.detach());
    return record("forgetful", {v}, y, save(v), [order](const Tensor& g, const Saved& saved) {
      Tensor d = saved[0];
      if (order == 1) return g * exp(d.detach());
      return g * record("forgetful2", {d}, exp(d.detach()), save(d),
                        [](const Tensor& g2, const Saved& s2) { return g2 * exp(s2[0].detach()); });
    });
  };
  for (int order : {1, 2}) {
    Subject s{{x}, [&] { return Tensors{forgetful(x, order)}; }};
    Tensors u = direction(s.leaves, generator);
    const double third = third_derivative(s, u), differences = third_difference(s, u, kStep);
    CHECK(std::abs(third - differences) > 0.05 * std::abs(differences));
  }
}

TEST_CASE("higher order: of a number divided by a tensor where its fourth power is no float") {
  for (float v : {1e10f, 1e-12f}) {
    const Tensor x = tensor({v}).requires_grad_();
    const Tensor first = grad({1.0 / x}, {x}, {.create_graph = true})[0], second = grad({first}, {x})[0];
    CHECK(first.item() == doctest::Approx(-std::pow(v, -2.)).epsilon(1e-6));
    CHECK(second.item() == doctest::Approx(2 * std::pow(v, -3.)).epsilon(1e-6));
  }
}

TEST_CASE("div: the gradient of a divisor whose square overflows") {
  const Tensor a = tensor({1e200}, DType::Float64), b = tensor({1e200}, DType::Float64).requires_grad_();
  CHECK(std::abs(grad({a / b}, {b})[0].item() / -1e-200 - 1) < 1e-12);
}
