#pragma once
#include <unroll/core/detail/process.h>

#include <mutex>

namespace unroll::detail {

/// While it lives, no other thread adds to the grad() of a leaf or gives a view that was written through another its
/// new history: threads may do so to tensors that they share. One lock for both, since who adds to a grad() may ask a
/// view for its history.
class CommonLock {
 public:
  CommonLock() : lock_(mutex_) { free_in_children<mutex_>(); }

 private:
  inline static std::recursive_mutex mutex_;
  std::lock_guard<std::recursive_mutex> lock_;
};

}  // namespace unroll::detail
