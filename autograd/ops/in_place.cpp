#include <unroll/autograd/detail/common_lock.h>
#include <unroll/autograd/ops/activation.h>
#include <unroll/autograd/ops/arithmetic.h>
#include <unroll/autograd/ops/reduce.h>
#include <unroll/autograd/record.h>
#include <unroll/core/kernels/copy.h>
#include <unroll/core/kernels/elementwise.h>
#include <unroll/core/view.h>

// Tensor's in-place methods. Recorded, x.op_(…) computes x ← op(x, …) like the plain op, writes the result into x's
// memory, and x is from then on what the op returned. A view is part of its base (core/detail/body.h), so what
// was written through it is placed into the base: base ← put(base, op(view, …)). A base whose history is rewritten
// counts that, and its views, the one that was written among them, take theirs anew from it when they are next asked.
namespace unroll {

namespace {

// Where a view lies in its base.
struct Region {
  Shape base_shape;
  Strides base_strides;
  Shape shape;  // 1 where the view repeats one element by a stride of 0
  Strides strides;
  std::int64_t offset;  // from the base's first element
  bool contiguous;      // the base

  Region(const detail::Body& base, const detail::Body& view)
      : base_shape(base.shape), base_strides(base.strides), shape(view.shape), strides(view.strides),
        offset(view.offset - base.offset), contiguous(base.contiguous) {
    for (std::size_t d = 0; d < shape.size(); ++d)
      if (strides[d] == 0 && shape[d] > 1 && view.numel > 0) shape[d] = 1;
  }

