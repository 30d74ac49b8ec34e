#include "support/error_table.h"

#include <doctest/doctest.h>
#include <unroll/core/view.h>

#include <cmath>
#include <limits>

using namespace unroll;

namespace {

constexpr std::int64_t kHuge = std::int64_t{1} << 62;

struct Fixture {
  Fixture() { table.watch(x, wide, n, mask, number, turned, none); }

  Tensor x = tensor({{1.0, 2.0, 3.0}, {4.0, 5.0, 6.0}});
  Tensor wide = ones({2, 3}, DType::Float64), n = tensor({1, 2, 3}), mask = tensor({true, false});
  Tensor number = scalar(1), turned = views::transpose(ones({2, 3}), 0, 1), none;
  ErrorTable table{"core"};
};

}  // namespace

TEST_CASE_FIXTURE(Fixture, "errors of core: making tensors") {
  table.row<ShapeError>("a negative size", {"negative size -1", "(2, -1)"}, [] { return zeros({2, -1}); });
  table.row<ShapeError>("a negative size of no element", {"negative size -3", "(0, -3)"}, [] {
    return empty({0, -3});
  });
  table.row<ShapeError>("a size beyond 2^63", {"overflow", "2^63"}, [] { return empty({kHuge, 4}); });
  table.row<ShapeError>("a size beyond 2^63 beside a zero", {"overflow", "2^63"}, [] { return empty({0, kHuge, 4}); });
  table.row<ShapeError>("more bytes than 2^63", {"overflow", "2^63"}, [] { return zeros({kHuge}, DType::Float64); });
  table.row<OutOfMemory>("more memory than there is", {"memory", "bytes"}, [] { return empty({kHuge / 8}); });
  table.row<ShapeError>("eye of a negative size", {"negative size -2", "(-2, -2)"}, [] { return eye(-2); });
  table.row<ValueError>("arange without a step", {"arange", "step other than 0"}, [] { return arange(0, 3, 0); });
  table.row<ValueError>("arange to infinity", {"arange", "finite", "inf"}, [] { return arange(0, INFINITY); });
  table.row<ValueError>("arange from NaN", {"arange", "finite", "nan"}, [] { return arange(NAN, 3); });
  table.row<ValueError>("arange the wrong way", {"arange", "step of -1", "from 0 to 3"},
                        [] { return arange(0, 3, -1); });
  table.row<ShapeError>("arange of too many", {"arange", "too many"},
                        [] { return arange(0, 1e300, 1, DType::Float64); });
  table.row<DTypeError>("arange of bool", {"arange", "number", "bool"}, [] { return arange(0, 2, 1, DType::Bool); });
  table.row<ShapeError>("too few values", {"from_data", "3 values", "(2, 2)"}, [] {
    return from_data(std::vector<float>{1, 2, 3}, {2, 2});
  });
  table.row<ShapeError>("too many values", {"from_data", "3 values", "()"}, [] {
    return from_data(std::vector<bool>{true, false, true}, {});
  });
  table.row<ShapeError>("ragged rows", {"tensor", "2 and 1"}, [] { return tensor({{1.0, 2.0}, {3.0}}); });
  table.row<ValueError>("a number that is no int64", {"fill", "int64"}, [] { return full(3, 1e300, DType::Int64); });
  table.row<ValueError>("NaN as an int64", {"fill", "nan", "int64"}, [] { return full(3, NAN, DType::Int64); });
  table.row<ValueError>("like an undefined tensor", {"tensor", "undefined"}, [&] { return zeros_like(none); });
}

TEST_CASE_FIXTURE(Fixture, "errors of core: reading tensors") {
  table.row<ValueError>("shape of an undefined tensor", {"tensor", "undefined"}, [&] { return none.shape(); });
  table.row<ValueError>("elements of an undefined tensor", {"tensor", "undefined"}, [&] { return none.item(); });
  table.row<ShapeError>("item of several elements", {"item", "one element", "(2, 3)"}, [&] { return x.item(); });
  table.row<ShapeError>("item of no element", {"item", "one element", "(0,)"}, [&] { return zeros(0).item(); });
  table.row<DTypeError>("data of another dtype", {"data", "float32", "float64"}, [&] { return x.data<double>(); });
  table.row<DTypeError>("data of an int64 tensor", {"data", "int64", "float32"}, [&] { return n.data<float>(); });
  table.row<DTypeError>("to_vector of another dtype", {"float32", "int64"},
                        [&] { return x.to_vector<std::int64_t>(); });
  table.row<IndexError>("size of no dimension", {"size", "dimension 2", "[-2, 1]"}, [&] { return x.size(2); });
  table.row<IndexError>("size before the first", {"size", "dimension -3", "[-2, 1]"}, [&] { return x.size(-3); });
  table.row<IndexError>("size of a scalar", {"size", "scalar", "dimension 0"}, [&] { return number.size(0); });
  table.row<IndexError>("stride of no dimension", {"stride", "dimension 2", "[-2, 1]"}, [&] { return x.stride(2); });
}

