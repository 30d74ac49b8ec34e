#pragma once
#include <unroll/core/tensor.h>

#include <functional>
#include <span>
#include <string>
#include <type_traits>
#include <vector>

/// A function of one to three tensors, or of a list of them, returning one or several.
struct OpFunction {
  using Tensor = unroll::Tensor;
  using Tensors = std::vector<Tensor>;

  std::function<Tensors(const Tensors&)> call;

  template <class F>
  OpFunction(F f) {
    constexpr bool list = std::is_invocable_v<F, const Tensors&>, one = std::is_invocable_v<F, const Tensor&>,
                   two = std::is_invocable_v<F, const Tensor&, const Tensor&>;
    call = [f](const Tensors& in) {
      if constexpr (list)
        return listed(f(in));
      else if constexpr (one)
        return listed(f(in[0]));
      else if constexpr (two)
        return listed(f(in[0], in[1]));
      else
        return listed(f(in[0], in[1], in[2]));
    };
  }
  static Tensors listed(Tensor y) { return {std::move(y)}; }
  static Tensors listed(Tensors y) { return y; }
};

/// Where random elements lie: none closer to 0 than 0.3, where many functions have kinks or poles.
enum class Domain { Signed, Positive };

struct OpRow {
  std::string name;
  OpFunction f;
  std::vector<std::vector<unroll::Shape>> shapes;  // of the inputs, several cases
  Domain domain = Domain::Signed;
  int order = 2;  // of the derivatives that gradcheck looks at
};

/// All recorded ops; the table stands in autograd/ops_test.cpp.
std::span<const OpRow> op_table();
