#pragma once
#include <unroll/core/error.h>

#include <algorithm>
#include <array>
#include <concepts>
#include <cstdint>
#include <initializer_list>
#include <iosfwd>
#include <span>
#include <string>
#include <string_view>
#include <utility>

#pragma GCC visibility push(default)
namespace unroll {

/// An integer, but no truth value.
template <class T>
concept SizeLike = std::integral<T> && !std::same_as<T, bool>;

/// A short list of sizes or strides, one a dimension. Up to kInline of them live in the object itself.
class Shape {
 public:
  static constexpr std::size_t kInline = 4;

  Shape() noexcept = default;
  Shape(std::initializer_list<std::int64_t> sizes) : Shape(std::span(sizes.begin(), sizes.size())) {}
  /// One dimension, so that `sum(x, -1)` and `zeros(3)` read as in torch. Neither true nor 2.7 is a size.
  template <SizeLike Size>
  Shape(Size size) noexcept : size_(1), local_{static_cast<std::int64_t>(size)} {}
  explicit Shape(std::span<const std::int64_t> sizes);
  /// `rank` dimensions of `value` each.
  Shape(std::size_t rank, std::int64_t value);
  Shape(const Shape& other) : size_(other.size_), local_(other.local_) {
    if (size_ > kInline) [[unlikely]]
      take_copy(other.heap_);
  }
  Shape(Shape&& other) noexcept : size_(std::exchange(other.size_, 0)) {
    copy_sizes(kInline, other.local_.data(), local_.data());
    other.local_ = {};
  }
  Shape& operator=(const Shape& other) {
    if (size_ > kInline || other.size_ > kInline) [[unlikely]] {
      Shape copy = other;
      swap(copy);
    } else {
      size_ = other.size_;
      local_ = other.local_;
    }
    return *this;
  }
  Shape& operator=(Shape&& other) noexcept { return swap(other), *this; }
  ~Shape() {
    if (size_ > kInline) [[unlikely]]
      give_back();
  }

  std::size_t size() const noexcept { return size_; }
  bool empty() const noexcept { return size_ == 0; }
  const std::int64_t* begin() const noexcept { return size_ <= kInline ? local_.data() : heap_; }
  const std::int64_t* end() const noexcept { return begin() + size_; }
  std::int64_t* begin() noexcept { return size_ <= kInline ? local_.data() : heap_; }
  std::int64_t* end() noexcept { return begin() + size_; }
  std::int64_t operator[](std::size_t i) const noexcept { return begin()[i]; }
  std::int64_t& operator[](std::size_t i) noexcept { return begin()[i]; }
  std::int64_t back() const noexcept { return begin()[size_ - 1]; }
  std::int64_t& back() noexcept { return begin()[size_ - 1]; }

  void push_back(std::int64_t value) { insert(size_, value); }
  void insert(std::size_t at, std::int64_t value);
  void erase(std::size_t at);
  void swap(Shape& other) noexcept;
  /// Whether it has these sizes; spares making a Shape of them.
  bool is(std::initializer_list<std::int64_t> sizes) const noexcept {
    bool equal = size_ == sizes.size();
    for (std::size_t d = 0; equal && d < size_; ++d) equal = begin()[d] == sizes.begin()[d];
    return equal;
  }
  // A friend: found for a Shape alone, not for a number that could become one.
  friend std::ostream& operator<<(std::ostream& stream, const Shape& shape);
  bool operator==(const Shape& other) const noexcept {
    if (size_ != other.size_) return false;
    if (size_ > kInline) [[unlikely]]
      return std::equal(heap_, heap_ + size_, other.heap_);
    for (std::size_t d = 0; d < kInline; ++d)
      if (local_[d] != other.local_[d]) return false;
    return true;
  }

 private:
  // Number by number: a vector that reads what has just been written as numbers waits until these are in the cache, and
  // sizes are most often handed on right after they were written.
  static void copy_sizes(std::size_t n, const std::int64_t* from, std::int64_t* to) noexcept {
    for (std::size_t i = 0; i < n; ++i) {
      std::int64_t size = from[i];
      asm("" : "+r"(size));  // or the compiler makes it vectors
      to[i] = size;
    }
  }
  void take_copy(const std::int64_t* sizes);
  void give_back() noexcept;

  std::size_t size_ = 0;
  union {
    // Copied and compared whole, in a few moves: those beyond size_ are zeros, and the pointer lies within.
    std::array<std::int64_t, kInline> local_{};
    std::int64_t* heap_;  // when size_ > kInline
  };
};

using Strides = Shape;

/// "(2, 3)"; "(4,)" for one dimension and "()" for none, as Python prints a tuple.
std::string to_string(const Shape& shape);

/// a·b for sizes ≥ 0, the one place where sizes are multiplied. Raises ShapeError when it exceeds 2⁶³ − 1.
std::int64_t checked_mul(std::int64_t a, std::int64_t b);

/// The index of an element that is counted in row-major order.
Shape index_of(const Shape& shape, std::int64_t element);

/// The number of elements. Raises ShapeError for a negative size or when the product, with zero sizes taken as one,
/// overflows.
std::int64_t numel(const Shape& shape);

/// Row-major strides.
Strides contiguous_strides(const Shape& shape);

/// The shape both broadcast to by numpy's rule: aligned at the end, 1 stretches. Raises ShapeError that names `op` and
/// both.
Shape broadcast(std::string_view op, const Shape& a, const Shape& b);

/// `dim` counted from the front; −1 is the last. Raises IndexError outside [−rank, rank). A scalar has dimension 0 and
/// −1.
std::size_t wrap_dim(std::string_view op, std::int64_t dim, std::size_t rank);

}  // namespace unroll
#pragma GCC visibility pop

template <>
struct fmt::formatter<unroll::Shape> : unroll::detail::AsText {};
