#include <unroll/core/alloc.h>
#include <unroll/core/detail/process.h>
#include <unroll/core/error.h>

#include <sys/mman.h>
#include <algorithm>
#include <array>
#include <atomic>
#include <bit>
#include <cstdlib>
#include <memory>
#include <mutex>
#include <new>
#include <type_traits>
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

// Blocks from this size on are in huge pages where the system has them: panels of weights read through once a step
// would otherwise wait for the translation of their addresses.
constexpr std::size_t kHugePage = std::size_t{2} << 20;

// Blocks up to this size are cut from chunks: asking the system for each would take longer than an op. Chunks grow from
// the least size to the largest.
constexpr std::size_t kSmall = kCacheLimit > 0 ? 1024 : 0;
constexpr std::size_t kLeastChunk = std::size_t{64} << 10, kLargestChunk = kHugePage;

// Size classes: every cache line up to 1024 bytes, so that their number is a shift, and from there eight steps an
// octave, so that at most a ninth of a block is waste.
constexpr std::size_t kLineClasses = 1024 / kAlignment, kSteps = 8, kClasses = kLineClasses + kSteps * 37;

struct SizeClass {
  std::size_t index, bytes;
};

// Of 1 … 1024 bytes.
constexpr SizeClass line_class(std::size_t bytes) noexcept {
  const std::size_t index = (bytes - 1) / kAlignment;
  return {index, (index + 1) * kAlignment};
}

constexpr SizeClass size_class(std::size_t bytes) noexcept {
  if (bytes <= 1024) return line_class(std::max<std::size_t>(bytes, 1));
  std::size_t octave = static_cast<std::size_t>(std::bit_width(bytes - 1)) - 1;  // 2^octave < bytes <= 2^(octave+1)
  std::size_t step = (std::size_t{1} << octave) / kSteps;
  std::size_t steps = (bytes - 1 - (std::size_t{1} << octave)) / step;  // 0 … 7
  return {kLineClasses + kSteps * (octave - 10) + steps, (std::size_t{1} << octave) + (steps + 1) * step};
}

constexpr std::size_t bytes_of_class(std::size_t index) noexcept {
  if (index < kLineClasses) return (index + 1) * kAlignment;
  const std::size_t after = index - kLineClasses;
  return (kSteps + 1 + after % kSteps) * ((std::size_t{1024} << after / kSteps) / kSteps);
}
static_assert(bytes_of_class(size_class(64).index) == 64 && bytes_of_class(size_class(257).index) == 320);
static_assert(bytes_of_class(size_class(1025).index) == 1152 && bytes_of_class(size_class(1921).index) == 2048);

constexpr std::size_t kSmallClasses = kSmall > 0 ? size_class(kSmall).index + 1 : 0;
static_assert(kSmall <= 1024);

struct FreeBlock {
  FreeBlock* next;
};

// The first block of a list of small ones that no thread owns.
struct Batch : FreeBlock {
  Batch* next_batch;
  std::size_t bytes;  // of the whole list
};

// The part of a chunk from which nothing has been cut yet.
struct Rest {
  std::byte *begin = nullptr, *end = nullptr;
  std::size_t bytes() const noexcept { return static_cast<std::size_t>(end - begin); }
};

// A counter that one thread writes and any thread may read: plain moves, no locked instruction on the fast path.
class Tally {
 public:
  void add(std::int64_t change) noexcept { set(get() + change); }
  void set(std::int64_t value) noexcept { value_.store(value, std::memory_order_relaxed); }
  std::int64_t get() const noexcept { return value_.load(std::memory_order_relaxed); }

 private:
  std::atomic<std::int64_t> value_{0};
};

// A thread's share of the counters. Blocks are owned from when they come from the system or out of a chunk until they
// go back, and kept while they lie in a free list: what is owned and not kept is in use.
struct Tallies {
  Tally owned, kept, system_calls;
  std::array<Tally, 3> live;  // blocks of each kind
  void add(const Tallies& other) noexcept {
    owned.add(other.owned.get());
    kept.add(other.kept.get());
    system_calls.add(other.system_calls.get());
    for (std::size_t kind = 0; kind < live.size(); ++kind) live[kind].add(other.live[kind].get());
  }
  Tally& of(Kind kind) noexcept { return live[static_cast<std::size_t>(kind)]; }
};

