#include <unroll/autograd/ops/compare.h>
#include <unroll/nn/packed_sequence.h>

#include <limits>

#include "support/raises.h"

using namespace unroll;
using Integers = std::vector<std::int64_t>;

TEST_CASE("pack_padded_sequence: what it refuses") {
  Tensor x = zeros({4, 3, 2});
  CHECK_RAISES(ShapeError, "expected at least 2 dimensions, steps and batch, got shape (4,)",
               nn::pack_padded_sequence(zeros(4), {4}));
  CHECK_RAISES(ShapeError, "got shape ()", nn::pack_padded_sequence(scalar(1), {1}));
  CHECK_RAISES(ValueError, "got 2 lengths for a batch of 3", nn::pack_padded_sequence(x, {4, 2}));
  CHECK_RAISES(ValueError, "got 4 lengths for a batch of 3", nn::pack_padded_sequence(x, {4, 2, 1, 1}));
  CHECK_RAISES(ValueError, "got 3 lengths for a batch of 4",
               nn::pack_padded_sequence(x, {3, 2, 1}, {.batch_first = true}));
  CHECK_RAISES(ValueError, "lengths must be > 0, got 0 at 2", nn::pack_padded_sequence(x, {4, 2, 0}));
  CHECK_RAISES(ValueError, "lengths must be > 0, got -1 at 1",
               nn::pack_padded_sequence(x, {4, -1, 1}, {.enforce_sorted = false}));
  CHECK_RAISES(ValueError, "lengths must be >= 0, got -1 at 2",
               nn::pack_padded_sequence(x, {4, 2, -1}, {.allow_empty = true}));
  CHECK_RAISES(ValueError, "length 5 at 0 exceeds the 4 steps of shape (4, 3, 2)",
               nn::pack_padded_sequence(x, {5, 2, 1}));
  CHECK_RAISES(ValueError, "length 5 at 2 exceeds the 4 steps",
               nn::pack_padded_sequence(x, {4, 2, 5}, {.enforce_sorted = false}));
  CHECK_RAISES(ValueError, "exceeds the 4 steps",
               nn::pack_padded_sequence(x, {std::numeric_limits<std::int64_t>::max(), 2, 1}));
  CHECK_RAISES(ValueError, "sorted in decreasing order, got 2 before 4; enforce_sorted = false sorts them",
               nn::pack_padded_sequence(x, {2, 4, 1}));
  CHECK_RAISES(ValueError, "got 1 before 2", nn::pack_padded_sequence(x, {4, 1, 2}));
  CHECK_RAISES(ValueError, "cannot pack an empty tensor, got shape (4, 3, 0)",
               nn::pack_padded_sequence(zeros({4, 3, 0}), {4, 2, 1}));
  CHECK_RAISES(ValueError, "cannot pack an empty tensor", nn::pack_padded_sequence(zeros({4, 0, 2}), Integers{}));
  CHECK_RAISES(DTypeError, "lengths must be int64, got float32", nn::pack_padded_sequence(x, tensor({4.0, 2.0, 1.0})));
  CHECK_RAISES(ShapeError, "lengths must be a vector, got shape (1, 3)",
               nn::pack_padded_sequence(x, tensor({{4, 2, 1}})));
  CHECK_RAISES(ShapeError, "lengths must be a vector", nn::pack_padded_sequence(x, scalar(4, DType::Int64)));
  CHECK_RAISES(ValueError, "undefined", nn::pack_padded_sequence(Tensor(), {1}));
}

TEST_CASE("packed_sequence: lists that do not fit") {
  CHECK_RAISES(ValueError, "pad_sequence: expected at least one sequence", nn::pad_sequence({}));
  CHECK_RAISES(ValueError, "expected at least one sequence", nn::pack_sequence({}));
  CHECK_RAISES(ShapeError, "sequence 1 has shape (2, 3), which does not continue shape (1, 2)",
               nn::pad_sequence({zeros({1, 2}), zeros({2, 3})}));
  CHECK_RAISES(ShapeError, "sequence 1 has shape (2,)", nn::pad_sequence({zeros({1, 2}), zeros(2)}));
  CHECK_RAISES(ShapeError, "sequence 0 has shape ()", nn::pad_sequence({scalar(1)}));
  CHECK_RAISES(ValueError, "total_length is 1, the longest sequence has 2",
               nn::pad_sequence({zeros(2)}, {.total_length = 1}));
  CHECK_RAISES(ValueError, "lengths must be > 0, got 0 at 1", nn::pack_sequence({zeros({2, 3}), zeros({0, 3})}));
  CHECK_RAISES(ValueError, "got 1 before 2", nn::pack_sequence({zeros(1), zeros(2)}));
  CHECK_RAISES(ValueError, "unpad_sequence: got 1 lengths for a batch of 3", nn::unpad_sequence(zeros({4, 3}), {4}));
  CHECK_RAISES(ValueError, "length 5 at 2 exceeds the 4 steps", nn::unpad_sequence(zeros({4, 3}), {1, 1, 5}));
  CHECK_RAISES(ValueError, "lengths must be >= 0, got -2 at 0", nn::unpad_sequence(zeros({4, 3}), {-2, 1, 1}));
  CHECK_RAISES(ShapeError, "at least 2 dimensions", nn::unpad_sequence(zeros(4), {4}));
}