TEST_CASE_FIXTURE(Fixture, "errors of core: views") {
  table.row<IndexError>("narrow past the end", {"narrow", "start 2 and length 2", "(2, 3)"},
                        [&] { return narrow(x, 1, 2, 2); });
  table.row<IndexError>("narrow before the beginning", {"narrow", "start -4", "(2, 3)"},
                        [&] { return narrow(x, 1, -4, 1); });
  table.row<IndexError>("narrow of a negative length", {"narrow", "length -1", "(2, 3)"},
                        [&] { return narrow(x, 1, 0, -1); });
  table.row<IndexError>("narrow where start + length overflows", {"narrow", "length 9223372036854775807", "(2, 3)"},
                        [&] { return narrow(x, 1, 1, std::numeric_limits<std::int64_t>::max()); });
  table.row<IndexError>("narrow along no dimension", {"narrow", "dimension 2", "[-2, 1]"},
                        [&] { return narrow(x, 2, 0, 1); });
  table.row<ShapeError>("narrow of a scalar", {"narrow", "scalar"}, [&] { return narrow(number, 0, 0, 1); });
  table.row<ValueError>("slice with step 0", {"slice", "step 0", "at least 1"}, [&] { return slice(x, 1, 0, 3, 0); });
  table.row<ValueError>("slice backwards", {"slice", "step -1", "at least 1"}, [&] { return slice(x, 1, 3, 0, -1); });
  table.row<ShapeError>("slice of a scalar", {"slice", "scalar"}, [&] { return slice(number, 0, 0, 1); });
  table.row<IndexError>("select past the end", {"select", "index 3", "dimension 1", "(2, 3)"},
                        [&] { return select(x, 1, 3); });
  table.row<IndexError>("select before the beginning", {"select", "index -3", "(2, 3)"},
                        [&] { return select(x, 0, -3); });
  table.row<ShapeError>("select from a scalar", {"select", "scalar"}, [&] { return select(number, 0, 0); });
  table.row<IndexError>("transpose of no dimension", {"transpose", "dimension 2", "[-2, 1]"},
                        [&] { return transpose(x, 0, 2); });
  table.row<ShapeError>("permute with too few", {"permute", "1 dimensions", "(2, 3)"}, [&] { return permute(x, {0}); });
  table.row<ValueError>("permute with one twice", {"permute", "dimension -1 is repeated", "(1, -1)"}, [&] {
    return permute(x, {1, -1});
  });
  table.row<IndexError>("permute with one that is not there", {"permute", "dimension 2", "[-2, 1]"}, [&] {
    return permute(x, {0, 2});
  });
  table.row<ShapeError>("view with other elements", {"view", "(4, 2)", "6 elements", "(2, 3)"}, [&] {
    return view(x, {4, 2});
  });
  table.row<ShapeError>("view of what is no quotient", {"view", "(4, -1)", "6 elements", "(2, 3)"}, [&] {
    return view(x, {4, -1});
  });
  table.row<ShapeError>("view with two unknown sizes", {"view", "-1", "(-1, -1)"}, [&] { return view(x, {-1, -1}); });
  table.row<ShapeError>("view with a negative size", {"view", "negative size -2", "(-2, -3)"}, [&] {
    return view(x, {-2, -3});
  });
  table.row<ShapeError>("view of nothing with a size to guess", {"view", "(0, -1)", "(0, 3)"}, [&] {
    return view(zeros({0, 3}), {0, -1});
  });
  table.row<ShapeError>("view across strides", {"view", "(3, 2)", "(6,)", "reshape"}, [&] { return view(turned, 6); });
  table.row<ShapeError>("reshape to other elements", {"reshape", "(7,)", "6 elements"},
                        [&] { return reshape(turned, 7); });
  table.row<ShapeError>("expand to fewer dimensions", {"expand", "(3,)", "(2, 3)"}, [&] { return expand(x, 3); });
  table.row<ShapeError>("expand of what is not 1", {"expand", "(2, 3)", "(4, 3)"}, [&] { return expand(x, {4, 3}); });
  table.row<ShapeError>("expand to a negative size", {"expand", "(2, 3)", "(-2, 3)"}, [&] {
    return expand(x, {-2, 3});
  });
  table.row<IndexError>("squeeze of no dimension", {"squeeze", "dimension 2", "[-2, 1]"},
                        [&] { return squeeze(x, 2); });
  table.row<IndexError>("unsqueeze beyond the end", {"unsqueeze", "dimension 3", "[-3, 2]"},
                        [&] { return unsqueeze(x, 3); });
  table.row<ValueError>("view of an undefined tensor", {"tensor", "undefined"}, [&] { return view(none, 1); });
}
