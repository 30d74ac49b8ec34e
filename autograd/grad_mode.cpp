#include <unroll/autograd/grad_mode.h>

namespace unroll::detail {

Switches& switches() noexcept {
  [[gnu::tls_model("initial-exec")]] thread_local Switches all;
  return all;
}

}  // namespace unroll::detail
