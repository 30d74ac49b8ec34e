#include <unroll/autograd/ops/reduce.h>
#include <unroll/core/kernels/recurrent_plan.h>
#include <unroll/core/parallel.h>

#include "support/fused_case.h"
#include "support/sanitized.h"
#include "support/threads.h"

using namespace unroll;
using namespace fused;

// The kernels of the recurrent layers with several threads.

TEST_CASE("fused layers: the number of threads changes no bit") {
  Distance near(100);
  for (Kind kind : kKinds)
    for (const Case& c :
         {Case{.t = 6, .n = 13, .i = 40, .h = 70, .bidirectional = true, .dtype = DType::Float32},
          Case{.t = 3, .n = 64, .i = 33, .h = 400, .states = false, .dtype = DType::Float32},
          Case{.t = 40, .n = 1, .i = 64, .h = 100, .dtype = DType::Float32},
          Case{.t = 40, .n = 64, .i = 400, .h = 2, .dtype = DType::Float32},  // a thread without a unit
          Case{.t = 60, .n = 16, .i = 40, .h = 70, .bidirectional = true, .packed = true, .dtype = DType::Float32}}) {
      const Subject s = subject(kind, c);
      Threads scope(1);
      const Tensors one = values(s, true);
      for (int threads : {2, 3}) {
        set_num_threads(threads);
        CHECK(same_bits(values(s, true), one));
      }
    }
}

TEST_CASE("fused layers: the number of threads changes no bit where each thread keeps its own sequences") {
  Distance near(100);
  constexpr Case kOne{.t = 11, .n = 19, .i = 64, .h = 64, .dtype = DType::Float32};  // more rows than a chunk
  for (Kind kind : kKinds)
    for (nn::Memory memory : {nn::Memory::KeepGates, nn::Memory::RecomputeGates, nn::Memory::Checkpoint})
      for (bool bidirectional : {false, true})
        for (std::int64_t proj : {0, 20}) {
          if (proj > 0 && kind != Kind::LSTM) continue;
          if (bidirectional && memory != nn::Memory::KeepGates) continue;
          Case c = kOne;
          c.memory = memory, c.bidirectional = bidirectional, c.proj = proj, c.states = !bidirectional;
          if (proj > 0) c.dtype = DType::Float64;
          CAPTURE(static_cast<int>(kind));
          CAPTURE(static_cast<int>(memory));
          const Subject s = subject(kind, c);
          Threads scope(1);
          const Tensors one = values(s, true);
          for (int forward : {1, 2, 3})
            for (int backward : {1, 2, 3}) {
              set_num_threads(forward);
              CHECK(same_bits(values(s, true, ~0u, [=] { set_num_threads(backward); }), one));
            }
          NoGrad no_grad;
          const Tensors alone = s.outputs();
          CHECK(same_bits(alone, {one.begin(), one.begin() + static_cast<std::ptrdiff_t>(alone.size())}));
        }
}

TEST_CASE("fused layers: the number of threads changes no bit of a projected LSTM whose units they share") {
  Distance near(100);
  // Other numbers each time, and threads first: memory that is read too early holds none of them.
  for (int i = 0; i < (kSanitized ? 1 : 5); ++i) {
    const Subject s = subject(Kind::LSTM, {.t = 2, .n = 12, .i = 8, .h = 300, .proj = 200});
    std::vector<Tensors> several;
    for (int threads : {4, 3, 2}) {
      Threads scope(threads);
      several.push_back(values(s, true));
    }
    Threads scope(1);
    const Tensors one = values(s, true);
    for (const Tensors& more : several) CHECK(same_bits(more, one));
  }
}

TEST_CASE("fused layers: gradients for some inputs only, where each thread keeps its own sequences") {
  Distance near(100);
  for (Kind kind : kKinds) {
    const Subject s = subject(kind, {.t = 9, .n = 13, .i = 64, .h = 96, .dtype = DType::Float32});
    for (std::size_t k = 0; k < s.tensors.size(); ++k) {
      auto alone = [&](int threads) {
        Threads scope(threads);
        return grad({sum(s.outputs()[0])}, {s.tensors[k]});
      };
      CHECK(same_bits(alone(2), alone(1)));
    }
  }
}

TEST_CASE("fused layers: groups of sequences cover a workspace once") {
  for (std::int64_t batch = 1; batch <= 30; ++batch)
    for (std::int64_t groups = 1; groups <= batch; ++groups) {
      const kernels::RecurrentSteps steps{.steps = 3, .batch = batch, .groups = groups};
      std::vector<int> times(static_cast<std::size_t>(3 * batch));
      bool right = steps.group_begin(0) == 0 && steps.group_begin(groups) == batch;
      for (std::int64_t n = 0; n < batch; ++n) {
        const std::int64_t g = steps.group_of(n);
        right = right && steps.group_begin(g) <= n && n < steps.group_begin(g + 1);
        for (std::int64_t t = 0; t < 3; ++t) ++times.at(static_cast<std::size_t>(steps.kept(t, n) + n));
      }
      CHECK(right);
      CHECK(std::ranges::all_of(times, [](int count) { return count == 1; }));
    }
}

