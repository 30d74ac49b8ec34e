#include <unroll/autograd/grad_mode.h>

namespace unroll::detail {

bool& grad_mode() noexcept {
  thread_local bool on = true;
  return on;
}

bool& fused_mode() noexcept {
  thread_local bool on = true;
  return on;
}

}  // namespace unroll::detail
