#include <unroll/core/kernels/layer_norm.h>

#include <cmath>

namespace unroll::kernels {

template <class T>
void layer_norm(T* y, T* mean, T* rstd, const T* x, const T* weight, const T* bias, std::int64_t rows, std::int64_t n,
                double eps) {
  for (std::int64_t r = 0; r < rows; ++r, x += n, y += n) {
    double sum = 0, squares = 0;
    for (std::int64_t i = 0; i < n; ++i) sum += x[i];
    double centre = sum / static_cast<double>(n);
    for (std::int64_t i = 0; i < n; ++i) squares += (x[i] - centre) * (x[i] - centre);
    mean[r] = static_cast<T>(centre);
    rstd[r] = static_cast<T>(1 / std::sqrt(squares / static_cast<double>(n) + eps));
    for (std::int64_t i = 0; i < n; ++i)
      y[i] = (x[i] - mean[r]) * rstd[r] * (weight ? weight[i] : 1) + (bias ? bias[i] : 0);
  }
}

// Forward was y = x̂·w + b with x̂ = (x − mean)·rstd, so dw = Σ dy·x̂ and db = Σ dy over the rows. With ĝ = dy·w for the
// gradient of x̂,
//   dx = rstd·(ĝ − mean(ĝ) − x̂·mean(ĝ·x̂)):
// the second term is what flows through the mean, the third what flows through the variance.
template <class T>
void layer_norm_backward(T* dx, T* dweight, T* dbias, const T* dy, const T* x, const T* mean, const T* rstd,
                         const T* weight, std::int64_t rows, std::int64_t n) {
  for (std::int64_t r = 0; r < rows; ++r, x += n, dy += n) {
    auto normalized = [&](std::int64_t i) { return (x[i] - mean[r]) * rstd[r]; };
    if (dweight)
      for (std::int64_t i = 0; i < n; ++i) dweight[i] += dy[i] * normalized(i);
    if (dbias)
      for (std::int64_t i = 0; i < n; ++i) dbias[i] += dy[i];
    if (!dx) continue;
    auto scaled = [&](std::int64_t i) { return weight ? dy[i] * weight[i] : dy[i]; };
    double sum = 0, dot = 0;
    for (std::int64_t i = 0; i < n; ++i) {
      sum += scaled(i);
      dot += scaled(i) * normalized(i);
    }
    auto through_mean = static_cast<T>(sum / static_cast<double>(n)),
         through_variance = static_cast<T>(dot / static_cast<double>(n));
    for (std::int64_t i = 0; i < n; ++i)
      dx[i] = rstd[r] * (scaled(i) - through_mean - normalized(i) * through_variance);
    dx += n;
  }
}

template void layer_norm(float*, float*, float*, const float*, const float*, const float*, std::int64_t, std::int64_t,
                         double);
template void layer_norm(double*, double*, double*, const double*, const double*, const double*, std::int64_t,
                         std::int64_t, double);
template void layer_norm_backward(float*, float*, float*, const float*, const float*, const float*, const float*,
                                  const float*, std::int64_t, std::int64_t);
template void layer_norm_backward(double*, double*, double*, const double*, const double*, const double*, const double*,
                                  const double*, std::int64_t, std::int64_t);

}  // namespace unroll::kernels
