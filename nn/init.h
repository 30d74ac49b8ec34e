#pragma once
#include <unroll/core/random.h>

#include <string_view>

#pragma GCC visibility push(default)
/// Initial values: each function overwrites x, unrecorded, with the numbers torch.nn.init draws from the same
/// generator, and returns x.
namespace unroll::nn::init {

const Tensor& uniform_(const Tensor& x, double a = 0, double b = 1, Generator& generator = default_generator());
const Tensor& normal_(const Tensor& x, double mean = 0, double std = 1, Generator& generator = default_generator());
const Tensor& constant_(const Tensor& x, double value);
const Tensor& zeros_(const Tensor& x);
const Tensor& ones_(const Tensor& x);
/// Ones on the diagonal of a matrix, zeros elsewhere: what weight_hh of a ReLU RNN starts from in Le et al. 2015.
/// Raises ShapeError unless x has two dimensions.
const Tensor& eye_(const Tensor& x);

/// By how much a nonlinearity shrinks the standard deviation, inverted: 1 for "linear" and "sigmoid", 5/3 for "tanh",
/// √2 for "relu", 3/4 for "selu", √(2 / (1 + slope²)) for "leaky_relu". Raises ValueError for another name.
double calculate_gain(std::string_view nonlinearity, double negative_slope = 0.01);

/// U(−a, a), a = gain · √(6 / (fan_in + fan_out)) (Glorot and Bengio 2010). The fans of a weight (out, in, …) are the
/// inputs and outputs of a unit; fewer than two dimensions raise ShapeError.
const Tensor& xavier_uniform_(const Tensor& x, double gain = 1, Generator& generator = default_generator());
/// N(0, std²), std = gain · √(2 / (fan_in + fan_out)).
const Tensor& xavier_normal_(const Tensor& x, double gain = 1, Generator& generator = default_generator());

enum class Fan : std::uint8_t { In, Out };

struct KaimingOptions {
  /// The slope of the leaky_relu that follows.
  double a = 0;
  /// Which pass keeps its variance: In the forward, Out the backward one.
  Fan mode = Fan::In;
  std::string_view nonlinearity = "leaky_relu";
};

/// U(−bound, bound), bound = gain · √(3 / fan) (He et al. 2015).
const Tensor& kaiming_uniform_(const Tensor& x, const KaimingOptions& options = {},
                               Generator& generator = default_generator());
/// N(0, std²), std = gain / √fan.
const Tensor& kaiming_normal_(const Tensor& x, const KaimingOptions& options = {},
                              Generator& generator = default_generator());

/// `gain` times a matrix with orthonormal columns, or rows if it is wider than tall, made of normal numbers (Saxe et
/// al. 2013); dimensions after the first count as one. A state that is multiplied by it neither grows nor decays.
/// Computed in float64, so a float32 x gets torch's numbers but for torch's rounding. Each gate of an LSTM by itself:
/// `for (const Tensor& gate : chunk(cell.weight_hh, 4)) init::orthogonal_(gate)`. Fewer than two dimensions raise
/// ShapeError.
const Tensor& orthogonal_(const Tensor& x, double gain = 1, Generator& generator = default_generator());

}  // namespace unroll::nn::init
#pragma GCC visibility pop
