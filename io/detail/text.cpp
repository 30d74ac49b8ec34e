#include <fmt/format.h>
#include <unroll/io/detail/text.h>

#include <cstdint>

namespace unroll::io {

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
  const bool utf8 = is_utf8(quoted.bytes);
  std::string text = "'";
  for (char c : quoted.bytes) {
    const auto byte = static_cast<unsigned char>(c);
    const bool plain = byte >= 0x80 ? utf8 : byte >= ' ' && byte != 0x7f && c != '\'' && c != '\\';
    text += plain ? std::string(1, c) : fmt::format("\\x{:02x}", byte);
  }
  return text + "'";
}

}  // namespace unroll::io
