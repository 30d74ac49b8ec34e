#include <fmt/format.h>
#include <unroll/core/detail/text.h>

#include <algorithm>
#include <cstdint>

namespace unroll::detail {

bool is_utf8(std::string_view text) noexcept {
  for (std::size_t i = 0; i < text.size();) {
    auto byte = [&](std::size_t k) {
      return i + k < text.size() ? static_cast<std::uint32_t>(static_cast<unsigned char>(text[i + k])) : 0;
    };
    const std::uint32_t lead = byte(0);
    const std::size_t length = lead < 0x80 ? 1 : lead < 0xe0 ? 2 : lead < 0xf0 ? 3 : 4;
    std::uint32_t code = length == 1 ? lead : lead & (0xffu >> (length + 1));
    for (std::size_t k = 1; k < length; ++k) {
      if ((byte(k) & 0xc0) != 0x80) return false;
      code = code << 6 | (byte(k) & 0x3f);
    }
    constexpr std::uint32_t kLeast[] = {0, 0, 0x80, 0x800, 0x10000};  // a smaller code has a shorter form
    if (lead >= 0xf8 || (lead >= 0x80 && lead < 0xc0) || code < kLeast[length] || code > 0x10ffff ||
        (code >= 0xd800 && code < 0xe000))
      return false;
    i += length;
  }
  return true;
}

std::string to_string(Quoted quoted) {
  constexpr std::size_t kMost = 4096;
  std::size_t shown = std::min(quoted.bytes.size(), kMost);
  while (shown < quoted.bytes.size() && shown > 0 && (quoted.bytes[shown] & 0xc0) == 0x80) --shown;  // no half letter
  const std::string_view bytes = quoted.bytes.substr(0, shown);
  const bool utf8 = is_utf8(bytes);
  std::string text(1, quoted.mark);
  for (char c : bytes) {
    const auto byte = static_cast<unsigned char>(c);
    const bool plain = byte >= 0x80 ? utf8 : byte >= ' ' && byte != 0x7f && c != quoted.mark && c != '\\';
    text += plain ? std::string(1, c) : fmt::format("\\x{:02x}", byte);
  }
  text += quoted.mark;
  if (shown < quoted.bytes.size()) text += fmt::format("… ({} bytes)", quoted.bytes.size());
  return text;
}

}  // namespace unroll::detail
