#pragma once
#include <unroll/autograd/ops/shape.h>
#include <unroll/nn/module.h>

#include <array>
#include <concepts>
#include <functional>
#include <tuple>

#pragma GCC visibility push(default)
/// What a recurrent cell is, and the state it hands from step to step.
namespace unroll::nn {

/// A Tensor, or a struct of Tensors that names them once. Its first member is the cell's output:
///
///     struct LSTMState {
///       Tensor h, c;
///       static constexpr auto fields = std::tuple{&LSTMState::h, &LSTMState::c};
///     };
///
/// Each tensor is (N, width) in a cell, (L·D, N, width) in a layer, without N when the input has no batch. A state of
/// undefined tensors, `{}`, stands for zeros.
template <class S>
concept CellState = std::same_as<S, Tensor> ||
    (std::default_initializable<S>&& requires { std::tuple_size_v<decltype(S::fields)>; });

/// Module with `cell(x, state) → state`, made from (input_size, hidden_size, …); Recurrent lifts it into a layer. It
/// may have
///   Shape state_widths() const       the width of each tensor of its state, where it is not hidden_size
///   begin(const State& start) const → step(x, state) → state    what to draw or prepare once a sequence; `start` is
///       its complete state, and later x may have fewer rows, the first ones (packed sequences that have ended)
///   void check_parameters() const    raises when one has been replaced by one that does not fit; a layer asks all of
///       its cells before any of them runs
///   static constexpr const char* kLayer     what the layer's errors begin with: "lstm"
///   static constexpr std::array kGates = {"i", "f", "g", "o"}    what the blocks of hidden_size rows of its parameters
///       are
/// and should note() what is worth seeing of a step.
template <class C>
concept Cell = std::derived_from<C, Module> && CellState<typename C::State> &&
    requires(const C& cell, const Tensor& x, const typename C::State& state) {
  { cell(x, state) } -> std::convertible_to<typename C::State>;
};

namespace detail {
template <class Type, class C>
C* owner(Type C::*member);
template <class C>
using CallOwner = decltype(owner(&C::operator()));
template <class C>
using StepOwner = decltype(owner(&C::step));
template <class C>
concept HasStep = requires {
  typename StepOwner<C>;
};
// Whether C's operator() (one, and no template) comes from the class that its step comes from, or from a base of that:
// then step is what the call computes.
template <class C>
concept InheritsCall = std::convertible_to<StepOwner<C>, CallOwner<C>>;
// And whether its step comes from no further down than its operator(): a step of its own would be seen by a layer
// alone.
template <class C>
concept InheritsStep = !HasStep<C> || !InheritsCall<C> || std::convertible_to<CallOwner<C>, StepOwner<C>>;
template <class C>
concept HasBegin = requires(const C& cell, const typename C::State& state) {
  cell.begin(state);
};
}  // namespace detail

/// A cell that derives from one with `step`, computes something else by an operator() of its own, or several, and has
/// no begin(): it is that operator which a layer calls at every step.
template <class C>
concept OverridesCall = detail::HasStep<C> && !detail::InheritsCall<C> && !detail::HasBegin<C>;

/// For a cell's equations, `Tensor r = note("r", sigmoid(…))`: hands the value to whoever traces this step
/// (Recurrent::trace), and returns it.
Tensor note(const char* name, Tensor value);

// -- A state's tensors

/// Pointers to them, in order.
template <class S>
requires CellState<std::remove_const_t<S>>
constexpr auto state_tensors(S& state) {
  if constexpr (std::same_as<std::remove_const_t<S>, Tensor>)
    return std::array{&state};
  else
    return std::apply(
        [&](auto... field) {
          static_assert(sizeof(S) == sizeof...(field) * sizeof(Tensor), "`fields` is to name every member of a state");
          return std::array{&(state.*field)...};
        },
        S::fields);
}

template <CellState S>
constexpr std::size_t state_size = std::tuple_size_v<decltype(state_tensors(std::declval<S&>()))>;

/// The state whose tensor number i is f(i).
template <CellState S, class F>
S make_state(F f) {
  S state;
  auto tensors = state_tensors(state);
  for (std::size_t i = 0; i < tensors.size(); ++i) *tensors[i] = f(i);
  return state;
}

/// f of each tensor.
template <CellState S, class F>
S map_state(const S& state, F f) {
  auto tensors = state_tensors(state);
  return make_state<S>([&](std::size_t i) { return f(*tensors[i]); });
}

/// The same values without history (undefined ones stay undefined): what one chunk of truncated backpropagation through
/// time hands to the next.
template <CellState S>
S detach(const S& state) {
  return map_state(state, [](const Tensor& s) { return s.defined() ? s.detach() : s; });
}

/// The state whose tensors are f({those of the same place in all states}).
template <CellState S, class F>
S combine_states(const std::vector<S>& states, F f) {
  return make_state<S>([&](std::size_t i) {
    std::vector<Tensor> tensors;
    for (const S& state : states) tensors.push_back(*state_tensors(state)[i]);
    return f(tensors);
  });
}

/// States (…) → their tensors stacked, (K, …).
template <CellState S>
S stack_states(const std::vector<S>& states) {
  return combine_states(states, [](const std::vector<Tensor>& tensors) { return stack(tensors); });
}

/// The output of a cell that has just stepped to `state`.
template <CellState S>
const Tensor& output_of(const S& state) {
  return *state_tensors(state)[0];
}

namespace detail {
/// The width of each tensor of a cell's state.
template <Cell C>
Shape state_widths(const C& cell, std::int64_t hidden_size) {
  if constexpr (requires { cell.state_widths(); })
    return cell.state_widths();
  else
    return Shape(state_size<typename C::State>, hidden_size);
}

/// What steps `cell` through one sequence from `start`.
template <Cell C>
auto begin(const C& cell, const typename C::State& start) {
  if constexpr (HasBegin<C>)
    return cell.begin(start);
  else if constexpr (!OverridesCall<C> && requires { cell.sequence_weights(output_of(start)); })
    return [&cell, w = cell.sequence_weights(output_of(start))](const Tensor& x, const typename C::State& state) {
      return cell.step(w, x, state);
    };
  else
    return std::cref(cell);
}

/// While it lives, what this thread's cells note() is appended to `notes`.
class NoteScope {
 public:
  explicit NoteScope(NamedTensors* notes) noexcept;
  ~NoteScope();
  NoteScope(const NoteScope&) = delete;
  NoteScope& operator=(const NoteScope&) = delete;

