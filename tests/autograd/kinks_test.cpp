#include <doctest/doctest.h>
#include <unroll/unroll.h>

#include <algorithm>
#include <cmath>
#include <functional>

// Derivatives where a function has none, or an infinite one.

using namespace unroll;

using T = const Tensor&;

TEST_CASE("kinks: derivatives at kinks are torch's") {
  struct Kink {
    const char* name;
    std::function<Tensor(T)> f;
    std::vector<double> x, dx;
  };
  const double inf = INFINITY, nan = NAN;
  const Kink kinks[] = {
      {"relu", unroll::relu, {-1, 0, 1, nan}, {0, 0, 1, 1}},
      {"abs", unroll::abs, {-1, 0, 1}, {-1, 0, 1}},
      {"sign", unroll::sign, {-1, 0, 1}, {0, 0, 0}},
      {"sqrt", unroll::sqrt, {0}, {inf}},
      {"pow 2", [](T x) { return pow(x, 2); }, {0}, {0}},
      {"pow 1/2", [](T x) { return pow(x, 0.5); }, {0, -inf}, {inf, nan}},
      {"pow 0", [](T x) { return pow(x, 0); }, {0}, {0}},
      {"pow tensor 0", [](T x) { return pow(x, zeros_like(x)); }, {0}, {0}},
      {"pow by the exponent", [](T p) { return pow(zeros_like(p), p); }, {0, 2}, {0, 0}},
      {"clamp", [](T x) { return clamp(x, -1, 1); }, {-2, -1, 0, 1, 2, nan}, {0, 1, 1, 1, 0, 0}},
      {"clamp to NaN", [nan](T x) { return clamp(x, nan, 1); }, {0, 2}, {0, 0}},
      {"maximum", [](T x) { return maximum(x, zeros_like(x)); }, {-1, 0, 1, nan}, {0, 0.5, 1, 1}},
      {"minimum", [](T x) { return minimum(zeros_like(x), x); }, {-1, 0, 1, nan}, {1, 0.5, 0, 1}},
      {"an infinity for the larger", [](T x) { return sqrt(maximum(x, zeros_like(x))); }, {-1, 4}, {0, 0.25}},
      {"an infinity for the smaller", [](T x) { return sqrt(-minimum(zeros_like(x), x)); }, {1, -4}, {0, -0.25}},
      {"relu's derivative",
       [](T x) { return grad({sum(relu(x))}, {x}, {.create_graph = true})[0]; },
       {-1, 0, 1},
       {0, 0, 0}},
      {"amax", [](T x) { return amax(x); }, {3, 1, 3, 2}, {0.5, 0, 0.5, 0}},
      {"norm", [](T x) { return norm(x); }, {0, 0}, {0, 0}},
      {"where lets NaN through", [](T x) { return where(gt(x, 0), x, sqrt(x)); }, {1, -1}, {1, nan}},
      {"where, else a number", [](T x) { return square(where(gt(x, 0), x, 3)); }, {1, -1}, {2, 0}},
      {"where a number, else", [](T x) { return square(where(gt(x, 0), 3, x)); }, {1, -1}, {0, -2}},
      {"an index that repeats",
       [](T x) {
         return index_select(x, 0, tensor({1, 1, 1}));
       },
       {5, 6},
       {0, 3}},
  };
  for (const Kink& kink : kinks) {
    CAPTURE(std::string(kink.name));
    Tensor x = from_data(kink.x, static_cast<std::int64_t>(kink.x.size())).requires_grad_();
    std::vector<double> dx = grad({sum(kink.f(x))}, {x})[0].to_vector<double>();
    CHECK(std::equal(dx.begin(), dx.end(), kink.dx.begin(), kink.dx.end(),
                     [](double a, double b) { return a == b || (std::isnan(a) && std::isnan(b)); }));
  }
}
