#include <unroll/autograd/fused.h>
#include <unroll/autograd/grad_mode.h>
#include <unroll/autograd/ops/compare.h>
#include <unroll/autograd/ops/shape.h>
#include <unroll/core/kernels/copy.h>
#include <unroll/core/random.h>
#include <unroll/nn/gru_cell.h>
#include <unroll/nn/init.h>
#include <unroll/optim/sgd.h>

#include <atomic>
#include <thread>

#include "support/fused_case.h"
#include "support/memory.h"
#include "support/targets.h"

using namespace unroll;
using namespace fused;

// A weight is packed once for each of its versions; nobody may ever see the panels of another one.
namespace {

constexpr Case kSizes[] = {{.t = 3, .n = 2, .i = 5, .h = 9},
                           {.t = 3, .n = 2, .i = 20, .h = 17, .layers = 2, .bidirectional = true},
                           {.t = 2, .n = 5, .i = 5, .h = 9, .proj = 4}};

// Calls f(subject, its weight matrices).
template <class F>
void for_subjects(F f) {
  for (Kind kind : kKinds)
    for (const Case& c : kSizes) {
      if (c.proj > 0 && kind != Kind::LSTM) continue;
      const Subject s = subject(kind, c);
      Tensors weights;
      for (const Tensor& p : std::span(s.tensors).subspan(kind == Kind::LSTM ? 3 : 2))
        if (p.dim() == 2) weights.push_back(p);
      f(s, weights);
    }
}

bool is_right(const Subject& s) { return distance(values(s, true), values(s, false)) < 1e-13; }

// Until panels of all weights are there.
void warm_up(const Subject& s) {
  for (int i = 0; i < 3; ++i) CHECK(is_right(s));
}

}  // namespace

TEST_CASE("panels: whatever changes a weight, the layer computes with what it is") {
  for_subjects([](const Subject& s, const Tensors& weights) {
    warm_up(s);
    auto after = [&](auto change) {
      for (const Tensor& w : weights) {
        NoGrad no_grad;
        change(w);
      }
      warm_up(s);
    };
    after([](const Tensor& w) { w.mul_(0.5); });
    after([](const Tensor& w) { w.copy_(randn(w.shape(), w.dtype())); });
    after([](const Tensor& w) { narrow(w, 0, 1, 1).fill_(0.25); });
    after([](const Tensor& w) { transpose(w, 0, 1).add_(0.125); });
    after([](const Tensor& w) { nn::init::xavier_uniform_(w); });
    after([](const Tensor& w) {
      w.set_grad(ones_like(w));
      optim::SGD({w}, {.lr = 0.1}).step();
      w.set_grad({});
    });
    for (const Tensor& w : weights) w.data<double>()[1] = 3;
    warm_up(s);
    for (const Tensor& w : weights) w.data<double>()[2] -= 1;
    warm_up(s);
  });
}

TEST_CASE("panels: a pointer asked for before or of a view, and written through long after") {
  for_subjects([](const Subject& s, const Tensors& weights) {
    std::vector<double*> pointers;
    warm_up(s);
    for (std::size_t i = 0; i < weights.size(); ++i)
      pointers.push_back(i % 2 == 0 ? weights[i].data<double>() : transpose(weights[i].detach(), 0, 1).data<double>());
    for (double value : {1.5, -0.25}) {
      warm_up(s);
      for (double* p : pointers) *p = value;
    }
    warm_up(s);
  });
}

TEST_CASE("panels: the tests above would see those of an older version") {
  for_subjects([](const Subject& s, const Tensors& weights) {
    warm_up(s);
    for (const Tensor& w : weights) w.raw<double>()[0] += 1;  // which only the library may, and says so
    CHECK_FALSE(is_right(s));
    for (const Tensor& w : weights) kernels::wrote(w, "a test");
    CHECK(is_right(s));
  });
}