constexpr std::int64_t as_change(std::size_t bytes) noexcept { return static_cast<std::int64_t>(bytes); }

struct Cache {
  std::array<FreeBlock*, kClasses> lists{};
  Tallies tallies;
  Rest rest;
  std::size_t next_chunk = kLeastChunk;
  Cache *previous = nullptr, *next = nullptr;
};

// All threads' caches, so that counters() can sum them; what a thread leaves behind when it ends goes to `past`,
// `batches` and `rests`.
struct Registry {
  inline static std::mutex mutex;
  Cache* first = nullptr;
  Tallies past;                                         // of threads that have ended, and of blocks that no thread owns
  std::array<std::atomic<Batch*>, kClasses> batches{};  // written under the mutex
  struct OldRest {
    OldRest* next;
    std::byte* end;
  }* rests = nullptr;
};

// Tensors of static duration may be freed after it, so it is there before any code runs and has nothing to destroy.
constinit Registry the_registry;
static_assert(std::is_trivially_destructible_v<Registry>);

Registry& registry() noexcept {
  detail::free_in_children<Registry::mutex>();
  return the_registry;
}

// Small blocks cannot go back to the system, for others of their chunk may be in use: any thread may have them.
void give_to_all(FreeBlock* first, std::size_t bytes, std::size_t index) noexcept {
  Registry& all = registry();
  std::scoped_lock lock(all.mutex);
  FreeBlock* second = first->next;
  Batch* next = all.batches[index].load(std::memory_order_relaxed);
  all.batches[index].store(new (first) Batch{{second}, next, bytes}, std::memory_order_relaxed);
  all.past.kept.add(as_change(bytes));
}

// In batches of a bounded size, so that who takes one over has room for it.
void release_list(Cache& cache, std::size_t index) noexcept {
  constexpr std::size_t kBatch = std::size_t{1} << 20;
  while (FreeBlock* first = cache.lists[index]) {
    FreeBlock* last = first;
    std::size_t bytes = bytes_of_class(index);
    for (; last->next && bytes < kBatch; last = last->next) bytes += bytes_of_class(index);
    cache.lists[index] = std::exchange(last->next, nullptr);
    cache.tallies.kept.add(-as_change(bytes));
    if (index < kSmallClasses) {
      give_to_all(first, bytes, index);
      continue;
    }
    cache.tallies.owned.add(-as_change(bytes));
    while (first) std::free(std::exchange(first, first->next));
  }
}

void release_lists(Cache& cache) noexcept {
  for (std::size_t index = 0; index < kClasses; ++index) release_list(cache, index);
}

void release_rest(Cache& cache) noexcept {
  Rest rest = std::exchange(cache.rest, {});
  if (!rest.begin || rest.bytes() < kSmall) return;
  std::scoped_lock lock(registry().mutex);
  registry().rests = new (rest.begin) Registry::OldRest{registry().rests, rest.end};
}

// initial-exec: to look at it is a move even in a shared library, where it would be a call. All thread_local memory of
// the library is then from what the dynamic linker keeps for libraries which are loaded late, 512 bytes: what is large
// lies elsewhere.
[[gnu::tls_model("initial-exec")]] thread_local Cache* this_cache = nullptr;
thread_local bool thread_is_ending = false;

// Enters the thread's cache into the registry at its first allocation and takes it out when the thread ends.
struct Membership {
  const std::unique_ptr<Cache> cache{new (std::nothrow) Cache};
  Membership() noexcept {
    if (!cache) return;
    std::scoped_lock lock(registry().mutex);
    cache->next = registry().first;
    if (cache->next) cache->next->previous = cache.get();
    registry().first = cache.get();
    this_cache = cache.get();
  }
  ~Membership() {
    this_cache = nullptr;
    thread_is_ending = true;
    if (!cache) return;
    release_lists(*cache);
    release_rest(*cache);
    std::scoped_lock lock(registry().mutex);
    registry().past.add(cache->tallies);
    (cache->previous ? cache->previous->next : registry().first) = cache->next;
    if (cache->next) cache->next->previous = cache->previous;
  }
};

