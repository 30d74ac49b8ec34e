#pragma once
#include <fmt/core.h>

#include <algorithm>
#include <new>
#include <stdexcept>
#include <string>
#include <type_traits>

#pragma GCC visibility push(default)
namespace unroll {

/// What every failure of the library is. The text says where (which op or call, and within a model in which module and
/// step), what came and what was expected: "lstm: input has 7 features, expected input_size = 5 (in encoder.rnn)".
class Error : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

/// Sizes or ranks that do not fit together, or that overflow.
class ShapeError : public Error {
 public:
  using Error::Error;
};

/// A dtype that the operation does not take, or two that differ. Nothing is promoted.
class DTypeError : public Error {
 public:
  using Error::Error;
};

/// An index or a dimension out of range.
class IndexError : public Error {
 public:
  using Error::Error;
};

/// An argument or option outside its domain.
class ValueError : public Error {
 public:
  using Error::Error;
};

/// A wrong use of automatic differentiation: a graph used twice, a saved tensor overwritten, …
class GradError : public Error {
 public:
  using Error::Error;
};

/// An operating-system call on a file failed: the text holds the path, the call and its errno.
class IoError : public Error {
 public:
  using Error::Error;
};

/// A file that is not what it claims to be.
class FormatError : public Error {
 public:
  using Error::Error;
};

/// A std::bad_alloc that knows how much was asked for.
class OutOfMemory : public std::bad_alloc {
 public:
  explicit OutOfMemory(std::size_t bytes) noexcept;
  const char* what() const noexcept override { return text_; }

 private:
  char text_[64];  // formatted in place: there may be no memory left for a string
};

namespace detail {
/// Where in a model this thread is, " (in encoder.rnn, step 7)", or "". Autograd, which knows, defines it.
std::string whereabouts();

/// With whereabouts() at its end.
[[gnu::cold]] std::string format_text(fmt::string_view text, fmt::format_args args);

template <class E, class... Args>
[[noreturn, gnu::cold, gnu::noinline]] void fail(fmt::string_view text, const Args&... args) {
  throw E(format_text(text, fmt::make_format_args(args...)));
}

/// What a failure says: a copy of what fits a register. Were it referred to, it would have to lie in memory on the good
/// path too.
template <class T>
constexpr decltype(auto) told(const T& x) noexcept {
  if constexpr (std::is_scalar_v<T>)
    return T(x);
  else
    return (x);
}

/// The fmt::formatter of what has a to_string() beside it.
struct AsText {
  constexpr auto parse(fmt::format_parse_context& context) { return context.begin(); }
  template <class T, class Context>
  auto format(const T& x, Context& context) const {
    const auto text = to_string(x);
    return std::copy(text.begin(), text.end(), context.out());
  }
};
}  // namespace detail

/// Throws E with the formatted text unless `ok`. Nothing is formatted on the good path.
template <class E, class... Args>
void check(bool ok, fmt::format_string<const Args&...> text, const Args&... args) {
  if (!ok) [[unlikely]]
    detail::fail<E>(text, detail::told(args)...);
}

}  // namespace unroll
#pragma GCC visibility pop
