#include "replay.h"

#include <unroll/autograd/engine.h>
#include <unroll/autograd/ops/arithmetic.h>
#include <unroll/autograd/ops/reduce.h>

namespace conformance {

Answers replay(Case& c) {
  static const std::map<std::string_view, Answers (*)(Case&)> kinds = {
      {"module", replay_module}, {"packed", replay_packed},     {"dropout", replay_dropout},
      {"double", replay_double}, {"init", replay_init},         {"train", replay_train},
      {"op", replay_op},         {"loss", replay_loss},         {"optim", replay_optim},
      {"random", replay_random}, {"schedule", replay_schedule},
  };
  const std::string kind = c.option("kind");
  const auto found = kinds.find(kind);
  check<ValueError>(found != kinds.end(), "kind {} is unknown", kind);
  return found->second(c);
}

Tensor weighted_sum(Case& c, const NamedTensors& tensors, const std::string& prefix) {
  Tensor total;
  for (const auto& [name, tensor] : tensors) {
    Tensor term = sum(tensor * c.given(prefix + name));
    total = total.defined() ? total + term : term;
  }
  return total;
}

Answers with_gradients(Case& c, const NamedTensors& outputs, const NamedTensors& leaves) {
  Answers answers;
  for (const auto& [name, output] : outputs) answers.push_back({name, output});
  const std::vector<Tensor> gradients = grad({weighted_sum(c, outputs)}, values(leaves));
  for (std::size_t i = 0; i < leaves.size(); ++i) answers.push_back({"grad." + leaves[i].first, gradients[i]});
  return answers;
}

std::vector<Tensor> values(const NamedTensors& tensors) {
  std::vector<Tensor> list;
  for (const auto& [name, tensor] : tensors) list.push_back(tensor);
  return list;
}

}  // namespace conformance
