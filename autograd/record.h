#pragma once
#include <unroll/autograd/anomaly.h>
#include <unroll/autograd/grad_mode.h>
#include <unroll/autograd/node.h>

#include <algorithm>
#include <concepts>
#include <tuple>

#pragma GCC visibility push(default)
/// How an op tells its gradient, in the function that computes it:
///
///     /// tanh x.   d/dx = 1 − tanh² x, so the output is all that is kept.
///     Tensor tanh(const Tensor& x) {
///       Tensor y = kernels::map("tanh", x, [](auto v) { return std::tanh(v); });
///       return record("tanh", {x}, y, save(y), [](const Tensor& g, const Saved& s) { return g * (1 - s[0] * s[0]); });
///     }
///
/// The gradient is written with public ops, so the gradient's gradient needs no code. What it reads of tensors goes
/// through save(), never through a capture: saved tensors are checked against in-place changes and freed with the
/// graph. A result that is broader than its input (by broadcasting) is summed by the engine. An undefined result means
/// zero.
namespace unroll {

/// The gradient function of an input whose gradient is the output's. The first input, whose function runs last, gets
/// not a copy of the handle but the handle itself.
struct Unchanged {
  Tensor operator()(const Tensor& g) const { return g; }
};
inline constexpr Unchanged unchanged;

/// Gradients of a whole op: g[j] is that of output j (undefined where none arrived), dx[i] is to become that of input i
/// if s.needs(i).
using Gradients = std::span<const Tensor>;

namespace detail {
/// A gradient function that needs the incoming gradient only.
template <class F>
concept SavesNothing = std::invocable<F, const Tensor&>;

template <std::size_t K>
struct SaveList {
  std::array<const Tensor*, K> tensors;
};

/// The node of an op with N inputs, one output, K saved tensors and one gradient function an input.
template <std::size_t N, std::size_t K, class... Gradients>
class OpNode final : public Node {
 public:
  [[gnu::always_inline]] OpNode(const char* name, const Arg (&inputs)[N], const std::array<GradSlot*, N>& edges,
                                const Tensor& y, const SaveList<K>& saves, Gradients&&... gradients)
      : OpNode(name, inputs, edges, y, saves, std::make_index_sequence<N>(), std::make_index_sequence<K>(),
               std::move(gradients)...) {}
  std::span<const Ref<GradSlot>> inputs() const noexcept override { return edges_; }
  void backward(const GradFlow& flow) override {
    std::array<Tensor, K> unpacked;
    Saved saved(*this, saved_, unpacked.data(), flow);
    run(flow, saved, std::make_index_sequence<N>());
  }

 private:
  template <std::size_t... Input, std::size_t... S>
  [[gnu::always_inline]] OpNode(const char* name, const Arg (&inputs)[N], const std::array<GradSlot*, N>& edges,
                                const Tensor& y, const SaveList<K>& saves, std::index_sequence<Input...>,
                                std::index_sequence<S...>, Gradients&&... gradients)
      : Node(name, std::span(&y, 1), std::max({std::uint64_t{0}, sequence_of(edges[Input])...})),
        edges_{Ref<GradSlot>(edges[Input])...}, saved_{saved(*saves.tensors[S], inputs, y)...},
        gradients_(std::move(gradients)...) {
    note_where_if_watched();
  }

  // What an op saves is most often y or an argument, by the same name: then the compiler knows its place.
  [[gnu::always_inline]] SavedTensor saved(const Tensor& value, const Arg (&inputs)[N], const Tensor& y) const {
    SavedTensor result(value);
    bool known = &value == &y;
    if (known) result.place = 0;
    for (std::size_t i = 0; i < N && !known; ++i)
      if ((known = &value == inputs[i].tensor)) result.place = ~static_cast<std::int32_t>(i);
    if (!known && value.defined()) result.find_place(value, std::span(&y, 1), edges_);
    return result;
  }

  template <std::size_t... Input>
  void run(const GradFlow& flow, const Saved& saved, std::index_sequence<Input...>) {
    (run_one<N - 1 - Input>(flow, saved), ...);
  }
  template <std::size_t Input>
  [[gnu::always_inline]] void run_one(const GradFlow& flow, const Saved& saved) {
    if (flow.sums[Input] == nullptr) return;
    if constexpr (Input == 0 && std::is_same_v<std::tuple_element_t<Input, std::tuple<Gradients...>>, Unchanged>)
      flow.grad_in[Input] = std::move(flow.grad_out[0]);
    else
      flow.grad_in[Input] = call(std::get<Input>(gradients_), flow.grad_out[0], saved);
  }
  template <class F>
  static Tensor call(const F& f, const Tensor& g, const Saved& saved) {
    if constexpr (std::is_invocable_v<F, const Tensor&, const Saved&>)
      return f(g, saved);
    else
      return f(g);
  }
  void release_saved() noexcept override {
    for (SavedTensor& saved : saved_) saved.history = {}, saved.elements = {};
  }

