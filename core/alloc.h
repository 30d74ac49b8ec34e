#pragma once
#include <cstddef>
#include <cstdint>
#include <vector>

#pragma GCC visibility push(default)
/// Where all memory of tensors and graphs comes from: blocks aligned to 64 bytes, taken from and given back to free
/// lists of this thread, one list a size class. A training step asks for the same sizes again and again, so in its
/// steady state nothing reaches malloc. A thread keeps at most 256 MiB, also one that only frees what others made.
namespace unroll::alloc {

constexpr std::size_t kAlignment = 64;  // a cache line, and the widest vector

/// What a block is for, so that one look at the thread's state both hands it out and counts it.
enum class Kind : std::size_t { Other, Tensor, Node };  // of std::size_t, since it indexes the tallies

/// A block of at least `bytes`, its contents undefined. Raises OutOfMemory.
void* allocate(std::size_t bytes, Kind kind = Kind::Other);

/// Gives back what allocate(bytes, kind) returned; from any thread.
void deallocate(void* block, std::size_t bytes, Kind kind = Kind::Other) noexcept;

/// Returns this thread's free blocks: to the system, or, if they are small and therefore cut from a chunk that others
/// use as well, to all threads.
void trim() noexcept;

/// Sums over all threads, exact whenever no other thread is allocating.
struct Counters {
  std::int64_t live_bytes = 0;    // handed out and not given back, rounded up to size classes
  std::int64_t live_tensors = 0;  // tensor bodies, views included
  std::int64_t live_nodes = 0;    // nodes of recorded graphs
  std::int64_t system_calls = 0;  // times that a free list was empty and the system was asked
};
Counters counters() noexcept;

/// For a tensor that dies while views keep its block: counts one tensor less. The block is given back later as one of
/// no kind.
void forget_tensor() noexcept;

/// Asked before every allocation; false makes it raise OutOfMemory. For tests of what happens then; none to begin with.
/// To be set by one thread at a time.
using Hook = bool (*)(std::size_t bytes) noexcept;
void set_hook(Hook hook) noexcept;

/// Lets a standard container use these free lists.
template <class T>
struct Allocator {
  using value_type = T;
  Allocator() = default;
  template <class U>
  Allocator(const Allocator<U>&) noexcept {}
  T* allocate(std::size_t n) { return static_cast<T*>(alloc::allocate(n * sizeof(T))); }
  void deallocate(T* p, std::size_t n) noexcept { alloc::deallocate(p, n * sizeof(T)); }
  bool operator==(const Allocator&) const noexcept { return true; }
};

template <class T>
using Vector = std::vector<T, Allocator<T>>;

}  // namespace unroll::alloc
#pragma GCC visibility pop
