#include <unroll/core/alloc.h>
#include <unroll/core/shape.h>

#include <algorithm>
#include <utility>

namespace unroll {
namespace {
std::int64_t* allocate_sizes(std::size_t n) {
  constexpr std::size_t kMost = PTRDIFF_MAX / sizeof(std::int64_t);  // more than there is, and does not wrap around
  return static_cast<std::int64_t*>(alloc::allocate(std::min(n, kMost) * sizeof(std::int64_t)));
}
}  // namespace

Shape::Shape(std::span<const std::int64_t> sizes) : size_(sizes.size()) {
  if (size_ > kInline)
    take_copy(sizes.data());
  else
    copy_sizes(size_, sizes.data(), local_.data());
}

Shape::Shape(std::size_t rank, std::int64_t value) : size_(rank) {
  if (size_ > kInline) heap_ = allocate_sizes(size_);
  std::fill_n(begin(), rank, value);
}

void Shape::take_copy(const std::int64_t* sizes) {
  heap_ = allocate_sizes(size_);
  std::copy_n(sizes, size_, heap_);
}

void Shape::give_back() noexcept { alloc::deallocate(heap_, size_ * sizeof(std::int64_t)); }

void Shape::insert(std::size_t at, std::int64_t value) {
  if (size_ < kInline) {
    std::int64_t* sizes = local_.data();
    std::copy_backward(sizes + at, sizes + size_, sizes + size_ + 1);
    sizes[at] = value;
    ++size_;
    return;
  }
  Shape grown(size_ + 1, value);
  std::copy(begin(), begin() + at, grown.begin());
  std::copy(begin() + at, end(), grown.begin() + at + 1);
  swap(grown);
}

void Shape::erase(std::size_t at) {
  if (size_ <= kInline) {
    copy_sizes(size_ - at - 1, local_.data() + at + 1, local_.data() + at);
    local_[--size_] = 0;
    return;
  }
  Shape shrunk(size_ - 1, 0);
  std::copy(begin(), begin() + at, shrunk.begin());
  std::copy(begin() + at + 1, end(), shrunk.begin() + at);
  swap(shrunk);
}

void Shape::swap(Shape& other) noexcept {
  for (std::size_t d = 0; d < kInline; ++d) {  // the pointer lies among them
    const std::int64_t mine = local_[d];
    copy_sizes(1, &other.local_[d], &local_[d]);
    copy_sizes(1, &mine, &other.local_[d]);
  }
  std::swap(size_, other.size_);
}

std::string to_string(const Shape& shape) {
  std::string text = "(";
  for (std::int64_t size : shape) text += (text.size() > 1 ? ", " : "") + std::to_string(size);
  return text + (shape.size() == 1 ? ",)" : ")");
}

Shape index_of(const Shape& shape, std::int64_t element) {
  Shape index = shape;
  for (std::size_t d = shape.size(); d-- > 0; element /= shape[d]) index[d] = element % shape[d];
  return index;
}

std::int64_t checked_mul(std::int64_t a, std::int64_t b) {
  std::int64_t product = 0;
  check<ShapeError>(!__builtin_mul_overflow(a, b, &product), "size overflow: {} * {} exceeds 2^63 - 1", a, b);
  return product;
}

std::int64_t numel(const Shape& shape) {
  std::int64_t extent = 1;
  bool empty = false;
  for (std::int64_t size : shape) {
    check<ShapeError>(size >= 0, "negative size {} in shape {}", size, shape);
    empty |= size == 0;
    std::int64_t before = extent;
    if (__builtin_mul_overflow(before, std::max<std::int64_t>(size, 1), &extent)) [[unlikely]]
      extent = checked_mul(before, size);  // which says so
  }
  return empty ? 0 : extent;
}

Strides contiguous_strides(const Shape& shape) {
  Strides strides = shape;
  std::int64_t* stride = strides.begin();
  std::int64_t step = 1;
  for (std::size_t d = shape.size(); d-- > 0;)
    step *= std::max<std::int64_t>(std::exchange(stride[d], step), 1);  // what stood there is the size
  return strides;
}

Shape broadcast(std::string_view op, const Shape& a, const Shape& b) {
  if (a == b) return a;
  const Shape& longer = a.size() >= b.size() ? a : b;
  const Shape& shorter = a.size() >= b.size() ? b : a;
  Shape result = longer;
  std::size_t lead = longer.size() - shorter.size();
  for (std::size_t d = 0; d < shorter.size(); ++d) {
    std::int64_t& size = result[lead + d];
    check<ShapeError>(size == shorter[d] || size == 1 || shorter[d] == 1, "{}: shapes {} and {} do not broadcast", op,
                      a, b);
    if (size == 1) size = shorter[d];
  }
  return result;
}

std::size_t wrap_dim(std::string_view op, std::int64_t dim, std::size_t rank) {
  auto n = static_cast<std::int64_t>(std::max<std::size_t>(rank, 1));
  check<IndexError>(dim >= -n && dim < n, "{}: dimension {} is out of range, expected one in [{}, {}]", op, dim, -n,
                    n - 1);
  return static_cast<std::size_t>(dim < 0 ? dim + n : dim);
}

}  // namespace unroll