TEST_CASE("packed_sequence: made by hand") {
  Tensor data = zeros({6, 2});
  auto good = nn::PackedSequence(data, {3, 2, 1});
  CHECK(good.lengths() == Integers{3, 2, 1});
  CHECK_FALSE(good.sorted_indices().defined());
  // Either index tensor yields the other.
  auto by_sorted = nn::PackedSequence(data, {3, 2, 1}, tensor({1, 2, 0}));
  CHECK(equal(by_sorted.unsorted_indices(), tensor({2, 0, 1})));
  auto by_unsorted = nn::PackedSequence(data, {3, 2, 1}, {}, tensor({2, 0, 1}));
  CHECK(equal(by_unsorted.sorted_indices(), tensor({1, 2, 0})));
  CHECK(by_unsorted.lengths() == Integers{1, 3, 2});
  CHECK(nn::PackedSequence(data, tensor({3, 2, 1})).batch_sizes() == Integers{3, 2, 1});
  CHECK(nn::PackedSequence(data, {3, 2, 1}, tensor({1, 2, 0, 3})).lengths() == Integers{1, 3, 2, 0});

  CHECK_RAISES(ShapeError, "data must have a dimension of rows", nn::PackedSequence(scalar(1), {1}));
  CHECK_RAISES(ValueError, "batch_sizes must not be empty", nn::PackedSequence(zeros({0, 2}), Integers{}));
  CHECK_RAISES(ValueError, "batch_sizes must be > 0, got 0 at 2", nn::PackedSequence(data, {3, 3, 0}));
  CHECK_RAISES(ValueError, "batch_sizes must be > 0, got -1 at 1", nn::PackedSequence(data, {6, -1}));
  CHECK_RAISES(ValueError, "batch_sizes must not rise, got 4 after 2 at 1", nn::PackedSequence(data, {2, 4}));
  CHECK_RAISES(ValueError, "batch_sizes add up to 5, data has 6 rows", nn::PackedSequence(data, {3, 2}));
  CHECK_RAISES(ValueError, "more than the 6 rows of data", nn::PackedSequence(data, {3, 2, 2}));
  const std::int64_t huge = std::numeric_limits<std::int64_t>::max();
  CHECK_RAISES(ValueError, "more than the 6 rows", nn::PackedSequence(data, {huge, huge, huge}));
  CHECK_RAISES(ValueError, "3 at 0 of 3 is out of range or comes twice",
               nn::PackedSequence(data, {3, 2, 1}, tensor({3, 0, 1})));
  CHECK_RAISES(ValueError, "-1 at 2 of 3 is out of range", nn::PackedSequence(data, {3, 2, 1}, tensor({0, 1, -1})));
  CHECK_RAISES(ValueError, "0 at 1 of 3 is out of range or comes twice",
               nn::PackedSequence(data, {3, 2, 1}, {}, tensor({0, 0, 1})));
  CHECK_RAISES(ValueError, "unsorted_indices is not the inverse of sorted_indices",
               nn::PackedSequence(data, {3, 2, 1}, tensor({1, 2, 0}), tensor({1, 2, 0})));
  CHECK_RAISES(ValueError, "unsorted_indices is not the inverse",
               nn::PackedSequence(data, {3, 2, 1}, tensor({1, 2, 0}), tensor({2, 0, 1, 3})));
  CHECK_RAISES(ValueError, "got 2 indices for 3 sequences", nn::PackedSequence(data, {3, 2, 1}, tensor({1, 0})));
  CHECK_RAISES(DTypeError, "sorted_indices must be int64, got float32",
               nn::PackedSequence(data, {3, 2, 1}, tensor({1.0, 2.0, 0.0})));
  CHECK_RAISES(DTypeError, "unsorted_indices must be int64, got float32",
               nn::PackedSequence(data, {3, 2, 1}, {}, tensor({1.0, 2.0, 0.0})));
  CHECK_RAISES(ShapeError, "sorted_indices must be a vector, got shape (1, 3)",
               nn::PackedSequence(data, {3, 2, 1}, tensor({{1, 2, 0}})));
  CHECK_RAISES(DTypeError, "batch_sizes must be int64", nn::PackedSequence(data, tensor({3.0, 2.0, 1.0})));
  CHECK_RAISES(ValueError, "undefined", nn::PackedSequence(Tensor(), {1}));
}

TEST_CASE("invert_permutation: what is none") {
  CHECK_RAISES(ValueError, "0 at 1 of 2 is out of range or comes twice", nn::invert_permutation(tensor({0, 0})));
  CHECK_RAISES(ValueError, "2 at 0 of 2", nn::invert_permutation(tensor({2, 0})));
  CHECK_RAISES(ValueError, "-1 at 1 of 2", nn::invert_permutation(tensor({0, -1})));
  CHECK_RAISES(DTypeError, "int64", nn::invert_permutation(tensor({0.0, 1.0})));
  CHECK_RAISES(ShapeError, "vector", nn::invert_permutation(tensor({{0, 1}})));
}
