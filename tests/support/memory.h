#pragma once
#include <unroll/core/alloc.h>

#include <limits>
#include <ostream>

/// What lives of the library's memory at the moment; equal before and after what leaves nothing behind.
struct Live {
  explicit Live(const unroll::alloc::Counters& now = unroll::alloc::counters())
      : bytes(now.live_bytes), tensors(now.live_tensors), nodes(now.live_nodes) {}
  bool operator==(const Live&) const = default;
  friend std::ostream& operator<<(std::ostream& stream, const Live& live) {
    return stream << live.bytes << " bytes, " << live.tensors << " tensors, " << live.nodes << " nodes";
  }

  std::int64_t bytes, tensors, nodes;
};

/// While it lives, this thread's allocations fail after `n` of them.
class FailAfter {
 public:
  explicit FailAfter(std::int64_t n) {
    left_ = n;
    unroll::alloc::set_hook([](std::size_t) noexcept { return left_-- > 0; });
  }
  ~FailAfter() {
    unroll::alloc::set_hook(nullptr);
    left_ = std::numeric_limits<std::int64_t>::max();
  }
  FailAfter(const FailAfter&) = delete;
  FailAfter& operator=(const FailAfter&) = delete;

 private:
  static inline thread_local std::int64_t left_ = std::numeric_limits<std::int64_t>::max();
};
