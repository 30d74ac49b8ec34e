#pragma once
#include <pthread.h>

namespace unroll::detail {

/// From now on fork() waits until nobody holds `mutex`, so that the child, which has the forking thread alone, finds
/// it free and what it guards whole. Of two that are held at once the inner one is to be told first.
template <auto& mutex>
void free_in_children() {
  [[maybe_unused]] static const int once =
      pthread_atfork([] { mutex.lock(); }, [] { mutex.unlock(); }, [] { mutex.unlock(); });
}

/// The library is not to be unloaded any more, although a plugin that has it may be: threads wait in it, or will call
/// it when they end.
void stay_loaded() noexcept;

}  // namespace unroll::detail
