#include <unroll/autograd/engine.h>
#include <unroll/autograd/ops/arithmetic.h>
#include <unroll/autograd/ops/index.h>
#include <unroll/autograd/ops/reduce.h>
#include <unroll/nn/packed_sequence.h>

#include <limits>

#include "support/gradients.h"

using namespace unroll;
using Integers = std::vector<std::int64_t>;

namespace {
// Elements 0, 1, 2, … of that shape.
Tensor counting(const Shape& shape, DType dtype = DType::Int64) { return view(arange(numel(shape), dtype), shape); }
const nn::PackOptions kUnsorted{.enforce_sorted = false};
}  // namespace

TEST_CASE("packed_sequence: step after step, the longest first") {
  Tensor x = counting({4, 3});  // (T, N): row t holds 3t, 3t + 1, 3t + 2
  auto packed = nn::pack_padded_sequence(x, {2, 4, 1}, kUnsorted);
  CHECK(packed.data().to_vector<std::int64_t>() == Integers{1, 0, 2, 4, 3, 7, 10});
  CHECK(packed.batch_sizes() == Integers{3, 2, 1, 1});
  CHECK(packed.sorted_indices().to_vector<std::int64_t>() == Integers{1, 0, 2});
  CHECK(packed.unsorted_indices().to_vector<std::int64_t>() == Integers{1, 0, 2});
  CHECK(packed.size() == 3);
  CHECK(packed.lengths() == Integers{2, 4, 1});

  auto rotated = nn::pack_padded_sequence(x, {1, 2, 4}, kUnsorted);
  CHECK(rotated.sorted_indices().to_vector<std::int64_t>() == Integers{2, 1, 0});
  auto cycle = nn::pack_padded_sequence(counting({3, 3}), {1, 3, 2}, kUnsorted);
  CHECK(cycle.sorted_indices().to_vector<std::int64_t>() == Integers{1, 2, 0});
  CHECK(cycle.unsorted_indices().to_vector<std::int64_t>() == Integers{2, 0, 1});
  CHECK(cycle.data().to_vector<std::int64_t>() == Integers{1, 2, 0, 4, 5, 7});

  auto sorted = nn::pack_padded_sequence(x, {4, 2, 1});
  CHECK_FALSE(sorted.sorted_indices().defined());
  CHECK_FALSE(sorted.unsorted_indices().defined());
  CHECK(sorted.data().to_vector<std::int64_t>() == Integers{0, 1, 2, 3, 4, 6, 9});
  CHECK(sorted.size() == 3);
  CHECK(sorted.lengths() == Integers{4, 2, 1});
}

TEST_CASE("packed_sequence: unsorted, the indices are there even when nothing moves, and equal lengths stay in order") {
  Tensor x = counting({2, 3});
  auto packed = nn::pack_padded_sequence(x, {2, 2, 1}, kUnsorted);
  CHECK(packed.sorted_indices().to_vector<std::int64_t>() == Integers{0, 1, 2});
  CHECK(packed.unsorted_indices().to_vector<std::int64_t>() == Integers{0, 1, 2});

  Integers lengths, order;
  for (std::int64_t n = 0; n < 100; ++n) lengths.push_back(1 + n % 3);
  for (std::int64_t length : {3, 2, 1})
    for (std::int64_t n = length - 1; n < 100; n += 3) order.push_back(n);
  CHECK(nn::pack_padded_sequence(zeros({3, 100}), lengths, kUnsorted).sorted_indices().to_vector<std::int64_t>() ==
        order);
}

