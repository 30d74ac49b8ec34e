#pragma once
#include <cstdint>

#pragma GCC visibility push(default)
namespace unroll {

/// Lets the library use up to `threads` threads, this one included, for one thing at a time; for all threads of the
/// process. To begin with, as many as there are cores where the first who asks may run, and not two for one core: they
/// would share its vector units. They start with the first work that is worth it. No result depends on it. Raises
/// ValueError unless threads > 0.
void set_num_threads(int threads);
int get_num_threads() noexcept;

namespace detail {
using Part = void (*)(const void* context, std::int64_t part);
/// Calls part(context, i) for each i < parts, in several threads unless they are busy or this is one of them. The first
/// exception is raised here when all have ended.
void run_parts(std::int64_t parts, Part part, const void* context);
/// On how many cores this thread may run, by the system's folder of processors.
int cores(const char* cpus) noexcept;
/// Nanoseconds until a thread sees what the pool's first one has answered to it: some 100 where their cores share a
/// cache, several times as many where they do not; and a virtual machine's may be moved at any time, so it is measured
/// anew every 20 ms at most. 0 if the pool has no thread yet, or none was free so far.
std::int64_t round_trip() noexcept;
/// For tests: what round_trip() says from now on, or 0 for what it measures.
void fix_round_trip(std::int64_t nanoseconds) noexcept;

/// Sizes in bytes of the first two levels of data cache of a core, as the system tells.
struct Caches {
  std::int64_t l1, l2;
};
const Caches& caches() noexcept;
}  // namespace detail

/// Calls f(i) for each i < parts, maybe at the same time, in the caller's floating-point mode. Switches that are a
/// thread's own (NoGrad and its like, default generators) are not the caller's in another thread.
template <class F>
void parallel(std::int64_t parts, const F& f) {
  if (parts == 1) return f(std::int64_t{0});
  detail::run_parts(
      parts, [](const void* context, std::int64_t part) { (*static_cast<const F*>(context))(part); }, &f);
}

}  // namespace unroll
#pragma GCC visibility pop
