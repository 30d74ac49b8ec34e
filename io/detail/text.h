#pragma once
#include <fmt/core.h>

#include <algorithm>
#include <string>
#include <string_view>

namespace unroll::io {

/// Whether `text` is well-formed UTF-8: no overlong form, no surrogate, nothing above U+10FFFF.
bool is_utf8(std::string_view text) noexcept;

/// A stranger's bytes (a path, the name of a tensor) as an error shows them: 'text' on one line, other bytes as \xNN.
/// Formatted only when there is an error.
struct Quoted {
  std::string_view bytes;
};
std::string to_string(Quoted text);

}  // namespace unroll::io

template <>
struct fmt::formatter<unroll::io::Quoted> {
  constexpr auto parse(fmt::format_parse_context& context) { return context.begin(); }
  template <class Context>
  auto format(unroll::io::Quoted quoted, Context& context) const {
    std::string text = unroll::io::to_string(quoted);
    return std::copy(text.begin(), text.end(), context.out());
  }
};
