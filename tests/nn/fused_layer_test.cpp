#include <unroll/autograd/anomaly.h>
#include <unroll/autograd/grad_mode.h>
#include <unroll/autograd/gradcheck.h>
#include <unroll/autograd/ops/arithmetic.h>
#include <unroll/autograd/ops/compare.h>
#include <unroll/autograd/ops/reduce.h>
#include <unroll/autograd/ops/shape.h>
#include <unroll/core/kernels/float_mode.h>
#include <unroll/core/random.h>
#include <unroll/nn/rnn_cell.h>

#include <array>
#include <cmath>

#include "support/fused_case.h"
#include "support/memory.h"
#include "support/targets.h"
#include "support/threads.h"

using namespace unroll;
using namespace fused;

// The kernels of the recurrent layers against the same layers said with ops.
namespace {

// Of a user, who prepares weights that do not fit.
struct Misfit : nn::LSTMCell {
  using LSTMCell::LSTMCell;
  nn::RNNWeights sequence_weights(const Tensor& h) const override {
    nn::RNNWeights w = LSTMCell::sequence_weights(h);
    *std::array{&w.ih, &w.bias_hh, &w.hh, &w.hr}[wrong] =
        wrong == 2 ? w.hh.to(DType::Float64) : zeros({wrong < 2 ? 3 : 2, 2});
    return w;
  }
  std::size_t wrong = 0;
};

}  // namespace

TEST_CASE("fused layers: outputs and all gradients are those of the equations") {
  for (Kind kind : kKinds)
    for (const Case& given : kCases)
      for (DType dtype : {DType::Float64, DType::Float32}) {
        Case c = given;
        c.dtype = dtype;
        const Subject s = subject(kind, c);
        CAPTURE(static_cast<int>(kind));
        CAPTURE(&given - kCases);
        CHECK(distance(values(s, true), values(s, false)) < (dtype == DType::Float64 ? 1e-13 : 2e-5));
      }
}

TEST_CASE("fused layers: more rows than the gradients of weights take at a time") {
  for (Kind kind : kKinds)
    for (DType dtype : {DType::Float64, DType::Float32})
      for (bool packed : {false, true}) {
        const Subject s = subject(kind, {.t = 80, .n = 19, .i = 200, .h = 70, .packed = packed, .dtype = dtype});
        CHECK(distance(values(s, true), values(s, false)) < (dtype == DType::Float64 ? 1e-13 : 2e-5));
      }
}

TEST_CASE("fused layers: more sequences than a step takes at a time") {
  for (Kind kind : kKinds)
    for (bool packed : {false, true})
      for (std::int64_t proj : {0, 3}) {
        if (proj > 0 && kind != Kind::LSTM) continue;
        const Subject s = subject(kind, {.t = 3, .n = 230, .i = 4, .h = 21, .proj = proj, .packed = packed});
        CHECK(distance(values(s, true), values(s, false)) < 1e-13);
      }
}

TEST_CASE("fused layers: a projected LSTM") {
  for (Case c : kCases) {
    if (c.h < 4) continue;
    for (std::int64_t proj : {std::int64_t{1}, c.h - 1}) {
      c.proj = proj;
      const Subject s = subject(Kind::LSTM, c);
      CHECK(distance(values(s, true), values(s, false)) < 1e-13);
    }
  }
}

TEST_CASE("fused layers: gradients of some outputs only, and for some inputs only") {
  for (Kind kind : kKinds)
    for (bool bidirectional : {false, true}) {
      const Subject s = subject(kind, {.t = 3, .n = 3, .i = 3, .h = 5, .bidirectional = bidirectional});
      for (unsigned used = 1; used < (kind == Kind::LSTM ? 8u : 4u); ++used)
        CHECK(distance(values(s, true, used), values(s, false, used)) < 1e-13);
      for (std::size_t only = 0; only < s.tensors.size(); ++only) {
        for (std::size_t k = 0; k < s.tensors.size(); ++k) s.tensors[k].requires_grad_(k == only);
        auto alone = [&](bool fused) {
          FusedMode mode(fused);
          return grad({sum(s.outputs()[0])}, {s.tensors[only]});
        };
        CHECK(distance(alone(true), alone(false)) < 1e-13);
      }
    }
}

TEST_CASE("fused layers: one direction's last state alone") {
  const Subject s = subject(Kind::LSTM, {.t = 3, .n = 2, .i = 3, .h = 4, .bidirectional = true});
  for (std::int64_t direction : {0, 1}) {
    auto alone = [&](bool fused) {
      FusedMode mode(fused);
      Tensors dx = grad({sum(select(s.outputs()[1], 0, direction))}, s.tensors, {.allow_unused = true});
      for (std::size_t k = 0; k < dx.size(); ++k)
        if (!dx[k].defined()) dx[k] = zeros_like(s.tensors[k]);
      return dx;
    };
    CHECK(distance(alone(true), alone(false)) < 1e-13);
  }
}

