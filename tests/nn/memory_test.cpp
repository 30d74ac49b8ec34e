#include <unroll/autograd/gradcheck.h>
#include <unroll/core/parallel.h>

#include <array>

#include "support/fused_case.h"
#include "support/memory.h"
#include "support/threads.h"

using namespace unroll;
using namespace fused;

// Layers that keep less than their backward reads.
namespace {

constexpr nn::Memory kLess[] = {nn::Memory::RecomputeGates, nn::Memory::Checkpoint};

// kCases, and some with so many rows that there are several segments.
std::vector<Case> cases() {
  std::vector<Case> all(std::begin(kCases), std::end(kCases));
  const Case more[] = {{.t = 40, .n = 30, .i = 5, .h = 7},
                       {.t = 130, .n = 3, .i = 3, .h = 5, .layers = 2, .states = false},
                       {.t = 530, .n = 1, .i = 2, .h = 3, .bidirectional = true},
                       {.t = 37, .n = 29, .i = 3, .h = 6, .bidirectional = true, .packed = true},
                       {.t = 37, .n = 29, .i = 3, .h = 6, .bidirectional = true, .packed = true, .states = false}};
  all.insert(all.end(), std::begin(more), std::end(more));
  return all;
}

// The same layer once more, with the same numbers in it.
Subject with_memory(Kind kind, Case c, nn::Memory memory, const Subject& original) {
  c.memory = memory;
  Subject s = subject(kind, c);
  NoGrad no_grad;
  for (std::size_t k = 0; k < s.tensors.size(); ++k) s.tensors[k].copy_(original.tensors[k]);
  return s;
}

// Outputs, dx and the states' gradients are the same to the bit. Those of weights are sums over all steps, in another
// order.
void check_equal(const Subject& s, const Tensors& less, const Tensors& full, DType dtype) {
  const std::size_t outputs = full.size() - s.tensors.size();
  const auto states = static_cast<std::size_t>(
      std::ranges::count_if(s.tensors, [](const Tensor& x) { return x.dim() == 3; }));  // and x
  const auto exact = static_cast<std::ptrdiff_t>(outputs + states);
  auto bits = [&](const Tensors& all) {
    Tensors doubles;
    for (auto x = all.begin(); x != all.begin() + exact; ++x) doubles.push_back(x->to(DType::Float64));
    return doubles;
  };
  CHECK(distance(bits(less), bits(full)) == 0);
  CHECK(distance(less, full) < (dtype == DType::Float64 ? 1e-13 : 2e-5));
}

// The most that lived at any time while it did.
class Peak {
 public:
  Peak() {
    most_ = alloc::counters().live_bytes;
    alloc::set_hook([](std::size_t bytes) noexcept {
      most_ = std::max(most_, alloc::counters().live_bytes + static_cast<std::int64_t>(bytes));
      return true;
    });
  }
  ~Peak() { alloc::set_hook(nullptr); }
  Peak(const Peak&) = delete;
  Peak& operator=(const Peak&) = delete;
  std::int64_t bytes() const { return most_; }

 private:
  static inline thread_local std::int64_t most_ = 0;
};

}  // namespace

TEST_CASE("memory: a layer that keeps less computes the same") {
  for (Kind kind : kKinds)
    for (const Case& given : cases())
      for (DType dtype : {DType::Float64, DType::Float32}) {
        Case c = given;
        c.dtype = dtype;
        const Subject keeps = subject(kind, c);
        const Tensors full = values(keeps, true);
        for (nn::Memory memory : kLess) {
          CAPTURE(static_cast<int>(kind));
          CAPTURE(static_cast<int>(memory));
          CAPTURE(c.t);
          check_equal(keeps, values(with_memory(kind, c, memory, keeps), true), full, dtype);
        }
      }
}

TEST_CASE("memory: a projected LSTM that keeps less computes the same") {
  for (Case c : cases())
    for (std::int64_t proj : {std::int64_t{1}, c.h - 1}) {
      if (c.h < 3) continue;
      c.proj = proj;
      const Subject keeps = subject(Kind::LSTM, c);
      const Tensors full = values(keeps, true);
      for (nn::Memory memory : kLess)
        check_equal(keeps, values(with_memory(Kind::LSTM, c, memory, keeps), true), full, c.dtype);
    }
}

TEST_CASE("memory: gradients of some outputs only") {
  const Case c{.t = 60, .n = 11, .i = 3, .h = 5};
  const Subject keeps = subject(Kind::LSTM, c);
  for (unsigned used = 1; used < 8; ++used)
    for (nn::Memory memory : kLess)
      check_equal(keeps, values(with_memory(Kind::LSTM, c, memory, keeps), true, used), values(keeps, true, used),
                  c.dtype);
}

TEST_CASE("memory: the graph can be kept, and differentiated to any order") {
  for (Kind kind : {Kind::LSTM, Kind::GRU, Kind::Tanh})
    for (nn::Memory memory : kLess) {
      const Subject s = subject(kind, {.t = 60, .n = 10, .i = 2, .h = 3, .memory = memory});
      const Tensor y = s.outputs()[0], loss = sum(y * y);
      const Tensors first = grad({loss}, s.tensors, {.retain_graph = true, .allow_unused = true});
      CHECK(distance(grad({loss}, s.tensors, {.retain_graph = true}), first) == 0);
      CHECK(distance(grad({loss}, s.tensors, {.create_graph = true}), first) < 1e-12);
      CHECK(distance(grad({loss}, s.tensors), first) == 0);
      CHECK_THROWS_AS(grad({loss}, s.tensors), GradError);

      const Subject few = subject(kind, {.t = 2, .n = 2, .i = 2, .h = 3, .bidirectional = true, .memory = memory});
      auto f = [&](const Tensors&) { return few.outputs(); };
      CHECK(gradcheck(f, few.tensors));
      CHECK(gradgradcheck(f, {few.tensors[0], few.tensors[1]}));
    }
}