 private:
  NamedTensors* outer_;
};

/// What a cell or a layer of them expects of its arguments.
struct CallRules {
  const char* op;                              // the first word of every error
  std::int64_t input_size;                     // the last dimension of x
  std::int64_t batched_rank;                   // the rank of x with a batch; one less without
  std::int64_t batch_dim;                      // of x, if it has one
  Shape leading;                               // of each state tensor: (L·D) in a layer, () in a cell
  Shape widths;                                // the last dimension of each state tensor
  std::optional<DType> dtype;                  // of the parameters
  std::optional<std::int64_t> sequences = {};  // how many x packs; it has no batch dimension then
  /// The shape of each state tensor but for its width.
  Shape state_lead(const Tensor& x) const;
};

/// Raises, in this order: ValueError for an undefined x, ShapeError for its rank, ValueError for a state given in part
/// or ShapeError for the rank of its tensors, whichever is seen first, ShapeError for the features of x and the sizes
/// of the state (of which none may broadcast), DTypeError unless all have the dtype of the parameters.
void check_call(const CallRules& rules, const Tensor& x, std::span<const Tensor* const> state);

/// `state`, or zeros in its place, after check_call.
template <CellState S>
S checked_state(const CallRules& rules, const Tensor& x, const S& state) {
  std::array<const Tensor*, state_size<S>> tensors = state_tensors(state);
  check_call(rules, x, tensors);
  if (tensors[0]->defined()) return state;
  return make_state<S>([&](std::size_t i) {
    Shape shape = rules.state_lead(x);
    shape.push_back(rules.widths[i]);
    return zeros(shape, x.dtype());
  });
}
}  // namespace detail

}  // namespace unroll::nn
#pragma GCC visibility pop
