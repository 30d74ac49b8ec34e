#pragma once
#include <unroll/core/alloc.h>

#include <cstdint>
#include <cstring>
#include <utility>

namespace unroll::kernels {

/// Memory of a kernel's own for the time of a call, its contents undefined.
template <class T>
class Scratch {
 public:
  Scratch() = default;
  explicit Scratch(std::int64_t elements) : bytes_(static_cast<std::size_t>(elements) * sizeof(T)) {
    if (elements > 0) data_ = static_cast<T*>(alloc::allocate(bytes_));
  }
  Scratch(Scratch&& other) noexcept { *this = std::move(other); }
  Scratch& operator=(Scratch&& other) noexcept {
    std::swap(data_, other.data_);
    std::swap(bytes_, other.bytes_);
    return *this;
  }
  ~Scratch() {
    if (data_ != nullptr) alloc::deallocate(data_, bytes_);
  }
  void zero() noexcept {
    if (data_ != nullptr) std::memset(data_, 0, bytes_);
  }
  T* data() const noexcept { return data_; }

 private:
  std::size_t bytes_ = 0;
  T* data_ = nullptr;
};

}  // namespace unroll::kernels
