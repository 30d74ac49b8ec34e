#include <unroll/autograd/ops/arithmetic.h>
#include <unroll/autograd/record.h>
#include <unroll/core/kernels/copy.h>
#include <unroll/core/kernels/elementwise.h>
#include <unroll/core/view.h>

// Tensor's in-place methods. Each computes like its plain op, counts as a new version of the memory, and, while
// recording, makes the tensor the output of a new node whose input is what the tensor was before.
namespace unroll {

namespace {
// A recorded write would leave the view with a history that is no longer true.
void check_unshared(const Tensor& x, const char* op) {
  check<GradError>(
      !x.is_view() && x.body().storage->views == 0,
      "{}: this memory is shared with a view, whose history would no longer be true; write a new tensor instead", op);
}
}  // namespace

namespace detail {
void before_write(const Tensor& x, const char* op) {
  for (std::size_t d = 0; d < x.shape().size(); ++d)
    check<ValueError>(x.shape()[d] <= 1 || x.strides()[d] != 0 || x.numel() == 0,
                      "{}: elements of the expanded tensor of shape {} share memory; clone() it first", op, x.shape());
  if (!GradMode::enabled() || !x.requires_grad()) return;
  check<GradError>(!x.is_leaf(), "{}: a leaf that requires a gradient may not be written in place; do it under NoGrad",
                   op);
  check_unshared(x, op);
}
}  // namespace detail

namespace {

// Broadcasts the operand to x, which may not grow.
Tensor operand(const char* op, const Tensor& x, const Tensor& other) {
  check<ShapeError>(broadcast(op, x.shape(), other.shape()) == x.shape(),
                    "{}: shape {} cannot hold the result of shape {}", op, x.shape(),
                    broadcast(op, x.shape(), other.shape()));
  Tensor b = other.shape() == x.shape() ? other : views::expand(other, x.shape());
  // What overlaps x would be read after it was written.
  return b.shares_memory(x) && !b.is_same(x) ? kernels::clone(b) : b;
}

// x's former self: the same memory, the history up to now. Leaves x without history.
Tensor take_history(const Tensor& x) {
  Tensor before = views::alias(x);
  before.body().grad_slot = std::move(x.body().grad_slot);
  return before;
}

// Runs write() on x and records it as `name` of {x before, other}. If anything raises, x has its history again.
template <class Write, class... Rest>
const Tensor& in_place(const char* name, const Tensor& x, const Tensor& other, Write write, Rest... rest) {
  detail::before_write(x, name);
  bool recorded = GradMode::enabled() && x.is_floating_point() && (x.requires_grad() || other.requires_grad());
  if (!recorded) {
    write();
    kernels::wrote(x, name);
    return x;
  }
  check_unshared(x, name);
  Tensor before = take_history(x);
  Ref<detail::GradSlot>&now = x.body().grad_slot, &then = before.body().grad_slot;
  try {
    record(name, {before, other.is_same(x) ? before : other}, x, rest...);
    write();
  } catch (...) {
    now = std::move(then);
    throw;
  }
  if (then) now->retains_grad = std::exchange(then->retains_grad, false);
  kernels::wrote(x, name);
  return x;
}

Tensor none(const Tensor&) { return {}; }

}  // namespace

const Tensor& Tensor::fill_(double value) const {
  return in_place(
      "fill_", *this, Tensor(), [&] { kernels::fill(*this, value); }, none, none);
}

const Tensor& Tensor::zero_() const {
  return in_place(
      "zero_", *this, Tensor(), [&] { kernels::fill(*this, 0); }, none, none);
}

const Tensor& Tensor::copy_(const Tensor& source) const {
  Tensor from = operand("copy_", *this, source);
  return in_place(
      "copy_", *this, source, [&] { kernels::copy(*this, from); }, none, unchanged);
}

const Tensor& Tensor::add_(const Tensor& other, double alpha) const {
  kernels::check_same_dtype("add_", *this, other);
  kernels::check_number("add_", *this, alpha);
  Tensor b = operand("add_", *this, other);
  auto write = [&] {
    dispatch_number("add_", dtype(), [&]<class T>() {
      kernels::zip_into<T, T>(*this, *this, b, [a = static_cast<T>(alpha)](T x, T y) { return x + a * y; });
    });
  };
  return in_place("add_", *this, other, write, unchanged,
                  [alpha](const Tensor& g) { return alpha == 1 ? g : g * alpha; });
}

const Tensor& Tensor::add_(double value) const {
  kernels::check_number("add_", *this, value);
  auto write = [&] {
    dispatch_number("add_", dtype(), [&]<class T>() {
      kernels::map_into<T, T>(*this, *this, [v = static_cast<T>(value)](T x) { return x + v; });
    });
  };
  return in_place("add_", *this, Tensor(), write, unchanged, none);
}

const Tensor& Tensor::mul_(const Tensor& other) const {
  kernels::check_same_dtype("mul_", *this, other);
  Tensor b = operand("mul_", *this, other);
  auto write = [&] {
    dispatch_number("mul_", dtype(),
                    [&]<class T>() { kernels::zip_into<T, T>(*this, *this, b, [](T x, T y) { return x * y; }); });
  };
  // The factor's gradient needs the elements that are about to be overwritten.
  const Tensor old = GradMode::enabled() && other.requires_grad() ? clone() : Tensor();
  return in_place(
      "mul_", *this, other, write, save(other.is_same(*this) ? old : other, old),
      [](const Tensor& g, const Saved& s) { return g * s[0]; },
      [](const Tensor& g, const Saved& s) { return g * s[1]; });
}

const Tensor& Tensor::mul_(double value) const {
  kernels::check_number("mul_", *this, value);
  auto write = [&] {
    dispatch_number("mul_", dtype(), [&]<class T>() {
      kernels::map_into<T, T>(*this, *this, [v = static_cast<T>(value)](T x) { return x * v; });
    });
  };
  return in_place(
      "mul_", *this, Tensor(), write, [value](const Tensor& g) { return g * value; }, none);
}

}  // namespace unroll
