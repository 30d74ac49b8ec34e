#include <unroll/autograd/ops/activation.h>
#include <unroll/autograd/ops/arithmetic.h>
#include <unroll/autograd/ops/matmul.h>
#include <unroll/nn/gru_cell.h>

namespace unroll::nn {

GRUCell::GRUCell(std::int64_t input_size_, std::int64_t hidden_size_, const GRUCellOptions& options)
    : RNNCellBase("gru_cell", input_size_, hidden_size_, 3, hidden_size_, options.bias, options.dtype),
      reset_after(options.reset_after) {
  reset_parameters();
}

Tensor GRUCell::operator()(const Tensor& x, const Tensor& h) const {
  return step(weights(), x, checked(x, h, hidden_size));
}

Tensor GRUCell::step(const RNNWeights& w, const Tensor& x, const Tensor& h) const {
  auto rows = [&](const Tensor& p, std::int64_t first, std::int64_t blocks) {
    return !p.defined() || blocks == 3 ? p : narrow(p, 0, first * hidden_size, blocks * hidden_size);
  };
  auto hidden = [&](const Tensor& v, std::int64_t first, std::int64_t blocks) {
    return linear(v, rows(w.hh, first, blocks), rows(w.bias_hh, first, blocks));
  };
  const Shape at_once(reset_after ? 3 : 2, hidden_size);  // else n's block waits for r
  std::vector<Tensor> a = split(linear(x, w.ih, w.bias_ih), Shape(3, hidden_size), -1);
  std::vector<Tensor> u = split(hidden(h, 0, reset_after ? 3 : 2), at_once, -1);
  Tensor r = note("r", sigmoid(u[0] + a[0])), z = note("z", sigmoid(u[1] + a[1]));
  Tensor n = note("n", tanh(a[2] + (reset_after ? r * u[2] : hidden(r * h, 2, 1))));
  return (h - n) * z + n;
}

std::string GRUCell::extra_repr() const {
  return RNNCellBase::extra_repr() + (reset_after ? "" : ", reset_after=False");
}

}  // namespace unroll::nn
