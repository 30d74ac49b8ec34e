#include <fmt/format.h>
#include <unroll/core/detail/text.h>
#include <unroll/core/error.h>
#include <unroll/io/detail/json.h>

#include <charconv>

namespace unroll::io::json {
namespace {

void append_utf8(std::string& text, std::uint32_t code) {
  auto put = [&](std::uint32_t byte) { text += static_cast<char>(byte); };
  if (code < 0x80) return put(code);
  if (code < 0x800) {
    put(0xc0 | code >> 6);
  } else {
    if (code < 0x10000) {
      put(0xe0 | code >> 12);
    } else {
      put(0xf0 | code >> 18);
      put(0x80 | (code >> 12 & 0x3f));
    }
    put(0x80 | (code >> 6 & 0x3f));
  }
  put(0x80 | (code & 0x3f));
}

}  // namespace

std::string quote(std::string_view text) {
  constexpr std::string_view kEscaped = "\"\\\b\f\n\r\t", kLetter = "\"\\bfnrt";
  std::string quoted = "\"";
  for (char c : text) {
    if (std::size_t k = kEscaped.find(c); k != std::string_view::npos) {
      quoted += {'\\', kLetter[k]};
    } else if (static_cast<unsigned char>(c) < 0x20) {
      quoted += fmt::format("\\u{:04x}", static_cast<unsigned>(c));
    } else {
      quoted += c;
    }
  }
  return quoted += '"';
}

void Scanner::fail(const char* expected) const {
  check<FormatError>(at_ < text_.size(), "json: expected {} at byte {}, got the end", expected, at_);
  detail::fail<FormatError>("json: expected {} at byte {}, got {}", expected, at_,
                            detail::Quoted{text_.substr(at_, 1)});
}

void Scanner::skip_space() noexcept { at_ = std::min(text_.find_first_not_of(" \t\r\n", at_), text_.size()); }

bool Scanner::accept(char symbol) noexcept {
  skip_space();
  bool found = at_ < text_.size() && text_[at_] == symbol;
  at_ += found;
  return found;
}

void Scanner::expect(char symbol) {
  const char name[] = {'\'', symbol, '\'', '\0'};
  if (!accept(symbol)) fail(name);
}

void Scanner::end() {
  skip_space();
  if (at_ < text_.size()) fail("the end");
}

std::string Scanner::string() {
  if (!accept('"')) fail("a string");
  std::string text;
  for (;;) {
    if (at_ == text_.size()) fail("'\"'");
    const char c = text_[at_];
    if (static_cast<unsigned char>(c) < 0x20) fail("no control character in a string");
    ++at_;
    if (c == '"') return text;
    if (c == '\\') {
      escape(text);
    } else {
      text += c;
    }
  }
}

void Scanner::escape(std::string& text) {
  constexpr std::string_view kLetter = "\"\\/bfnrt", kMeaning = "\"\\/\b\f\n\r\t";
  const char letter = at_ < text_.size() ? text_[at_] : '\0';
  if (letter != 'u') {
    std::size_t k = kLetter.find(letter);
    if (k == std::string_view::npos) fail("one of \"\\/bfnrtu after a backslash");
    ++at_;
    text += kMeaning[k];
    return;
  }
  ++at_;
  std::uint32_t code = hex4();
  if (code >= 0xd800 && code < 0xdc00) {  // the upper half of a pair
    if (text_.substr(at_, 2) != "\\u") fail("the lower half of a surrogate pair");
    at_ += 2;
    const std::uint32_t low = hex4();
    if (low < 0xdc00 || low > 0xdfff) fail("the lower half of a surrogate pair");
    code = 0x10000 + ((code - 0xd800) << 10) + (low - 0xdc00);
  } else if (code >= 0xdc00 && code < 0xe000) {
    fail("the upper half of a surrogate pair first");
  }
  append_utf8(text, code);
}

std::uint32_t Scanner::hex4() {
  std::uint32_t code = 0;
  const std::string_view digits = text_.substr(at_, 4);
  auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), code, 16);
  if (digits.size() < 4 || error != std::errc() || end != digits.data() + 4) fail("four hexadecimal digits");
  at_ += 4;
  return code;
}

std::int64_t Scanner::integer() {
  skip_space();
  const std::string_view rest = text_.substr(at_);
  if (rest.empty() || rest[0] < '0' || rest[0] > '9') fail("a whole number");
  std::int64_t value = 0;
  auto [end, error] = std::from_chars(rest.data(), rest.data() + rest.size(), value);
  if (error != std::errc()) fail("a number below 2^63");
  const auto length = static_cast<std::size_t>(end - rest.data());
  if (rest[0] == '0' && length > 1) fail("no leading zero");
  at_ += length;
  return value;
}

std::vector<std::int64_t> Scanner::integers() {
  std::vector<std::int64_t> values;
  expect('[');
  if (accept(']')) return values;
  do {
    values.push_back(integer());
  } while (accept(','));
  expect(']');
  return values;
}

}  // namespace unroll::io::json
