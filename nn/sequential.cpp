#include <unroll/nn/sequential.h>

namespace unroll::nn {

namespace {
struct Function final : Module {
  Function(std::string name, Tensor (*function)(const Tensor&)) : name_(std::move(name)), function_(function) {}
  Tensor operator()(const Tensor& x) const { return hooked(function_, x); }
  std::string type_name() const override { return name_; }

 private:
  std::string name_;
  Tensor (*function_)(const Tensor&);
};
}  // namespace

Sequential& Sequential::append(std::unique_ptr<Module> module, Call call) {
  check<ValueError>(module != nullptr, "sequential: expected a module, got a null pointer");
  steps_.push_back({std::move(module), call});
  try {
    add(std::to_string(steps_.size() - 1), *steps_.back().module);
  } catch (...) {  // it may contain this module
    steps_.pop_back();
    throw;
  }
  return *this;
}

Sequential& Sequential::append(std::string name, Tensor (*function)(const Tensor&)) {
  check<ValueError>(function != nullptr, "sequential: expected a function \"{}\", got a null pointer", name);
  return append<Function>(std::move(name), function);
}

Tensor Sequential::operator()(const Tensor& x) const {
  return hooked(
      [this](Tensor y) {
        for (const Step& step : steps_) y = step.call(*step.module, y);
        return y;
      },
      x);
}

Module& Sequential::operator[](std::size_t i) const {
  check<IndexError>(i < steps_.size(), "sequential: index {} is outside its {} modules", i, steps_.size());
  return *steps_[i].module;
}

}  // namespace unroll::nn
