#include <unroll/nn/cell.h>

#include <algorithm>

namespace unroll::nn {

namespace {
thread_local NamedTensors* t_notes = nullptr;
}

Tensor note(const char* name, Tensor value) {
  if (t_notes != nullptr) t_notes->emplace_back(name, value);
  return value;
}

namespace detail {

NoteScope::NoteScope(NamedTensors* notes) noexcept : outer_(std::exchange(t_notes, notes)) {}
NoteScope::~NoteScope() { t_notes = outer_; }

Shape CallRules::state_lead(const Tensor& x) const {
  Shape lead = leading;
  if (sequences)
    lead.push_back(*sequences);
  else if (x.dim() == batched_rank)
    lead.push_back(x.shape()[static_cast<std::size_t>(batch_dim)]);
  return lead;
}

void check_call(const CallRules& rules, const Tensor& x, std::span<const Tensor* const> state) {
  check<ValueError>(x.defined(), "{}: expected a tensor as input, got an undefined one", rules.op);
  if (rules.sequences)
    check<ShapeError>(x.dim() == 2, "{}: expected packed data of 2 dimensions, got {} in shape {}", rules.op, x.dim(),
                      x.shape());
  else
    check<ShapeError>(x.dim() == rules.batched_rank || x.dim() == rules.batched_rank - 1,
                      "{}: expected an input of {} dimensions, or {} without a batch, got {} in shape {}", rules.op,
                      rules.batched_rank, rules.batched_rank - 1, x.dim(), x.shape());

  bool given = std::ranges::any_of(state, [](const Tensor* s) { return s->defined(); });
  Shape expected = rules.state_lead(x);
  expected.push_back(0);
  for (std::size_t i = 0; given && i < state.size(); ++i) {
    check<ValueError>(state[i]->defined(), "{}: the state is {} tensors, of which hidden[{}] is missing", rules.op,
                      state.size(), i);
    check<ShapeError>(state[i]->shape().size() == expected.size(),
                      "{}: for an input of {} dimensions hidden[{}] must have {}, got {} in shape {}", rules.op,
                      x.dim(), i, expected.size(), state[i]->dim(), state[i]->shape());
  }

  check<ShapeError>(x.shape().back() == rules.input_size, "{}: input has {} features, expected input_size = {}",
                    rules.op, x.shape().back(), rules.input_size);

  for (std::size_t i = 0; given && i < state.size(); ++i) {
    expected.back() = rules.widths[i];
    check<ShapeError>(state[i]->shape() == expected, "{}: hidden[{}] has shape {}, expected {}", rules.op, i,
                      state[i]->shape(), expected);
  }

  DType dtype = rules.dtype.value_or(x.dtype());
  check<DTypeError>(x.dtype() == dtype, "{}: input is {}, the parameters are {}", rules.op, x.dtype(), dtype);
  for (std::size_t i = 0; given && i < state.size(); ++i)
    check<DTypeError>(state[i]->dtype() == dtype, "{}: hidden[{}] is {}, the parameters are {}", rules.op, i,
                      state[i]->dtype(), dtype);
}

}  // namespace detail
}  // namespace unroll::nn
