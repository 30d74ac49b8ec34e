#include <unroll/autograd/record.h>
#include <unroll/core/kernels/copy.h>

namespace unroll {

Tensor Tensor::clone() const { return record("clone", {*this}, kernels::clone(*this), unchanged); }

Tensor Tensor::contiguous() const { return is_contiguous() ? *this : clone(); }

/// Rounds (or widens) each element; the gradient is converted back.
Tensor Tensor::to(DType dtype) const {
  if (dtype == this->dtype()) return *this;
  Tensor y = kernels::cast(*this, dtype);
  if (!y.is_floating_point()) return y;  // an index has no gradient
  return record("to", {*this}, y, [from = this->dtype()](const Tensor& g) { return g.to(from); });
}

}  // namespace unroll
