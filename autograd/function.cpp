#include <cxxabi.h>
#include <unroll/autograd/function.h>
#include <unroll/core/view.h>

#include <algorithm>
#include <cstdlib>
#include <memory>

namespace unroll {

// -- What forward and backward may ask

bool FunctionContext::needs_input_grad(std::size_t i) const {
  check<IndexError>(i < needs_.size(), "{}: needs_input_grad({}) of {} arguments", name_, i, needs_.size());
  return needs_[i] != 0;
}

void FunctionContext::mark_dirty(const Tensor& argument) {
  detail::before_write(argument, name_);
  const bool wanted = detail::wants_grad(argument);
  check<GradError>(!recording_ || !wanted || !argument.is_leaf(),
                   "{}: mark_dirty: a leaf that requires a gradient may not be written in place", name_);
  check<GradError>(!recording_ || (!argument.is_view() && argument.body().storage->pins == 0),
                   "{}: mark_dirty: a view, or memory that a view with a history of its own shares, may not be written",
                   name_);
  if (std::ranges::none_of(dirty_, [&](const Tensor& x) { return x.is_same(argument); })) dirty_.push_back(argument);
}

const Tensor& FunctionContext::saved(std::size_t i) const {
  check<IndexError>(saved_ != nullptr, "{}: saved({}): only backward can ask for it", name_, i);
  check<IndexError>(i < saved_->size(), "{}: saved({}): {} tensors were saved", name_, i, saved_->size());
  return (*saved_)[i];
}

std::vector<Tensor> FunctionContext::saved_tensors() const {
  std::vector<Tensor> tensors;
  for (std::size_t i = 0; saved_ && i < saved_->size(); ++i) tensors.push_back((*saved_)[i]);
  return tensors;
}

namespace detail {

std::string class_name(const std::type_info& type) {
  std::unique_ptr<char, decltype(&std::free)> demangled(abi::__cxa_demangle(type.name(), nullptr, nullptr, nullptr),
                                                        &std::free);
  std::string_view full = demangled ? demangled.get() : type.name();
  std::string name;
  for (std::size_t i = 0; i < full.size(); ++i) {
    constexpr std::string_view kAnonymous = "(anonymous namespace)";
    if (full.substr(i, kAnonymous.size()) == kAnonymous) i += kAnonymous.size();
    if (full.substr(i, 2) == "::") {
      // What stands before "::" is a namespace or a function, back to where a template argument begins.
      std::size_t begin = name.size();
      for (int within = 0; begin > 0; --begin) {
        const char c = name[begin - 1];
        if (within == 0 && (c == '<' || c == ',')) break;
        if (c == ')' || c == '>') ++within;
        if (c == '(' || c == '<') --within;
      }
      while (begin < name.size() && name[begin] == ' ') ++begin;
      name.erase(begin);
      ++i;
    } else {
      if (full[i] == '>' && name.ends_with("> ")) name.pop_back();
      name += full[i];
    }
  }
  return name;
}

// -- Forward

void FunctionCall::add(const Tensor& argument) { add_argument(argument, true); }

void FunctionCall::add_argument(const Tensor& argument, bool is_tensor) {
  const bool needs = GradMode::enabled() && wants_grad(argument);
  inputs_.push_back(argument);
  versions_.push_back(argument.defined() ? argument.version() : 0);
  facts_.is_tensor.push_back(is_tensor);
  context_.needs_.push_back(needs);
  context_.recording_ |= needs;
}

bool FunctionCall::prepare(const std::vector<Tensor*>& results) {
  auto among = [](const std::vector<Tensor>& tensors, const Tensor& x) {
    return std::ranges::any_of(tensors, [&](const Tensor& other) { return other.is_same(x); });
  };
  std::vector<Tensor> to_save = std::exchange(context_.to_save_, {}), dirty = std::exchange(context_.dirty_, {}),
                      constant = std::exchange(context_.constant_, {});
  for (std::size_t j = 0; j < results.size(); ++j)
    check<ValueError>(results[j]->defined(), "{}: forward returned an undefined tensor as result {}", facts_.name, j);
  if (!context_.recording_) {
    for (Tensor* y : results)  // an argument that is returned is another tensor all the same
      if (among(inputs_, *y) && !among(dirty, *y)) *y = views::view(*y, y->shape());
    return false;
  }

  for (const Tensor& x : dirty) {
    check<GradError>(among(inputs_, x), "{}: mark_dirty of a tensor that is no argument of forward", facts_.name);
    check<GradError>(std::ranges::any_of(results, [&](const Tensor* y) { return y->is_same(x); }),
                     "{}: an argument was marked dirty and forward did not return it", facts_.name);
  }
  for (std::size_t i = 0; i < inputs_.size(); ++i) {
    if (!context_.needs_[i] || inputs_[i].version() == versions_[i]) continue;
    auto shared = [&](const Tensor& x) { return x.shares_memory(inputs_[i]); };
    check<GradError>(std::ranges::any_of(dirty, shared), "{}: forward wrote argument {} in place without mark_dirty",
                     facts_.name, i);
  }

  for (Tensor* y : results) {
    constant_.push_back(among(constant, *y));
    // What is somebody else's already, or an earlier result, gets a handle of its own to carry this history.
    const bool taken = among(inputs_, *y) || y->requires_grad() || among(outputs_, *y);
    if (taken && !(among(dirty, *y) && !among(outputs_, *y))) *y = views::view(*y, y->shape());
    outputs_.push_back(*y);
    facts_.results.emplace_back(y->shape(), y->dtype());
  }
  // Nothing flows through a constant result, so it is saved like a tensor from elsewhere.
  for (Tensor& x : to_save)
    if (among(constant, x)) x = views::alias(x);
  saved_ = std::move(to_save);
  for (const Tensor& x : saved_) saves_.push_back(&x);

  if (once_)
    for (const Tensor& x : inputs_) {
      facts_.places.push_back(empty(0));
      if (wants_grad(x)) facts_.places.back().body().grad_slot = x.body().grad_slot;
    }
  // All that remains is recording, and a copy of the context: from here on roll_back() undoes. Not before: it would
  // take x's history for the alias's, which has none.
  std::vector<std::pair<Tensor, Tensor>> taken_over;
  for (const Tensor& x : dirty) taken_over.emplace_back(x, views::alias(x));
  before_ = std::move(taken_over);
  for (auto& [x, before] : before_) {
    before.body().grad_slot = std::move(x.body().grad_slot);
    for (Tensor& input : inputs_)
      if (input.is_same(x)) input = before;
  }
  return true;
}

void FunctionCall::roll_back() noexcept {
  for (auto& [x, before] : before_) x.body().grad_slot = std::move(before.body().grad_slot);
}

void FunctionCall::finish() noexcept {
  for (auto& [x, before] : before_) {
    x.body().rewrites.fetch_add(1, std::memory_order_release);  // views of x follow
    hand_on_grad(before.body().grad_slot.get(), x.body().grad_slot.get());
  }
  before_.clear();
  for (std::size_t j = 0; j < outputs_.size(); ++j)
    if (constant_[j]) outputs_[j].body().grad_slot = {};
}

// -- Backward

std::vector<Tensor> FunctionCall::enter(FunctionContext& context, const Facts& facts, Gradients g, const Saved& s) {
  context.saved_ = &s;
  for (std::size_t i = 0; i < context.needs_.size(); ++i) context.needs_[i] = s.needs(i);
  std::vector<Tensor> given(g.begin(), g.end());
  for (std::size_t j = 0; j < given.size() && context.materialize_; ++j)
    if (!given[j].defined()) given[j] = zeros(facts.results[j].first, facts.results[j].second);
  return given;
}

void FunctionCall::leave(const Facts& facts, const std::vector<Tensor*>& returned, std::span<Tensor> dx) {
  std::size_t count = returned.size();
  while (count > dx.size() && !returned[count - 1]->defined()) --count;
  check<GradError>(count == dx.size(), "{}: backward returned {} gradients for the {} arguments of forward", facts.name,
                   count, dx.size());
  for (std::size_t i = 0; i < dx.size(); ++i) {
    check<GradError>(facts.is_tensor[i] || !returned[i]->defined(),
                     "{}: backward returned a gradient of argument {}, which is no tensor", facts.name, i);
    dx[i] = *returned[i];
  }
}

void FunctionCall::forbid_more(const Facts& facts, Gradients g, const std::vector<Tensor*>& returned) {
  std::vector<Tensor> inputs = facts.places, outputs;
  for (const Tensor& x : g)
    if (x.defined()) inputs.push_back(x);
  for (Tensor* y : returned)
    if (y->defined()) {
      *y = views::alias(*y);
      outputs.push_back(*y);
    }
  record_all(facts.name, inputs, outputs, {}, [name = facts.name](Gradients, const Saved&, std::span<Tensor>) {
    fail<GradError>("{}: its gradient cannot be differentiated: the function is once_differentiable", name);
  });
}

}  // namespace detail
}  // namespace unroll
