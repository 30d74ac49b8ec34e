#pragma once
#include "compare.h"

#include <unroll/optim/optimizer.h>

#include <memory>

namespace conformance {

/// Does with the library what PyTorch did. Raises an Error, or what the library raises, where it cannot.
Answers replay(Case& c);

/// The kinds: README.md says what a case of each holds.
Answers replay_module(Case& c);
Answers replay_packed(Case& c);
Answers replay_dropout(Case& c);
Answers replay_double(Case& c);
Answers replay_init(Case& c);
Answers replay_train(Case& c);
Answers replay_op(Case& c);
Answers replay_loss(Case& c);
Answers replay_optim(Case& c);
Answers replay_schedule(Case& c);
Answers replay_random(Case& c);

/// Σ over tensors of Σ weight.NAME · tensor, a scalar to which every element of every tensor counts differently.
Tensor weighted_sum(Case& c, const NamedTensors& tensors, const std::string& prefix = "weight.");
/// The outputs and, as grad.LEAF, the gradients of their weighted sum.
Answers with_gradients(Case& c, const NamedTensors& outputs, const NamedTensors& leaves);
std::vector<Tensor> values(const NamedTensors& tensors);

/// The optimizer that options `algorithm`, `lr`, … describe.
std::unique_ptr<optim::Optimizer> make_optimizer(Case& c, std::vector<Tensor> params);

}  // namespace conformance
