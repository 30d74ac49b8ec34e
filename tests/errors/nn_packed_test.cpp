#include "support/error_table.h"

#include <doctest/doctest.h>

#include <cmath>
#include <limits>

using namespace unroll;

// What C++ does not compile: lengths of fractions in a list, a tensor where a list of sequences is expected.

namespace {

using Integers = std::vector<std::int64_t>;
constexpr std::int64_t kMost = std::numeric_limits<std::int64_t>::max();

struct Fixture {
  Fixture() { table.watch(x, data, order, packed.data(), packed.sorted_indices(), packed.unsorted_indices(), a, b); }

  Tensor x = ones({4, 3, 2}), data = ones({6, 2}), order = tensor({1, 2, 0}), none;
  Tensor a = ones({2, 3}), b = ones({3, 3});
  nn::PackedSequence packed = nn::pack_padded_sequence(x, {2, 4, 1}, {.enforce_sorted = false});
  ErrorTable table{"nn: packed"};
};

}  // namespace

TEST_CASE_FIXTURE(Fixture, "errors of nn: pack_padded_sequence") {
  const std::string op = "pack_padded_sequence: ";
  auto row = [&]<class E>(const char* what, std::vector<std::string> tokens, const Tensor& input,
                          const nn::Lengths& lengths, nn::PackOptions options = {}) {
    tokens.insert(tokens.begin(), op);
    table.row<E>(what, tokens, [&] { return nn::pack_padded_sequence(input, lengths, options); });
  };
  auto shape = [&](auto&&... args) { row.operator()<ShapeError>(args...); };
  auto value = [&](const char* what, std::vector<std::string> tokens, const Tensor& input, const nn::Lengths& lengths,
                   nn::PackOptions options = {}) { row.operator()<ValueError>(what, tokens, input, lengths, options); };
  shape("rank 0", std::vector<std::string>{"at least 2 dimensions", "()"}, scalar(1), nn::Lengths{1});
  shape("rank 1", std::vector<std::string>{"at least 2 dimensions", "(4,)"}, ones(4), nn::Lengths{4});
  shape("lengths in a matrix", std::vector<std::string>{"lengths must be a vector", "(1, 3)"}, x,
        nn::Lengths(tensor({{4, 2, 1}})));
  shape("one length as a scalar", std::vector<std::string>{"lengths must be a vector", "()"}, x,
        nn::Lengths(scalar(4, DType::Int64)));
  for (DType dtype : {DType::Float32, DType::Float64, DType::Bool})
    row.operator()<DTypeError>("lengths of another dtype", {"lengths must be int64", fmt::format("got {}", dtype)}, x,
                               nn::Lengths(ones(3, dtype)));
  value("undefined lengths", {"lengths must be an int64 vector", "undefined"}, x, none);
  value("no elements", {"cannot pack an empty tensor", "(4, 3, 0)"}, ones({4, 3, 0}), {4, 2, 1});
  value("no sequences", {"cannot pack an empty tensor", "(4, 0, 2)"}, ones({4, 0, 2}), Integers{});
  value("a length less than sequences", {"2 lengths", "batch of 3"}, x, {4, 2});
  value("a length more than sequences", {"4 lengths", "batch of 3"}, x, {4, 2, 1, 1});
  value("no lengths", {"0 lengths", "batch of 3"}, x, Integers{});
  value("lengths of the other layout", {"3 lengths", "batch of 4"}, x, {3, 2, 1}, {.batch_first = true});
  value("a length of 0", {"lengths must be > 0", "got 0 at 2"}, x, {4, 2, 0});
  value("a length of 0, unsorted", {"lengths must be > 0", "got 0 at 0"}, x, {0, 2, 1}, {.enforce_sorted = false});
  value("a negative length", {"lengths must be > 0", "got -1 at 1"}, x, {4, -1, 1});
  value("a negative length, empty ones allowed", {"lengths must be >= 0", "got -1 at 2"}, x, {4, 2, -1},
        {.allow_empty = true});
  value("a length beyond T", {"length 5 at 0", "exceeds the 4 steps", "(4, 3, 2)"}, x, {5, 2, 1});
  value("a length beyond T, unsorted", {"length 5 at 2", "exceeds the 4 steps"}, x, {4, 2, 5},
        {.enforce_sorted = false});
  value("a length beyond T, batch first", {"length 4 at 0", "exceeds the 3 steps"}, x, {4, 3, 2, 1},
        {.batch_first = true});
  value("the greatest of lengths", {"9223372036854775807 at 0", "exceeds the 4 steps"}, x, {kMost, 2, 1});
  value("lengths that rise", {"decreasing", "2 before 4", "enforce_sorted = false"}, x, {2, 4, 1});
  value("lengths that rise at the end", {"decreasing", "1 before 2", "enforce_sorted = false"}, x, {4, 1, 2});
  table.row<ValueError>("an undefined tensor", {op, "expected a tensor", "undefined"},
                        [&] { return nn::pack_padded_sequence(none, {1}); });
}

