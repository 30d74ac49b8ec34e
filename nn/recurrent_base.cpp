#include <fmt/format.h>
#include <unroll/autograd/ops/shape.h>
#include <unroll/nn/recurrent_base.h>

namespace unroll::nn {

namespace detail {

void check_done(const CallRules& rules, const Tensor& x, const Tensor& done) {
  check<DTypeError>(done.dtype() == DType::Bool, "{}: done must be bool, got {}", rules.op, done.dtype());
  const Shape expected(std::span(x.shape().begin(), x.shape().size() - 1));
  check<ShapeError>(done.shape() == expected, "{}: done has shape {}, expected {}, one for each step of each sequence",
                    rules.op, done.shape(), expected);
}

}  // namespace detail

RecurrentBase::RecurrentBase(const char* op, std::int64_t input_size_, std::int64_t hidden_size_,
                             const RecurrentOptions& options)
    : input_size(input_size_), hidden_size(hidden_size_), num_layers(options.num_layers),
      batch_first(options.batch_first), dropout(options.dropout), bidirectional(options.bidirectional),
      allow_empty(options.allow_empty), memory(options.memory), op_(op) {
  check<ValueError>(dropout >= 0 && dropout <= 1,
                    "{}: dropout must be in [0, 1], the probability of dropping an element, got {}", op, dropout);
  check<ValueError>(hidden_size > 0, "{}: hidden_size must be positive, got {}", op, hidden_size);
  check<ValueError>(num_layers > 0, "{}: num_layers must be positive, got {}", op, num_layers);
  check<ValueError>(input_size >= 0, "{}: input_size must not be negative, got {}", op, input_size);
}

std::size_t RecurrentBase::index_of(std::int64_t layer, std::int64_t direction) const {
  check<IndexError>(layer >= 0 && layer < num_layers, "{}: there is no layer {} among {}", op_, layer, num_layers);
  check<IndexError>(direction >= 0 && direction < num_directions(), "{}: there is no direction {} among {}", op_,
                    direction, num_directions());
  return static_cast<std::size_t>(layer * num_directions() + direction);
}

std::string RecurrentBase::suffix(std::int64_t layer, std::int64_t direction) const {
  return fmt::format("_l{}{}", layer, direction == 1 ? "_reverse" : "");
}

Tensor RecurrentBase::to_time_major(const Tensor& x, std::int64_t batched) const {
  if (!x.defined()) return x;
  return x.dim() < batched ? unsqueeze(x, 1) : batch_first ? transpose(x, 0, 1) : x;
}

Tensor RecurrentBase::from_time_major(const Tensor& y, const Tensor& x) const {
  return x.dim() == 2 ? squeeze(y, 1) : batch_first ? transpose(y, 0, 1) : y;
}

void RecurrentBase::check_steps(std::int64_t steps) const {
  check<ShapeError>(steps > 0 || allow_empty,
                    "{}: the sequence length must be > 0, got 0; the option allow_empty permits it", op_);
}

std::string RecurrentBase::extra_repr() const { return describe(0, true); }

std::string RecurrentBase::describe(std::int64_t proj_size, bool bias) const {
  std::string text = fmt::format("{}, {}", input_size, hidden_size);
  if (proj_size != 0) text += fmt::format(", proj_size={}", proj_size);
  if (num_layers != 1) text += fmt::format(", num_layers={}", num_layers);
  if (!bias) text += ", bias=False";
  if (batch_first) text += ", batch_first=True";
  if (dropout != 0) text += fmt::format(", dropout={}", detail::python(dropout));
  if (bidirectional) text += ", bidirectional=True";
  return text;
}

}  // namespace unroll::nn
