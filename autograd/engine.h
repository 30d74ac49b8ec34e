#pragma once
#include <unroll/core/tensor.h>

#include <optional>

#pragma GCC visibility push(default)
namespace unroll {

struct BackwardOptions {
  /// d(loss)/d(this tensor), of its shape. May be left out for a one-element tensor: 1.
  Tensor gradient = {};
  /// Keep the graph for another backward. Default: create_graph.
  std::optional<bool> retain_graph = {};
  /// Record the backward pass itself, so that gradients can be differentiated.
  bool create_graph = false;
  /// Accumulate into these tensors only, computed ones included. Default: all leaves.
  std::optional<std::vector<Tensor>> inputs = {};
};

/// Adds d(Σ gradients·outputs)/d(leaf) to the grad() of every leaf. `gradients` is empty or one an output;
/// options.gradient is another way to give that of a single one. Under create_graph a grad() holds the graph that it is
/// part of, and both live until it is reset (set_grad({})): prefer grad() below.
///
/// Several threads may do so at the same time, and what they bring to one leaf adds up. If two passes free the same
/// part of a graph, one succeeds and the other raises GradError; a pass that frees what another thread, which retains
/// it, still walks is undefined behaviour that nothing notices.
///
/// Raises GradError when an output needs no gradient, when its gradient is missing and it has several elements, when
/// the graph has been freed by an earlier backward, when a saved tensor was written in place, when a gradient function
/// or a hook runs backward through its own graph and does not retain it, when more than 128 passes run inside each
/// other; ShapeError when a gradient has not its output's shape; ValueError when a grad() to be added to was set to an
/// expanded tensor. Whatever is raised, by a gradient function or a hook too, arrives as it is, and all grad() are as
/// before.
void backward(TensorList outputs, TensorList gradients = {}, const BackwardOptions& options = {});

struct GradOptions {
  /// One an output, of its shape, converted to its dtype; undefined ones stand for 1; empty: all of them are 1.
  std::vector<Tensor> grad_outputs = {};
  std::optional<bool> retain_graph = {};
  bool create_graph = false;
  /// An input that the outputs do not depend on yields an undefined tensor instead of a GradError.
  bool allow_unused = false;
  /// It yields zeros instead.
  bool materialize_grads = false;
};

/// d(Σ grad_outputs·outputs)/d(input) for each input, leaf or computed. Touches no grad(), and computes nothing else.
std::vector<Tensor> grad(TensorList outputs, TensorList inputs, const GradOptions& options = {});

namespace detail {
/// Drops x's gradient, or sets it to zero: in place, or by a new one where that cannot be.
void zero_grad(const Tensor& x, bool set_to_none);
}  // namespace detail

}  // namespace unroll
#pragma GCC visibility pop