[[gnu::noinline]] Cache* first_cache() noexcept {
  if (thread_is_ending) return nullptr;
  thread_local Membership membership;
  return this_cache = membership.cache.get();
}

// Null where there is no memory for one, and once the thread's own is gone; thread_local tensors may still be freed
// then.
Cache* cache() noexcept {
  Cache* mine = this_cache;
  return mine ? mine : first_cache();
}

template <class F>
[[gnu::noinline]] void tally_past(F f) noexcept {
  std::scoped_lock lock(registry().mutex);
  f(registry().past);
}

template <class F>
void tally(Cache* mine, F f) noexcept {
  if (mine) [[likely]]
    f(mine->tallies);
  else
    tally_past(f);
}

std::atomic<Hook> the_hook{nullptr};
// The largest block that is allocated without a look at the hook: none while there is one.
std::atomic<std::size_t> quick_limit{kSmall};

void* ask_system(Cache* mine, std::size_t alignment, std::size_t bytes, std::size_t asked) {
  const bool huge = bytes >= kHugePage;
  void* block = nullptr;  // not by aligned_alloc, which may refuse sizes that are no multiple of the alignment
  const auto ask = [&] { return posix_memalign(&block, huge ? kHugePage : alignment, bytes) == 0; };
  if (!ask()) {
    if (mine) release_lists(*mine);  // what lies ready for other sizes
    if (!ask()) throw OutOfMemory(asked);
  }
#ifdef MADV_HUGEPAGE
  if (huge) madvise(block, bytes, MADV_HUGEPAGE);  // it may refuse
#endif
  tally(mine, [](Tallies& t) { t.system_calls.add(1); });
  return block;
}

// Another thread's list of that class, or another thread's rest of a chunk.
void take_from_all(Cache& mine, SizeClass size) noexcept {
  Registry& all = registry();
  std::scoped_lock lock(all.mutex);
  if (Batch* batch = all.batches[size.index].load(std::memory_order_relaxed)) {
    all.batches[size.index].store(batch->next_batch, std::memory_order_relaxed);
    all.past.kept.add(-as_change(batch->bytes));
    mine.tallies.kept.add(as_change(batch->bytes));
    mine.lists[size.index] = batch;
  } else if (all.rests && mine.rest.bytes() < size.bytes) {
    mine.rest = {reinterpret_cast<std::byte*>(all.rests), all.rests->end};
    all.rests = all.rests->next;
  }
}

void new_chunk(Cache& mine, std::size_t asked) {
  const std::size_t bytes = mine.next_chunk;
  auto* chunk = static_cast<std::byte*>(ask_system(&mine, bytes, bytes, asked));
  mine.rest = {chunk, chunk + bytes};
  mine.next_chunk = std::min(2 * bytes, kLargestChunk);
}

// Null where the list is empty.
FreeBlock* take(Cache& mine, SizeClass size) noexcept {
  FreeBlock* const first = mine.lists[size.index];
  if (!first) [[unlikely]]
    return nullptr;
  mine.lists[size.index] = first->next;
  mine.tallies.kept.add(-as_change(size.bytes));
  return first;
}

// False where the thread would keep too much.
bool put(Cache& mine, void* block, SizeClass size) noexcept {
  const std::int64_t kept = mine.tallies.kept.get() + as_change(size.bytes);
  if (kept > as_change(kCacheLimit)) [[unlikely]]
    return false;
  mine.tallies.kept.set(kept);
  FreeBlock*& first = mine.lists[size.index];
  first = new (block) FreeBlock{first};
  return true;
}