TEST_CASE_FIXTURE(Fixture, "errors of nn: pad_packed_sequence and lists of sequences") {
  for (std::int64_t total : {3, 0, -1})
    table.row<ValueError>("a total_length below the longest",
                          {"pad_packed_sequence", fmt::format("total_length is {}", total), "longest sequence has 4"},
                          [&] { return nn::pad_packed_sequence(packed, {.total_length = total}); });
  table.row<ShapeError>("a total_length beyond memory", {"overflow", "2^63"},
                        [&] { return nn::pad_packed_sequence(packed, {.total_length = kMost}); });
  table.row<ValueError>("padding that is no int64", {"fill", "nan", "int64"},
                        [&] { return nn::pad_packed_sequence(packed.to(DType::Int64), {.padding_value = NAN}); });
  table.row<ValueError>("pad_sequence of nothing", {"pad_sequence", "at least one sequence"},
                        [] { return nn::pad_sequence({}); });
  table.row<ShapeError>("pad_sequence of a scalar", {"pad_sequence", "sequence 0", "()", "a dimension of steps"},
                        [] { return nn::pad_sequence({scalar(1)}); });
  table.row<ShapeError>("pad_sequence of other features", {"pad_sequence", "sequence 1", "(2, 4)", "(2, 3)"}, [&] {
    return nn::pad_sequence({a, ones({2, 4})});
  });
  table.row<ShapeError>("pad_sequence of another rank", {"pad_sequence", "sequence 2", "(2,)", "(2, 3)"}, [&] {
    return nn::pad_sequence({a, b, ones(2)});
  });
  table.row<ValueError>("pad_sequence of an undefined one", {"pad_sequence", "sequence 1 is undefined"}, [&] {
    return nn::pad_sequence({a, none});
  });
  table.row<ValueError>("pad_sequence to less than the longest", {"pad_sequence", "total_length is 2", "has 3"}, [&] {
    return nn::pad_sequence({a, b}, {.total_length = 2});
  });
  table.row<ValueError>("pack_sequence of nothing", {"sequence", "at least one"}, [] { return nn::pack_sequence({}); });
  table.row<ValueError>("pack_sequence of an empty one", {"sequence", "lengths must be > 0", "got 0 at 1"}, [&] {
    return nn::pack_sequence({a, ones({0, 3})});
  });
  table.row<ValueError>("pack_sequence of unsorted ones", {"sequence", "2 before 3", "enforce_sorted = false"}, [&] {
    return nn::pack_sequence({a, b});
  });
  table.row<ShapeError>("pack_sequence of other features", {"sequence 1", "(1, 4)", "(2, 3)"}, [&] {
    return nn::pack_sequence({a, ones({1, 4})});
  });
}

TEST_CASE_FIXTURE(Fixture, "errors of nn: unpad_sequence and invert_permutation") {
  const std::string op = "unpad_sequence: ";
  table.row<ValueError>("too few lengths", {op, "1 lengths", "batch of 3"}, [&] { return nn::unpad_sequence(x, {4}); });
  table.row<ValueError>("lengths of the other layout", {op, "3 lengths", "batch of 4"}, [&] {
    return nn::unpad_sequence(x, {4, 2, 1}, true);
  });
  table.row<ValueError>("a length beyond T", {op, "length 5 at 2", "exceeds the 4 steps"}, [&] {
    return nn::unpad_sequence(x, {1, 1, 5});
  });
  table.row<ValueError>("a negative length", {op, "lengths must be >= 0", "got -2 at 0"}, [&] {
    return nn::unpad_sequence(x, {-2, 1, 1});
  });
  table.row<ShapeError>("rank 1", {op, "at least 2 dimensions", "(4,)"},
                        [] { return nn::unpad_sequence(ones(4), {4}); });
  table.row<DTypeError>("lengths of float32", {op, "lengths must be int64", "float32"},
                        [&] { return nn::unpad_sequence(x, ones(3)); });

  const std::string invert = "invert_permutation: ";
  auto row = [&](const char* what, std::vector<std::string> tokens, const Tensor& p) {
    tokens.insert(tokens.begin(), invert);
    table.row<ValueError>(what, tokens, [&] { return nn::invert_permutation(p); });
  };
  row("one twice", {"0 at 1 of 2", "comes twice"}, tensor({0, 0}));
  row("one past the end", {"2 at 0 of 2", "out of range"}, tensor({2, 0}));
  row("a negative one", {"-1 at 1 of 2", "out of range"}, tensor({0, -1}));
  table.row<DTypeError>("one of float32", {invert, "must be int64", "float32"},
                        [] { return nn::invert_permutation(ones(2)); });
  table.row<ShapeError>("a matrix", {invert, "must be a vector", "(1, 2)"}, [] {
    return nn::invert_permutation(tensor({{0, 1}}));
  });
}

