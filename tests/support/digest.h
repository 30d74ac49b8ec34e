#pragma once
#include <unroll/core/tensor.h>

// FNV-1a over the bytes of elements in row-major order, tensor after tensor.
class Digest {
 public:
  void add(const void* data, std::size_t n) {
    for (auto* p = static_cast<const unsigned char*>(data); n-- > 0; ++p) hash_ = (hash_ ^ *p) * 0x100000001b3;
  }
  Digest& operator<<(const unroll::Tensor& x) {
    unroll::Tensor y = x.contiguous();
    unroll::dispatch(y.dtype(), [&]<class T>() { add(y.data<T>(), static_cast<std::size_t>(y.numel()) * sizeof(T)); });
    return *this;
  }
  std::uint64_t value() const { return hash_; }

 private:
  std::uint64_t hash_ = 0xcbf29ce484222325;
};

inline std::uint64_t digest(const unroll::Tensor& x) { return (Digest() << x).value(); }
