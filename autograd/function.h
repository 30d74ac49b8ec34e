#pragma once
#include <unroll/autograd/anomaly.h>
#include <unroll/autograd/record.h>

#include <typeinfo>

#pragma GCC visibility push(default)
namespace unroll {

namespace detail {
class FunctionCall;
}  // namespace detail

/// What forward tells backward, and what both may ask.
class FunctionContext {
 public:
  /// Whether argument i of forward wants its gradient.
  bool needs_input_grad(std::size_t i) const;

  // -- In forward

  /// Keeps tensors for backward: arguments, results, or what was computed in between. They are checked against being
  /// written in place and are freed with the graph. Second derivatives flow through arguments and results only: if
  /// backward reads anything else that depends on the arguments, say `once_differentiable`, or they are wrong
  /// (gradgradcheck finds it).
  void save_for_backward(TensorList tensors) { to_save_.assign(tensors.begin(), tensors.end()); }
  /// Says that forward will write this argument in place and return it. Raises GradError when that cannot be: a leaf
  /// that requires a gradient, memory that a view shares.
  void mark_dirty(const Tensor& argument);
  /// Says that no gradient flows through these results. None does through results that are not floating.
  void mark_non_differentiable(TensorList results) { constant_.assign(results.begin(), results.end()); }
  /// Whether backward is given zeros for a result that no gradient arrived at, as it is to begin with, or an undefined
  /// tensor.
  void set_materialize_grads(bool materialize) noexcept { materialize_ = materialize; }

  // -- In backward

  /// Raises GradError when the tensor was written in place since forward, IndexError when so many were not saved.
  const Tensor& saved(std::size_t i) const;
  std::vector<Tensor> saved_tensors() const;

 private:
  friend class detail::FunctionCall;
  std::vector<Tensor> to_save_, dirty_, constant_;
  std::vector<std::uint8_t> needs_;
  bool materialize_ = true, recording_ = false;
  const char* name_ = "";
  const Saved* saved_ = nullptr;
};

namespace detail {
/// The name of a class without its namespaces.
std::string class_name(const std::type_info& type);

template <class F>
struct ContextOf {
  using type = FunctionContext;
};
template <class F>
requires requires { typename F::Context; }
struct ContextOf<F> {
  using type = typename F::Context;
};

template <class F>
constexpr bool once_differentiable = false;
template <class F>
requires requires { F::once_differentiable; }
constexpr bool once_differentiable<F> = F::once_differentiable;

/// The tensors that a function returned: a Tensor, a container of them, or a tuple with some.
template <class R>
std::vector<Tensor*> tensors_in(R& returned) {
  if constexpr (std::same_as<R, Tensor>) {
    return {&returned};
  } else if constexpr (requires { returned.begin(); }) {
    std::vector<Tensor*> found;
    for (Tensor& x : returned) found.push_back(&x);
    return found;
  } else {
    std::vector<Tensor*> found;
    auto visit = [&](auto& x) {
      if constexpr (std::same_as<decltype(x), Tensor&>) found.push_back(&x);
    };
    std::apply([&](auto&... x) { (visit(x), ...); }, returned);
    return found;
  }
}

/// What surrounds forward and backward, whichever they are.
class FunctionCall {
 public:
  /// What backward has to know of the call.
  struct Facts {
    const char* name;
    std::vector<std::uint8_t> is_tensor;  // of the arguments
    std::vector<std::pair<Shape, DType>> results;
    std::vector<Tensor> places;  // empty tensors where the arguments are in the graph, of a function that forbids more
  };

  FunctionCall(const char* name, bool once, FunctionContext& context) : context_(context), once_(once) {
    facts_.name = context_.name_ = name;
  }
  /// Whatever was raised since prepare(): what was written has its history again.
  ~FunctionCall() { roll_back(); }
  FunctionCall(const FunctionCall&) = delete;
  FunctionCall& operator=(const FunctionCall&) = delete;
  void add(const Tensor& argument);
  void add(const std::vector<Tensor>& arguments) {
    for (const Tensor& x : arguments) add(x);
  }
  template <class T>
  void add(const T&) {
    add_argument({}, false);
  }

  /// Takes from the context what forward told, and checks it. Whether the call that gave `results` is to be recorded.
  bool prepare(const std::vector<Tensor*>& results);
  /// `backward` (const Facts&, Gradients, const Saved&, std::span<Tensor> dx) fills dx.
  template <class Backward>
  void record(Backward backward) {
    record_all(facts_.name, inputs_, outputs_, saves_,
               [facts = facts_, backward = std::move(backward)](Gradients g, const Saved& s, std::span<Tensor> dx) {
                 backward(facts, g, s, dx);
               });
    finish();
  }

