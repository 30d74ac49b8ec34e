#include "io/temporary_folder.h"
#include "support/child.h"
#include "support/threads.h"

#include <doctest/doctest.h>
#include <fmt/core.h>
#include <sched.h>
#include <signal.h>
#include <unroll/core/error.h>
#include <unroll/core/kernels/float_mode.h>
#include <unroll/core/kernels/loops.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

using namespace unroll;

namespace {
// How often each part ran.
template <std::size_t N>
std::array<int, N> run_all() {
  std::array<std::atomic<int>, N> ran{};
  parallel(N, [&](std::int64_t i) { ++ran[static_cast<std::size_t>(i)]; });
  std::array<int, N> times{};
  for (std::size_t i = 0; i < N; ++i) times[i] = ran[i];
  return times;
}
template <std::size_t N>
std::array<int, N> once() {
  std::array<int, N> times;
  times.fill(1);
  return times;
}

// Where so many threads wait for each other, ten seconds at most: that is no deadlock, but a failure.
class Meeting {
 public:
  explicit Meeting(int threads) : missing_(threads) {}
  void wait() {
    --missing_;
    const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(10);
    while (missing_ > 0 && std::chrono::steady_clock::now() < end) std::this_thread::yield();
  }

 private:
  std::atomic<int> missing_;
};
}  // namespace

TEST_CASE("parallel: each part runs once, with any number of threads") {
  for (int threads : {1, 2, 3, 8}) {
    Threads scope(threads);
    CHECK(get_num_threads() == threads);
    for (int again = 0; again < 200; ++again) {
      CHECK(run_all<1>() == once<1>());
      CHECK(run_all<2>() == once<2>());
      CHECK(run_all<7>() == once<7>());
    }
    parallel(0, [](std::int64_t) { FAIL("there is no part"); });
  }
}

TEST_CASE("parallel: a thread gets the same parts in every call") {
  Threads scope(3);
  std::array<std::thread::id, 3> of_share{std::this_thread::get_id()};
  for (int again = 0; again < 2000; ++again) {
    std::array<std::thread::id, 6> by;
    Meeting meeting(3);
    parallel(6, [&](std::int64_t i) {
      by[static_cast<std::size_t>(i)] = std::this_thread::get_id();
      if (i < 3 && again < 50) meeting.wait();
    });
    if (again == 0) of_share = {of_share[0], by[1], by[2]};
    for (std::size_t i = 0; i < 6; ++i) {  // the caller may do what belongs to others, if they are late
      const bool right = by[i] == of_share[i % 3] || (again >= 50 && by[i] == of_share[0]);
      if (!right) FAIL("call " << again << ", part " << i);
    }
  }
  CHECK(of_share[1] != of_share[0]);
  CHECK(of_share[2] != of_share[0]);
  CHECK(of_share[1] != of_share[2]);
}

TEST_CASE("parallel: an exception of a part arrives when all have ended, and the next call works") {
  Threads scope(3);
  for (std::int64_t bad : {0, 1, 5}) {
    std::atomic<int> others{0};
    std::thread::id thrower;
    Meeting meeting(3);
    auto run = [&] {
      parallel(6, [&](std::int64_t i) {
        if (i < 3) meeting.wait();  // each share in a thread of its own
        if (i == bad) {
          thrower = std::this_thread::get_id();
          throw std::domain_error("part");
        }
        ++others;
      });
    };
    CHECK_THROWS_WITH_AS(run(), "part", std::domain_error);
    CHECK(others == 5);
    CHECK((thrower == std::this_thread::get_id()) == (bad == 0));
    CHECK(run_all<7>() == once<7>());
  }
}

TEST_CASE("parallel: of several exceptions the first one arrives") {
  const Threads scope(1);
  auto each = [](std::int64_t i) { throw std::domain_error(std::to_string(i)); };
  CHECK_THROWS_WITH_AS(parallel(3, each), "0", std::domain_error);
}

TEST_CASE("parallel: inside of itself, and from several threads at once") {
  Threads scope(3);
  std::atomic<int> inner{0};
  parallel(4, [&](std::int64_t) { parallel(5, [&](std::int64_t) { ++inner; }); });
  CHECK(inner == 20);
  std::atomic<int> wrong{0};
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t)
    threads.emplace_back([&] {
      for (int again = 0; again < 200; ++again) wrong += run_all<7>() != once<7>();
    });
  for (std::thread& t : threads) t.join();
  CHECK(wrong == 0);
}

TEST_CASE("parallel: parts of many elements are each element once, and few elements are one part") {
  for (int threads : {1, 2, 3}) {
    Threads scope(threads);
    for (std::int64_t n : {0, 1, 131'071, 131'072, 131'073, 1'000'003}) {
      std::vector<std::atomic<char>> seen(static_cast<std::size_t>(n));
      std::atomic<int> parts{0};
      kernels::in_parts(n, [&](std::int64_t first, std::int64_t count) {
        ++parts;
        for (std::int64_t i = first; i < first + count; ++i) ++seen[static_cast<std::size_t>(i)];
      });
      CHECK(std::ranges::all_of(seen, [](const std::atomic<char>& times) { return times == 1; }));
      CHECK(parts == (n < 131'072 ? 1 : std::min(threads, static_cast<int>(n / 65'536))));
    }
  }
}

