#pragma once
#include <unroll/core/error.h>

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <string_view>
#include <utility>

#pragma GCC visibility push(default)
namespace unroll {

/// What a tensor's elements are. Float32 and Float64 compute, Int64 indexes, Bool masks.
enum class DType : std::uint8_t { Float32, Float64, Int64, Bool };

/// "float32", "float64", "int64" or "bool".
std::string_view to_string(DType dtype) noexcept;

constexpr std::size_t size_of(DType dtype) noexcept {
  return dtype == DType::Float32 ? 4 : dtype == DType::Bool ? 1 : 8;
}

constexpr bool is_floating(DType dtype) noexcept { return dtype <= DType::Float64; }

}  // namespace unroll

template <>
struct fmt::formatter<unroll::DType> : unroll::detail::AsText {};

namespace unroll {

/// The C++ types that elements have.
template <class T>
concept Element =
    std::same_as<T, float> || std::same_as<T, double> || std::same_as<T, std::int64_t> || std::same_as<T, bool>;

/// The DType of a C++ element type.
template <Element T>
constexpr DType dtype_of = DType::Float32;
template <>
inline constexpr DType dtype_of<double> = DType::Float64;
template <>
inline constexpr DType dtype_of<std::int64_t> = DType::Int64;
template <>
inline constexpr DType dtype_of<bool> = DType::Bool;

namespace detail {
/// Whether T can hold a number, its fraction aside.
template <std::signed_integral T, class S>
bool fits(S number) noexcept {
  if constexpr (std::floating_point<S>) {
    constexpr double end = -static_cast<double>(std::numeric_limits<T>::min());  // exact: a power of two
    return (-end - 1 < number || -end == number) && number < end;                // of int64, -end - 1 is -end
  } else if constexpr (std::same_as<S, bool>) {
    return true;
  } else {
    return std::in_range<T>(number);
  }
}
}  // namespace detail

/// Calls f.operator()<T>() with the C++ type of a dtype that computes: float or double.
template <class F>
decltype(auto) dispatch_float(const char* op, DType dtype, F&& f) {
  if (dtype == DType::Float32) return f.template operator()<float>();
  check<DTypeError>(dtype == DType::Float64, "{}: expected float32 or float64, got {}", op, dtype);
  return f.template operator()<double>();
}

/// The same for the dtypes that have arithmetic: float, double or int64.
template <class F>
decltype(auto) dispatch_number(const char* op, DType dtype, F&& f) {
  if (dtype == DType::Float32) return f.template operator()<float>();  // first, as most are
  if (dtype == DType::Int64) return f.template operator()<std::int64_t>();
  check<DTypeError>(dtype != DType::Bool, "{}: expected a number, got bool", op);
  return f.template operator()<double>();
}

/// The same for every dtype.
template <class F>
decltype(auto) dispatch(DType dtype, F&& f) {
  if (dtype == DType::Bool) return f.template operator()<bool>();
  return dispatch_number("dispatch", dtype, f);
}

}  // namespace unroll
#pragma GCC visibility pop
