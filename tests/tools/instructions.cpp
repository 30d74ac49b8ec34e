// What instructions.sh counts: `instructions WHAT N` does WHAT N times. `instructions mallocs N` fails if one of N
// training steps asks operator new for anything.
#include <unroll/autograd/engine.h>
#include <unroll/autograd/grad_mode.h>
#include <unroll/autograd/ops/activation.h>
#include <unroll/autograd/ops/arithmetic.h>
#include <unroll/autograd/ops/reduce.h>
#include <unroll/core/alloc.h>

#include <cstdio>
#include <cstdlib>
#include <functional>
#include <map>
#include <new>
#include <string>

namespace {
long news = 0;
}  // namespace

// Not inlined: g++ would take the pair of one inlined and one not for a mismatch.
[[gnu::noinline]] void* operator new(std::size_t bytes) {
  ++news;
  if (void* block = std::malloc(bytes)) return block;
  throw std::bad_alloc();
}
[[gnu::noinline]] void operator delete(void* block) noexcept { std::free(block); }
[[gnu::noinline]] void operator delete(void* block, std::size_t) noexcept { std::free(block); }

using namespace unroll;

int main(int argc, char** argv) {
  const std::string what = argc == 3 ? argv[1] : "";
  const int n = argc == 3 ? std::atoi(argv[2]) : 0;
  const Tensor a = ones({4, 4}).requires_grad_(), b = ones({4, 4}).requires_grad_(), g = ones({4, 4});

  auto step = [&] {  // forward, backward, a step of gradient descent
    Tensor h = a;
    for (int t = 0; t < 10; ++t) h = tanh(h * b + a);
    a.set_grad({}), b.set_grad({});
    sum(h).backward();
    NoGrad guard;
    a.add_(a.grad(), -0.01), b.add_(b.grad(), -0.01);
  };
  auto mallocs = [&](bool planted) {
    for (int i = 0; i < 3; ++i) step();
    const long before = news;
    const std::int64_t calls = alloc::counters().system_calls;
    for (int i = 0; i < n; ++i) {
      step();
      int* volatile more = planted ? new int : nullptr;
      delete more;
    }
    std::printf("%ld times operator new, %ld times the system in %d steps\n", news - before,
                static_cast<long>(alloc::counters().system_calls - calls), n);
    return news == before && calls == alloc::counters().system_calls ? 0 : 1;
  };
  if (what == "mallocs" || what == "mallocs_planted") return mallocs(what == "mallocs_planted");

  int length = 0;
  Tensor y;
  auto differentiated = [&](auto f) {  // in chains of 100
    return [&, f] {
      y = f(length == 0 ? a : y);
      if (++length < 100) return;
      a.set_grad({}), b.set_grad({});
      backward({y}, {g});
      length = 0;
    };
  };
  const std::map<std::string, std::function<void()>> ops = {
      // each does one op
      {"plain_add", [&] { y = g + g; }},
      {"add", [&] { y = a + b; }},
      {"add_planted", [&] { y = a + b, y = a + b; }},
      {"mul_backward", differentiated([&](const Tensor& x) { return x * b; })},
      {"tanh_backward", differentiated([](const Tensor& x) { return tanh(x); })},
  };
  const auto op = ops.find(what);
  if (op == ops.end()) return std::fprintf(stderr, "instructions: no %s\n", what.c_str()), 2;
  for (int i = 0; i < n; ++i) op->second();
}