TEST_CASE("fused layers: steps of ragged batches are cut into runs of as many rows, and these into even shares") {
  for (std::int64_t longest : {1, 7, 100})
    for (std::int64_t chunks : {1, 2, 4, 9})
      for (bool reverse : {false, true}) {
        if (chunks > longest) continue;
        std::vector<std::int64_t> rows, offsets;
        std::int64_t all = 5;  // as if other steps came before
        for (std::int64_t t = 0; t < longest; ++t) {
          rows.push_back(32 - 31 * t / longest);
          offsets.push_back(all);
          all += rows.back();
        }
        all -= offsets[0];
        const kernels::RecurrentSteps steps{
            .steps = longest, .batch = 32, .packed = rows, .offsets = offsets, .reverse = reverse};
        CHECK(steps.chunk(0, chunks) == 0);
        CHECK(steps.chunk(chunks, chunks) == longest);
        for (std::int64_t i = 0; i < chunks; ++i) {
          const std::int64_t k0 = steps.chunk(i, chunks), k1 = steps.chunk(i + 1, chunks);
          REQUIRE(k0 <= k1);
          if (k0 == k1) continue;
          const auto [first, last] = steps.rows_of(k0, k1);
          CHECK(std::abs(last - first - all / chunks) <= 32);
          for (std::int64_t parts : {1, 2, 3}) {
            CHECK(steps.share(k0, k1, 0, parts) == 0);
            CHECK(steps.share(k0, k1, parts, parts) == 32);
            for (std::int64_t part = 0; part < parts; ++part) {
              const std::int64_t n0 = steps.share(k0, k1, part, parts), n1 = steps.share(k0, k1, part + 1, parts);
              std::int64_t of_part = 0;
              for (std::int64_t k = k0; k < k1; ++k)
                of_part += std::max<std::int64_t>(0, std::min(n1, steps.rows(steps.at(k))) - n0);
              CHECK(std::abs(of_part - (last - first) / parts) <= k1 - k0);  // a row a step
            }
          }
        }
      }
}

TEST_CASE("fused layers: the number of threads changes no bit of weights whose gradients no cache holds") {
  Distance near(100);
  constexpr std::int64_t kWide = kSanitized ? 96 : 620;
  const Case c{.t = 18, .n = 64, .i = kWide, .h = kWide, .states = false, .dtype = DType::Float32};
  const Subject s = subject(Kind::LSTM, c);
  Threads scope(1);
  const Tensors one = values(s, true);
  CHECK(distance(one, values(s, false)) < 2e-5);
  set_num_threads(2);
  CHECK(same_bits(values(s, true), one));
}

TEST_CASE("fused layers: each thread must be worth it, more so if it is far away") {
  auto worth = [](std::int64_t work, int threads, std::int64_t distance) {
    Threads scope(threads);
    Distance between(distance);
    return kernels::threads_for(work);
  };
  CHECK(worth(999'999, 8, 100) == 1);
  CHECK(worth(1'000'000, 8, 100) == 2);
  CHECK(worth(3'999'999, 8, 100) == 7);
  CHECK(worth(40'000'000, 8, 100) == 8);
  CHECK(worth(40'000'000, 1, 100) == 1);
  CHECK(worth(5'999'999, 8, 500) == 1);
  CHECK(worth(9'000'000, 8, 500) == 3);
  CHECK(worth(40'000'000, 8, 500) == 8);
  CHECK(worth(0, 8, 500) == 1);
  auto groups = [](std::int64_t steps, int threads, std::int64_t distance) {
    Threads scope(threads);
    Distance between(distance);
    const kernels::RecurrentSizes sizes{kernels::RecurrentKind::LSTM, 60, 100, 0};  // 1.2 million a step
    return kernels::sequence_groups<float>(sizes, {.steps = steps, .batch = 19});
  };
  CHECK(groups(4, 1, 100) == 1);
  CHECK(groups(4, 2, 100) == 2);
  CHECK(groups(4, 3, 100) == 3);
  CHECK(groups(4, 4, 100) == 1);  // threads of few rows share them
  CHECK(groups(4, 3, 500) == 1);
  CHECK(groups(5, 3, 500) == 2);
  CHECK(groups(8, 3, 500) == 3);
  CHECK(groups(1, 3, 100) == 1);
}

TEST_CASE("fused layers: the number of threads changes no bit where each has more sequences than are taken at a time") {
  Distance near(100);
  for (Kind kind : kKinds) {
    const Subject s = subject(kind, {.t = 3, .n = 230, .i = 70, .h = 70, .dtype = DType::Float32});
    Threads scope(1);
    const Tensors one = values(s, true);
    set_num_threads(2);
    CHECK(same_bits(values(s, true), one));
  }
}

TEST_CASE("fused layers: the states of a group are its own, all copies of them, and can be zeroed") {
  // Rows so wide that a group's copies take more than lies between two groups.
  constexpr std::int64_t kRow = 1 << 15, kBatch = 5, kCopies = 3;
  for (std::int64_t groups : {1, 2, 3}) {
    const kernels::RecurrentSteps steps{.steps = 2, .batch = kBatch, .groups = groups};
    kernels::States<float> states;
    states.make(steps, kRow, kCopies);
    auto of = [&](std::int64_t n, std::int64_t copy) { return states.of(n, copy) + n * kRow; };
    for (std::int64_t n = 0; n < kBatch; ++n)
      for (std::int64_t copy = 0; copy < kCopies; ++copy)
        std::fill_n(of(n, copy), kRow, static_cast<float>(kCopies * n + copy + 1));
    auto all_are = [&](auto number) {
      for (std::int64_t n = 0; n < kBatch; ++n)
        for (std::int64_t copy = 0; copy < kCopies; ++copy)
          for (std::int64_t i : {std::int64_t{0}, kRow / 2, kRow - 1})
            if (of(n, copy)[i] != number(n, copy)) return false;
      return true;
    };
    CHECK(all_are([](std::int64_t n, std::int64_t copy) { return static_cast<float>(kCopies * n + copy + 1); }));
    states.zero();
    CHECK(all_are([](std::int64_t, std::int64_t) { return 0.0f; }));
  }
}
