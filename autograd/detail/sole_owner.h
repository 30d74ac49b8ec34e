#pragma once
#include <unroll/core/tensor.h>

namespace unroll::detail {

/// Whether nobody but this handle can see the elements, nor panels of them, so that they may be overwritten.
inline bool sole_owner(const Tensor& x) noexcept {
  const Body& b = x.body();
  return b.shares.load(std::memory_order_acquire) == Body::kAlone &&
         b.storage->refs.load(std::memory_order_acquire) == 1 && b.contiguous && !b.is_view && !b.grad_slot &&
         b.storage->panels.load(std::memory_order_relaxed) == nullptr;
}

}  // namespace unroll::detail
