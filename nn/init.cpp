#include <unroll/autograd/grad_mode.h>
#include <unroll/autograd/ops/matmul.h>
#include <unroll/autograd/ops/reduce.h>
#include <unroll/autograd/ops/shape.h>
#include <unroll/nn/init.h>

#include <algorithm>
#include <cmath>

namespace unroll::nn::init {

const Tensor& uniform_(const Tensor& x, double a, double b, Generator& generator) {
  NoGrad guard;
  return unroll::uniform_(x, a, b, generator);
}

const Tensor& normal_(const Tensor& x, double mean, double std, Generator& generator) {
  NoGrad guard;
  return unroll::normal_(x, mean, std, generator);
}

const Tensor& constant_(const Tensor& x, double value) {
  NoGrad guard;
  return x.fill_(value);
}

const Tensor& zeros_(const Tensor& x) { return constant_(x, 0); }
const Tensor& ones_(const Tensor& x) { return constant_(x, 1); }

const Tensor& eye_(const Tensor& x) {
  check<ShapeError>(x.dim() == 2, "eye_: expected a matrix, got shape {}", x.shape());
  NoGrad guard;
  x.zero_();
  for (std::int64_t i = 0; i < std::min(x.size(0), x.size(1)); ++i) narrow(select(x, 0, i), 0, i, 1).fill_(1);
  return x;
}

double calculate_gain(std::string_view nonlinearity, double negative_slope) {
  if (nonlinearity == "linear" || nonlinearity == "sigmoid") return 1;
  if (nonlinearity == "tanh") return 5.0 / 3;
  if (nonlinearity == "relu") return std::sqrt(2.0);
  if (nonlinearity == "selu") return 0.75;
  check<ValueError>(nonlinearity == "leaky_relu",
                    "calculate_gain: expected linear, sigmoid, tanh, relu, leaky_relu or selu, got \"{}\"",
                    nonlinearity);
  return std::sqrt(2 / (1 + negative_slope * negative_slope));
}

namespace {
struct Fans {
  double in, out;
};

// A weight (out, in, …) connects each output to `in` inputs, over every place of the dimensions that follow.
Fans fans(const char* op, const Tensor& x) {
  check<ShapeError>(x.dim() >= 2, "{}: expected at least 2 dimensions, (out, in, …), got shape {}", op, x.shape());
  double places = 1;
  for (std::size_t d = 2; d < x.shape().size(); ++d) places *= static_cast<double>(x.shape()[d]);
  return {static_cast<double>(x.shape()[1]) * places, static_cast<double>(x.shape()[0]) * places};
}

double xavier_std(const char* op, const Tensor& x, double gain) {
  auto [in, out] = fans(op, x);
  return x.numel() == 0 ? 0 : gain * std::sqrt(2 / (in + out));
}

double kaiming_std(const char* op, const Tensor& x, const KaimingOptions& options) {
  auto [in, out] = fans(op, x);
  double gain = calculate_gain(options.nonlinearity, options.a);
  return x.numel() == 0 ? 0 : gain / std::sqrt(options.mode == Fan::In ? in : out);
}

// A uniform distribution on (−a, a) has the standard deviation a/√3. The product in this order is torch's to the bit.
const Tensor& uniform_of_std(const Tensor& x, double std, Generator& generator) {
  double bound = std::sqrt(3.0) * std;
  return init::uniform_(x, -bound, bound, generator);
}
}  // namespace

const Tensor& xavier_uniform_(const Tensor& x, double gain, Generator& generator) {
  return uniform_of_std(x, xavier_std("xavier_uniform_", x, gain), generator);
}

const Tensor& xavier_normal_(const Tensor& x, double gain, Generator& generator) {
  return init::normal_(x, 0, xavier_std("xavier_normal_", x, gain), generator);
}

const Tensor& kaiming_uniform_(const Tensor& x, const KaimingOptions& options, Generator& generator) {
  return uniform_of_std(x, kaiming_std("kaiming_uniform_", x, options), generator);
}

const Tensor& kaiming_normal_(const Tensor& x, const KaimingOptions& options, Generator& generator) {
  return init::normal_(x, 0, kaiming_std("kaiming_normal_", x, options), generator);
}

namespace {
// Gram-Schmidt: of each row of `a` stays what is orthogonal to the rows before it, of length 1. Many rows at a time, so
// that nearly all of it is products of matrices, and twice, as rounding in the first pass is magnified by what little
// of a row remains (Giraud et al. 2005; in blocks Barlow and Smoktunowicz 2013).
void make_rows_orthonormal(const Tensor& a) {
  constexpr std::int64_t kRows = 32;
  auto subtract_along = [](const Tensor& rows, const Tensor& basis) {
    if (basis.size(0) > 0) rows.sub_(matmul(matmul(rows, transpose(basis, 0, 1)), basis));
  };
  for (std::int64_t first = 0; first < a.size(0); first += kRows) {
    const Tensor block = narrow(a, 0, first, std::min(kRows, a.size(0) - first));
    for (int pass = 0; pass < 2; ++pass) {
      subtract_along(block, narrow(a, 0, 0, first));
      for (std::int64_t i = 0; i < block.size(0); ++i) {
        const Tensor row = narrow(block, 0, i, 1);
        subtract_along(row, narrow(block, 0, 0, i));
        row.div_(norm(row));
      }
    }
  }
}
}  // namespace

const Tensor& orthogonal_(const Tensor& x, double gain, Generator& generator) {
  check<ShapeError>(x.dim() >= 2, "orthogonal_: expected at least 2 dimensions, (out, in, …), got shape {}", x.shape());
  if (x.numel() == 0) return x;
  NoGrad guard;
  const std::int64_t out = x.size(0), rest = x.numel() / out;
  const bool tall = out >= rest;  // a square has its columns made orthonormal, as in torch
  Tensor a = unroll::normal_(empty({out, rest}, x.dtype()), 0, 1, generator).to(DType::Float64);
  if (tall) a = transpose(a, 0, 1).contiguous();
  make_rows_orthonormal(a);
  return x.copy_(reshape(tall ? transpose(a, 0, 1) : a, x.shape())).mul_(gain);
}

}  // namespace unroll::nn::init
