#include "support/memory.h"

#include <doctest/doctest.h>
#include <unroll/core/alloc.h>
#include <unroll/core/print.h>
#include <unroll/core/random.h>
#include <unroll/core/view.h>

#include <algorithm>
#include <cstring>
#include <functional>
#include <limits>
#include <thread>
#include <utility>
#include <vector>

using namespace unroll;

TEST_CASE("alloc: blocks are aligned, their own, and as long as was asked for") {
  Live before;
  std::vector<std::pair<unsigned char*, std::size_t>> blocks;
  for (std::size_t bytes : std::initializer_list<std::size_t>{0, 1, 63, 64, 65, 128, 255, 256, 257, 320, 321, 511, 512,
                                                              513, 1000, 4095, 4096, 4097, 100000})
    for (int twice = 0; twice < 2; ++twice) {
      auto* block = static_cast<unsigned char*>(alloc::allocate(bytes));
      CHECK(reinterpret_cast<std::uintptr_t>(block) % 64 == 0);
      std::memset(block, static_cast<int>(blocks.size()), bytes);
      blocks.emplace_back(block, bytes);
    }
  for (std::size_t i = 0; i < blocks.size(); ++i) {
    auto [block, bytes] = blocks[i];
    bool intact = true;
    for (std::size_t k = 0; k < bytes; ++k) intact &= block[k] == i;
    CHECK(intact);
    alloc::deallocate(block, bytes);
  }
  CHECK(Live() == before);
  alloc::deallocate(nullptr, 100);
  CHECK(Live() == before);
}

TEST_CASE("alloc: what is counted is at least what was asked for, and little more") {
  for (std::size_t bytes = 1; bytes < 100000; bytes += 1 + bytes / 7) {
    std::int64_t before = alloc::counters().live_bytes;
    void* block = alloc::allocate(bytes);
    std::int64_t counted = alloc::counters().live_bytes - before, asked = static_cast<std::int64_t>(bytes);
    CHECK(counted >= asked);
    CHECK(counted <= asked + std::max<std::int64_t>(63, asked / 8));
    alloc::deallocate(block, bytes);
    CHECK(alloc::counters().live_bytes == before);
  }
  for (std::int64_t exact : {64, 128, 256, 320, 384, 448, 512, 640, 1024, 1152, 1280, 1 << 20, 5 << 19,
                             7 << 20}) {  // the size classes themselves
    std::int64_t before = alloc::counters().live_bytes;
    void* block = alloc::allocate(static_cast<std::size_t>(exact));
    CHECK(alloc::counters().live_bytes == before + exact);
    alloc::deallocate(block, static_cast<std::size_t>(exact));
  }
}

TEST_CASE("alloc: sizes beyond any memory") {
  Live before;
  for (std::size_t bytes : {std::size_t{1} << 47, std::numeric_limits<std::size_t>::max()})
    CHECK_THROWS_AS(alloc::allocate(bytes), OutOfMemory);
  CHECK_THROWS_AS(empty({std::int64_t{1} << 50}), std::bad_alloc);
  CHECK_THROWS_AS(empty({std::int64_t{1} << 62}), ShapeError);  // 2^64 bytes
  CHECK_THROWS_AS(views::expand(zeros({1}), {std::int64_t{1} << 62, 4}), ShapeError);
  CHECK(Live() == before);
  try {
    alloc::allocate(std::size_t{1} << 47);
  } catch (const std::bad_alloc& error) {
    CHECK(std::string(error.what()) == "out of memory: 140737488355328 bytes were asked for");
  }
}

