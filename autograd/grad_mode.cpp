#include <unroll/autograd/grad_mode.h>

namespace unroll::detail {

Switches& switches() noexcept {
  thread_local Switches all;
  return all;
}

}  // namespace unroll::detail
