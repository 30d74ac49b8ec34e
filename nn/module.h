#pragma once
#include <unroll/nn/module_hooks.h>

#include <functional>
#include <iosfwd>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#pragma GCC visibility push(default)
namespace unroll::nn {

class Module;

using NamedModules = std::vector<std::pair<std::string, Module*>>;

/// What load_state_dict found to differ between the names of the module and of the state.
struct IncompatibleKeys {
  std::vector<std::string> missing_keys, unexpected_keys;
};

/// What layers and models derive from. It knows the names of its members, and so finds every parameter within:
///
///     class CharModel : public nn::Module {
///      public:
///       CharModel(int64_t vocab, int64_t hidden) : rnn(vocab, hidden), head(hidden, vocab) {
///         add("rnn", rnn);
///         add("head", head);
///       }
///       nn::LSTM rnn;
///       nn::Linear head;
///     };
///
/// It keeps pointers to its own members. Therefore it can neither be copied nor moved, and a tensor assigned to a
/// member, `head.weight = embedding.weight`, takes part at once. Names and their order are torch's: a module's
/// parameters, then its buffers, then the modules within, each in the order of add().
class Module {
 public:
  Module(const Module&) = delete;
  Module& operator=(const Module&) = delete;
  virtual ~Module() = default;

  /// All parameters within, as "rnn.weight_ih_l0". One that several members share appears once; undefined ones are left
  /// out.
  NamedTensors named_parameters() const;
  std::vector<Tensor> parameters() const;
  NamedTensors named_buffers() const;
  /// The modules that are direct members.
  NamedModules named_children() const;
  /// This module, named "", and all within.
  NamedModules named_modules();

  /// Sets whether the module and all within are training, as they are to begin with: Dropout then drops.
  Module& train(bool mode = true);
  Module& eval() { return train(false); }
  bool training() const noexcept { return training_; }

  /// Converts floating parameters and buffers, with their gradients, where they are: every handle of them, an
  /// optimizer's too, sees it. Raises DTypeError unless `dtype` is floating.
  Module& to(DType dtype);
  /// The dtype of the first parameter, if there is one.
  std::optional<DType> dtype() const;
  Module& requires_grad_(bool requires_grad = true);
  /// Drops the gradients of all parameters, or fills them with zeros.
  void zero_grad(bool set_to_none = true);

  /// Parameters and buffers by name. They share memory with the module's, and have no history.
  NamedTensors state_dict() const;
  /// Copies the tensors of `state` into the parameters and buffers of the same names, converting dtypes. Raises one
  /// ValueError that lists every missing, unexpected or repeated key and differing shape, and has changed nothing then.
  /// Unless strict, keys may be missing or unexpected, and are returned. A module's own tensors may change places.
  IncompatibleKeys load_state_dict(const NamedTensors& state, bool strict = true);

  /// Its name in the model that it was added to, "encoder.rnn"; where it was added to none, type_name().
  std::string path() const;

  /// Calls `hook` before, or after, each call of the module, in the order of registration. What a hook raises passes
  /// through the call. Modules whose operator() does its work in hooked() take part. Raises ValueError for an empty
  /// hook.
  HookHandle register_forward_pre_hook(ForwardPreHook hook);
  HookHandle register_forward_hook(ForwardHook hook);
  /// Calls `hook` in each backward through a call of the module, once the gradients of its inputs are complete; if no
  /// input needs one in that backward, when those of its outputs are. The module must live until then. Inputs and
  /// outputs of a call become views, so they cannot be written in place. Raises ValueError for an empty hook; backward
  /// raises GradError when the hook wrote a gradient in place.
  HookHandle register_full_backward_hook(BackwardHook hook);

  /// What it is printed as: the name of its class, without namespaces.
  virtual std::string type_name() const;
  /// What stands between the brackets when it is printed: "in_features=3, out_features=4, bias=True".
  virtual std::string extra_repr() const { return {}; }

 protected:
  enum class Kind : std::uint8_t { Parameter, Buffer };

  Module() = default;

  /// Registers a member. A parameter requires a gradient from here on. One that is undefined, as a bias may be, is left
  /// out of every list until something is assigned to it. Raises ValueError unless `name` is new, not empty and without
  /// '.', or if a parameter has a history, or a module contains this one; DTypeError for a parameter that is not
  /// floating.
  void add(std::string name, Tensor& tensor, Kind kind = Kind::Parameter);
  void add(std::string name, Module& module);
  /// Registers a module whose members appear as this module's own, `suffix` appended to their names: "weight_ih" and
  /// "_l0". It is in no list of modules itself.
  void add_members_of(Module& module, std::string suffix);

  /// f(inputs…), with the module's hooks around it and its path() in what errors say. An operator() does its work in
  /// it:
  ///
  ///     Tensor operator()(const Tensor& x) const {
  ///       return hooked([this](const Tensor& x) { return head(tanh(body(x))); }, x);
  ///     }
  template <class F, class... Inputs>
  std::invoke_result_t<F, const Inputs&...> hooked(F f, const Inputs&... inputs) const {
    detail::CallScope scope(*this);
    if (!hooks_) return f(inputs...);
    std::tuple<Inputs...> arguments(inputs...);
    std::vector<Tensor> given = detail::tensors_of(arguments);
    detail::HookedCall around(*this, *hooks_);
    around.before(given);
    detail::put_tensors(arguments, given);
    auto result = std::apply(f, arguments);
    std::vector<Tensor> outputs = detail::tensors_of(result);
    around.after(outputs);
    detail::put_tensors(result, outputs);
    return result;
  }

 private:
  friend class detail::CallScope;
  struct Member {
    std::string name;  // or suffix
    Tensor* tensor;
    Module* module;
    Kind kind = Kind::Parameter;
    bool merged = false;  // by add_members_of
  };
  using Visit = std::function<void(std::string name, Tensor& tensor, Kind kind)>;
  void visit(const std::string& prefix, const std::string& suffix, const Visit& f) const;
  void add_modules(const std::string& prefix, const std::string& suffix, bool recurse, NamedModules& found) const;
  NamedTensors unique(Kind kind) const;
  bool has_member(std::string_view name) const;
  void check_name(const std::string& name) const;

  detail::ModuleHooks& hooks();
  void set_path(const std::string& path);

  std::vector<Member> members_;
  std::unique_ptr<detail::ModuleHooks> hooks_;  // none before the first is registered
  std::string path_;
  bool training_ = true;
};

/// As torch prints modules: the class, its options, and the modules within, one a line.
std::string to_string(const Module& module);
std::ostream& operator<<(std::ostream& out, const Module& module);

namespace detail {
/// As Python writes them: True, 1.0, 1e-05.
std::string python(bool value);
std::string python(double value);
}  // namespace detail

}  // namespace unroll::nn
#pragma GCC visibility pop