  std::array<Ref<GradSlot>, N> edges_;
  std::array<SavedTensor, K> saved_;
  [[no_unique_address]] std::tuple<Gradients...> gradients_;
};

/// The node of an op with any number of inputs and outputs and one function for all gradients.
template <class Gradient>
class GroupNode final : public Node {
 public:
  GroupNode(const char* name, std::span<const Tensor> inputs, std::span<const Tensor> outputs,
            std::span<const Tensor* const> saves, Gradient&& gradient)
      : Node(name, outputs, latest(inputs)), gradient_(std::move(gradient)) {
    edges_.reserve(inputs.size());
    saved_.reserve(saves.size());
    for (const Tensor& x : inputs) edges_.emplace_back(edge_of(x));
    for (const Tensor* x : saves) {
      SavedTensor& saved = saved_.emplace_back(*x, inputs);
      if (x->defined() && !saved.is_input()) saved.find_place(*x, outputs, edges_);
    }
    note_where_if_watched();
  }
  std::span<const Ref<GradSlot>> inputs() const noexcept override { return edges_; }
  void backward(const GradFlow& flow) override {
    alloc::Vector<Tensor> unpacked(saved_.size());
    gradient_(Gradients(flow.grad_out), Saved(*this, saved_, unpacked.data(), flow), flow.grad_in);
  }

 private:
  static std::uint64_t latest(std::span<const Tensor> inputs) {
    std::uint64_t result = 0;
    for (const Tensor& x : inputs)
      if (x.defined()) result = std::max(result, sequence_of(edge_of(x)));
    return result;
  }
  void release_saved() noexcept override { saved_.clear(); }

  alloc::Vector<Ref<GradSlot>> edges_;
  alloc::Vector<SavedTensor> saved_;
  [[no_unique_address]] Gradient gradient_;
};

// By value: if the op gave away the addresses of its list and of y, it would have to read both from memory ever after.
template <std::size_t N>
[[gnu::noinline, gnu::cold]] void check_forward_of(const char* name, std::array<Arg, N> inputs, Tensor y) {
  check_forward(name, inputs, std::span(&y, 1));
}

// Not loops but packs: each slot is to be found in a register.
template <std::size_t N, std::size_t... Input>
[[gnu::always_inline]] inline std::array<GradSlot*, N> edges_of(const Arg (&inputs)[N], std::index_sequence<Input...>) {
  return {edge_of(*inputs[Input].tensor)...};
}

inline bool recording(std::span<const Tensor> inputs) {
  if (!GradMode::enabled()) return false;
  for (const Tensor& x : inputs)
    if (wants_grad(x)) return true;
  return false;
}
}  // namespace detail

/// Names the tensors that the gradient functions read, in the order of s[0], s[1], …  Undefined ones may be among them.
template <class... Tensors>
detail::SaveList<sizeof...(Tensors)> save(const Tensors&... tensors) {
  return {{&tensors...}};
}

/// Records that the op `name` computed y from `inputs` (undefined ones are allowed), with one gradient function an
/// input: (const Tensor& g, const Saved& s) → Tensor or (const Tensor& g) → Tensor. It runs only if that input needs
/// its gradient, the last input's first. `std::move(y)` spares y a copy of the handle; save(y) may still name it.
template <std::size_t N, std::size_t K, class... Gradients>
[[gnu::always_inline]] inline Tensor record(const char* name, const detail::Arg (&inputs)[N], Tensor&& y,
                                            const detail::SaveList<K>& saves, Gradients... gradients) {
  static_assert(sizeof...(Gradients) == N, "record: one gradient function for each input");
  if (AnomalyMode::enabled()) [[unlikely]]
    detail::check_forward_of(name, std::to_array(inputs), y);
  if (!GradMode::enabled()) return std::move(y);
  const auto edges = detail::edges_of(inputs, std::make_index_sequence<N>());
  // Not by the arrays' ==, which is a call of memcmp.
  if (std::apply([](auto*... edge) { return (!edge && ...); }, edges)) return std::move(y);
  auto node =
      Ref<Node>::adopt(new detail::OpNode<N, K, Gradients...>(name, inputs, edges, y, saves, std::move(gradients)...));
  detail::attach(y, std::move(node), 0);
  return std::move(y);
}

/// The same of a y that somebody keeps.
template <std::size_t N, std::size_t K, class... Gradients>
[[gnu::always_inline]] inline Tensor record(const char* name, const detail::Arg (&inputs)[N], const Tensor& y,
                                            const detail::SaveList<K>& saves, Gradients... gradients) {
  return record(name, inputs, Tensor(y), saves, std::move(gradients)...);
}

/// The same for an op that saves nothing.
template <std::size_t N, std::convertible_to<Tensor> Y, detail::SavesNothing... Gradients>
[[gnu::always_inline]] inline Tensor record(const char* name, const detail::Arg (&inputs)[N], Y&& y,
                                            Gradients... gradients) {
  return record(name, inputs, std::forward<Y>(y), save(), std::move(gradients)...);
}

/// For ops whose inputs or outputs are many: one function (Gradients g, const Saved& s, std::span<Tensor> dx) for all
/// gradients.
template <class Gradient>
void record_all(const char* name, TensorList inputs, std::span<const Tensor> outputs,
                std::span<const Tensor* const> saves, Gradient gradient) {
  if (AnomalyMode::enabled()) [[unlikely]]
    detail::check_forward(name, std::vector<detail::Arg>(inputs.begin(), inputs.end()), outputs);
  if (!detail::recording(inputs)) return;
  auto node = Ref<Node>::adopt(new detail::GroupNode<Gradient>(name, inputs, outputs, saves, std::move(gradient)));
  for (std::uint32_t j = 0; j < outputs.size(); ++j)
    if (outputs[j].is_floating_point()) detail::attach(outputs[j], node, j);
}

/// The same with one output.
template <std::size_t K, class Gradient>
Tensor record_all(const char* name, TensorList inputs, Tensor y, const detail::SaveList<K>& saves, Gradient gradient) {
  record_all(name, inputs, std::span(&y, 1), std::span<const Tensor* const>(saves.tensors), std::move(gradient));
  return y;
}

}  // namespace unroll
#pragma GCC visibility pop
