#include <dlfcn.h>
#include <link.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <unistd.h>
#include <unroll/core/detail/process.h>
#include <unroll/core/error.h>
#include <unroll/core/kernels/float_mode.h>
#include <unroll/core/parallel.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <exception>
#include <fstream>
#include <memory>
#include <mutex>
#include <new>
#include <set>
#include <string>
#include <thread>
#include <vector>

namespace unroll {
namespace {

// While it waits for what is about to come a thread spins for 20 to 80 microseconds, by the CPU: about as long as it
// takes to wake one, and not enough to be in another program's way.
constexpr int kSpins = 2000;

inline void relax() noexcept {
#if defined(__x86_64__) || defined(__i386__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

// One call of run_parts. Share s of n is every n-th part from the s-th on, and belongs to a thread: what it wrote in
// calls that were cut alike is near it. Who computes what says nothing of the result.
struct Job {
  detail::Part part;
  const void* context;
  std::int64_t parts;
  std::int64_t shares = 1;
  std::atomic<std::int64_t> left{1};  // shares that are not done yet
  std::mutex mutex{};
  std::exception_ptr error{};
  const kernels::FloatMode mode = kernels::float_mode();

  void work(std::int64_t share) noexcept {
    {
      kernels::FloatModeScope scope(mode);  // as the caller would compute
      for (std::int64_t i = share; i < parts; i += shares) try {
          part(context, i);
        } catch (...) {
          std::scoped_lock lock(mutex);
          if (!error) error = std::current_exception();
        }
    }
    left.fetch_sub(1, std::memory_order_release);  // the last that this thread does with it
  }
};

// Two threads play a ball back and forth, the first of them with a watch: how long it takes to see what the other has
// written, and to be seen. Who waits for one that does not come gives up, whatever the other is doing.
class Rally {
 public:
  void play(std::int64_t side) noexcept {
    auto trip = [this, side](int n, int spins) {
      if (side == 0) there_.store(n, std::memory_order_release);
      if (!comes(side == 0 ? back_ : there_, n, spins)) return false;
      if (side == 1) back_.store(n, std::memory_order_release);
      return true;
    };
    if (!trip(1, 2 * kSpins)) return;  // who has to wake first
    auto best = Clock::duration::max();
    for (int n = 2; n < 2 + kRuns * kTrips;) {
      const auto start = side == 0 ? Clock::now() : Clock::time_point();
      for (int i = 0; i < kTrips; ++i)
        if (!trip(n++, kSpins)) return;
      if (side == 0) best = std::min(best, Clock::now() - start);
    }
    if (side == 0) best_ = best;
  }
  /// Of one trip; 0 if it did not come to that.
  std::int64_t nanoseconds() const noexcept {
    return std::chrono::duration_cast<std::chrono::nanoseconds>(best_).count() / kTrips;
  }

 private:
  using Clock = std::chrono::steady_clock;
  static constexpr int kRuns = 3, kTrips = 4;

  static bool comes(const std::atomic<int>& ball, int n, int spins) noexcept {
    for (; ball.load(std::memory_order_acquire) < n; --spins) {
      if (spins == 0) return false;
      relax();
    }
    return true;
  }

  alignas(64) std::atomic<int> there_{0};
  alignas(64) std::atomic<int> back_{0};
  Clock::duration best_{};
};

// Threads that are there for the whole life of the process, and sleep.
class Pool {
 public:
  // Whether it could be had: somebody else may be using it.
  bool run(Job& job, int threads) {
    if (inside) return false;
    std::unique_lock use(in_use_, std::try_to_lock);
    if (!use) return false;
    grow(static_cast<std::size_t>(threads) - 1);
    hand_out(job, std::min(workers_.size(), static_cast<std::size_t>(threads) - 1));
    return true;
  }

  // Not if nobody had a use for a thread yet: with one, a process counts references as if there were many.
  void play(Rally& rally) {
    if (inside) return;
    std::unique_lock use(in_use_, std::try_to_lock);
    if (!use || workers_.empty()) return;
    auto part = [](const void* context, std::int64_t side) {
      const_cast<Rally*>(static_cast<const Rally*>(context))->play(side);
    };
    Job job{.part = part, .context = &rally, .parts = 2};
    hand_out(job, 1);
  }

  static Pool& instance() {
    // Never destroyed, as threads wait on it until the process is gone; and made without a request for memory, which
    // might be refused.
    alignas(Pool) static std::byte place[sizeof(Pool)];
    static const bool once = [] {
      instance_ = new (place) Pool;
      pthread_atfork(nullptr, nullptr, [] { instance_ = new (place) Pool; });  // a child has none of our threads
      return true;
    }();
    static_cast<void>(once);
    return *instance_;
  }

  inline static thread_local bool inside = false;  // a part runs in this thread just now, or it is one of the pool's

 private:
  struct alignas(64) Worker {
    std::atomic<Job*> job{nullptr};       // its share of which nobody has taken yet
    std::atomic<std::uint32_t> calls{0};  // changes with each, that one may sleep until it does

    void call(Job& to_do) noexcept {
      job.store(&to_do, std::memory_order_release);
      calls.fetch_add(1, std::memory_order_release);
      calls.notify_one();
    }
    Job* take() noexcept {
      return job.load(std::memory_order_relaxed) == nullptr ? nullptr
                                                            : job.exchange(nullptr, std::memory_order_acq_rel);
    }
    void serve(std::int64_t share) noexcept {
      inside = true;
      for (;;) {
        const std::uint32_t seen = calls.load(std::memory_order_acquire);
        for (int i = 0; i < kSpins && job.load(std::memory_order_relaxed) == nullptr; ++i) relax();
        if (Job* taken = take())
          taken->work(share);
        else
          calls.wait(seen, std::memory_order_acquire);  // who comes too late for a call spins for the next
      }
    }
  };

  void hand_out(Job& job, std::size_t others) {
    inside = true;
    job.left = job.shares = static_cast<std::int64_t>(others) + 1;
    for (std::size_t i = 0; i < others; ++i) workers_[i]->call(job);
    job.work(0);
    for (std::size_t i = 0; i < others; ++i)  // who has not come yet need not come
      if (workers_[i]->take() != nullptr) job.work(static_cast<std::int64_t>(i) + 1);
    for (int spins = 0; job.left.load(std::memory_order_acquire) > 0; ++spins)
      spins < kSpins ? relax() : std::this_thread::yield();
    inside = false;
  }

  void grow(std::size_t threads) noexcept {
    if (workers_.size() >= threads) return;
    if (workers_.empty()) detail::stay_loaded();
    // Signals are for the program's own threads, but for those that a thread brings upon itself and a profiler's.
    sigset_t others, before;
    sigfillset(&others);
    for (int own : {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP, SIGPROF}) sigdelset(&others, own);
    pthread_sigmask(SIG_BLOCK, &others, &before);
    start(threads);
    pthread_sigmask(SIG_SETMASK, &before, nullptr);
  }

  void start(std::size_t threads) noexcept {
    while (workers_.size() < threads) try {
        workers_.reserve(workers_.size() + 1);
        auto worker = std::make_unique<Worker>();
        const auto share = static_cast<std::int64_t>(workers_.size()) + 1;
        std::thread([w = worker.get(), share] { w->serve(share); }).detach();
        workers_.push_back(std::move(worker));
      } catch (const std::exception&) {  // no thread to be had: those that are there do it
        return;
      }
  }

  inline static Pool* instance_ = nullptr;
  std::mutex in_use_;
  std::vector<std::unique_ptr<Worker>> workers_;
};

std::atomic<int> the_threads{0};              // 0: nobody has said or asked
std::atomic<std::int64_t> the_round_trip{0};  // 0: what is measured

}  // namespace

void set_num_threads(int threads) {
  check<ValueError>(threads > 0, "set_num_threads: expected a positive number, got {}", threads);
  the_threads.store(threads);
}

int get_num_threads() noexcept {
  const int threads = the_threads.load(std::memory_order_relaxed);
  if (threads > 0) [[likely]]
    return threads;
  int nobody = 0;
  const int cores = detail::cores("/sys/devices/system/cpu");
  return the_threads.compare_exchange_strong(nobody, cores) ? cores : nobody;
}

namespace detail {
void stay_loaded() noexcept {
#ifdef __GLIBC__
  static const char somewhere = 0;
  Dl_info here;
  link_map* object = nullptr;  // whose name is empty for the program itself
  if (dladdr1(&somewhere, &here, reinterpret_cast<void**>(&object), RTLD_DL_LINKMAP) != 0 && *object->l_name != 0)
    dlopen(object->l_name, RTLD_LAZY | RTLD_NOLOAD | RTLD_NODELETE);
#endif
}

int cores(const char* cpus) noexcept {
  const int processors = std::max(1, static_cast<int>(std::thread::hardware_concurrency()));
  cpu_set_t mine;
  if (sched_getaffinity(0, sizeof(mine), &mine) != 0) return processors;  // more than it has room for
  try {
    std::set<std::string> cores;  // the threads of a core tell the same siblings
    for (std::size_t cpu = 0; cpu < CPU_SETSIZE; ++cpu) {
      if (!CPU_ISSET(cpu, &mine)) continue;
      const std::string name = std::to_string(cpu);
      std::string siblings;
      std::getline(std::ifstream(cpus + ("/cpu" + name) + "/topology/thread_siblings_list"), siblings);
      cores.insert(siblings.empty() ? name : siblings);
    }
    return static_cast<int>(cores.size());
  } catch (const std::exception&) {  // no memory
    return processors;
  }
}

void fix_round_trip(std::int64_t nanoseconds) noexcept { the_round_trip.store(nanoseconds); }

void run_parts(std::int64_t parts, Part part, const void* context) {
  Job job{.part = part, .context = context, .parts = parts};
  const auto threads = static_cast<int>(std::min<std::int64_t>(get_num_threads(), parts));
  if (threads <= 1 || !Pool::instance().run(job, threads)) job.work(0);
  if (job.error) std::rethrow_exception(job.error);
}

std::int64_t round_trip() noexcept {
  using namespace std::chrono;
  static std::atomic<std::int64_t> last{0}, next{0};  // what was measured, and from when on to measure again
  if (const std::int64_t fixed = the_round_trip.load(std::memory_order_relaxed); fixed > 0) return fixed;
  const std::int64_t now = duration_cast<milliseconds>(steady_clock::now().time_since_epoch()).count();
  std::int64_t due = next.load(std::memory_order_relaxed);
  if (now >= due && next.compare_exchange_strong(due, now + 20)) {
    Rally rally;
    Pool::instance().play(rally);
    if (rally.nanoseconds() > 0) last.store(rally.nanoseconds(), std::memory_order_relaxed);
  }
  return last.load(std::memory_order_relaxed);
}

const Caches& caches() noexcept {
  static const Caches sizes = [] {
    auto ask = [](int name, std::int64_t otherwise) {
      const std::int64_t bytes = sysconf(name);
      return bytes > 0 ? bytes : otherwise;
    };
    return Caches{ask(_SC_LEVEL1_DCACHE_SIZE, 32 << 10), ask(_SC_LEVEL2_CACHE_SIZE, 512 << 10)};
  }();
  return sizes;
}
}  // namespace detail

}  // namespace unroll
