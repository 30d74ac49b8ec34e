#pragma once
#include <unroll/nn/fused_layer.h>

#pragma GCC visibility push(default)
namespace unroll::nn {

struct RecurrentOptions {
  std::int64_t num_layers = 1;
  /// Whether x and the output are (N, T, …) instead of (T, N, …). States never are.
  bool batch_first = false;
  /// The probability with which, while training, elements are dropped between two layers. Without effect on a single
  /// layer.
  double dropout = 0;
  bool bidirectional = false;
  /// Whether a sequence of no steps is allowed; the output is empty then and the state as it came.
  bool allow_empty = false;
  /// Of cells that have kernels; others keep what their ops keep.
  Memory memory = Memory::KeepGates;
};

namespace detail {
/// The part of a built-in layer's options that does not depend on its cell.
template <class Options>
RecurrentOptions recurrent_options(const Options& options) {
  return {.num_layers = options.num_layers,
          .batch_first = options.batch_first,
          .dropout = options.dropout,
          .bidirectional = options.bidirectional,
          .allow_empty = options.allow_empty,
          .memory = options.memory};
}

/// Raises DTypeError unless `done` is Bool, ShapeError unless it has x's shape without the features.
void check_done(const CallRules& rules, const Tensor& x, const Tensor& done);
}  // namespace detail

/// What does not depend on the cell.
class RecurrentBase : public Module {
 public:
  const std::int64_t input_size, hidden_size, num_layers;
  const bool batch_first;
  const double dropout;
  const bool bidirectional, allow_empty;
  const Memory memory;

  std::int64_t num_directions() const noexcept { return bidirectional ? 2 : 1; }
  /// Does nothing; here for code that comes from torch.
  void flatten_parameters() const noexcept {}
  std::string extra_repr() const override;

 protected:
  RecurrentBase(const char* op, std::int64_t input_size, std::int64_t hidden_size, const RecurrentOptions& options);

  /// l·D + d
  std::size_t index_of(std::int64_t layer, std::int64_t direction) const;
  /// "_l1_reverse": what the names of a cell's parameters end in.
  std::string suffix(std::int64_t layer, std::int64_t direction) const;
  /// (T, N, …) of an x, or of its mask, that has been checked; `batched` is the rank with a batch. Undefined for
  /// undefined.
  Tensor to_time_major(const Tensor& x, std::int64_t batched) const;
  /// Back to the layout of x.
  Tensor from_time_major(const Tensor& y, const Tensor& x) const;
  /// Raises ShapeError for a sequence of no steps, unless they are allowed.
  void check_steps(std::int64_t steps) const;
  std::string describe(std::int64_t proj_size, bool bias) const;

  const char* const op_;
};

}  // namespace unroll::nn
#pragma GCC visibility pop