TEST_CASE("packed_sequence: packed and padded again, of any shape, dtype and layout") {
  for (DType dtype : {DType::Float32, DType::Float64, DType::Int64})
    for (const Shape& further : {Shape{}, Shape{2}, Shape{2, 3}})
      for (bool batch_first : {false, true})
        for (bool sorted : {false, true}) {
          const Integers lengths = sorted ? Integers{5, 3, 3, 1} : Integers{3, 1, 5, 3};
          Shape shape{5, 4};
          for (std::int64_t size : further) shape.push_back(size);
          Tensor x = counting(shape, dtype) + 1;  // (T, N, …), no zeros
          for (std::size_t n = 0; n < 4; ++n)
            narrow(select(x, 1, static_cast<std::int64_t>(n)), 0, lengths[n], 5 - lengths[n]).zero_();
          if (batch_first) x = transpose(x, 0, 1);
          auto packed = nn::pack_padded_sequence(x, lengths, {.batch_first = batch_first, .enforce_sorted = sorted});
          CHECK(packed.data().size(0) == 12);
          CHECK(packed.data().dtype() == dtype);
          auto [padded, back] = nn::pad_packed_sequence(packed, {.batch_first = batch_first});
          CHECK(equal(padded, x));
          CHECK(back == lengths);
          // The other layout of the same.
          CHECK(equal(nn::pad_packed_sequence(packed, {.batch_first = !batch_first}).padded, transpose(x, 0, 1)));
        }
  auto bools = nn::pack_padded_sequence(tensor({{true, false}, {true, true}}), {2, 1});
  CHECK(equal(bools.data(), tensor({true, false, true})));
  CHECK(bools.data().dtype() == DType::Bool);
}

TEST_CASE("packed_sequence: lengths in any form, steps behind the longest dropped") {
  Tensor x = counting({4, 2});
  auto a = nn::pack_padded_sequence(x, {3, 1});
  auto b = nn::pack_padded_sequence(x, Integers{3, 1});
  auto c = nn::pack_padded_sequence(x, tensor({3, 1}));
  CHECK(equal(a.data(), b.data()));
  CHECK(equal(a.data(), c.data()));
  CHECK(nn::pad_packed_sequence(a).padded.shape() == Shape{3, 2});
  CHECK(x.version() == 0);
}

TEST_CASE("packed_sequence: total_length and padding_value") {
  Tensor x = ones({3, 2, 2});
  auto packed = nn::pack_padded_sequence(x, {1, 3}, kUnsorted);
  Tensor padded = nn::pad_packed_sequence(packed, {.padding_value = -7, .total_length = 5}).padded;
  CHECK(padded.shape() == Shape{5, 2, 2});
  CHECK(select(select(padded, 2, 0), 1, 0).to_vector<float>() == std::vector<float>{1, -7, -7, -7, -7});
  CHECK(select(select(padded, 2, 1), 1, 1).to_vector<float>() == std::vector<float>{1, 1, 1, -7, -7});
  CHECK(nn::pad_packed_sequence(packed, {.batch_first = true, .total_length = 3}).padded.shape() == Shape{2, 3, 2});
  CHECK(equal(nn::pad_packed_sequence(packed, {.batch_first = true, .padding_value = -7, .total_length = 5}).padded,
              transpose(padded, 0, 1)));

  Tensor nan = nn::pad_packed_sequence(packed, {.padding_value = std::numeric_limits<double>::quiet_NaN()}).padded;
  CHECK(sum(isnan(nan)).item<std::int64_t>() == 4);
  CHECK(equal(nn::pad_packed_sequence(nn::pack_padded_sequence(counting({2, 2}), {2, 1}), {.padding_value = 9}).padded,
              tensor({{0, 1}, {2, 9}})));
  for (std::int64_t total : {2, 0, -1})
    CHECK_THROWS_WITH_AS(
        nn::pad_packed_sequence(packed, {.total_length = total}),
        ("pad_packed_sequence: total_length is " + std::to_string(total) + ", the longest sequence has 3").c_str(),
        ValueError);
}

TEST_CASE("packed_sequence: gradients are zero in padding, and padding of the result takes none") {
  Generator generator(1);
  Tensor x = leaf({4, 3, 2}, generator);
  auto f = [](const std::vector<Tensor>& in) {
    auto packed = nn::pack_padded_sequence(in[0], {2, 3, 1}, kUnsorted);
    auto padded = nn::pad_packed_sequence(packed, {.padding_value = 3, .total_length = 6}).padded;
    return std::vector<Tensor>{packed.data(), padded};
  };
  check_gradients(f, {x});
  Tensor g = grad({sum(f({x})[1])}, {x})[0];
  Tensor expected =
      nn::pad_packed_sequence(nn::pack_padded_sequence(ones({4, 3, 2}, DType::Float64), {2, 3, 1}, kUnsorted),
                              {.total_length = 4})
          .padded;
  CHECK(equal(g, expected));

  Tensor y = leaf({3, 2}, generator), z = leaf({1, 2}, generator);
  check_gradients([](const std::vector<Tensor>& in) { return nn::pad_sequence(in, {.batch_first = true}); }, {y, z});
  check_gradients([](const std::vector<Tensor>& in) { return nn::pack_sequence(in).data(); }, {y, z});
  check_gradients([](const std::vector<Tensor>& in) { return nn::unpad_sequence(in[0], {1, 2, 4}); }, {x});
  check_gradients(
      [](const std::vector<Tensor>& in) {
        return nn::unpack_sequence(nn::pack_padded_sequence(in[0], {2, 3, 1}, kUnsorted));
      },
      {x});
}

