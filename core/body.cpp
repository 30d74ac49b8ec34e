#include <unroll/core/alloc.h>
#include <unroll/core/tensor.h>

#include <new>

namespace unroll::detail {
namespace {
// What lies before the elements of a block: the header, which ends where they begin, and of a small tensor the body,
// with which the block begins. Both together are three cache lines: of a few numbers, these are most of the tensor.
constexpr std::size_t kHeader = alloc::kAlignment, kBodyAndHeader = 3 * alloc::kAlignment, kSmall = 1024;
static_assert(sizeof(Storage) <= kHeader && sizeof(Body) + sizeof(Storage) <= kBodyAndHeader);

// What goes with a storage that nobody has any more.
void clear(Storage& storage) noexcept {
  if (storage.panels.load(std::memory_order_relaxed) != nullptr) [[unlikely]]
    drop_panels(storage);
}

std::size_t lead(bool has_body) noexcept { return has_body ? kBodyAndHeader : kHeader; }

Storage* header_in(void* block, bool has_body) noexcept {
  return reinterpret_cast<Storage*>(static_cast<std::byte*>(block) + lead(has_body) - sizeof(Storage));
}

bool is_row_major(const Shape& shape, const Strides& strides, std::int64_t numel) noexcept {
  if (numel == 0) return true;
  std::int64_t expected = 1;
  for (std::size_t d = shape.size(); d-- > 0;) {
    if (shape[d] == 1) continue;
    if (strides[d] != expected) return false;
    expected *= shape[d];
  }
  return true;
}
}  // namespace

void release(Storage* storage) noexcept {
  if (!storage->drop()) return;
  clear(*storage);
  const std::size_t before = lead(storage->has_body);
  alloc::deallocate(static_cast<std::byte*>(storage->data()) - before, before + storage->bytes);
}

Elements::Elements(Ref<Storage>&& storage_, Shape&& shape_, Strides&& strides_, std::int64_t offset_, DType dtype_,
                   bool is_view_)
    : storage(std::move(storage_)), shape(std::move(shape_)), strides(std::move(strides_)), offset(offset_),
      numel(unroll::numel(shape)), dtype(dtype_), contiguous(is_row_major(shape, strides, numel)), is_view(is_view_) {}

Elements::Elements(const Elements& other)
    : storage(other.storage), shape(other.shape), strides(other.strides), offset(other.offset), numel(other.numel),
      dtype(other.dtype), contiguous(other.contiguous), is_view(other.is_view) {}

namespace {
template <class... Args>
Body* new_body(Args&&... args) {
  void* memory = alloc::allocate(sizeof(Body), alloc::Kind::Tensor);
  try {
    return new (memory) Body(std::forward<Args>(args)...);
  } catch (...) {  // a size that overflows
    alloc::deallocate(memory, sizeof(Body), alloc::Kind::Tensor);
    throw;
  }
}

// The header in a new block.
Ref<Storage> storage_in(void* block, std::size_t bytes, bool has_body) noexcept {
  auto* storage = new (header_in(block, has_body)) Storage{};
  storage->has_body = has_body;
  storage->bytes = bytes;
  return Ref<Storage>::adopt(storage);
}

// A tensor too large for one block, or of a rank whose sizes lie elsewhere.
[[gnu::noinline]] Body* new_dense_in_two(const Shape& shape, const Strides& strides, std::int64_t numel, DType dtype) {
  const auto bytes = static_cast<std::size_t>(checked_mul(numel, static_cast<std::int64_t>(size_of(dtype))));
  return new_body(storage_in(alloc::allocate(kHeader + bytes), bytes, false), shape, strides, numel, dtype);
}

// Row-major, of undefined value; strides and `numel` are the shape's.
[[gnu::always_inline]] inline Body* new_dense(const Shape& shape, const Strides& strides, std::int64_t numel,
                                              DType dtype) {
  if (numel > static_cast<std::int64_t>(kSmall) || shape.size() > Shape::kInline) [[unlikely]]
    return new_dense_in_two(shape, strides, numel, dtype);
  const std::size_t bytes = static_cast<std::size_t>(numel) * size_of(dtype), block = kBodyAndHeader + bytes;
  if (block > kSmall) return new_dense_in_two(shape, strides, numel, dtype);
  void* memory = alloc::allocate(block, alloc::Kind::Tensor);
  // Both are of one rank, which was asked for above; for all the compiler knows, allocate() could have changed it.
  if (shape.size() > Shape::kInline || strides.size() > Shape::kInline) __builtin_unreachable();
  auto* body = new (memory) Body(storage_in(memory, bytes, true), shape, strides, numel, dtype);
  body->in_storage = true;
  return body;
}

[[gnu::noinline]] void destroy_apart(Body* body) noexcept {
  body->~Body();
  alloc::deallocate(body, sizeof(Body), alloc::Kind::Tensor);
}

void destroy(Body* body) noexcept {
  if (body->is_pinned) [[unlikely]]
    body->storage->pins.fetch_sub(1, std::memory_order_relaxed);
  if (!body->in_storage) return destroy_apart(body);
  // Nothing else of a body whose shape lies within it has to be destroyed.
  body->grad_slot = {};
  body->base = {};
  Storage* block = body->storage.give();
  if (body->holds_block) [[unlikely]] {
    release(block);
    block = header_in(body, true);
  }
  const std::size_t bytes = kBodyAndHeader + block->bytes;
  if (!block->drop()) return alloc::forget_tensor();  // a view lives on
  clear(*block);
  alloc::deallocate(body, bytes, alloc::Kind::Tensor);
}
}  // namespace

Tensor new_tensor(Ref<Storage> storage, Shape&& shape, Strides&& strides, std::int64_t offset, DType dtype,
                  bool is_view) {
  return adopted(new_body(std::move(storage), std::move(shape), std::move(strides), offset, dtype, is_view));
}

Tensor new_tensor(const Elements& elements) { return adopted(new_body(elements)); }

[[gnu::noinline]] Body* new_dense_of(const Shape& shape, std::int64_t numel, DType dtype) {
  return new_dense(shape, contiguous_strides(shape), numel, dtype);
}

Body* new_body_like(const Elements& like, DType dtype) {
  // Contiguous is also what has no elements, however expanded.
  if (like.contiguous && !like.is_view && like.numel > 0) return new_dense(like.shape, like.strides, like.numel, dtype);
  return new_dense_of(like.shape, like.numel, dtype);
}

Ref<Storage> replace_storage(Body& body, Ref<Storage> storage) noexcept {
  Ref<Storage> before = std::exchange(body.storage, std::move(storage));
  if (!body.in_storage || body.holds_block) return before;
  body.holds_block = true;
  retain(before.get());
  return before;
}

void release(Elements* elements) noexcept {
  // The last hold; handles have one, so there is none of them left either.
  if (elements->shares.load(std::memory_order_acquire) == Elements::kHold ||
      add_to(elements->shares, -Elements::kHold) < 2 * Elements::kHold)
    destroy(static_cast<Body*>(elements));
}

namespace {
std::int64_t handles_of(std::int64_t shares) noexcept { return shares & (Body::kHold - 1); }

// The last handle of a body that others hold.
[[gnu::noinline]] void lose_handles(Body* body) noexcept {
  body->grad_slot = {};
  body->base = {};
  if (std::exchange(body->is_pinned, false)) body->storage->pins.fetch_sub(1, std::memory_order_relaxed);
  release(static_cast<Elements*>(body));
}
}  // namespace

void release(Body* body) noexcept {
  if (body->shares.load(std::memory_order_acquire) == Body::kAlone)
    return destroy(body);  // nobody is left to take a handle or a hold
  if (handles_of(add_to(body->shares, -Body::kHandle)) == 1) lose_handles(body);
}

Tensor handle_of(Elements& elements) noexcept {
  auto& body = static_cast<Body&>(elements);
  std::int64_t shares = body.shares.load(std::memory_order_relaxed);
  if (handles_of(shares) > 0 && single_threaded()) return Tensor(Ref<Body>(&body));
  while (handles_of(shares) > 0 &&
         !body.shares.compare_exchange_weak(shares, shares + Body::kHandle, std::memory_order_acquire)) {}
  return handles_of(shares) > 0 ? adopted(&body) : Tensor();
}

Tensor new_handle_of(Elements& elements) noexcept {
  auto& body = static_cast<Body&>(elements);
  if (body.shares.load(std::memory_order_acquire) != Body::kHold) return {};
  body.shares.store(Body::kHold + Body::kAlone, std::memory_order_relaxed);
  body.rewrites.store(0, std::memory_order_relaxed);
  body.is_piece = body.is_hidden = false;
  return adopted(&body);
}

}  // namespace unroll::detail
