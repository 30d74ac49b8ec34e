#pragma once
#include <doctest/doctest.h>
#include <unroll/core/error.h>

#include <string>

/// The expression, in which commas may stand, raises `Kind` with a text that holds `part`.
#define CHECK_RAISES(Kind, part, ...) \
  CHECK_THROWS_WITH_AS([&] { static_cast<void>(__VA_ARGS__); }(), doctest::Contains(part), Kind)

/// The text of the `Kind` that f raises; "" if it raises nothing.
template <class Kind, class F>
std::string error_of(F f) {
  try {
    f();
  } catch (const Kind& error) {
    return error.what();
  }
  return "";
}