TEST_CASE("memory: the number of threads changes no bit") {
  for (Kind kind : kKinds)
    for (nn::Memory memory : kLess)
      for (const Case& c : {Case{.t = 60, .n = 13, .i = 40, .h = 70, .bidirectional = true, .memory = memory},
                            Case{.t = 40, .n = 64, .i = 33, .h = 90, .packed = true, .memory = memory}}) {
        const Subject s = subject(kind, c);
        Threads scope(1);
        const Tensors one = values(s, true);
        set_num_threads(2);
        CHECK(distance(values(s, true), one) == 0);
      }
}

TEST_CASE("memory: what a layer holds, in floats a step, sequence and unit") {
  constexpr std::int64_t t = 400, n = 16, h = 64;
  const double unit = t * n * h * sizeof(float);
  auto held = [&](Kind kind, nn::Memory memory) {
    const Subject s =
        subject(kind, {.t = t, .n = n, .i = 1, .h = h, .states = false, .dtype = DType::Float32, .memory = memory});
    const Live before;
    const Tensor last = s.outputs()[1];  // the output itself is kept by the graph, or by nobody
    return static_cast<double>(Live().bytes - before.bytes) / unit;
  };
  const std::array<std::array<double, 3>, 3> expected{{{6, 2, 0.3}, {5, 1, 0.15}, {1, 1, 0.15}}};
  const Kind kinds[] = {Kind::LSTM, Kind::GRU, Kind::Tanh};
  for (std::size_t k = 0; k < 3; ++k)
    for (std::size_t m = 0; m < 3; ++m) {
      CAPTURE(k);
      CAPTURE(m);
      const double floats = held(kinds[k], static_cast<nn::Memory>(m));
      CHECK(floats <= expected[k][m] * 1.13);  // size classes are an eighth apart
      CHECK(floats > expected[k][m] * 0.5);    // and it is this that is measured
    }
}

TEST_CASE("memory: with checkpoints, four times the steps take twice the memory") {
  Distance near(100);  // or the shorter segments, but not the longer ones, would be one thread's
  auto peak = [](std::int64_t t) {
    const Subject s = subject(
        Kind::LSTM,
        {.t = t, .n = 32, .i = 1, .h = 64, .states = false, .dtype = DType::Float32, .memory = nn::Memory::Checkpoint});
    auto last_state = [&] { return sum(s.outputs()[1]); };
    grad({last_state()}, s.tensors);
    const std::int64_t before = alloc::counters().live_bytes, output = t * 32 * 64 * 4;
    const Peak most;
    const Tensor loss = last_state();
    const std::int64_t forward = most.bytes() - before - output;  // which nobody holds after it
    const std::int64_t between = alloc::counters().live_bytes - before;
    const Peak of_backward;
    grad({loss}, s.tensors);
    return std::array{forward, between, of_backward.bytes() - before};
  };
  const auto some = peak(300), more = peak(1200);
  for (std::size_t i = 1; i < 3; ++i) {
    CAPTURE(i);
    CHECK(more[i] < 2.2 * static_cast<double>(some[i]));
    CHECK(more[i] < 1200 * 32 * 64 * 4);  // one float of six
  }
}

TEST_CASE("memory: a backward that ran out of memory can be repeated") {
  for (nn::Memory memory : kLess) {
    const Subject s = subject(Kind::LSTM, {.t = 60, .n = 10, .i = 3, .h = 4, .memory = memory});
    const Tensor y = s.outputs()[0], cotangent = ones_like(y);
    const Tensors right = grad({y}, s.tensors, {.grad_outputs = {cotangent}, .retain_graph = true});
    int failures = 0;
    for (std::int64_t after = 0;; ++after) {
      try {
        FailAfter fail(after);
        grad({y}, s.tensors, {.grad_outputs = {cotangent}, .retain_graph = true});
        break;
      } catch (const OutOfMemory&) {
        ++failures;
      }
    }
    CHECK(failures > 20);
    CHECK(distance(grad({y}, s.tensors, {.grad_outputs = {cotangent}}), right) == 0);
  }
}

TEST_CASE("memory: with checkpoints the output is not kept, and may be written") {
  nn::GRU rnn(2, 3, {.memory = nn::Memory::Checkpoint});
  const auto [y, h] = rnn(randn({4, 2, 2}));
  y.detach().zero_();
  CHECK_NOTHROW(sum(y).backward());
  CHECK(rnn.memory == nn::Memory::Checkpoint);
  CHECK(nn::GRU(2, 3).memory == nn::Memory::KeepGates);
}

#if defined(__x86_64__) || defined(__aarch64__)
TEST_CASE("memory: gates that are computed again from denormal products are those of forward") {
  for (Kind kind : {Kind::LSTM, Kind::GRU}) {
    std::vector<Tensors> all;
    for (nn::Memory memory : {nn::Memory::KeepGates, nn::Memory::RecomputeGates}) {
      const Subject s = subject(kind, {.t = 2, .n = 1, .i = 2000, .h = 1, .dtype = DType::Float32, .memory = memory});
      {
        NoGrad no_grad;
        for (const Tensor& x : s.tensors) x.fill_(x.dim() == 2 ? 5e-19 : 0);
        s.tensors[0].fill_(1e-20);  // a product is denormal, the sum of all would not be
      }
      all.push_back(values(s, true));
    }
    CHECK(same_bits(all[0], all[1]));
  }
}
#endif
