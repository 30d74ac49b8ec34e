#pragma once
#include <unroll/nn/module.h>

#include <concepts>
#include <memory>

#pragma GCC visibility push(default)
namespace unroll::nn {

/// A module that turns one tensor into one.
template <class M>
concept Layer = std::derived_from<M, Module> && requires(const M& module, const Tensor& x) {
  { module(x) } -> std::convertible_to<Tensor>;
};

/// Modules one after the other, named "0", "1", …
///
///     nn::Sequential net;
///     net.append<nn::Linear>(2, 16).append("Tanh", tanh).append<nn::Linear>(16, 1, nn::LinearOptions{.bias = false});
class Sequential : public Module {
 public:
  Sequential() = default;

  /// Makes an M of `args` and puts it last.
  template <Layer M, class... Args>
  Sequential& append(Args&&... args) {
    return append(std::make_unique<M>(std::forward<Args>(args)...));
  }
  template <Layer M>
  Sequential& append(std::unique_ptr<M> module) {
    return append(std::move(module),
                  [](const Module& self, const Tensor& x) -> Tensor { return static_cast<const M&>(self)(x); });
  }
  /// Puts a function last; `name` is what it is printed as.
  Sequential& append(std::string name, Tensor (*function)(const Tensor&));

  Tensor operator()(const Tensor& x) const;
  std::size_t size() const noexcept { return steps_.size(); }
  /// Raises IndexError unless i < size().
  Module& operator[](std::size_t i) const;

 private:
  using Call = Tensor (*)(const Module&, const Tensor&);
  struct Step {
    std::unique_ptr<Module> module;
    Call call;  // the operator() of the module's own type
  };
  Sequential& append(std::unique_ptr<Module> module, Call call);

  std::vector<Step> steps_;
};

}  // namespace unroll::nn
#pragma GCC visibility pop