TEST_CASE("panels: one weight in several places, of several kinds, as part of another tensor") {
  const Tensor whole = randn({2, 24, 8}, kDouble), w = randn({24, 8}, kDouble);
  nn::LSTMCell lstm(8, 6, {.dtype = kDouble});
  nn::GRUCell gru(8, 8, {.dtype = kDouble});
  nn::RNNCell rnn(8, 24, {.dtype = kDouble}), other(8, 24, {.dtype = kDouble});
  lstm.weight_ih = gru.weight_ih = gru.weight_hh = rnn.weight_ih = w;
  other.weight_ih = select(whole, 0, 1);
  const Tensor x = randn({3, 8}, kDouble);
  auto all = [&](bool fused) {
    FusedMode mode(fused);
    const Tensor h = gru(x, x);
    return Tensors{lstm(x).h, gru(x, h), rnn(x), other(x)};
  };
  for (int i = 0; i < 4; ++i) CHECK(distance(all(true), all(false)) < 1e-13);
}

TEST_CASE("panels: those of one instruction set are not taken for another's") {
  const Subject s = subject(Kind::LSTM, {.t = 3, .n = 2, .i = 5, .h = 9});
  warm_up(s);
  for (int i = 0; i < 2; ++i) for_targets([&](const std::string&) { warm_up(s); });
}

TEST_CASE("panels: kept from the second call on, and gone with a write, a pointer or the weight") {
  const Live before;
  {
    nn::LSTM lstm(30, 40);
    const Tensor x = randn({6, 2, 30});
    NoGrad no_grad;
    auto live = [&] {
      lstm(x);
      return Live().bytes;
    };
    const std::int64_t none = live(), kept = live(), weights = 4 * 40 * (30 + 40) * 4;
    CHECK(kept - none > weights);
    CHECK(kept - none < 2 * weights);
    CHECK(live() == kept);
    lstm.cell(0).weight_ih.mul_(2);
    CHECK(live() < kept);
    CHECK(live() == kept);
    for (const Tensor& p : lstm.parameters()) p.data<float>();
    CHECK(live() < none);
    CHECK(live() < none);
  }
  CHECK(Live() == before);
}

TEST_CASE("panels: a layer whose weights change every time keeps none") {
  nn::GRU gru(30, 40);
  const Tensor x = randn({6, 2, 30});
  optim::SGD sgd(gru.parameters(), {.lr = 0.01});
  auto live = [&] {
    sum(gru(x).output).backward();
    sgd.step();
    return Live().bytes;
  };
  const std::int64_t first = live();
  for (int i = 0; i < 3; ++i) CHECK(live() == first);
}

TEST_CASE("panels: backward's go too when forward sees another version") {
  // Without the padding of wide vectors: W_ih's of forward and W_hh's of both.
  constexpr std::int64_t ih = 4 * 40 * 30 * 4, hh = 4 * 40 * 40 * 4;
  for_targets([&](const std::string& target) {
    CAPTURE(target);
    nn::LSTMCell cell(30, 40);
    const Tensor x = randn({2, 30});
    const Live before;
    for (int i = 0; i < 2; ++i) sum(cell(x, cell(x)).h).backward();
    cell.zero_grad();
    const std::int64_t kept = Live().bytes - before.bytes;
    CHECK(kept >= ih + 2 * hh);
    NoGrad no_grad;
    for (const Tensor& p : cell.parameters()) p.mul_(0.5);
    cell(x, cell(x));
    const std::int64_t forward = Live().bytes - before.bytes;
    CHECK(forward >= ih + hh);
    CHECK(kept - forward >= hh);
  });
}

