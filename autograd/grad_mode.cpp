#include <unroll/autograd/grad_mode.h>

namespace unroll::detail {

constinit thread_local Switches switches_of_thread;

}  // namespace unroll::detail
