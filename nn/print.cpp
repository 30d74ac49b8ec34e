#include <fmt/format.h>
#include <unroll/autograd/function.h>
#include <unroll/nn/module.h>

#include <ostream>
#include <typeinfo>

// How modules print themselves: as Python's torch does, so that the two can be laid side by side.
namespace unroll::nn {

std::string Module::type_name() const { return unroll::detail::class_name(typeid(*this)); }

namespace {
std::string indented(const std::string& text) {
  std::string result;
  for (char c : text) result += c == '\n' ? "\n  " : std::string(1, c);
  return result;
}
}  // namespace

std::string to_string(const Module& module) {
  std::string extra = module.extra_repr();
  NamedModules children = module.named_children();
  if (children.empty() && extra.find('\n') == std::string::npos)
    return fmt::format("{}({})", module.type_name(), extra);
  std::string lines;
  if (!extra.empty()) lines += '\n' + extra;
  for (const auto& [name, child] : children) lines += fmt::format("\n({}): {}", name, to_string(*child));
  return fmt::format("{}({}\n)", module.type_name(), indented(lines));
}

std::ostream& operator<<(std::ostream& out, const Module& module) { return out << to_string(module); }

std::string detail::python(bool value) { return value ? "True" : "False"; }

std::string detail::python(double value) {
  std::string text = fmt::format("{}", value);
  return text.find_first_not_of("-0123456789") == std::string::npos ? text + ".0" : text;
}

}  // namespace unroll::nn
