#include <unroll/autograd/grad_mode.h>
#include <unroll/nn/init.h>

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

}  // namespace unroll::nn::init
