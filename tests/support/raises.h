#pragma once
#include <doctest/doctest.h>

/// The expression, in which commas may stand, raises `Kind` with a text that holds `part`.
#define CHECK_RAISES(Kind, part, ...) \
  CHECK_THROWS_WITH_AS([&] { static_cast<void>(__VA_ARGS__); }(), doctest::Contains(part), Kind)
