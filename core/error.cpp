#include <unroll/core/error.h>

#include <fmt/format.h>

namespace unroll {

OutOfMemory::OutOfMemory(std::size_t bytes) noexcept : text_{} {
  fmt::format_to_n(text_, sizeof text_ - 1, "out of memory: {} bytes were asked for", bytes);
}

std::string detail::format_text(fmt::string_view text, fmt::format_args args) {
  return fmt::vformat(text, args) + whereabouts();
}

}  // namespace unroll