TEST_CASE("panels: an optimizer's state and a gradient as weights") {
  nn::RNNCell cell(8, 8, {.dtype = kDouble});
  Tensor p = randn({8, 8}, kDouble).requires_grad_();
  optim::SGD sgd({p}, {.lr = 0.1, .momentum = 0.9});
  const Tensor x = randn({2, 8}, kDouble);
  auto is_right_with = [&](const Tensor& w) {
    NoGrad no_grad;
    cell.weight_ih = w;
    const Tensor fused = cell(x, x);
    FusedMode composed(false);
    return distance({fused}, {cell(x, x)}) < 1e-13;
  };
  for (int step = 0; step < 3; ++step) {
    sum(p * p).backward();
    sgd.step();
    const Tensor momentum = sgd.state_dict().state.at(0).at("momentum_buffer");
    for (int i = 0; i < 3; ++i) CHECK(is_right_with(momentum));
    for (int i = 0; i < 3; ++i) CHECK(is_right_with(p.grad()));
  }
  // tanh's backward overwrites what only it can see; the hook's weight was that.
  Tensor q = randn({8, 8}, kDouble).requires_grad_();
  const Tensor y = tanh(q);
  y.register_hook([&](const Tensor& g) {
    for (int i = 0; i < 3; ++i) CHECK(is_right_with(g));
    cell.weight_ih = cell.weight_hh;
    return Tensor();
  });
  sum(y * 3).backward();
  CHECK(is_right_with(q.grad()));
}

TEST_CASE("panels: threads that use a weight at once") {
  const Subject s = subject(Kind::LSTM, {.t = 3, .n = 2, .i = 20, .h = 17, .dtype = DType::Float32});
  const Tensors expected = values(s, true);
  std::atomic<int> wrong = 0;
  std::vector<std::thread> threads;
  for (int i = 0; i < 4; ++i)
    threads.emplace_back([&] {
      for (int step = 0; step < 50; ++step) wrong += !same_bits(values(s, true), expected);
    });
  for (std::thread& thread : threads) thread.join();
  CHECK(wrong == 0);
}

TEST_CASE("panels: cells whose weights lie in one memory keep none of each other") {
  NoGrad no_grad;
  nn::GRUCell a(5, 7, {.dtype = DType::Float64}), b(5, 7, {.dtype = DType::Float64});
  const Tensor both = randn({42, 7}, DType::Float64), x = randn({4, 5}, DType::Float64),
               h = randn({4, 7}, DType::Float64);
  a.weight_hh = narrow(both, 0, 0, 21).detach(), b.weight_hh = narrow(both, 0, 21, 21).detach();
  for (int i = 0; i < 4; ++i)
    for (const nn::GRUCell* cell : {&a, &b}) {
      const Tensor fast = (*cell)(x, h);
      FusedMode off(false);
      CHECK(allclose(fast, (*cell)(x, h), 1e-12, 1e-12));
    }
}

TEST_CASE("panels: memory that fails while a weight is packed leaves nothing behind") {
  NoGrad no_grad;
  for (int calls : {0, 1, 2})  // before the one that fails: the second keeps its panels, the third has them
    for (std::int64_t n = 0;; ++n) {
      const Live before;
      bool failed = false;
      {
        const nn::GRUCell cell(20, 30);
        const Tensor x = randn({2, 20}), h = randn({2, 30});
        for (int i = 0; i < calls; ++i) cell(x, h);
        try {
          FailAfter fail(n);
          cell(x, h);
        } catch (const std::bad_alloc&) {
          failed = true;
        }
        FusedMode composed(false);
        const Tensor right = cell(x, h);
        FusedMode fused(true);
        REQUIRE(distance({cell(x, h)}, {right}) < 1e-6);
      }
      REQUIRE(Live() == before);
      if (!failed) break;
    }
}

TEST_CASE("panels: threads that use a weight at once leave none of theirs behind") {
  const Live before;
  {
    const nn::RNNCell cell(300, 300);
    const Tensor x = randn({2, 300});
    std::vector<std::thread> threads;
    for (int i = 0; i < 4; ++i)
      threads.emplace_back([&] {
        NoGrad no_grad;
        for (int step = 0; step < 100; ++step) cell(x, x);
      });
    for (std::thread& thread : threads) thread.join();
  }
  CHECK(Live() == before);
}
