#pragma once
#include <unroll/core/error.h>

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
struct fmt::formatter<unroll::io::Quoted> : unroll::detail::AsText {};