TEST_CASE("packed_sequence: lists of sequences") {
  Tensor a = tensor({1, 2}), b = tensor({3, 4, 5}), c = tensor({6});
  CHECK(equal(nn::pad_sequence({a, b, c}), tensor({{1, 3, 6}, {2, 4, 0}, {0, 5, 0}})));
  CHECK(equal(nn::pad_sequence({a, b, c}, {.batch_first = true, .padding_value = -1}),
              tensor({{1, 2, -1}, {3, 4, 5}, {6, -1, -1}})));
  CHECK(nn::pad_sequence({a, b, c}, {.total_length = 7}).shape() == Shape{7, 3});
  CHECK(nn::pad_sequence({zeros({0, 2}), zeros({3, 2})}).shape() == Shape{3, 2, 2});
  CHECK(nn::pad_sequence({zeros({0, 2})}).shape() == Shape{0, 1, 2});
  CHECK(nn::pad_sequence({ones(1), ones(2, DType::Float64)}).dtype() == DType::Float32);  // the first decides

  auto packed = nn::pack_sequence({a, b, c}, false);
  CHECK(packed.data().to_vector<std::int64_t>() == Integers{3, 1, 6, 4, 2, 5});
  CHECK(packed.batch_sizes() == Integers{3, 2, 1});
  std::vector<Tensor> back = nn::unpack_sequence(packed);
  REQUIRE(back.size() == 3);
  CHECK(equal(back[0], a));
  CHECK(equal(back[1], b));
  CHECK(equal(back[2], c));
  CHECK(equal(nn::pack_sequence({b, a, c}).data(), packed.data()));

  Tensor padded = nn::pad_sequence({a, b, c}), copy = padded.clone();
  std::vector<Tensor> rows = nn::unpad_sequence(padded, {2, 3, 0});
  REQUIRE(rows.size() == 3);
  CHECK(equal(rows[0], a));
  CHECK(equal(rows[1], b));
  CHECK(rows[2].shape() == Shape{0});
  CHECK(rows[0].shares_memory(padded));
  CHECK(equal(nn::unpad_sequence(transpose(padded, 0, 1), {2, 3, 1}, true)[1], b));
  CHECK(equal(padded, copy));  // untouched, in torch it comes back transposed (#98499)
  CHECK(padded.shape() == Shape{3, 3});
  CHECK(padded.version() == 0);
}

TEST_CASE("packed_sequence: other data of the same sequences") {
  Tensor x = randn({4, 3, 2});
  auto packed = nn::pack_padded_sequence(x, {2, 4, 1}, kUnsorted);
  auto twice = packed.with_data(packed.data() * 2);
  CHECK(equal(nn::unpack_sequence(twice)[1], select(x, 1, 1) * 2));
  CHECK(packed.with_data(zeros({7, 5})).data().shape() == Shape{7, 5});
  CHECK_THROWS_WITH_AS(packed.with_data(zeros({6, 2})), "packed_sequence: expected 7 rows of data, got shape (6, 2)",
                       ShapeError);
  CHECK_THROWS_AS(packed.with_data(scalar(1)), ShapeError);

  auto converted = packed.to(DType::Float64);
  CHECK(converted.data().dtype() == DType::Float64);
  CHECK(converted.sorted_indices().is_same(packed.sorted_indices()));
  CHECK(packed.to(DType::Float32).data().is_same(packed.data()));
}

