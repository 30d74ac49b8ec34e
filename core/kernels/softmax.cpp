#include <unroll/core/kernels/softmax.h>

#include <cmath>
#include <limits>

namespace unroll::kernels {
namespace {

// Calls row(y, x, max x) for each row; its elements are `inner` apart. The exponents x − max are ≤ 0, and one of them
// is 0: nothing overflows and the sum is at least 1. A row of −∞ has −∞ − (−∞), so it becomes NaN as a whole.
template <class T, class Row>
void for_softmax_rows(T* y, const T* x, Extent e, Row row) {
  for (std::int64_t o = 0; o < e.outer; ++o)
    for (std::int64_t k = 0; k < e.inner; ++k) {
      const T* in = x + o * e.n * e.inner + k;
      T max = -std::numeric_limits<T>::infinity();
      for (std::int64_t i = 0; i < e.n; ++i) max = in[i * e.inner] > max ? in[i * e.inner] : max;
      row(y + o * e.n * e.inner + k, in, max);
    }
}

}  // namespace

template <class T>
void softmax(T* y, const T* x, Extent e) {
  for_softmax_rows(y, x, e, [=](T* out, const T* in, T max) {
    double sum = 0;
    for (std::int64_t i = 0; i < e.n; ++i) sum += out[i * e.inner] = std::exp(in[i * e.inner] - max);
    for (std::int64_t i = 0; i < e.n; ++i) out[i * e.inner] /= static_cast<T>(sum);
  });
}

template <class T>
void log_softmax(T* y, const T* x, Extent e) {
  for_softmax_rows(y, x, e, [=](T* out, const T* in, T max) {
    double sum = 0;
    for (std::int64_t i = 0; i < e.n; ++i) sum += std::exp(in[i * e.inner] - max);
    auto log_sum = static_cast<T>(std::log(sum));
    for (std::int64_t i = 0; i < e.n; ++i) out[i * e.inner] = in[i * e.inner] - max - log_sum;
  });
}

template void softmax(float*, const float*, Extent);
template void softmax(double*, const double*, Extent);
template void log_softmax(float*, const float*, Extent);
template void log_softmax(double*, const double*, Extent);

}  // namespace unroll::kernels
