#include "support/targets.h"

#include <doctest/doctest.h>
#include <unroll/core/kernels/optimizer.h>

#include <algorithm>
#include <cmath>
#include <random>
#include <vector>

using namespace unroll::kernels;

namespace {

template <class T>
std::vector<T> normals(std::size_t n, unsigned seed) {
  std::mt19937 random(seed);
  std::normal_distribution<double> normal;
  std::vector<T> x(n);
  for (T& v : x) v = static_cast<T>(normal(random));
  return x;
}

template <class T>
std::vector<T> squares(std::vector<T> x) {
  for (T& v : x) v *= v;
  return x;
}

float mul_add(float a, float b, float c) { return static_cast<float>(double{a} * double{b} + double{c}); }
double mul_add(double a, double b, double c) { return a * b + c; }

// The formulas of the header, element by element.
template <class T, class Step>
T gradient(T p, T grad, const Step& s) {
  return s.decay != 0 ? mul_add(s.decay, p, s.sign * grad) : s.sign * grad;
}
template <class T>
void sgd_element(T& p, T* buffer, T grad, const SGDStep<T>& s, bool first) {
  T g = gradient(p, grad, s), direction = g;
  if (buffer != nullptr) {
    direction = *buffer = first ? g : mul_add(s.kept, g, s.momentum * *buffer);
    if (s.nesterov) direction = mul_add(s.momentum, direction, g);
  }
  p = mul_add(-s.lr, direction, p);
}
template <class T>
void adam_element(T& p, T& m, T& v, T* greatest, T grad, const AdamStep<T>& s) {
  T g = gradient(p, grad, s);
  m = mul_add(s.kept1, g, s.beta1 * m);
  v = mul_add(s.kept2 * g, g, s.beta2 * v);
  T second = v;
  if (greatest != nullptr) second = *greatest = std::max(*greatest, v);
  T change = s.rate * m / (std::sqrt(second) / s.root + s.eps), kept = s.shrink * p;
  p = kept - change;
}

template <class T>
void check_sgd(std::size_t n) {
  for (T decay : {T(0), T(0.1)})
    for (bool nesterov : {false, true})
      for (bool first : {false, true})
        for (bool buffered : {false, true}) {
          const SGDStep<T> step = {T(0.03), T(0.9), T(0.8), decay, T(-1), nesterov};
          // One element more than n, which is to stay.
          std::vector<T> p = normals<T>(n + 1, 1), b = normals<T>(n + 1, 2), grad = normals<T>(n + 1, 3), q = p, c = b;
          sgd<T>(p.data(), buffered ? b.data() : nullptr, grad.data(), static_cast<std::int64_t>(n), step, first);
          for (std::size_t i = 0; i < n; ++i) sgd_element(q[i], buffered ? &c[i] : nullptr, grad[i], step, first);
          CHECK(p == q);
          CHECK(b == c);
        }
}

template <class T>
void check_adam(std::size_t n) {
  for (T decay : {T(0), T(0.1)})
    for (bool amsgrad : {false, true}) {
      const AdamStep<T> step = {T(0.9), T(0.1), T(0.999), T(0.001), T(0.02), T(0.4), T(1e-8), T(0.99), decay, T(1)};
      std::vector<T> p = normals<T>(n + 1, 1), m = normals<T>(n + 1, 2), v = squares(normals<T>(n + 1, 3)),
                     greatest = squares(normals<T>(n + 1, 4)), grad = normals<T>(n + 1, 5);
      std::vector<T> p2 = p, m2 = m, v2 = v, greatest2 = greatest;
      adam<T>(p.data(), m.data(), v.data(), amsgrad ? greatest.data() : nullptr, grad.data(),
              static_cast<std::int64_t>(n), step);
      for (std::size_t i = 0; i < n; ++i)
        adam_element(p2[i], m2[i], v2[i], amsgrad ? &greatest2[i] : nullptr, grad[i], step);
      CHECK(p == p2);
      CHECK(m == m2);
      CHECK(v == v2);
      CHECK(greatest == greatest2);
    }
}

}  // namespace

TEST_CASE("optimizer kernels: SGD and Adam are their formulas to the bit, for any length, on every target") {
  for_targets([](const std::string& target) {
    CAPTURE(target);
    for (std::size_t n : {0u, 1u, 7u, 16u, 37u, 200u}) {
      CAPTURE(n);
      check_sgd<float>(n);
      check_sgd<double>(n);
      check_adam<float>(n);
      check_adam<double>(n);
    }
  });
}
