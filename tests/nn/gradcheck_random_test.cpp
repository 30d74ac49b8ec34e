// False alarms: random right configurations must pass. UNROLL_GRADCHECK_RANDOM=1000 checks that many instead of 150.
#include <doctest/doctest.h>
#include <unroll/autograd/ops/loss.h>
#include <unroll/autograd/ops/matmul.h>
#include <unroll/autograd/ops/normalize.h>
#include <unroll/nn/gradcheck.h>
#include <unroll/nn/layer_norm.h>
#include <unroll/nn/sequential.h>

#include <cstdlib>

#include "support/layers.h"

using namespace unroll;

namespace {

using Tensors = std::vector<Tensor>;

class Draw {
 public:
  explicit Draw(std::int64_t seed) : numbers_(seed) {}
  std::int64_t below(std::int64_t n) { return static_cast<std::int64_t>(numbers_.random32()) % n; }
  std::int64_t size() { return 1 + below(3); }
  bool flip() { return below(2) == 1; }
  DType dtype() { return below(4) == 0 ? DType::Float32 : DType::Float64; }
  // Numbers whose size varies by orders of magnitude from tensor to tensor.
  Tensor tensor(const Shape& shape, DType dtype) {
    const double sizes[] = {1, 1, 0.1, 3};
    return randn(shape, dtype, numbers_) * sizes[below(4)];
  }

 private:
  Generator numbers_;
};

template <class L, class Options>
GradcheckReport layer(Draw& draw, GradcheckOptions check) {
  Options options;
  options.num_layers = draw.size() > 2 ? 2 : 1;
  options.bidirectional = draw.flip();
  options.batch_first = draw.flip();
  options.bias = draw.flip();
  options.dtype = draw.dtype();
  const std::int64_t in = draw.size(), hidden = 1 + draw.size();
  if constexpr (requires { options.proj_size; }) options.proj_size = draw.below(3) == 0 ? 1 : 0;
  L rnn(in, hidden, options);
  return gradcheck_report(rnn, draw.tensor({draw.size(), draw.size(), in}, options.dtype), {}, check);
}

template <class C, class Options>
GradcheckReport cell(Draw& draw, GradcheckOptions check) {
  Options options;
  options.dtype = draw.dtype();
  options.bias = draw.flip();
  const std::int64_t in = draw.size();
  C made(in, draw.size(), options);
  return gradcheck_report(made, draw.tensor({draw.size(), in}, options.dtype), {}, check);
}

GradcheckReport user_layer(Draw& draw, GradcheckOptions check) {
  nn::Recurrent<MGUCell> rnn(2, draw.size(), {.num_layers = draw.size(), .bidirectional = draw.flip()});
  return gradcheck_report(rnn, draw.tensor({draw.size(), draw.size(), 2}, kDouble), {}, check);
}

GradcheckReport network(Draw& draw, GradcheckOptions check) {
  const std::int64_t in = draw.size(), width = 1 + draw.size();
  const DType dtype = draw.dtype();
  nn::Sequential net;
  net.append<nn::Linear>(in, width, nn::LinearOptions{.dtype = dtype});
  if (draw.flip()) net.append<nn::LayerNorm>(Shape{width}, nn::LayerNormOptions{.eps = 1e-2, .dtype = dtype});
  net.append("Tanh", unroll::tanh);
  if (draw.flip()) net.append("Sin", unroll::sin);
  net.append<nn::Linear>(width, draw.size(), nn::LinearOptions{.dtype = dtype});
  return gradcheck_report(net, draw.tensor({draw.size(), in}, dtype), check);
}

// A chain of ops, and a loss that may be tiny.
GradcheckReport program(Draw& draw, GradcheckOptions check) {
  const DType dtype = draw.dtype();
  const std::int64_t n = draw.size(), m = draw.size();
  Tensors inputs{draw.tensor({n, m}, dtype).requires_grad_(), draw.tensor({n, m}, dtype).requires_grad_(),
                 draw.tensor({m, n}, dtype).requires_grad_()};
  std::vector<std::int64_t> ops;
  for (std::int64_t k = draw.size() + 1; k > 0; --k) ops.push_back(draw.below(9));
  const double scales[] = {1, 1e-3, 1e-6, 1e3};
  const double scale = scales[draw.below(4)];
  auto f = [=](const Tensors& in) {
    Tensor y = in[0];
    for (std::int64_t op : ops) switch (op) {
        case 0:
          y = tanh(y) * in[1];
          break;
        case 1:
          y = sigmoid(y + in[1]);
          break;
        case 2:
          y = softmax(y, -1);
          break;
        case 3:
          y = log_softmax(y * 0.5, 0);
          break;
        case 4:
          y = matmul(tanh(y), matmul(in[2], in[1]));
          break;
        case 5:
          y = y / sqrt(square(in[1]) + 1);
          break;
        case 6:
          y = exp(tanh(y)) + t(in[2]);
          break;
        case 7:
          y = y - mean(y, {-1}, true);
          break;
        default:
          y = softplus(y) + relu(y * y);
          break;
      }
    return Tensors{y, sum(square(y)) * scale};
  };
  return gradcheck_report(f, inputs, check);
}

GradcheckReport second_order(Draw& draw, GradcheckOptions check) {
  nn::GRUCell cell(draw.size(), draw.size(), {.dtype = kDouble});
  Tensors inputs{draw.tensor({2, cell.input_size}, kDouble).requires_grad_(),
                 draw.tensor({2, cell.hidden_size}, kDouble).requires_grad_()};
  for (const Tensor& p : cell.parameters()) inputs.push_back(p);
  return gradgradcheck_report([&](const Tensors& in) { return cell(in[0], in[1]); }, inputs, {}, check);
}

}  // namespace

TEST_CASE("nn gradcheck: no false alarms") {
  const char* wanted = std::getenv("UNROLL_GRADCHECK_RANDOM");
  const std::int64_t count = wanted ? std::atoll(wanted) : 150;
  using Make = GradcheckReport (*)(Draw&, GradcheckOptions);
  const Make makes[] = {layer<nn::LSTM, nn::LSTMOptions>,
                        layer<nn::GRU, nn::GRUOptions>,
                        layer<nn::RNN, nn::RNNOptions>,
                        cell<nn::LSTMCell, nn::LSTMCellOptions>,
                        cell<nn::GRUCell, nn::GRUCellOptions>,
                        user_layer,
                        network,
                        program,
                        program,
                        program,
                        second_order};
  std::int64_t alarms = 0, untested = 0, elements = 0;
  for (std::int64_t k = 0; k < count; ++k) {
    manual_seed(k);
    Draw draw(k);
    GradcheckOptions check{.fast_mode = draw.below(4) == 0};
    const auto kind = static_cast<std::size_t>(draw.below(std::ssize(makes)));
    GradcheckReport report = makes[kind](draw, check);
    for (const GradcheckRow& row : report.rows) elements += row.block.empty() ? row.elements : 0;
    untested += report.verdict == GradcheckVerdict::NothingTested;
    if (report.ok()) continue;
    ++alarms;
    MESSAGE("configuration ", k, " of kind ", kind, "\n", to_string(report));
  }
  CHECK(alarms == 0);
  CHECK(untested * 10 < count);
  CHECK(elements > 20 * count);
  if (wanted) MESSAGE(alarms, " false alarms in ", count, " configurations of ", elements, " elements");
}