TEST_CASE("fused layers: the graph can be kept, and differentiated again") {
  Distance near(100);
  for (const Case& c : {Case{.t = 3, .n = 2, .i = 3, .h = 4, .dtype = DType::Float32},
                        Case{.t = 10, .n = 18, .i = 60, .h = 100, .dtype = DType::Float32}})
    for (Kind kind : {Kind::LSTM, Kind::GRU, Kind::Tanh}) {
      Threads scope(2);  // the second has a group of sequences for each
      const Subject s = subject(kind, c);
      Tensors y = s.outputs();
      Tensor loss = sum(y[0] * y[0]);
      const Tensors first = grad({loss}, s.tensors, {.retain_graph = true});
      CHECK(same_bits(grad({loss}, s.tensors, {.retain_graph = true}), first));
      CHECK(distance(grad({loss}, s.tensors, {.create_graph = true}), first) < 1e-5);
      CHECK(same_bits(grad({loss}, s.tensors), first));
      CHECK_THROWS_AS(grad({loss}, s.tensors), GradError);
    }
}

TEST_CASE_TEMPLATE("fused cells: the weights' gradients add up over the steps of a loop", Cell, nn::LSTMCell,
                   nn::GRUCell, nn::RNNCell) {
  for (std::int64_t n : {1, 3})
    for (bool tied : {false, true}) {
      Cell cell(6, 6, {.dtype = kDouble});
      if (tied) cell.weight_hh = cell.weight_ih;
      const Tensor x = randn({4, n, 6}, kDouble).requires_grad_();
      Tensors leaves{x, cell.weight_ih, cell.bias_ih, cell.bias_hh};
      if (!tied) leaves.push_back(cell.weight_hh);
      // The penalty reads one weight beside the cell: its sum is begun when those of the others are not.
      auto loss = [&] {
        typename Cell::State state;
        Tensor sum_of_steps = sum(cell.weight_ih * cell.weight_ih);
        for (const Tensor& step : unbind(x)) {
          state = cell(step * select(cell.bias_ih, 0, 0), state);
          sum_of_steps = sum_of_steps + sum(nn::output_of(state) * step);
        }
        return sum_of_steps + sum(x);
      };
      auto gradients = [&](bool fused, bool anomaly) {
        FusedMode mode(fused);
        const Tensor y = loss();
        AnomalyMode watch(anomaly);
        return grad({y}, leaves);
      };
      const Tensors right = gradients(false, false);
      CHECK(distance(gradients(true, false), right) < 1e-13);
      CHECK(distance(gradients(true, true), right) < 1e-13);
      const Tensor y = loss();
      const Tensors first = grad({y}, leaves, {.retain_graph = true});
      CHECK(distance(grad({y}, leaves), first) == 0);
      for (const Tensor& leaf : leaves) leaf.set_grad({});
      loss().backward();
      loss().backward();  // adds to what .grad holds
      for (std::size_t k = 0; k < leaves.size(); ++k) CHECK(distance({leaves[k].grad()}, {2 * first[k]}) < 1e-13);
    }
}

TEST_CASE("fused layers: gradcheck of first and second order") {
  for (Kind kind : {Kind::LSTM, Kind::GRU, Kind::Tanh}) {
    const Subject s = subject(kind, {.t = 2, .n = 2, .i = 2, .h = 3, .bidirectional = true});
    auto f = [&](const Tensors&) { return s.outputs(); };
    CHECK(gradcheck(f, s.tensors));
    CHECK(gradgradcheck(f, {s.tensors[0], s.tensors[1]}));
  }
}

TEST_CASE("fused layers: a row of a batch has the bits of that row alone") {
  for (Kind kind : kKinds) {
    NoGrad no_grad;
    const Subject s = subject(kind, {.t = 4, .n = 11, .i = 20, .h = 35, .states = false, .dtype = DType::Float32});
    const Tensor all = s.outputs()[0].clone(), x = s.tensors[0].clone();
    Tensors rows;
    for (std::int64_t n = 0; n < 11; ++n) {
      // The same row in every place: whatever tile it falls into, the result is the same.
      s.tensors[0].copy_(expand(narrow(x, 1, n, 1), x.shape()));
      const Tensor same = s.outputs()[0];
      for (std::int64_t m : {0, 5, 6, 10}) CHECK(same_bits({narrow(same, 1, m, 1)}, {narrow(all, 1, n, 1)}));
    }
  }
}

