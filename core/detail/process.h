#pragma once
#include <pthread.h>

#include <memory>

namespace unroll::detail {

/// From now on fork() waits until nobody holds `mutex`, so that the child, which has the forking thread alone, finds
/// what it guards whole; and the mutex new, since one that knows its owner would not know the child's thread. Of two
/// that are held at once the inner one is to be told first.
template <auto& mutex>
void free_in_children() {
  [[maybe_unused]] static const int once =
      pthread_atfork([] { mutex.lock(); }, [] { mutex.unlock(); }, [] { std::construct_at(&mutex); });
}

/// The library is not to be unloaded any more, although a plugin that has it may be: threads wait in it, or will call
/// it when they end.
void stay_loaded() noexcept;

}  // namespace unroll::detail