#ifndef __SANITIZE_ADDRESS__  // under which nothing is kept
TEST_CASE("alloc: a freed block serves the next of its size; trim gives back all") {
  alloc::trim();
  void* block = alloc::allocate(3000);
  alloc::deallocate(block, 3000);
  std::int64_t calls = alloc::counters().system_calls;
  CHECK(alloc::allocate(2900) == block);  // of one size class
  CHECK(alloc::counters().system_calls == calls);
  alloc::deallocate(block, 2900);
  alloc::trim();
  alloc::deallocate(alloc::allocate(3000), 3000);
  CHECK(alloc::counters().system_calls == calls + 1);
  alloc::deallocate(alloc::allocate(1 << 20), 1 << 20);
  calls = alloc::counters().system_calls;
  for (int i = 0; i < 1000; ++i) alloc::deallocate(alloc::allocate(1 << 20), 1 << 20);  // more in all than is ever kept
  CHECK(alloc::counters().system_calls == calls);
}

TEST_CASE("alloc: the hook is asked for blocks that lie ready, too, as long as there is one") {
  static int asked = 0;
  for (std::size_t bytes : std::vector<std::size_t>{64, 100000}) {
    CAPTURE(bytes);
    alloc::deallocate(alloc::allocate(bytes), bytes);
    asked = 0;
    alloc::set_hook([](std::size_t) noexcept { return ++asked < 2; });
    void* block = alloc::allocate(bytes);
    CHECK(asked == 1);
    CHECK_THROWS_AS(alloc::allocate(bytes), OutOfMemory);
    alloc::set_hook(nullptr);
    alloc::deallocate(block, bytes);
    alloc::deallocate(alloc::allocate(bytes), bytes);
    CHECK(asked == 2);
  }
}

TEST_CASE("alloc: a thread that has given back more than it may keep goes on as fast as before") {
  // Millions of blocks at once, then one at a time: the lists of the first must not be walked for each of the second.
  std::vector<void*> many;
  for (int i = 0; i < 2'000'000; ++i) many.push_back(alloc::allocate(200));
  for (void* block : many) alloc::deallocate(block, 200);
  const std::int64_t calls = alloc::counters().system_calls;
  for (int round = 0; round < 20'000; ++round) {
    void *one = alloc::allocate(200), *two = alloc::allocate(200);
    alloc::deallocate(one, 200), alloc::deallocate(two, 200);
  }
  CHECK(alloc::counters().system_calls == calls);
}

TEST_CASE("alloc: small blocks that a thread leaves behind, gives back or never used serve the next thread") {
  auto fill = [](int n) {
    std::vector<void*> blocks;
    for (int i = 0; i < n; ++i) blocks.push_back(std::memset(alloc::allocate(200), i, 200));
    std::sort(blocks.begin(), blocks.end());
    CHECK(std::adjacent_find(blocks.begin(), blocks.end()) == blocks.end());
    return blocks;
  };
  auto give = [](const std::vector<void*>& blocks) {
    for (void* block : blocks) alloc::deallocate(block, 200);
  };
  std::int64_t calls = 0;
  std::thread([&] {
    give(fill(20000));
    calls = alloc::counters().system_calls;
    alloc::trim();
    give(fill(20000));
  }).join();
  CHECK(alloc::counters().system_calls == calls);
  for (int round = 0; round < 100; ++round) std::thread([&] { give(fill(1)), give(fill(20000)); }).join();
  CHECK(alloc::counters().system_calls == calls);
  for (int round = 0; round < 100; ++round)  // one thread fills, another gives
    std::thread([&] {
      auto mine = fill(10000);
      std::thread([&] { give(mine); }).join();
    }).join();
  CHECK(alloc::counters().system_calls == calls);
}
#endif

TEST_CASE("alloc: counters return to where they were, from whichever thread blocks are freed") {
  Live before;
  {
    Tensor x = ones({100, 100}), y = views::transpose(x, 0, 1), z = x;
    alloc::Counters now = alloc::counters();
    CHECK(now.live_tensors == before.tensors + 2);  // z is the same tensor as x
    CHECK(now.live_bytes >= before.bytes + 40000);
    std::thread([taken = std::move(x), view = std::move(y)]() mutable { taken = Tensor(), view = Tensor(); }).join();
    CHECK(z.to_vector<float>() == std::vector<float>(10000, 1));
  }
  CHECK(Live() == before);
  Tensor made_elsewhere;
  std::thread([&] { made_elsewhere = rand({1000}); }).join();
  CHECK(alloc::counters().live_tensors == before.tensors + 1);
  made_elsewhere = Tensor();
  CHECK(Live() == before);
}

