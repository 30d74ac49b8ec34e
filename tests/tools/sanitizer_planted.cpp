// What the sanitizers are there to notice, done on purpose: `sanitizer_planted FAULT`.
#include "support/threads.h"

#include <unroll/unroll.h>

#include <atomic>
#include <cstdio>
#include <limits>
#include <string>
#include <thread>

namespace {
// Two threads of the pool that meet, which orders nothing, and write the same number.
int race() {
  const Threads scope(2);
  std::atomic<int> there{0};
  int shared = 0;
  unroll::parallel(2, [&](std::int64_t) {
    there.fetch_add(1, std::memory_order_relaxed);
    while (there.load(std::memory_order_relaxed) < 2) std::this_thread::yield();
    ++shared;
  });
  return shared;
}

// The elements of a tensor that is gone: its block must not lie in a list for the next one.
int use_after_free() {
  unroll::Tensor x = unroll::ones(4);
  const float* elements = x.data<float>();
  x = {};
  return static_cast<int>(elements[0]);
}

int overflow() {
  const volatile int most = std::numeric_limits<int>::max();
  return most + 1;
}
}  // namespace

int main(int argc, char** argv) {
  const std::string fault = argc == 2 ? argv[1] : "";
  if (fault == "race") return std::printf("%d\n", race()), 0;
  if (fault == "use_after_free") return std::printf("%d\n", use_after_free()), 0;
  if (fault == "overflow") return std::printf("%d\n", overflow()), 0;
  return std::fprintf(stderr, "sanitizer_planted: no %s\n", fault.c_str()), 2;
}
