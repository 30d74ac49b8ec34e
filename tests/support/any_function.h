#pragma once
#include <unroll/autograd/function.h>

#include <functional>
#include <vector>

using Tensors = std::vector<unroll::Tensor>;

/// A Function of which a test says at run time what it computes.
struct Any : unroll::Function<Any> {
  using Forward = std::function<Tensors(unroll::FunctionContext&, const Tensors&)>;
  using Backward = std::function<Tensors(unroll::FunctionContext&, unroll::Gradients)>;
  struct Context : unroll::FunctionContext {
    Backward run;
  };
  static Tensors forward(Context& ctx, const Tensors& x, const Forward& f, const Backward& b) {
    ctx.run = b;
    return f(ctx, x);
  }
  static Tensors backward(Context& ctx, unroll::Gradients g) { return ctx.run(ctx, g); }
};
