#pragma once
#include <atomic>
#include <cstdint>
#include <utility>

namespace unroll {

/// The count inside an object that Ref points to. Atomic, because threads share parameters.
struct RefCounted {
  std::atomic<std::int32_t> refs{1};
  /// Gives up one count; true when it was the last. Who holds the only one needs no locked instruction: nobody is left
  /// to take another.
  bool drop() noexcept {
    return refs.load(std::memory_order_acquire) == 1 || refs.fetch_sub(1, std::memory_order_acq_rel) == 1;
  }
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
