#pragma once
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

/// The little JSON that file headers are made of, read strictly and without recursion. General readers keep the last of
/// two equal keys, take a zero byte for the end, or read integers by way of double; where a file is a stranger's, each
/// of those is a way in.
namespace unroll::io::json {

/// UTF-8 text as a JSON string, with its quotes.
std::string quote(std::string_view text);

/// Walks over a JSON text, token by token. Skips white space before each; raises FormatError, which says where, when
/// another token stands there. `text` is to be UTF-8 and to outlive the scanner.
class Scanner {
 public:
  explicit Scanner(std::string_view text) noexcept : text_(text) {}

  void expect(char symbol);
  /// Moves on if `symbol` is next.
  bool accept(char symbol) noexcept;
  std::string string();
  /// A whole number from 0 to 2⁶³ − 1, written as such.
  std::int64_t integer();
  std::vector<std::int64_t> integers();
  /// {"key": value, …}: calls member(key) behind each colon.
  template <class Member>
  void object(Member member) {
    expect('{');
    if (accept('}')) return;
    do {
      std::string key = string();
      expect(':');
      member(std::move(key));
    } while (accept(','));
    expect('}');
  }
  /// Nothing but white space is left.
  void end();

 private:
  [[noreturn]] void fail(const char* expected) const;
  void skip_space() noexcept;
  std::uint32_t hex4();
  void escape(std::string& text);

  std::string_view text_;
  std::size_t at_ = 0;
};

}  // namespace unroll::io::json
