#pragma once
#include <unroll/core/dtype.h>
#include <unroll/core/ref.h>
#include <unroll/core/shape.h>

#include <atomic>
#include <concepts>
#include <cstdint>
#include <string>

#pragma GCC visibility push(default)
/// What a Tensor is a handle to.
namespace unroll {

class Tensor;

namespace detail {
struct KeptPanels;  // core/kernels/panels.cpp

/// The memory behind one or more tensors; its elements follow this header, aligned for vectors. Views share it, and
/// with it the version.
struct Storage : RefCounted {
  bool has_body = false;                     // and the body of the tensor it was made for goes before it, in one block
  std::atomic<bool> is_given_out{false};     // by data<T>(): who has a pointer writes without raising the version
  std::size_t bytes;                         // of the elements
  std::uint32_t version = 0;                 // how often the elements have been written in place
  std::atomic<std::int32_t> pins{0};         // live tensors with Body::is_pinned
  const char* last_write = "";               // the op that wrote last, for the error that a stale saved tensor raises
  std::atomic<KeptPanels*> panels{nullptr};  // of a weight
  void* data() noexcept { return this + 1; }
};
void release(Storage*) noexcept;
void drop_panels(Storage& storage) noexcept;

/// What autograd knows of a tensor (autograd/node.h). core only owns it.
struct GradSlot;
void retain(GradSlot*) noexcept;
void release(GradSlot*) noexcept;

struct Body;

/// What core asks of autograd, which defines it: raise GradError if `op` may not overwrite x now; what printing says of
/// x's gradient, "requires_grad=true", "grad_fn=<tanh>" or ""; a new history for a view whose base has got one.
void before_write(const Tensor& x, const char* op);
std::string gradient_suffix(const Tensor& x);
void follow_base(Body& view);

/// The part of a Body that a saved tensor keeps: what the elements are, but not how they were computed.
struct Elements {
  // Who has it: handles, and holds, which are saved tensors and one for all handles together. They are one number, for
  // either can become the other in another thread: looked at one by one, both may seem to be alone.
  static constexpr std::int64_t kHandle = 1, kHold = std::int64_t{1} << 32, kAlone = kHold + kHandle;
  std::atomic<std::int64_t> shares{kAlone};
  Ref<Storage> storage;
  Shape shape;
  Strides strides;  // in elements
  std::int64_t offset, numel;
  DType dtype;
  bool contiguous, is_view;
  Elements(Ref<Storage>&& storage, Shape&& shape, Strides&& strides, std::int64_t offset, DType dtype, bool is_view);
  /// Row-major, from the first element of the memory; strides and `numel` are the shape's.
  Elements(Ref<Storage>&& storage_, const Shape& shape_, const Strides& strides_, std::int64_t numel_, DType dtype_)
      : storage(std::move(storage_)), shape(shape_), strides(strides_), offset(0), numel(numel_), dtype(dtype_),
        contiguous(true), is_view(false) {}
  Elements(const Elements& other);
  /// The first element; T is known to be the dtype.
  template <class T>
  T* data() const noexcept {
    return static_cast<T*>(storage->data()) + offset;
  }
};
inline void retain(Elements* elements) noexcept { add_to(elements->shares, Elements::kHold); }
void release(Elements*) noexcept;

/// What a Tensor points to. With the last handle goes what lies in Body, with the last hold the rest.
struct Body : Elements {
  // First what fits behind the flags of Elements, where the compiler puts it.
  bool is_hidden = false;  // a view made under NoGrad of a tensor that requires a gradient
  // Of a base, how often its history was rewritten; in a view, those that its own history knows of.
  std::atomic<std::uint32_t> rewrites{0};
  Ref<GradSlot> grad_slot;  // none for a plain tensor
  // A recorded view is part of the tensor whose memory it shows: it follows that one's history, and one that is written
  // in place rewrites it (autograd/ops/in_place.cpp). Set by the ops of autograd/ops/shape.cpp, never on a base.
  Ref<Body> base;
  bool is_piece = false;   // of several that one op returned, or a view of such a piece
  bool is_pinned = false;  // a view with a history that follows nothing, as from a Function: no recorded write may come
  bool in_storage = false;   // it lies in the block of the storage it was made with,
  bool holds_block = false;  // which it holds also when it shows another
  using Elements::Elements;
  explicit Body(const Elements& like) : Elements(like) {}
  bool is_outdated() const noexcept {
    return base && base->rewrites.load(std::memory_order_relaxed) != rewrites.load(std::memory_order_acquire);
  }
};
inline void retain(Body* body) noexcept { add_to(body->shares, Elements::kHandle); }
void release(Body*) noexcept;
/// Gives a body other memory and returns what it had.
Ref<Storage> replace_storage(Body& body, Ref<Storage> storage) noexcept;
/// A handle to the tensor with these elements; undefined when the last one is gone.
Tensor handle_of(Elements& elements) noexcept;
/// A first handle again where there is none, and `elements` is the only hold and this thread's; else undefined. The
/// tensor has neither history nor base.
Tensor new_handle_of(Elements& elements) noexcept;

/// A tensor over that memory. The caller vouches for the bounds.
Tensor new_tensor(Ref<Storage> storage, Shape&& shape, Strides&& strides, std::int64_t offset, DType dtype,
                  bool is_view);
/// A tensor with the same elements, without history.
Tensor new_tensor(const Elements& elements);
/// A new tensor's body: row-major, of undefined value. `numel` is the shape's, whose sizes have been checked.
[[nodiscard, gnu::returns_nonnull]] Body* new_dense_of(const Shape& shape, std::int64_t numel, DType dtype);
/// The body of new_like, to be adopted. It comes in a register; a tensor would come through memory, where the op would
/// then look for it again and again.
[[nodiscard, gnu::returns_nonnull]] Body* new_body_like(const Elements& like, DType dtype);

template <std::derived_from<RefCounted> T>
void retain(T* counted) noexcept {
  add_to(counted->refs, 1);
}
}  // namespace detail

}  // namespace unroll
#pragma GCC visibility pop
