#include <fmt/format.h>
#include <unroll/autograd/engine.h>
#include <unroll/autograd/grad_mode.h>
#include <unroll/autograd/node.h>
#include <unroll/core/detail/text.h>
#include <unroll/core/kernels/copy.h>
#include <unroll/nn/module.h>

#include <algorithm>
#include <map>
#include <unordered_set>

namespace unroll::nn {

// -- Members

bool Module::has_member(std::string_view name) const {
  return std::ranges::any_of(members_, [&](const Member& m) {
    if (!m.merged) return m.name == name;
    return name.ends_with(m.name) && m.module->has_member(name.substr(0, name.size() - m.name.size()));
  });
}

void Module::check_name(const std::string& name) const {
  check<ValueError>(!name.empty(), "add: the name of a member of {} is empty", type_name());
  check<ValueError>(name.find('.') == std::string::npos,
                    "add: \"{}\" contains '.', which separates a module from its member", name);
  check<ValueError>(!has_member(name), "add: {} already has a member \"{}\"", type_name(), name);
}

namespace {
// For one more, so that push_back needs no memory.
template <class T>
void make_room(std::vector<T>& list) {
  if (list.size() == list.capacity()) list.reserve(2 * list.size() + 1);
}
}  // namespace

void Module::add(std::string name, Tensor& tensor, Kind kind) {
  check_name(name);
  if (kind == Kind::Parameter && tensor.defined()) {
    check<DTypeError>(tensor.is_floating_point(), "add: the parameter \"{}\" must be float32 or float64, got {}", name,
                      tensor.dtype());
    check<ValueError>(tensor.is_leaf(), "add: the parameter \"{}\" was computed; detach() it first", name);
  }
  make_room(members_);
  if (kind == Kind::Parameter && tensor.defined()) tensor.requires_grad_();
  members_.push_back({std::move(name), &tensor, nullptr, kind});
}

void Module::add(std::string name, Module& module) {
  check_name(name);
  check<ValueError>(std::ranges::none_of(module.named_modules(), [this](const auto& m) { return m.second == this; }),
                    "add: \"{}\" contains the {} that it is added to", name, type_name());
  make_room(members_);
  module.set_path(path_.empty() ? name : path_ + "." + name);
  members_.push_back({std::move(name), nullptr, &module});
}

void Module::add_members_of(Module& module, std::string suffix) {
  auto check_names = [this](const auto& self, const Module& within, const std::string& ending) -> void {
    for (const Member& m : within.members_) {
      if (m.merged)
        self(self, *m.module, m.name + ending);
      else
        check_name(m.name + ending);
    }
  };
  check_names(check_names, module, suffix);
  make_room(members_);
  module.set_path(path_.empty() && suffix.starts_with('_') ? suffix.substr(1) : path_ + suffix);
  members_.push_back({std::move(suffix), nullptr, &module, Kind::Parameter, true});
}

void Module::visit(const std::string& prefix, const std::string& suffix, const Visit& f) const {
  for (Kind kind : {Kind::Parameter, Kind::Buffer})
    for (const Member& m : members_)
      if (m.tensor && m.kind == kind && m.tensor->defined()) f(prefix + m.name + suffix, *m.tensor, kind);
  for (const Member& m : members_) {
    if (m.module && m.merged) m.module->visit(prefix, m.name + suffix, f);
    if (m.module && !m.merged) m.module->visit(prefix + m.name + suffix + '.', "", f);
  }
}

NamedTensors Module::unique(Kind kind) const {
  NamedTensors found;
  visit("", "", [&](std::string name, Tensor& tensor, Kind its) {
    if (its == kind && std::ranges::none_of(found, [&](const auto& other) { return other.second.is_same(tensor); }))
      found.emplace_back(std::move(name), tensor);
  });
  return found;
}

NamedTensors Module::named_parameters() const { return unique(Kind::Parameter); }
NamedTensors Module::named_buffers() const { return unique(Kind::Buffer); }

std::vector<Tensor> Module::parameters() const {
  std::vector<Tensor> found;
  for (auto& [name, tensor] : named_parameters()) found.push_back(std::move(tensor));
  return found;
}

void Module::add_modules(const std::string& prefix, const std::string& suffix, bool recurse,
                         NamedModules& found) const {
  for (const Member& m : members_) {
    if (!m.module) continue;
    if (m.merged) {
      m.module->add_modules(prefix, m.name + suffix, recurse, found);
      continue;
    }
    if (std::ranges::find(found, m.module, &NamedModules::value_type::second) != found.end()) continue;
    std::string name = prefix + m.name + suffix;
    found.emplace_back(name, m.module);
    if (recurse) m.module->add_modules(name + '.', "", true, found);
  }
}

NamedModules Module::named_children() const {
  NamedModules found;
  add_modules("", "", false, found);
  return found;
}

NamedModules Module::named_modules() {
  NamedModules found{{"", this}};
  add_modules("", "", true, found);
  return found;
}

// -- State

Module& Module::train(bool mode) {
  training_ = mode;
  for (const Member& m : members_)
    if (m.module) m.module->train(mode);
  return *this;
}

std::optional<DType> Module::dtype() const {
  for (const Member& m : members_)
    if (m.tensor && m.kind == Kind::Parameter && m.tensor->defined()) return m.tensor->dtype();
  for (const Member& m : members_)
    if (m.module)
      if (std::optional<DType> found = m.module->dtype()) return found;
  return {};
}

namespace {
// x becomes what `converted` is, and stays the same tensor. A backward that still needs its old values finds a newer
// version.
void become(const Tensor& x, const Tensor& converted) noexcept {
  unroll::detail::Body& body = x.body();
  converted.body().storage->version = x.version() + 1;
  converted.body().storage->last_write = "to";
  if (std::exchange(body.is_pinned, false)) --body.storage->pins;
  body.is_view = false;
  body.base = {};
  replace_storage(body, converted.body().storage);
  body.strides = std::move(converted.body().strides);  // a copy of many would need memory
  body.offset = converted.body().offset;
  body.dtype = converted.dtype();
  body.contiguous = converted.is_contiguous();
  if (body.grad_slot) body.grad_slot->dtype = converted.dtype();
}
}  // namespace

Module& Module::to(DType dtype) {
  check<DTypeError>(is_floating(dtype), "to: a module can be float32 or float64, got {}", dtype);
  // All is converted before anything is replaced: memory may run out.
  std::vector<std::pair<Tensor, Tensor>> pairs;
  auto convert = [&](const Tensor& x) {
    bool done = std::ranges::any_of(pairs, [&](const auto& pair) { return pair.first.is_same(x); });
    if (x.defined() && x.is_floating_point() && x.dtype() != dtype && !done)
      pairs.emplace_back(x, kernels::cast(x, dtype));
  };
  visit("", "", [&](const std::string&, const Tensor& tensor, Kind) {
    convert(tensor);
    convert(tensor.grad());
  });
  for (const auto& [x, converted] : pairs) become(x, converted);
  return *this;
}

Module& Module::requires_grad_(bool requires_grad) {
  for (const Tensor& p : parameters()) p.requires_grad_(requires_grad);
  return *this;
}

void Module::zero_grad(bool set_to_none) {
  for (const Tensor& p : parameters()) unroll::detail::zero_grad(p, set_to_none);
}

NamedTensors Module::state_dict() const {
  NamedTensors state;
  visit("", "",
        [&](std::string name, const Tensor& tensor, Kind) { state.emplace_back(std::move(name), tensor.detach()); });
  return state;
}

IncompatibleKeys Module::load_state_dict(const NamedTensors& state, bool strict) {
  std::map<std::string_view, const Tensor*> given;  // not by a hash, since a file may choose its names to collide
  std::vector<std::string> repeated;
  for (const auto& [name, tensor] : state)
    if (tensor.defined() && !given.emplace(name, &tensor).second) repeated.push_back(name);

  IncompatibleKeys keys;
  std::vector<std::string> wrong_shapes;
  std::vector<std::pair<Tensor, Tensor>> copies;  // to, from
  visit("", "", [&](const std::string& name, const Tensor& tensor, Kind) {
    auto found = given.extract(name);
    if (!found)
      keys.missing_keys.push_back(name);
    else if (found.mapped()->shape() != tensor.shape())
      wrong_shapes.push_back(fmt::format("\"{}\" is {}, expected {}", name, found.mapped()->shape(), tensor.shape()));
    else
      copies.emplace_back(tensor, *found.mapped());
  });
  for (const auto& [name, tensor] : state)
    if (given.contains(name)) keys.unexpected_keys.push_back(name);

  std::string text;
  if (!wrong_shapes.empty()) text += fmt::format("\n  differing shapes: {}", fmt::join(wrong_shapes, ", "));
  auto tell = [&](const char* what, const std::vector<std::string>& names) {
    constexpr std::size_t kMost = 100;  // a stranger's state may have millions
    if (names.empty()) return;
    text += fmt::format("\n  {}: ", what);
    for (std::size_t i = 0; i < std::min(names.size(), kMost); ++i)
      text += fmt::format("{}{}", i == 0 ? "" : ", ", unroll::detail::Quoted{names[i], '"'});
    if (names.size() > kMost) text += fmt::format(", … ({} in all)", names.size());
  };
  tell("keys given twice", repeated);
  if (strict) {
    tell("missing keys", keys.missing_keys);
    tell("unexpected keys", keys.unexpected_keys);
  }
  check<ValueError>(text.empty(), "load_state_dict: the state does not fit {}:{}", type_name(), text);

  NoGrad guard;
  std::unordered_set<const void*> written;
  for (const auto& [to, from] : copies) written.insert(to.body().storage.get());
  for (auto& [to, from] : copies) {  // all that can fail first
    unroll::detail::before_write(to, "load_state_dict");
    if (written.contains(from.body().storage.get())) from = from.clone();
  }
  for (const auto& [to, from] : copies) {
    kernels::copy(to, from);
    kernels::wrote(to, "load_state_dict");
  }
  return keys;
}

}  // namespace unroll::nn
