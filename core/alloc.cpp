#include <unroll/core/alloc.h>
#include <unroll/core/error.h>

#include <array>
#include <atomic>
#include <bit>
#include <cstdlib>
#include <mutex>
#include <utility>

namespace unroll::alloc {
namespace {

#ifdef __has_feature  // clang's way to say what g++ says with a macro
#if __has_feature(address_sanitizer)
#define __SANITIZE_ADDRESS__
#endif
#endif
#ifdef __SANITIZE_ADDRESS__
constexpr std::size_t kCacheLimit = 0;  // a block kept for reuse would hide a use after free
#else
constexpr std::size_t kCacheLimit = std::size_t{256} << 20;  // bytes a thread keeps at most
#endif

// Size classes: four steps an octave from 64 bytes on, so that at most a fifth of a block is waste.
constexpr std::size_t kClasses = 4 * 40;

struct SizeClass {
  std::size_t index, bytes;
};

SizeClass size_class(std::size_t bytes) noexcept {
  if (bytes <= 256) {  // 64, 128, 192, 256
    std::size_t lines = bytes <= kAlignment ? 1 : (bytes + kAlignment - 1) / kAlignment;
    return {lines - 1, lines * kAlignment};
  }
  std::size_t octave = static_cast<std::size_t>(std::bit_width(bytes - 1)) - 1;  // 2^octave < bytes <= 2^(octave+1)
  std::size_t step = std::size_t{1} << (octave - 2);
  std::size_t quarter = (bytes - 1 - (std::size_t{1} << octave)) / step;  // 0 … 3
  return {4 * (octave - 7) + quarter, (std::size_t{1} << octave) + (quarter + 1) * step};
}

struct FreeBlock {
  FreeBlock* next;
};

// A counter that one thread writes and any thread may read: plain moves, no locked instruction on the fast path.
class Tally {
 public:
  void add(std::int64_t change) noexcept { value_.store(get() + change, std::memory_order_relaxed); }
  std::int64_t get() const noexcept { return value_.load(std::memory_order_relaxed); }

 private:
  std::atomic<std::int64_t> value_{0};
};

struct Tallies {
  Tally bytes, tensors, nodes, system_calls;
  void add(const Tallies& other) noexcept {
    bytes.add(other.bytes.get());
    tensors.add(other.tensors.get());
    nodes.add(other.nodes.get());
    system_calls.add(other.system_calls.get());
  }
};

struct Cache {
  std::array<FreeBlock*, kClasses> lists{};
  std::size_t kept = 0;
  Tallies tallies;
  Cache *previous = nullptr, *next = nullptr;
};

// All threads' caches, so that counters() can sum them; what a thread leaves behind when it ends goes to `past`.
struct Registry {
  std::mutex mutex;
  Cache* first = nullptr;
  Tallies past;
};

Registry& registry() noexcept {
  static Registry* the_registry = new Registry;  // never destroyed: tensors of static duration outlive it otherwise
  return *the_registry;
}

void release_lists(Cache& cache) noexcept {
  for (FreeBlock*& list : cache.lists)
    while (list) std::free(std::exchange(list, list->next));
  cache.kept = 0;
}

thread_local Cache* this_cache = nullptr;
thread_local bool thread_is_ending = false;

// Enters the thread's cache into the registry at its first allocation and takes it out when the thread ends.
struct Membership {
  Cache cache;
  Membership() noexcept {
    std::scoped_lock lock(registry().mutex);
    cache.next = registry().first;
    if (cache.next) cache.next->previous = &cache;
    registry().first = &cache;
    this_cache = &cache;
  }
  ~Membership() {
    this_cache = nullptr;
    thread_is_ending = true;
    release_lists(cache);
    std::scoped_lock lock(registry().mutex);
    registry().past.add(cache.tallies);
    (cache.previous ? cache.previous->next : registry().first) = cache.next;
    if (cache.next) cache.next->previous = cache.previous;
  }
};

// Null once the thread's own cache is gone; thread_local tensors may still be freed then.
Cache* cache() noexcept {
  if (!this_cache && !thread_is_ending) [[unlikely]] {
    thread_local Membership membership;
    this_cache = &membership.cache;
  }
  return this_cache;
}

template <class F>
void tally(F f) noexcept {
  if (Cache* mine = cache()) return f(mine->tallies);
  std::scoped_lock lock(registry().mutex);
  f(registry().past);
}

std::atomic<Hook> the_hook{nullptr};

}  // namespace

void* allocate(std::size_t bytes) {
  if (Hook hook = the_hook.load(std::memory_order_relaxed); hook && !hook(bytes)) [[unlikely]]
    throw OutOfMemory(bytes);
  if (bytes > std::size_t{1} << 46)
    throw OutOfMemory(bytes);  // beyond any address space; keeps the arithmetic below in range
  SizeClass size = size_class(bytes);
  Cache* mine = cache();
  if (mine && mine->lists[size.index]) {
    FreeBlock* block = mine->lists[size.index];
    mine->lists[size.index] = block->next;
    mine->kept -= size.bytes;
    mine->tallies.bytes.add(static_cast<std::int64_t>(size.bytes));
    return block;
  }
  void* block = std::aligned_alloc(kAlignment, size.bytes);
  if (!block) throw OutOfMemory(bytes);
  tally([&](Tallies& t) {
    t.bytes.add(static_cast<std::int64_t>(size.bytes));
    t.system_calls.add(1);
  });
  return block;
}

void deallocate(void* block, std::size_t bytes) noexcept {
  if (!block) return;
  SizeClass size = size_class(bytes);
  tally([&](Tallies& t) { t.bytes.add(-static_cast<std::int64_t>(size.bytes)); });
  Cache* mine = cache();
  if (!mine || mine->kept + size.bytes > kCacheLimit) return std::free(block);
  mine->lists[size.index] = new (block) FreeBlock{mine->lists[size.index]};
  mine->kept += size.bytes;
}

void trim() noexcept {
  if (Cache* mine = cache()) release_lists(*mine);
}

void count_tensor(std::int64_t change) noexcept {
  tally([&](Tallies& t) { t.tensors.add(change); });
}

void count_node(std::int64_t change) noexcept {
  tally([&](Tallies& t) { t.nodes.add(change); });
}

Counters counters() noexcept {
  Registry& all = registry();
  std::scoped_lock lock(all.mutex);
  Tallies sum;
  sum.add(all.past);
  for (Cache* one = all.first; one; one = one->next) sum.add(one->tallies);
  return {sum.bytes.get(), sum.tensors.get(), sum.nodes.get(), sum.system_calls.get()};
}

void set_hook(Hook hook) noexcept { the_hook.store(hook, std::memory_order_relaxed); }

}  // namespace unroll::alloc