TEST_CASE("alloc: when any one allocation fails, it is as if nothing had been begun") {
  struct Row {
    const char* name;
    std::function<Tensor()> make;
  };
  Tensor x = rand({2, 3}), deep = ones(Shape(8, 1)), sparse = views::slice(rand({4, 6}), 1, 0, 6, 2);
  for (const Row& row : std::vector<Row>{
           {"empty", [] { return empty({3}); }},
           {"zeros",
            [] {
              return zeros({2, 3}, DType::Int64);
            }},
           {"deep", [] { return ones(Shape(9, 1)); }},
           {"arange", [] { return arange(10); }},
           {"eye", [] { return eye(3); }},
           {"from_data",
            [] {
              return from_data(std::vector<float>{1, 2}, {2});
            }},
           {"tensor",
            [] {
              return tensor({{1, 2}, {3, 4}});
            }},
           {"like", [&] { return zeros_like(deep); }},
           {"rand_like", [&] { return rand_like(views::transpose(deep, 0, 1)); }},
           {"randn", [] { return randn({17}); }},
           {"randperm", [] { return randperm(10); }},
           {"bernoulli", [&] { return bernoulli(sparse); }},
           {"uniform_", [&] { return uniform_(sparse); }},
           {"clone", [&] { return sparse.clone(); }},
           {"contiguous", [&] { return sparse.contiguous(); }},
           {"to", [&] { return sparse.to(DType::Float64); }},
           {"narrow", [&] { return views::narrow(deep, 0, 0, 1); }},
           {"select", [&] { return views::select(deep, 0, 0); }},
           {"permute",
            [&] {
              return views::permute(deep, {7, 6, 5, 4, 3, 2, 1, 0});
            }},
           {"view",
            [&] {
              return views::view(x, {3, 1, 1, 1, 1, 1, 1, 2});
            }},
           {"expand",
            [&] {
              return views::expand(x, {1, 1, 1, 1, 1, 4, 2, 3});
            }},
           {"unsqueeze", [&] { return views::unsqueeze(deep, 0); }},
           {"squeeze",
            [&] {
              return views::squeeze(ones({1, 2, 1, 2, 1, 2, 1, 2, 2, 2, 2}));
            }},
       }) {
    CAPTURE(row.name);
    Live before;
    int failed = 0;
    for (bool done = false; !done; failed += !done) {
      CAPTURE(failed);
      REQUIRE(failed < 100);
      try {
        FailAfter hook(failed);
        row.make();
        done = true;
      } catch (const OutOfMemory&) {}
      CHECK(Live() == before);
    }
    CHECK(failed > 0);
  }
}

TEST_CASE("alloc: threads that hand each other tensors") {
  Live before;
  std::vector<Tensor> passed(200);
  auto fill = [&](std::size_t from) {
    for (std::size_t i = from; i < passed.size(); i += 2) passed[i] = full({static_cast<std::int64_t>(i)}, 1);
  };
  auto views_of_one = [shared = ones({8, 8})] {  // parameters are viewed by many threads at once
    for (int i = 0; i < 2000; ++i) views::transpose(shared, 0, 1);
    return shared;
  };
  std::thread a(fill, 0), b(fill, 1), c(views_of_one), d(views_of_one);
  for (std::thread* t : {&a, &b, &c, &d}) t->join();
  std::thread([&] { passed.clear(); }).join();
  CHECK(alloc::counters().live_tensors == before.tensors + 1);
}
