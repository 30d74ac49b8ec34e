#include <unroll/autograd/fused.h>
#include <unroll/autograd/ops/arithmetic.h>
#include <unroll/autograd/ops/normalize.h>
#include <unroll/autograd/ops/reduce.h>
#include <unroll/core/kernels/copy.h>
#include <unroll/core/kernels/elementwise.h>
#include <unroll/core/kernels/layer_norm.h>
#include <unroll/core/kernels/softmax.h>

namespace unroll {
namespace {

template <class T>
T* pointer(const Tensor& x) {
  return x.defined() ? x.raw<T>() : nullptr;
}

}  // namespace

/// y = softmax x.   dx = y·(g − Σ g·y)
Tensor softmax(const Tensor& x, std::int64_t dim) {
  kernels::Extent extent = kernels::extent_around(x.shape(), wrap_dim("softmax", dim, x.shape().size()));
  Tensor y = empty_like(x), in = kernels::contiguous(x);
  dispatch_float("softmax", x.dtype(), [&]<class T>() { kernels::softmax(y.raw<T>(), in.raw<T>(), extent); });
  return record("softmax", {x}, y, save(y),
                [dim](const Tensor& g, const Saved& s) { return s[0] * (g - sum(g * s[0], dim, true)); });
}

/// y = log_softmax x.   dx = g − eʸ·Σ g
Tensor log_softmax(const Tensor& x, std::int64_t dim) {
  kernels::Extent extent = kernels::extent_around(x.shape(), wrap_dim("log_softmax", dim, x.shape().size()));
  Tensor y = empty_like(x), in = kernels::contiguous(x);
  dispatch_float("log_softmax", x.dtype(), [&]<class T>() { kernels::log_softmax(y.raw<T>(), in.raw<T>(), extent); });
  return record("log_softmax", {x}, y, save(y),
                [dim](const Tensor& g, const Saved& s) { return g - exp(s[0]) * sum(g, dim, true); });
}

namespace {

// Forward saved x, weight, bias, mean, rstd.
void layer_norm_backward(Gradients g, const Saved& s, std::span<Tensor> dx) {
  Tensor dy = kernels::contiguous(g[0]), x = kernels::contiguous(s[0]),
         weight = s[1].defined() ? kernels::contiguous(s[1]) : s[1];
  if (s.needs(0)) dx[0] = empty_like(x);
  for (std::size_t i : {1u, 2u})
    if (s.needs(i)) dx[i] = zeros_like(s[i]);
  std::int64_t rows = s[3].numel(), n = rows > 0 ? x.numel() / rows : 0;
  dispatch_float("layer_norm", x.dtype(), [&]<class T>() {
    kernels::layer_norm_backward(pointer<T>(dx[0]), pointer<T>(dx[1]), pointer<T>(dx[2]), dy.raw<T>(), x.raw<T>(),
                                 s[3].raw<T>(), s[4].raw<T>(), pointer<T>(weight), rows, n);
  });
}

}  // namespace

Tensor layer_norm(const Tensor& x, const Shape& normalized_shape, const Tensor& weight, const Tensor& bias,
                  double eps) {
  std::size_t k = normalized_shape.size(), lead = x.shape().size() - std::min(k, x.shape().size());
  check<ShapeError>(k > 0, "layer_norm: normalized_shape is empty, expected at least one dimension");
  check<ShapeError>(Shape(std::span(x.shape().begin() + lead, x.shape().end())) == normalized_shape,
                    "layer_norm: input of shape {} does not end in normalized_shape = {}", x.shape(), normalized_shape);
  auto check_parameter = [&](const char* name, const Tensor& parameter) {
    if (!parameter.defined()) return;
    check<ShapeError>(parameter.shape() == normalized_shape,
                      "layer_norm: {} has shape {}, expected normalized_shape = {}", name, parameter.shape(),
                      normalized_shape);
    kernels::check_same_dtype("layer_norm", x, parameter);
  };
  check_parameter("weight", weight);
  check_parameter("bias", bias);

  Shape last;
  for (std::size_t d = lead; d < x.shape().size(); ++d) last.push_back(static_cast<std::int64_t>(d));
  auto definition = [last, eps](std::span<const Tensor> in) {
    Tensor centred = in[0] - mean(in[0], last, true);
    Tensor y = centred / sqrt(mean(square(centred), last, true) + eps);
    if (in[1].defined()) y = y * in[1];
    if (in[2].defined()) y = y + in[2];
    return std::vector{y};
  };
  if (!FusedMode::enabled()) return definition(std::array{x, weight, bias}).front();

  std::int64_t n = numel(normalized_shape), rows = n > 0 ? x.numel() / n : 0;
  Tensor y = empty_like(x), centre = empty(rows, x.dtype()), rstd = empty(rows, x.dtype());
  Tensor in = kernels::contiguous(x), w = weight.defined() ? kernels::contiguous(weight) : weight,
         b = bias.defined() ? kernels::contiguous(bias) : bias;
  dispatch_float("layer_norm", x.dtype(), [&]<class T>() {
    kernels::layer_norm(y.raw<T>(), centre.raw<T>(), rstd.raw<T>(), in.raw<T>(), pointer<T>(w), pointer<T>(b), rows, n,
                        eps);
  });
  record_fused("layer_norm", {x, weight, bias}, std::span(&y, 1), {centre, rstd}, layer_norm_backward, definition);
  return y;
}

}  // namespace unroll
