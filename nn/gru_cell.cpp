#include <unroll/autograd/ops/activation.h>
#include <unroll/autograd/ops/arithmetic.h>
#include <unroll/nn/gru_cell.h>

namespace unroll::nn {

GRUCell::GRUCell(std::int64_t input_size_, std::int64_t hidden_size_, const GRUCellOptions& options)
    : RNNCellBase("gru_cell", input_size_, hidden_size_, 3, hidden_size_, options.bias, options.dtype),
      reset_after(options.reset_after) {
  reset_parameters();
}

Tensor GRUCell::operator()(const Tensor& x, const Tensor& h) const { return step_once(*this, x, h); }

namespace {
// The weights of h in some of the three blocks.
RNNWeights blocks(RNNWeights w, std::int64_t hidden_size, std::int64_t first, std::int64_t count) {
  for (Tensor* p : {&w.hh, &w.bias_hh})
    if (p->defined()) *p = narrow(*p, 0, first * hidden_size, count * hidden_size);
  return w;
}
}  // namespace

Tensor GRUCell::Equations::operator()(const RNNWeights& w, const Tensor& x, const Tensor& h) const {
  const std::int64_t hidden_size = h.size(-1);
  std::vector<Tensor> a = split(w.from_input(x), Shape(3, hidden_size), -1);
  // What r and z need of h, and n too unless it waits for r.
  const RNNWeights early = reset_after ? w : blocks(w, hidden_size, 0, 2),
                   late = reset_after ? RNNWeights() : blocks(w, hidden_size, 2, 1);
  std::vector<Tensor> u = split(early.from_hidden(h), Shape(reset_after ? 3 : 2, hidden_size), -1);
  Tensor r = note("r", sigmoid(u[0] + a[0])), z = note("z", sigmoid(u[1] + a[1]));
  Tensor n = note("n", tanh(a[2] + (reset_after ? r * u[2] : late.from_hidden(r * h))));
  return (h - n) * z + n;
}

std::optional<detail::FusedKind> GRUCell::fused_kind() const {
  return reset_after ? std::optional(detail::FusedKind{kernels::RecurrentKind::GRU}) : std::nullopt;
}

std::string GRUCell::extra_repr() const {
  return RNNCellBase::extra_repr() + (reset_after ? "" : ", reset_after=False");
}

}  // namespace unroll::nn