TEST_CASE("parallel: every part computes in the caller's floating-point mode") {
  Threads scope(3);
  auto modes = [] {
    std::array<kernels::FloatMode, 64> seen{};
    parallel(64, [&](std::int64_t i) {
      seen[static_cast<std::size_t>(i)] = kernels::float_mode() & kernels::kFlushDenormals;
      std::this_thread::sleep_for(std::chrono::microseconds(100));  // or one thread might do it all
    });
    return seen;
  };
  std::array<kernels::FloatMode, 64> of_host{}, flushing{};
  flushing.fill(kernels::kFlushDenormals);
  CHECK(modes() == of_host);
  {
    kernels::FloatModeScope flush(kernels::float_mode() | kernels::kFlushDenormals);
    CHECK(modes() == flushing);
  }
  CHECK(modes() == of_host);
}

TEST_CASE("round_trip: measured when a thread is free, and nobody waits long where none is") {
  Threads scope(2);
  CHECK(run_all<7>() == once<7>());  // then the pool has a thread
  auto measured = [](int attempts) {
    for (;; std::this_thread::sleep_for(std::chrono::milliseconds(25))) {
      Meeting meeting(2);  // one that was asleep would not come in time on a busy machine
      parallel(2, [&](std::int64_t) { meeting.wait(); });
      if (const std::int64_t trip = detail::round_trip(); trip > 0 || --attempts <= 0) return trip;
    }
  };
  const std::int64_t trip = measured(100);
  cpu_set_t cores;
  double load = 0;  // two threads may never run at once where others want the cores too, or there is but one
  if (sched_getaffinity(0, sizeof cores, &cores) == 0 && CPU_COUNT(&cores) > 1 && getloadavg(&load, 1) == 1 && load < 1)
    CHECK(trip > 0);
  CHECK(measured(1) < 1'000'000'000);
  parallel(2, [&](std::int64_t) { detail::round_trip(); });
  std::vector<std::thread> threads;
  std::atomic<int> done{0};
  for (int i = 0; i < 4; ++i)
    threads.emplace_back([&] {
      for (int again = 0; again < 1000; ++again) {
        detail::round_trip();
        if (run_all<7>() == once<7>()) ++done;
      }
    });
  for (std::thread& thread : threads) thread.join();
  CHECK(done == 4000);
  Distance far(700);
  CHECK(detail::round_trip() == 700);
}

TEST_CASE("cores: those where a thread may run, each once for all its threads") {
  namespace fs = std::filesystem;
  const TemporaryFolder folder;
  auto cores_of = [&](std::size_t processor,
                      const std::string& siblings) {  // of a thread that may run on one or on all
    const fs::path topology = folder.path / fmt::format("cpu{}/topology", processor);
    fs::create_directories(topology);
    std::ofstream(topology / "thread_siblings_list") << siblings << '\n';
    return detail::cores(folder.path.c_str());
  };
  cpu_set_t mine;
  REQUIRE(sched_getaffinity(0, sizeof mine, &mine) == 0);
  const int processors = CPU_COUNT(&mine);
  CHECK(detail::cores("nowhere") == processors);  // what is not told counts by itself
  int told = 0;
  for (std::size_t i = 0; i < CPU_SETSIZE; ++i)
    if (CPU_ISSET(i, &mine)) {
      ++told;
      CHECK(cores_of(i, "0-1023") == processors - told + 1);
    }
  CHECK(detail::cores("/sys/devices/system/cpu") >= 1);
  CHECK(detail::cores("/sys/devices/system/cpu") <= processors);
  int alone = 1;  // where a thread may not choose, either
  std::thread([&] {
    cpu_set_t one;
    CPU_ZERO(&one);
    for (std::size_t i = 0; i < CPU_SETSIZE && CPU_COUNT(&one) == 0; ++i)
      if (CPU_ISSET(i, &mine)) CPU_SET(i, &one);
    if (sched_setaffinity(0, sizeof one, &one) == 0) alone = detail::cores("/sys/devices/system/cpu");
  }).join();
  CHECK(alone == 1);
}

TEST_CASE("set_num_threads: a number of threads is positive") {
  const int before = get_num_threads();
  CHECK_THROWS_WITH_AS(set_num_threads(0), "set_num_threads: expected a positive number, got 0", ValueError);
  CHECK_THROWS_AS(set_num_threads(-1), ValueError);
  CHECK(get_num_threads() == before);
}

TEST_CASE("parallel: the pool's threads leave signals to the program's") {
  const Threads scope(2);
  const std::thread::id mine = std::this_thread::get_id();
  std::atomic<int> others{0}, blocked{0};
  for (int attempts = 0; others == 0 && attempts < 1000; ++attempts)
    parallel(2, [&](std::int64_t part) {
      if (part == 0) std::this_thread::sleep_for(std::chrono::milliseconds(1));  // for the other to come
      if (std::this_thread::get_id() == mine) return;
      sigset_t now;
      pthread_sigmask(SIG_SETMASK, nullptr, &now);
      others += 1;
      blocked += sigismember(&now, SIGTERM) == 1 && sigismember(&now, SIGUSR1) == 1 &&
                 sigismember(&now, SIGSEGV) == 0 && sigismember(&now, SIGPROF) == 0;
    });
  CHECK(others > 0);
  CHECK(blocked == others);
  sigset_t now;
  pthread_sigmask(SIG_SETMASK, nullptr, &now);
  CHECK(sigismember(&now, SIGTERM) == 0);
}

#ifndef __SANITIZE_THREAD__  // which does not follow a fork
TEST_CASE("parallel: the child of a fork has a pool of its own") {
  Threads scope(2);
  CHECK(run_all<7>() == once<7>());  // there is one to lose
  CHECK(in_child([] { return run_all<7>() == once<7>() ? 0 : 1; }) == 0);
}
#endif

TEST_CASE("caches: sizes that a cache may have") {
  CHECK(detail::caches().l1 >= 4 << 10);
  CHECK(detail::caches().l2 >= detail::caches().l1);
}