TEST_CASE_FIXTURE(Fixture, "errors of nn: PackedSequence made by hand") {
  const std::string op = "packed_sequence: ";
  auto row = [&]<class E>(const char* what, std::vector<std::string> tokens, const nn::Lengths& sizes,
                          const Tensor& sorted = {}, const Tensor& unsorted = {}) {
    tokens.insert(tokens.begin(), op);
    table.row<E>(what, tokens, [&] { return nn::PackedSequence(data, sizes, sorted, unsorted); });
  };
  row.operator()<ValueError>("batch_sizes of 0", {"batch_sizes must be > 0", "got 0 at 2"}, {3, 3, 0});
  row.operator()<ValueError>("batch_sizes below 0", {"batch_sizes must be > 0", "got -1 at 1"}, {6, -1});
  row.operator()<ValueError>("batch_sizes that rise", {"batch_sizes must not rise", "got 4 after 2 at 1"}, {2, 4});
  row.operator()<ValueError>("too few rows named", {"batch_sizes add up to 5", "6 rows"}, {3, 2});
  row.operator()<ValueError>("too many rows named", {"batch_sizes", "more than the 6 rows"}, {3, 2, 2});
  row.operator()<ValueError>("batch_sizes beyond 2^63", {"batch_sizes", "more than the 6 rows"}, {kMost, kMost, kMost});
  row.operator()<DTypeError>("batch_sizes of float32", {"batch_sizes must be int64", "float32"}, ones(3));
  row.operator()<ShapeError>("batch_sizes in a matrix", {"batch_sizes must be a vector", "(1, 3)"},
                             tensor({{3, 2, 1}}));
  row.operator()<ValueError>("undefined batch_sizes", {"batch_sizes must be an int64 vector", "undefined"}, none);
  row.operator()<DTypeError>("sorted_indices of float32", {"sorted_indices must be int64", "float32"}, {3, 2, 1},
                             ones(3));
  row.operator()<ShapeError>("sorted_indices in a matrix", {"sorted_indices must be a vector", "(1, 3)"}, {3, 2, 1},
                             tensor({{1, 2, 0}}));
  row.operator()<DTypeError>("unsorted_indices of bool", {"unsorted_indices must be int64", "bool"}, {3, 2, 1}, none,
                             ones(3, DType::Bool));
  row.operator()<ValueError>("no inverses", {"unsorted_indices", "not the inverse"}, {3, 2, 1}, order, order);
  row.operator()<ValueError>("inverses of other lengths", {"unsorted_indices", "not the inverse"}, {3, 2, 1}, order,
                             tensor({2, 0, 1, 3}));
  row.operator()<ValueError>("fewer indices than sequences", {"2 indices", "3 sequences"}, {3, 2, 1}, tensor({1, 0}));
  row.operator()<ValueError>("sorted_indices that are no permutation", {"sorted_indices", "3 at 0 of 3"}, {3, 2, 1},
                             tensor({3, 0, 1}));
  row.operator()<ValueError>("unsorted_indices that are no permutation", {"unsorted_indices", "0 at 1 of 3"}, {3, 2, 1},
                             none, tensor({0, 0, 1}));
  table.row<ShapeError>("data without rows", {op, "data", "()"}, [] { return nn::PackedSequence(scalar(1), {1}); });
  table.row<ValueError>("nothing at all", {op, "batch_sizes must not be empty"}, [] {
    return nn::PackedSequence(ones({0, 2}), Integers{});
  });
  table.row<ValueError>("undefined data", {op, "data", "undefined"}, [&] { return nn::PackedSequence(none, {1}); });
  table.row<ShapeError>("other data of fewer rows", {op, "expected 7 rows", "(6, 2)"},
                        [&] { return packed.with_data(data); });
  table.row<ShapeError>("other data that is a scalar", {op, "expected 7 rows", "()"},
                        [&] { return packed.with_data(scalar(1)); });
}
