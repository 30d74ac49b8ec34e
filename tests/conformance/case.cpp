#include "case.h"

#include <unroll/io/safetensors.h>

#include <charconv>

namespace conformance {

Case::Case(const std::filesystem::path& file) : name_(file.stem()) {
  const std::string expect = "expect.";
  io::Safetensors content = io::load_safetensors(file);
  for (const auto& [name, tensor] : content.tensors) {
    if (name.starts_with(expect)) {
      expected_.emplace(name.substr(expect.size()), tensor);
    } else {
      given_.emplace(name, tensor);
      unread_.insert("tensor " + name);
    }
  }
  for (const auto& [key, text] : content.metadata) {
    options_.emplace(key, text);
    unread_.insert("option " + key);
  }
}

void Case::imply(const std::string& key, const std::string& text) {
  check<ValueError>(options_.emplace(key, text).second, "the kind implies {} = {}, so the option may not be there", key,
                    text);
}

Tensor Case::given(const std::string& name) {
  const auto found = given_.find(name);
  check<ValueError>(found != given_.end(), "the case has no tensor {}", name);
  unread_.erase("tensor " + name);
  return found->second;
}

template <>
std::string Case::option(const std::string& key) {
  const auto found = options_.find(key);
  check<ValueError>(found != options_.end(), "the case has no option {}", key);
  unread_.erase("option " + key);
  return found->second;
}

template <class T>
static T number(const std::string& key, const std::string& text) {
  T value{};
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  check<ValueError>(error == std::errc() && end == text.data() + text.size(),
                    "option {}: '{}' is not a number of its kind", key, text);
  return value;
}

template <>
std::int64_t Case::option(const std::string& key) {
  return number<std::int64_t>(key, option(key));
}

template <>
double Case::option(const std::string& key) {
  return number<double>(key, option(key));
}

template <>
bool Case::option(const std::string& key) {
  const std::string text = option(key);
  check<ValueError>(text == "true" || text == "false", "option {}: '{}' is neither true nor false", key, text);
  return text == "true";
}

template <>
DType Case::option(const std::string& key) {
  return dtype_named(option(key));
}

DType dtype_named(const std::string& name) {
  check<ValueError>(name == "float32" || name == "float64", "dtype {} is unknown", name);
  return name == "float32" ? DType::Float32 : DType::Float64;
}

}  // namespace conformance
