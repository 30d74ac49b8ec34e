#pragma once
#include <unroll/core/error.h>

#include <string>
#include <string_view>

namespace unroll::detail {

/// Whether `text` is well-formed UTF-8: no overlong form, no surrogate, nothing above U+10FFFF.
bool is_utf8(std::string_view text) noexcept;

/// A stranger's bytes (a path, the name of a tensor) as an error shows them: 'text' on one line, other bytes as \xNN,
/// of what is longer than any path the beginning. Formatted only when there is an error.
struct Quoted {
  std::string_view bytes;
  char mark = '\'';
};
std::string to_string(Quoted text);

}  // namespace unroll::detail

template <>
struct fmt::formatter<unroll::detail::Quoted> : unroll::detail::AsText {};
