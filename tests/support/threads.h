#pragma once
#include <unroll/core/parallel.h>

/// As many threads as it says, for the time of a scope.
class Threads {
 public:
  explicit Threads(int threads) { unroll::set_num_threads(threads); }
  ~Threads() { unroll::set_num_threads(before_); }
  Threads(const Threads&) = delete;
  Threads& operator=(const Threads&) = delete;

 private:
  const int before_ = unroll::get_num_threads();
};

/// Cores so far apart, whatever this machine's are, for the time of a scope.
class Distance {
 public:
  explicit Distance(std::int64_t nanoseconds) { unroll::detail::fix_round_trip(nanoseconds); }
  ~Distance() { unroll::detail::fix_round_trip(0); }
  Distance(const Distance&) = delete;
  Distance& operator=(const Distance&) = delete;
};
