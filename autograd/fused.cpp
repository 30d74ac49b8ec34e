#include <unroll/autograd/engine.h>
#include <unroll/autograd/fused.h>
#include <unroll/core/view.h>

namespace unroll::detail {

void differentiate_definition(const Definition& definition, std::size_t inputs, Gradients g, const Saved& s,
                              std::span<Tensor> dx) {
  // Each input gets a name of its own here. Without it an input that another input was computed from (h0 from x, tied
  // weights) would also receive what flows to it through that other one, and that part is delivered again further up
  // the graph.
  std::vector<Tensor> aliases(inputs);
  std::vector<Tensor> targets;
  for (std::size_t i = 0; i < inputs; ++i) {
    if (!s[i].defined()) continue;
    aliases[i] = record("alias", {s[i]}, views::alias(s[i]), unchanged);
    if (s.needs(i)) targets.push_back(aliases[i]);
  }
  std::vector<Tensor> outputs = definition(aliases), grads_of_used, used;
  for (std::size_t j = 0; j < g.size(); ++j)
    if (g[j].defined() && outputs[j].requires_grad()) {
      used.push_back(outputs[j]);
      grads_of_used.push_back(g[j]);
    }
  if (used.empty()) return;
  std::vector<Tensor> result =
      grad(used, targets, {.grad_outputs = grads_of_used, .create_graph = true, .allow_unused = true});
  for (std::size_t i = 0, k = 0; i < inputs; ++i)
    if (aliases[i].defined() && s.needs(i)) dx[i] = result[k++];
}

}  // namespace unroll::detail
