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

Tensor GRUCell::step(const RNNWeights& w, const Tensor& x, const Tensor& h) const {
  std::vector<Tensor> a = split(w.from_input(x), Shape(3, hidden_size), -1);
  // What r and z need of h, and n too unless it waits for r.
  const RNNWeights early = reset_after ? w : blocks(w, 0, 2), late = reset_after ? RNNWeights() : blocks(w, 2, 1);
  std::vector<Tensor> u = split(early.from_hidden(h), Shape(reset_after ? 3 : 2, hidden_size), -1);
  Tensor r = note("r", sigmoid(u[0] + a[0])), z = note("z", sigmoid(u[1] + a[1]));
  Tensor n = note("n", tanh(a[2] + (reset_after ? r * u[2] : late.from_hidden(r * h))));
  return (h - n) * z + n;
}

RNNWeights GRUCell::blocks(RNNWeights w, std::int64_t first, std::int64_t count) const {
  for (Tensor* p : {&w.hh, &w.bias_hh})
    if (p->defined()) *p = narrow(*p, 0, first * hidden_size, count * hidden_size);
  return w;
}

std::string GRUCell::extra_repr() const {
  return RNNCellBase::extra_repr() + (reset_after ? "" : ", reset_after=False");
}

}  // namespace unroll::nn
