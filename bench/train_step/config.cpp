#include "train_step/config.h"

#include <unroll/core/error.h>

#include <algorithm>
#include <numeric>

namespace bench {
namespace {

std::int64_t gates_of(const std::string& module) {
  if (module.starts_with("LSTM")) return 4;
  if (module.starts_with("GRU")) return 3;
  if (module.starts_with("RNN")) return 1;
  return module == "MGU" ? 2 : 0;
}

}  // namespace

bool Config::is_layer() const { return module == "RNN" || module == "LSTM" || module == "GRU"; }

std::vector<std::int64_t> Config::lengths() const {
  std::vector<std::int64_t> lengths(static_cast<std::size_t>(batch), seq_len);
  if (!packed) return lengths;
  const std::int64_t fall = seq_len - std::max<std::int64_t>(1, seq_len / 4),
                     last = std::max<std::int64_t>(1, batch - 1);
  for (std::int64_t n = 0; n < batch; ++n) lengths[static_cast<std::size_t>(n)] -= fall * n / last;
  return lengths;
}

void Config::validate() const {
  using unroll::check, unroll::ValueError;
  check<ValueError>(is_layer() || (num_layers == 1 && !bidirectional && !packed && proj_size == 0),
                    "{} is no layer and has no --num-layers, --bidirectional, --packed or --proj-size", module);
  check<ValueError>(module == "LSTM" || proj_size == 0, "only LSTM has --proj-size, not {}", module);
}

double needed_flops(const Config& c) {
  const std::vector<std::int64_t> lengths = c.lengths();
  const auto rows = static_cast<double>(std::accumulate(lengths.begin(), lengths.end(), std::int64_t{0}));
  const std::int64_t gates = gates_of(c.module) * c.hidden_size, directions = c.bidirectional ? 2 : 1;
  const std::int64_t out = c.proj_size > 0 ? c.proj_size : c.hidden_size;
  std::int64_t sum = 0;  // multiply-adds a row
  for (std::int64_t layer = 0; layer < c.num_layers; ++layer) {
    const std::int64_t features = layer == 0 ? c.input_size : directions * out;
    const std::int64_t of_input = gates * features, of_state = gates * out + c.hidden_size * c.proj_size;
    const std::int64_t forward = of_input + of_state, weights = forward;
    sum += directions * forward;
    if (c.forward_only) continue;
    sum += directions * (weights + of_state);
    if (layer > 0 || c.input_grad) sum += directions * of_input;
  }
  return 2 * rows * static_cast<double>(sum);
}

}  // namespace bench
