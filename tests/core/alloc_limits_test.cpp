#include "support/child.h"
#include "support/memory.h"

#include <doctest/doctest.h>
#include <sys/resource.h>
#include <unroll/core/alloc.h>

#include <atomic>
#include <fstream>
#include <thread>
#include <vector>

// What is kept for later, and for whom: in threads that end, in forked processes, where memory is short.

using namespace unroll;

#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
TEST_CASE("alloc: of large blocks, too, a thread keeps no more than 256 MiB") {
  alloc::trim();
  constexpr std::size_t kBytes = std::size_t{10} << 20;
  auto fill_and_give = [] {
    std::vector<void*> blocks;
    for (int i = 0; i < 40; ++i) blocks.push_back(alloc::allocate(kBytes));
    for (void* block : blocks) alloc::deallocate(block, kBytes);
  };
  fill_and_give();
  const std::int64_t calls = alloc::counters().system_calls;
  fill_and_give();
  CHECK(alloc::counters().system_calls - calls >= 40 - 26);
  CHECK(alloc::counters().system_calls - calls < 40);
  alloc::trim();
}

TEST_CASE("alloc: what a thread never cut from its chunk serves the next thread") {
  constexpr int kThreads = 300;
  std::vector<void*> blocks;
  const std::int64_t calls = alloc::counters().system_calls;
  for (int i = 0; i < kThreads; ++i) std::thread([&] { blocks.push_back(alloc::allocate(1024)); }).join();
  CHECK(alloc::counters().system_calls - calls < kThreads / 10);  // a chunk of 64 KiB has room for 64
  for (void* block : blocks) alloc::deallocate(block, 1024);
}

TEST_CASE("alloc: what lies ready for other sizes goes back before memory runs out") {
  const int error = in_child([] {
    constexpr std::size_t kKept = std::size_t{200} << 20, kOther = std::size_t{150} << 20;
    alloc::trim();
    alloc::deallocate(alloc::allocate(kKept), kKept);
    std::size_t pages = 0;
    std::ifstream("/proc/self/statm") >> pages;
    const rlim_t now = pages * static_cast<std::size_t>(sysconf(_SC_PAGESIZE));
    const rlimit most{now + (std::size_t{32} << 20), now + (std::size_t{32} << 20)};
    if (setrlimit(RLIMIT_AS, &most) != 0) return 1;
    alloc::deallocate(alloc::allocate(kOther), kOther);
    return 0;
  });
  CHECK(error == 0);
}
#endif

#ifndef __SANITIZE_THREAD__  // which does not follow a fork
TEST_CASE("alloc: a child that is forked while another thread adds up counters can do so itself") {
  std::atomic<bool> over{false};
  std::thread other([&] {
    while (!over) alloc::counters();
  });
  int stuck = 0;
  for (int i = 0; i < 100 && stuck == 0; ++i)
    stuck += in_child([] {
               alloc::counters();
               return 0;
             }) != 0;
  over = true;
  other.join();
  CHECK(stuck == 0);
}
#endif

TEST_CASE("alloc: counters know of every thread, in whatever order they end") {
  const Live before;
  std::atomic<int> there{0}, over{0};
  auto holder = [&](int until) {
    std::thread thread([&, until] {
      void* block = alloc::allocate(5000);
      ++there;
      while (over < until) std::this_thread::yield();
      alloc::deallocate(block, 5000);
    });
    for (const int wanted = until; there < wanted;) std::this_thread::yield();
    return thread;
  };
  std::thread first = holder(1), second = holder(2);
  const std::int64_t both = Live().bytes - before.bytes;
  over = 1;
  first.join();
  CHECK(both > 2 * 5000);
  CHECK(Live().bytes - before.bytes == both / 2);
  over = 2;
  second.join();
  CHECK(Live() == before);
}