  /// Lets a copy of forward's context read what was saved; the gradients that backward is to be given.
  static std::vector<Tensor> enter(FunctionContext& context, const Facts& facts, Gradients g, const Saved& s);
  /// Checks what backward returned and hands it on.
  static void leave(const Facts& facts, const std::vector<Tensor*>& returned, std::span<Tensor> dx);
  /// Makes it an error to differentiate what backward returned.
  static void forbid_more(const Facts& facts, Gradients g, const std::vector<Tensor*>& returned);

 private:
  void add_argument(const Tensor& argument, bool is_tensor);
  void roll_back() noexcept;
  void finish() noexcept;

  FunctionContext& context_;
  const bool once_;
  Facts facts_;
  std::vector<Tensor> inputs_, outputs_, saved_;
  std::vector<const Tensor*> saves_;
  std::vector<std::uint32_t> versions_;            // of the arguments, before forward
  std::vector<std::uint8_t> constant_;             // of the results
  std::vector<std::pair<Tensor, Tensor>> before_;  // what was written in place, and what it was before; until finish()
};
}  // namespace detail

/// An op whose forward and backward are written by hand:
///
///     struct Scale : Function<Scale> {
///       struct Context : FunctionContext { double factor; };
///       static Tensor forward(Context& ctx, const Tensor& x, double factor) {
///         ctx.factor = factor;
///         return x * factor;
///       }
///       static std::vector<Tensor> backward(Context& ctx, const Tensor& g) { return {g * ctx.factor, {}}; }
///     };
///     Tensor y = Scale::apply(x, 2.0);
///
/// **forward** runs unrecorded. Its arguments may be anything; gradients are those of the tensors among them, and of
/// those in a std::vector<Tensor>, each of which counts as an argument. It returns a Tensor, a container of tensors or
/// a tuple. What is no tensor goes to backward in a Context of the function's own, as above; plain functions take a
/// FunctionContext. Tensors go through save_for_backward, never through the context's members.
///
/// **backward** takes the gradient of the result, `const Tensor& g`, or those of all results, `Gradients g`, and a copy
/// of the context. It returns one gradient an argument, in order: of the argument's shape, or of one that broadcasting
/// made of it; undefined for zero and for what is no tensor. Only needs_input_grad(i) is worth computing. Written with
/// ops, it can be differentiated in turn; with `static constexpr bool once_differentiable = true;` that is an error
/// that names the function, for one that is not.
///
/// Backward raises GradError for a wrong number of gradients and for one of what is no tensor, ShapeError for a wrong
/// shape; apply raises GradError when forward wrote an argument that wants a gradient without mark_dirty, or did not
/// return one that was marked. What forward or backward raise passes through.
template <class F>
class Function {
 public:
  template <class... Args>
  static auto apply(const Args&... args) {
    using Context = typename detail::ContextOf<F>::type;
    static_assert(std::copy_constructible<Context>, "each backward is given a copy of the context");
    static const std::string& name = *new std::string(detail::class_name(typeid(F)));  // nodes of any lifetime say it
    constexpr bool once = detail::once_differentiable<F>;

    Context context{};
    detail::FunctionCall call(name.c_str(), once, context);
    (call.add(args), ...);
    auto results = [&] {
      NoGrad guard;
      AnomalyScope scope(name.c_str(), -1, nullptr);
      return F::forward(context, args...);
    }();
    const std::vector<Tensor*> found = detail::tensors_in(results);
    constexpr bool one = requires(const Tensor& g) { F::backward(context, g); };
    check<ValueError>(!one || found.size() == 1, "{}: forward returned {} results, backward takes the gradient of one",
                      name, found.size());
    if (!call.prepare(found)) return results;
    call.record([context](const auto& facts, Gradients g, const Saved& s, auto dx) {
      Context own = context;  // passes may run at the same time, and inside each other
      const std::vector<Tensor> given = detail::FunctionCall::enter(own, facts, g, s);
      auto returned = [&] {
        GradMode mode(GradMode::enabled() && !once);
        if constexpr (one)
          return F::backward(own, given[0]);
        else
          return F::backward(own, given);
      }();
      const auto tensors = detail::tensors_in(returned);
      if (once && GradMode::enabled()) detail::FunctionCall::forbid_more(facts, g, tensors);
      detail::FunctionCall::leave(facts, tensors, dx);
    });
    return results;
  }
};

}  // namespace unroll
#pragma GCC visibility pop
