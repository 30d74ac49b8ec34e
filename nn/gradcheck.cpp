#include <fmt/format.h>
#include <unroll/nn/gradcheck.h>

namespace unroll::nn::detail {

CheckedModule::CheckedModule(const Module& module, const std::vector<Tensor>& arguments, std::vector<std::string> names,
                             const std::vector<std::string>& gates, std::int64_t hidden_size) {
  for (const Tensor& argument : arguments) {
    inputs.push_back(argument.detach().clone());  // what is expanded could not be moved element by element
    if (argument.is_floating_point()) inputs.back().requires_grad_();
  }
  for (std::size_t i = names.size(); i < arguments.size(); ++i) names.push_back(fmt::format("input {}", i));
  for (std::string& name : names) labels.inputs.push_back({std::move(name)});
  for (const auto& [name, parameter] : module.named_parameters()) {
    inputs.push_back(parameter);
    labels.inputs.push_back({name});
    const bool has_gates =
        parameter.dim() > 0 && parameter.size(0) == static_cast<std::int64_t>(gates.size()) * hidden_size;
    if (has_gates && hidden_size > 0) labels.inputs.back().blocks = gates;
  }
  for (const auto& [name, buffer] : module.named_buffers()) {  // not checked, but converted with the rest
    inputs.push_back(buffer);
    labels.inputs.push_back({name});
  }
}

}  // namespace unroll::nn::detail
