#pragma once
#include <unroll/autograd/record.h>

#include <functional>

#pragma GCC visibility push(default)
namespace unroll {

namespace detail {
using Definition = std::function<std::vector<Tensor>(std::span<const Tensor>)>;
/// dx of `definition` at the first `inputs` saved tensors, recorded so that it can be differentiated again.
void differentiate_definition(const Definition& definition, std::size_t inputs, Gradients g, const Saved& s,
                              std::span<Tensor> dx);
}  // namespace detail

/// Records a kernel that computed all `outputs` at once, as one node that can still be differentiated any number of
/// times.
///
/// `backward` (Gradients g, const Saved& s, std::span<Tensor> dx) is the fast way and need not be differentiable: s
/// holds the inputs, then `workspace` (what the forward kernel kept; outputs may be among it). `definition`
/// (std::span<const Tensor> inputs) → std::vector<Tensor> says the same thing with ops. Under create_graph the
/// definition is run and differentiated instead: a second forward is the price, never a failure and never a different
/// result. Callers use the definition themselves when FusedMode is off.
template <class Backward, class Definition>
void record_fused(const char* name, TensorList inputs, std::span<const Tensor> outputs, TensorList workspace,
                  Backward backward, Definition definition) {
  if (!detail::recording(inputs)) return;
  alloc::Vector<const Tensor*> saves;
  saves.reserve(inputs.size() + workspace.size());
  for (const Tensor& x : inputs) saves.push_back(&x);
  for (const Tensor& x : workspace) saves.push_back(&x);
  record_all(name, inputs, outputs, saves,
             [backward = std::move(backward), definition = std::move(definition), n = inputs.size()](
                 Gradients g, const Saved& s, std::span<Tensor> dx) {
               if (GradMode::enabled())
                 detail::differentiate_definition(definition, n, g, s, dx);
               else
                 backward(g, s, dx);
             });
}

}  // namespace unroll
#pragma GCC visibility pop