TEST_CASE("packed_sequence: sequences of length 0, where they are allowed") {
  Tensor x = counting({3, 4});
  for (bool enforce_sorted : {false, true}) {
    const Integers lengths = enforce_sorted ? Integers{3, 1, 0, 0} : Integers{0, 3, 0, 1};
    auto packed = nn::pack_padded_sequence(x, lengths, {.enforce_sorted = enforce_sorted, .allow_empty = true});
    CHECK(packed.data().size(0) == 4);
    CHECK(packed.batch_sizes() == Integers{2, 1, 1});
    CHECK(packed.size() == 4);
    CHECK(packed.lengths() == lengths);
    CHECK(packed.sorted_indices().defined());  // only these tell of the empty ones
    auto [padded, back] = nn::pad_packed_sequence(packed, {.padding_value = -1});
    CHECK(padded.shape() == Shape{3, 4});
    CHECK(back == lengths);
    std::vector<Tensor> rows = nn::unpack_sequence(packed);
    for (std::size_t n = 0; n < 4; ++n)
      CHECK(equal(rows[n], narrow(select(x, 1, static_cast<std::int64_t>(n)), 0, 0, lengths[n])));
    CHECK(sum(eq(padded, -1)).item<std::int64_t>() == 8);
  }
  auto none = nn::pack_padded_sequence(x, {0, 0, 0, 0}, {.allow_empty = true});
  CHECK(none.batch_sizes().empty());
  CHECK(none.size() == 4);
  CHECK(nn::pad_packed_sequence(none).padded.shape() == Shape{0, 4});
  CHECK(nn::pad_packed_sequence(none, {.total_length = 2}).padded.shape() == Shape{2, 4});
  CHECK(nn::pack_padded_sequence(zeros({0, 2, 3}), {0, 0}, {.allow_empty = true}).size() == 2);
  CHECK(nn::pack_padded_sequence(zeros({2, 2, 0}), {2, 1}, {.allow_empty = true}).data().shape() == Shape{3, 0});
}

TEST_CASE("packed_sequence: the caller's indices may be written, and an empty batch") {
  Tensor sorted = tensor({2, 0, 1}), unsorted = tensor({1, 2, 0});
  nn::PackedSequence packed(counting({6}), {3, 2, 1}, sorted, unsorted);
  sorted.fill_(-1);
  unsorted.fill_(1'000'000'000);
  CHECK(packed.lengths() == Integers{2, 1, 3});
  CHECK(packed.sorted_indices().to_vector<std::int64_t>() == Integers{2, 0, 1});
  CHECK(nn::pad_packed_sequence(packed).padded.to_vector<std::int64_t>() == Integers{1, 2, 0, 4, 0, 3, 0, 0, 5});

  for (bool enforce_sorted : {false, true}) {
    auto none =
        nn::pack_padded_sequence(zeros({3, 0, 2}), Integers{}, {.enforce_sorted = enforce_sorted, .allow_empty = true});
    CHECK(none.size() == 0);
    CHECK(none.lengths().empty());
    CHECK(nn::pad_packed_sequence(none, {.total_length = 3}).padded.shape() == Shape{3, 0, 2});
  }
}

TEST_CASE("packed_sequence: a total_length that no memory holds") {
  nn::PackedSequence one(counting({2}), {1, 1});
  for (std::int64_t total : {std::int64_t{1} << 50, std::numeric_limits<std::int64_t>::max()}) try {
      nn::pad_packed_sequence(one, {.total_length = total});
      CHECK(false);
    } catch (const OutOfMemory&) {
    } catch (const Error&) {  // a size that overflows
    }
}

TEST_CASE("packed_sequence: the inverse of a permutation") {
  CHECK(equal(nn::invert_permutation(tensor({2, 0, 3, 1})), tensor({1, 3, 0, 2})));
  manual_seed(1);
  Tensor p = randperm(100);
  CHECK(equal(index_select(p, 0, nn::invert_permutation(p)), arange(100)));
  CHECK(equal(nn::invert_permutation(nn::invert_permutation(p)), p));
  CHECK(nn::invert_permutation(zeros(0, DType::Int64)).numel() == 0);
  CHECK_FALSE(nn::invert_permutation({}).defined());
}

TEST_CASE("pad_packed_sequence: the padding value is a double where the sequences are") {
  const auto packed = nn::pack_sequence({ones({2, 1}, DType::Float64), ones({1, 1}, DType::Float64)});
  CHECK(nn::pad_packed_sequence(packed, {.padding_value = 0.1}).padded.to_vector<double>()[3] == 0.1);
}
