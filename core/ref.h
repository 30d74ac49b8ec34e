#pragma once
#include <atomic>
#include <cstdint>
#include <type_traits>
#include <utility>
#if __has_include(<sys/single_threaded.h>)
#include <sys/single_threaded.h>
#endif

namespace unroll {

namespace detail {
/// Whether the process has no second thread. Counting then needs no locked instructions, which are a good part of what
/// an op on a small tensor takes.
inline bool single_threaded() noexcept {
#if __has_include(<sys/single_threaded.h>)
  return __libc_single_threaded != 0;
#else
  return false;
#endif
}
/// One more or less, and what the count was before; the last one to let go sees what all others did.
template <class Count>
inline Count add_to(std::atomic<Count>& count, std::type_identity_t<Count> change) noexcept {
  if (!single_threaded())
    return count.fetch_add(change, change > 0 ? std::memory_order_relaxed : std::memory_order_acq_rel);
  const Count before = count.load(std::memory_order_relaxed);
  count.store(before + change, std::memory_order_relaxed);
  return before;
}
/// Gives up one; true when it was the last. Who holds the only one needs no locked instruction: nobody is left to take
/// another.
inline bool drop(std::atomic<std::int32_t>& count) noexcept {
  return count.load(std::memory_order_acquire) == 1 || add_to(count, -1) == 1;
}
}  // namespace detail

/// The count inside an object that Ref points to. Atomic, because threads share parameters.
struct RefCounted {
  std::atomic<std::int32_t> refs{1};
  /// Gives up one count; true when it was the last.
  bool drop() noexcept { return detail::drop(refs); }
};

/// An intrusive pointer. `retain(T*)` and `release(T*)` are found by name next to T, which may be incomplete here.
template <class T>
class Ref {
 public:
  Ref() noexcept = default;
  /// Takes over the count that `p` was created with.
  static Ref adopt(T* p) noexcept {
    Ref ref;
    ref.p_ = p;
    return ref;
  }
  explicit Ref(T* p) noexcept : p_(p) {
    if (p_) retain(p_);
  }
  Ref(const Ref& other) noexcept : Ref(other.p_) {}
  Ref(Ref&& other) noexcept : p_(std::exchange(other.p_, nullptr)) {}
  Ref& operator=(Ref other) noexcept { return std::swap(p_, other.p_), *this; }
  ~Ref() {
    if (p_) release(p_);
  }

  /// Hands its count over to the caller.
  T* give() noexcept { return std::exchange(p_, nullptr); }
  T* get() const noexcept { return p_; }
  T* operator->() const noexcept { return p_; }
  T& operator*() const noexcept { return *p_; }
  explicit operator bool() const noexcept { return p_ != nullptr; }
  bool operator==(const Ref&) const noexcept = default;

 private:
  T* p_ = nullptr;
};

}  // namespace unroll