  // Zeros of the base's shape, their memory laid out as the base's is.
  Tensor zeros_like_base(DType dtype) const {
    if (contiguous) return zeros(base_shape, dtype);
    std::int64_t span = 1;
    for (std::size_t d = 0; d < base_shape.size(); ++d) span += (base_shape[d] - 1) * base_strides[d];
    return views::as_strided(zeros(numel(base_shape) == 0 ? 0 : span, dtype), base_shape, base_strides, 0);
  }
  // A copy of x, which has the base's shape, laid out so.
  Tensor copy_of(const Tensor& x) const {
    if (contiguous) return kernels::clone(x);
    Tensor y = zeros_like_base(x.dtype());
    kernels::copy(y, x);
    return y;
  }
  // The view's elements of what is laid out so.
  Tensor in(const Tensor& x) const { return views::as_strided(x, shape, strides, x.body().offset + offset); }
};

Tensor put(const Tensor& g, const Region& region);

// The region of x.
Tensor take(const Tensor& x, const Region& region) {
  Tensor y = kernels::clone(region.in(region.contiguous ? kernels::contiguous(x) : region.copy_of(x)));
  return record("take", {x}, y, [region](const Tensor& g) { return put(g, region); });
}

// Zeros of the base's shape with x in the region.
Tensor put(const Tensor& x, const Region& region) {
  Tensor y = region.zeros_like_base(x.dtype());
  kernels::copy(region.in(y), x);
  return record("put", {x}, kernels::contiguous(y), [region](const Tensor& g) { return take(g, region); });
}

// x with zeros in the region.
Tensor erase(const Tensor& x, const Region& region) {
  Tensor y = region.copy_of(x);
  kernels::fill(region.in(y), 0);
  return record("erase", {x}, kernels::contiguous(y), [region](const Tensor& g) { return erase(g, region); });
}

void check_not_expanded(const Tensor& x, const Tensor& memory, const char* op) {
  for (std::size_t d = 0; d < memory.shape().size(); ++d)
    check<ValueError>(memory.shape()[d] <= 1 || memory.strides()[d] != 0 || x.numel() == 0,
                      "{}: elements of the expanded tensor of shape {} share memory; clone() it first", op,
                      memory.shape());
}

// Raises GradError unless x can get a history.
void check_recordable(const Tensor& x, const char* op) {
  const detail::Body& b = x.body();
  check<GradError>(!b.is_piece,
                   "{}: a piece that split, chunk or unbind returned may not be written in place while ops are "
                   "recorded; take it with narrow or select, or write a new tensor",
                   op);
  check<GradError>(!b.is_view || (b.base && b.storage == b.base->storage),
                   "{}: this view has no record of what it is a view of, whose history would no longer be true; write "
                   "a new tensor instead",
                   op);
  check<GradError>(
      b.storage->pins.load(std::memory_order_relaxed) == 0,
      "{}: this memory is shared with a view that has a history of its own, which would no longer be true; "
      "write a new tensor instead",
      op);
  if (b.base) check_not_expanded(x, Tensor(b.base), op);
}

// x's history is from now on that of `from`, a tensor nobody else holds. Returns what it was.
Ref<detail::GradSlot> take_history(detail::Body& x, detail::Body& from) {
  Ref<detail::GradSlot> then = std::exchange(x.grad_slot, std::move(from.grad_slot));
  detail::hand_on_grad(then.get(), x.grad_slot.get());
  return then;
}

}  // namespace

namespace detail {
void before_write(const Tensor& x, const char* op) {
  check_not_expanded(x, x, op);
  if (!GradMode::enabled()) return;
  const Body& b = x.body();
  check<GradError>(!b.is_hidden,
                   "{}: this view was made under NoGrad of a tensor that requires a gradient; write it there too", op);
  for (const Tensor& y : {x, Tensor(b.base)})
    check<GradError>(!y.requires_grad() || !y.is_leaf(),
                     "{}: a leaf that requires a gradient, or a view of one, may not be written in place; do it under "
                     "NoGrad",
                     op);
  if (x.requires_grad()) check_recordable(x, op);
}

void follow_base(Body& view) {
  Ref<GradSlot> before;  // goes after the lock: what a hook has captured may do anything in its destructor
  const CommonLock lock;
  if (!view.is_outdated()) return;
  Tensor base{view.base};
  if (view.storage == base.body().storage) {  // Module::to gives a base other memory; a view keeps the old, and itself
    check<GradError>(!view.grad_slot || view.grad_slot->grad_fn || !view.grad_slot->requires_grad,
                     "a view that was made a leaf by requires_grad_() is no leaf any more: {} wrote what it is a view "
                     "of while recorded",
                     view.storage->last_write);
    GradMode recording(true);
    Region region(base.body(), view);
    Tensor now = record("as_strided", {base}, views::alias(Tensor(Ref<Body>(&view))),
                        [region](const Tensor& g) { return put(sum_to(g, region.shape), region); });
    before = take_history(view, now.body());
  }
  view.rewrites.store(base.body().rewrites.load(std::memory_order_relaxed), std::memory_order_release);
}
}  // namespace detail

namespace {

// Broadcasts the operand to x, which may not grow. What overlaps x is read from a copy.
Tensor operand(const char* op, const Tensor& x, const Tensor& other) {
  check<ShapeError>(broadcast(op, x.shape(), other.shape()) == x.shape(),
                    "{}: shape {} cannot hold the result of shape {}", op, x.shape(),
                    broadcast(op, x.shape(), other.shape()));
  return other.shares_memory(x) && !other.is_same(x) ? other.clone() : other;
}

bool is_recorded(const Tensor& x, const Tensor& other) {
  return GradMode::enabled() && x.is_floating_point() &&
         (x.requires_grad() || (other.defined() && other.requires_grad()));
}

// Writes value, which an op computed from x, into x's memory.
const Tensor& assign(const char* op, const Tensor& x, const Tensor& value) {
  if (value.requires_grad()) {
    check_recordable(x, op);
    Tensor base(x.body().base ? x.body().base : Ref<detail::Body>(&x.body()));
    Tensor after = value;
    if (!base.is_same(x)) {
      Region region(base.body(), x.body());
      after = record(
          "copy_slices", {base, value}, views::alias(base), [region](const Tensor& g) { return erase(g, region); },
          [region](const Tensor& g) { return take(g, region); });
    }
    take_history(base.body(), after.body());
    base.body().rewrites.fetch_add(1, std::memory_order_release);
  }
  kernels::copy(x, value);
  kernels::wrote(x, op);
  return x;
}

// x ← value(), and the same by write(), which needs no memory, when nothing is recorded.
template <class Write, class Value>
const Tensor& in_place(const char* op, const Tensor& x, const Tensor& other, Write write, Value value) {
  detail::before_write(x, op);
  if (is_recorded(x, other)) return assign(op, x, value());
  write();
  kernels::wrote(x, op);
  return x;
}

// Of what is for floats.
template <class Value>
const Tensor& in_place(const char* op, const Tensor& x, const Tensor& other, Value value) {
  check<DTypeError>(is_floating(x.dtype()), "{}: expected float32 or float64, got {}", op, x.dtype());
  return in_place(
      op, x, other, [&] { kernels::copy(x, value()); }, value);
}

Tensor nothing(const Tensor& g) { return zeros_like(g); }

Tensor filled(const Tensor& x, double value) { return record("fill_", {x}, full_like(x, value), nothing); }
}  // namespace

const Tensor& Tensor::fill_(double value) const {
  return in_place(
      "fill_", *this, Tensor(), [&] { kernels::fill(*this, value); }, [&] { return filled(*this, value); });
}

const Tensor& Tensor::zero_() const {
  return in_place(
      "zero_", *this, Tensor(), [&] { kernels::fill(*this, 0); }, [&] { return filled(*this, 0); });
}

const Tensor& Tensor::copy_(const Tensor& source) const {
  Tensor b = operand("copy_", *this, source);
  return in_place(
      "copy_", *this, b, [&] { kernels::copy(*this, b); },
      [&] {
        Tensor y = empty_like(*this);
        kernels::copy(y, b);
        return record("copy_", {*this, b}, y, nothing, unchanged);
      });
}

namespace {
const Tensor& add_scaled(const char* op, const Tensor& x, const Tensor& other, double alpha) {
  kernels::check_same_dtype(op, x, other);
  kernels::check_number(op, x, alpha);
  Tensor b = operand(op, x, other);
  auto write = [&] {
    Tensor c = b.shape() == x.shape() ? b : views::expand(b, x.shape());
    dispatch_number(op, x.dtype(), [&]<class T>() {
      kernels::zip_into<T, T>(x, x, c, [a = static_cast<T>(alpha)](T v, T w) { return v + a * w; });
    });
  };
  return in_place(op, x, b, write, [&] { return add(x, alpha == 1 ? b : mul(b, alpha)); });
}

const Tensor& add_number(const char* op, const Tensor& x, double value) {
  kernels::check_number(op, x, value);
  auto write = [&] {
    dispatch_number(op, x.dtype(), [&]<class T>() {
      kernels::map_into<T, T>(x, x, [v = static_cast<T>(value)](T w) { return w + v; });
    });
  };
  return in_place(op, x, Tensor(), write, [&] { return add(x, value); });
}
}  // namespace

const Tensor& Tensor::add_(const Tensor& other, double alpha) const { return add_scaled("add_", *this, other, alpha); }
const Tensor& Tensor::add_(double value) const { return add_number("add_", *this, value); }
const Tensor& Tensor::sub_(const Tensor& other) const { return add_scaled("sub_", *this, other, -1); }
const Tensor& Tensor::sub_(double value) const { return add_number("sub_", *this, -value); }

const Tensor& Tensor::mul_(const Tensor& other) const {
  kernels::check_same_dtype("mul_", *this, other);
  Tensor b = operand("mul_", *this, other);
  auto write = [&] {
    Tensor c = b.shape() == shape() ? b : views::expand(b, shape());
    dispatch_number("mul_", dtype(),
                    [&]<class T>() { kernels::zip_into<T, T>(*this, *this, c, [](T x, T y) { return x * y; }); });
  };
  return in_place("mul_", *this, b, write, [&] {
    Tensor old = b.requires_grad() ? clone() : *this;  // the factor's gradient needs what is about to be overwritten
    return mul(old, b.is_same(*this) ? old : b);
  });
}

const Tensor& Tensor::mul_(double value) const {
  kernels::check_number("mul_", *this, value);
  auto write = [&] {
    dispatch_number("mul_", dtype(), [&]<class T>() {
      kernels::map_into<T, T>(*this, *this, [v = static_cast<T>(value)](T x) { return x * v; });
    });
  };
  return in_place("mul_", *this, Tensor(), write, [&] { return mul(*this, value); });
}

const Tensor& Tensor::div_(const Tensor& other) const {
  kernels::check_same_dtype("div_", *this, other);
  Tensor b = operand("div_", *this, other);
  return in_place("div_", *this, b, [&] {
    Tensor old = b.requires_grad() ? clone() : *this;
    return div(old, b.is_same(*this) ? old : b);
  });
}

const Tensor& Tensor::div_(double value) const {
  return in_place("div_", *this, Tensor(), [&] { return *this / value; });
}

const Tensor& Tensor::clamp_(double lowest, double highest) const {
  return in_place("clamp_", *this, Tensor(), [&] { return clamp(clone(), lowest, highest); });
}

const Tensor& Tensor::exp_() const {
  return in_place("exp_", *this, Tensor(), [&] { return exp(*this); });
}

const Tensor& Tensor::relu_() const {
  return in_place("relu_", *this, Tensor(), [&] { return relu(*this); });
}

const Tensor& Tensor::sigmoid_() const {
  return in_place("sigmoid_", *this, Tensor(), [&] { return sigmoid(*this); });
}

const Tensor& Tensor::tanh_() const {
  return in_place("tanh_", *this, Tensor(), [&] { return tanh(*this); });
}

}  // namespace unroll