// A block when the list of its class is empty.
[[gnu::noinline]] void* more(Cache* mine, SizeClass size, std::size_t asked) {
  void* block = nullptr;
  if (size.bytes > kSmall || !mine) {
    block = ask_system(mine, kAlignment, size.bytes, asked);
  } else {
    if (mine->rest.bytes() < size.bytes || registry().batches[size.index].load(std::memory_order_relaxed))
      take_from_all(*mine, size);
    if ((block = take(*mine, size))) return block;
    if (mine->rest.bytes() < size.bytes) new_chunk(*mine, asked);
    block = std::exchange(mine->rest.begin, mine->rest.begin + size.bytes);
  }
  tally(mine, [&](Tallies& t) { t.owned.add(as_change(size.bytes)); });
  return block;
}

// Takes back a block that the thread's lists have no room for.
[[gnu::noinline]] void give_back(Cache* mine, void* block, SizeClass size) noexcept {
  if (size.bytes <= kSmall) return give_to_all(new (block) FreeBlock{nullptr}, size.bytes, size.index);
  tally(mine, [&](Tallies& t) { t.owned.add(-as_change(size.bytes)); });
  std::free(block);
}

}  // namespace

// What the fast paths below leave over.
[[gnu::noinline]] static void* allocate_slowly(std::size_t bytes, Kind kind) {
  if (Hook hook = the_hook.load(std::memory_order_relaxed); hook && !hook(bytes)) throw OutOfMemory(bytes);
  if (bytes > std::size_t{1} << 46)
    throw OutOfMemory(bytes);  // beyond any address space; keeps the arithmetic below in range
  SizeClass size = size_class(bytes);
  Cache* mine = cache();
  void* block = mine ? take(*mine, size) : nullptr;
  if (!block) block = more(mine, size, bytes);
  tally(mine, [&](Tallies& t) { t.of(kind).add(1); });
  return block;
}

[[gnu::noinline]] static void deallocate_slowly(void* block, std::size_t bytes, Kind kind) noexcept {
  if (!block) return;
  SizeClass size = size_class(bytes);
  Cache* mine = cache();
  tally(mine, [&](Tallies& t) { t.of(kind).add(-1); });
  if (mine && put(*mine, block, size)) return;
  if (!mine || size.bytes > kSmall) return give_back(mine, block, size);
  release_lists(*mine);  // all, or the next block would find no room either
  put(*mine, block, size);
}

// No bytes at all are more than any limit here, as they wrap round.
void* allocate(std::size_t bytes, Kind kind) {
  Cache* mine = this_cache;
  if (bytes - 1 >= quick_limit.load(std::memory_order_relaxed) || !mine) [[unlikely]]
    return allocate_slowly(bytes, kind);
  FreeBlock* block = take(*mine, line_class(bytes));
  if (!block) [[unlikely]]
    return allocate_slowly(bytes, kind);
  mine->tallies.of(kind).add(1);
  return block;
}

void deallocate(void* block, std::size_t bytes, Kind kind) noexcept {
  Cache* mine = this_cache;
  if (bytes - 1 >= kSmall || !mine || !block || !put(*mine, block, line_class(bytes))) [[unlikely]]
    return deallocate_slowly(block, bytes, kind);
  mine->tallies.of(kind).add(-1);
}

void trim() noexcept {
  if (Cache* mine = cache()) release_lists(*mine);
}

void forget_tensor() noexcept {
  tally(cache(), [](Tallies& t) {
    t.of(Kind::Tensor).add(-1);
    t.of(Kind::Other).add(1);
  });
}

Counters counters() noexcept {
  Registry& all = registry();
  std::scoped_lock lock(all.mutex);
  Tallies sum;
  sum.add(all.past);
  for (Cache* one = all.first; one; one = one->next) sum.add(one->tallies);
  return {sum.owned.get() - sum.kept.get(), sum.of(Kind::Tensor).get(), sum.of(Kind::Node).get(),
          sum.system_calls.get()};
}

void set_hook(Hook hook) noexcept {
  the_hook.store(hook, std::memory_order_relaxed);
  quick_limit.store(hook ? 0 : kSmall, std::memory_order_relaxed);
}

}  // namespace unroll::alloc
