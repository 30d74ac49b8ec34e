#include <unroll/autograd/engine.h>
#include <unroll/autograd/grad_mode.h>
#include <unroll/autograd/node.h>
#include <unroll/core/view.h>

// A tensor's own side of differentiation: the methods that core declares and leaves to us.
namespace unroll {

using detail::GradSlot;

namespace {
GradSlot& slot_of(const Tensor& x) {
  if (!x.grad_slot()) x.body().grad_slot = Ref<GradSlot>::adopt(new GradSlot(x));
  return *x.body().grad_slot;
}
}  // namespace

bool Tensor::requires_grad() const { return detail::wants_grad(*this); }

bool Tensor::is_leaf() const { return !grad_slot() || !grad_slot()->grad_fn; }

const Tensor& Tensor::requires_grad_(bool requires_grad) const {
  check<DTypeError>(!requires_grad || is_floating_point(),
                    "requires_grad_: only float32 and float64 can require a gradient, got {}", dtype());
  if (!is_leaf()) {
    check<GradError>(requires_grad,
                     "requires_grad_: this tensor was computed by {}; use detach() for one without history",
                     grad_slot()->grad_fn->name());
    return *this;
  }
  if (requires_grad || grad_slot()) slot_of(*this).requires_grad = requires_grad;
  return *this;
}

Tensor Tensor::grad() const { return grad_slot() ? grad_slot()->grad : Tensor(); }

void Tensor::set_grad(const Tensor& grad) const {
  if (grad.defined()) {
    check<ShapeError>(grad.shape() == shape(), "set_grad: the gradient has shape {}, the tensor {}", grad.shape(),
                      shape());
    check<DTypeError>(grad.dtype() == dtype(), "set_grad: the gradient is {}, the tensor {}", grad.dtype(), dtype());
    check<GradError>(!grad.is_same(*this), "set_grad: a tensor cannot be its own gradient");
  }
  if (grad.defined() || grad_slot()) slot_of(*this).grad = grad;
}

const Tensor& Tensor::retain_grad() const {
  check<GradError>(requires_grad(), "retain_grad: the tensor does not require a gradient");
  slot_of(*this).retains_grad = !is_leaf();
  return *this;
}

Tensor Tensor::detach() const {
  Tensor x = views::alias(*this);
  x.body().is_view = false;  // nothing is recorded of where it came from, so it is the base of what follows
  return x;
}

void Tensor::backward() const { unroll::backward({*this}); }

void Tensor::backward(const BackwardOptions& options) const { unroll::backward({*this}, {}, options); }

void detail::zero_grad(const Tensor& x, bool set_to_none) {
  NoGrad guard;
  Tensor grad = x.grad();
  if (!grad.defined()) return;
  if (set_to_none) {
    x.set_grad({});
  } else if (grad.requires_grad() || !grad.is_contiguous()) {  // it came with create_graph, or is an expanded view
    x.set_grad(zeros_like(x));
  } else {
    grad.zero_();
  }
}

std::string detail::gradient_suffix(const Tensor& x) {
  if (!x.requires_grad()) return "";
  return x.is_leaf() ? "requires_grad=true" : std::string("grad_fn=<") + x.grad_slot()->grad_fn->name() + ">";
}

}  // namespace unroll