TEST_CASE("fused layers: every instruction set of this CPU") {
  for_targets([](const std::string& target) {
    CAPTURE(target);
    for (Kind kind : kKinds)
      for (Case c : kCases)
        for (DType dtype : {DType::Float64, DType::Float32}) {
          c.dtype = dtype;
          const Subject s = subject(kind, c);
          CHECK(distance(values(s, true), values(s, false)) < (dtype == DType::Float64 ? 1e-13 : 2e-5));
        }
    // Gradients of weights from packed columns, of more rows than are packed at once.
    const Subject s = subject(Kind::LSTM, {.t = 6, .n = 41, .i = 200, .h = 150, .dtype = DType::Float32});
    CHECK(distance(values(s, true), values(s, false)) < 2e-5);
  });
}

// Backward divides an LSTM's output by its output gate.
TEST_CASE("fused layers: gradients through an output gate that is shut, nearly shut, or wide open") {
  for_targets([](const std::string& target) {
    CAPTURE(target);
    for (DType dtype : {DType::Float64, DType::Float32})
      for (std::int64_t proj : {0, 3})
        for (double sum : {-2000., -730., -400., -100., -86., -40., 40.}) {
          CAPTURE(sum);
          const Subject s = subject(Kind::LSTM, {.h = 9, .proj = proj, .dtype = dtype});
          {
            NoGrad no_grad;
            narrow(s.tensors[5], 0, 27, 9).fill_(sum);  // bias_ih of o
          }
          CHECK(distance(values(s, true), values(s, false)) < (dtype == DType::Float64 ? 1e-13 : 2e-5));
        }
  });
}

TEST_CASE("fused layers: a NaN reaches what depends on it, and nothing else") {
  for (Kind kind : kKinds) {
    NoGrad no_grad;
    const Subject s = subject(kind, {.t = 3, .n = 4, .i = 3, .h = 5, .dtype = DType::Float32});
    narrow(narrow(s.tensors[0], 0, 1, 1), 1, 2, 1).fill_(NAN);
    const Tensor y = s.outputs()[0];
    for (std::int64_t t = 0; t < 3; ++t)
      for (std::int64_t n = 0; n < 4; ++n)
        for (float v : select(select(y, 0, t), 0, n).to_vector<float>()) CHECK(std::isnan(v) == (t >= 1 && n == 2));
  }
}

TEST_CASE("fused layers: the gradient of a ReLU that is NaN passes, as that of the op and torch's") {
  for (bool fused : {true, false}) {
    FusedMode mode(fused);
    const nn::RNN rnn(2, 3, {.nonlinearity = nn::Nonlinearity::ReLU});
    const Tensor x = full({1, 1, 2}, NAN);
    sum(rnn(x).output).backward();
    CHECK(rnn.named_parameters().back().second.grad().to_vector<float>() == std::vector<float>{1, 1, 1});  // of bias_hh
  }
}

#if defined(__x86_64__) || defined(__aarch64__)
TEST_CASE("fused layers: the host's floating-point mode is as it was, and denormals are zeros inside") {
  // Without the flags of what happened, which x86 keeps in the same register.
  auto mode = [] { return kernels::float_mode() & ~kernels::FloatMode{0x3f}; };
  const kernels::FloatMode before = mode();
  const Subject s = subject(Kind::Tanh, {.t = 2, .n = 1, .i = 1, .h = 1, .bias = false, .dtype = DType::Float32});
  NoGrad no_grad;
  for (const Tensor& x : s.tensors) x.fill_(1e-20);  // the product is denormal
  s.tensors[1].fill_(0);
  CHECK(s.outputs()[0].to_vector<float>()[0] == 0);
  CHECK(mode() == before);
}
#endif

TEST_CASE("fused layers: what is compared here would be noticed") {
  const Subject s = subject(Kind::LSTM, {.t = 3, .n = 2, .i = 3, .h = 4});
  Tensors right = values(s, true);
  for (std::size_t k = 0; k < right.size(); ++k) {
    Tensors wrong = right;
    wrong[k] = right[k].detach().clone();
    view(wrong[k], {-1}).detach();
    narrow(view(wrong[k], {-1}), 0, 0, 1).add_(1e-9);
    CHECK(distance(wrong, right) > 1e-13);
  }
}

TEST_CASE("fused layers: traces and done masks take the equations, to the same numbers") {
  nn::LSTM rnn(3, 5, {.num_layers = 2, .bidirectional = true, .dtype = kDouble});
  const Tensor x = randn({4, 2, 3}, kDouble);
  const auto [output, state] = rnn(x);
  CHECK(distance({rnn.trace(x).outputs[1], rnn.trace(x).state.c}, {output, state.c}) < 1e-14);
  CHECK(distance({rnn(x, {}, {.done = zeros({4, 2}, DType::Bool)}).output}, {output}) < 1e-14);
}

TEST_CASE("fused layers: a backward that ran out of memory is not repeated with gates that are no more") {
  for (Kind kind : {Kind::LSTM, Kind::GRU, Kind::Tanh}) {
    const Subject s = subject(kind, {.t = 3, .n = 2, .i = 3, .h = 4, .bidirectional = true});
    const Tensor cotangent = ones_like(s.outputs()[0]);
    auto backward = [&](const Tensor& y) { return grad({y}, s.tensors, {.grad_outputs = {cotangent}}); };
    const Tensors right = backward(s.outputs()[0]);
    int failures = 0, refused = 0;
    for (std::int64_t n = 0;; ++n) {
      const Tensor y = s.outputs()[0];
      try {
        FailAfter fail(n);
        backward(y);
        break;
      } catch (const std::bad_alloc&) {
        ++failures;
      }
      try {
        const Tensors again = backward(y);
        CHECK(distance(again, right) == 0);
      } catch (const GradError& error) {  // or the layer was through, and its node is freed
        refused += std::string_view(error.what()).find("by a backward that failed") != std::string_view::npos;
      }
    }
    CHECK(failures > refused);
    CHECK((refused > 0) == (kind != Kind::Tanh));  // whose gates are not kept
  }
}

TEST_CASE("fused layers: prepared weights that do not fit raise before a kernel reads them") {
  nn::Recurrent<Misfit> rnn(2, 3);
  CHECK_THROWS_WITH_AS(rnn(randn({4, 1, 2})), "lstm: weight_ih has shape (3, 2), expected (12, 2)", ShapeError);
  rnn.cell(0).wrong = 1;
  CHECK_THROWS_WITH_AS(rnn(randn({4, 1, 2})), "lstm: bias_hh has shape (3, 2), expected (12,)", ShapeError);
  rnn.cell(0).wrong = 2;
  CHECK_THROWS_WITH_AS(rnn(randn({4, 1, 2})), "lstm: weight_hh is float64, the input float32", DTypeError);
  nn::Recurrent<Misfit> projected(2, 3, {}, nn::LSTMCellOptions{.proj_size = 2});
  projected.cell(0).wrong = 3;
  CHECK_THROWS_WITH_AS(projected(randn({4, 1, 2})), "lstm: weight_hr has shape (2, 2), expected (2, 3)", ShapeError);
}

TEST_CASE("fused layers: a row of a batch has the bits of that row alone where panels are narrow and deep") {
  NoGrad no_grad;
  const nn::RNNCell cell(5000, 8);
  const Tensor x = randn({16, 5000}) * 0.02;  // no unit saturates
  CHECK(equal(narrow(cell(x), 0, 0, 1), cell(narrow(x, 0, 0, 1))));
}

TEST_CASE("fused layers: what a second backward does not read may be written after the first") {
  for (Kind kind : kKinds)
    for (std::int64_t steps : {1, 3})
      for (bool input_grad : {false, true})
        for (std::size_t written = 1; written < 5; ++written) {  // w_ih, w_hh, b_ih, b_hh
          const Subject s = subject(kind, {.t = steps, .states = false});
          s.tensors[0].requires_grad_(input_grad);
          const Tensor loss = sum(s.outputs()[0]);
          loss.backward({.retain_graph = true});
          const Tensor before = s.tensors[1].grad();
          for (const Tensor& x : s.tensors) x.set_grad({});
          {
            NoGrad no_grad;
            s.tensors[written].mul_(2);
          }
          CAPTURE(static_cast<int>(kind));
          CAPTURE(steps);
          CAPTURE(written);
          if (written == 1 ? input_grad : written == 2 && steps > 1) {
            CHECK_THROWS_AS(loss.backward(), GradError);
          } else {
            loss.backward();
            CHECK(equal(s.tensors[1].grad(), before));
          }
        }
}

TEST_CASE("fused layers: x may be written where the weights that read it want no gradient") {
  nn::LSTM rnn(2, 3);
  rnn.cell(0).weight_ih.requires_grad_(false);
  Tensor x = randn({4, 2, 2}), loss = sum(rnn(x).output);
  x.zero_();
  CHECK_NOTHROW(loss.backward());
  CHECK(rnn.cell(0).weight_hh.grad().defined());
}
