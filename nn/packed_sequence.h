#pragma once
#include <unroll/core/tensor.h>

#include <optional>

#pragma GCC visibility push(default)
/// Sequences of different lengths in one tensor: torch.nn.utils.rnn.
namespace unroll::nn {

/// Lengths or batch sizes, in any of the forms they come in.
class Lengths {
 public:
  Lengths(std::initializer_list<std::int64_t> list) : list_(list) {}
  Lengths(std::vector<std::int64_t> list) : list_(std::move(list)) {}
  /// An Int64 vector.
  Lengths(Tensor list) : tensor_(std::move(list)), is_tensor_(true) {}
  /// Raises, of a tensor, ValueError when it is undefined, DTypeError unless it is Int64, ShapeError unless it is a
  /// vector. The text begins with `op` and calls them `name`.
  std::vector<std::int64_t> values(const char* op, const char* name = "lengths") const;

 private:
  std::vector<std::int64_t> list_;
  Tensor tensor_;
  bool is_tensor_ = false;
};

/// Sequences without padding, longest first, step after step: the first step of each, then the second of those that
/// have one, and so on. Of lengths 3, 2, 1 the rows of `data` are a₀ b₀ c₀ a₁ b₁ a₂, and batch_sizes = 3, 2, 1.
///
/// pack_padded_sequence and pack_sequence make one; layers take and return it. A value: nothing in it changes.
class PackedSequence {
 public:
  /// data is (ΣB_t, …); batch_sizes are the B_t; sorted_indices says which sequence of the caller's each sorted one is,
  /// unsorted_indices is its inverse (either follows from the other; neither: they came sorted). Raises ValueError
  /// unless batch_sizes is positive and never rises, their sum is the number of rows, and the indices are permutations,
  /// each other's inverse, of at least B_0 sequences. Those beyond B_0 have length 0.
  PackedSequence(Tensor data, const Lengths& batch_sizes, Tensor sorted_indices = {}, Tensor unsorted_indices = {});

  const Tensor& data() const noexcept { return data_; }
  const std::vector<std::int64_t>& batch_sizes() const noexcept { return batch_sizes_; }
  /// Int64 (N), undefined for sequences that came sorted.
  const Tensor& sorted_indices() const noexcept { return sorted_indices_; }
  const Tensor& unsorted_indices() const noexcept { return unsorted_indices_; }
  /// How many sequences there are, N.
  std::int64_t size() const;
  /// How long each is, in the caller's order.
  std::vector<std::int64_t> lengths() const;

  /// Other data of the same sequences: `x.with_data(relu(x.data()))`. Raises ShapeError for another number of rows.
  PackedSequence with_data(Tensor data) const;
  PackedSequence to(DType dtype) const { return with_data(data_.to(dtype)); }

 private:
  Tensor data_;
  std::vector<std::int64_t> batch_sizes_;
  Tensor sorted_indices_, unsorted_indices_;
};

struct PackOptions {
  /// Whether the padded tensor is (N, T, …) instead of (T, N, …).
  bool batch_first = false;
  /// Whether the sequences must come longest first. Else they are sorted, equal ones staying in order, and what is
  /// computed of them is put back into the caller's order.
  bool enforce_sorted = true;
  /// Whether there may be sequences of length 0.
  bool allow_empty = false;
};

/// Packs `input` (T, N, …), of which row n counts for lengths[n] steps. What stands behind is never read, and its
/// gradient is zero. Raises ShapeError for fewer than two dimensions, ValueError for an empty tensor, another number of
/// lengths than N, one that is not in [1, T], or unsorted ones where they must be sorted.
PackedSequence pack_padded_sequence(const Tensor& input, const Lengths& lengths, const PackOptions& options = {});
/// Packs tensors (length, …) of equal further sizes.
PackedSequence pack_sequence(TensorList sequences, bool enforce_sorted = true);

struct PadOptions {
  bool batch_first = false;
  double padding_value = 0;
  /// What T is to be, where it is not the greatest length.
  std::optional<std::int64_t> total_length = {};
};

struct PaddedSequence {
  Tensor padded;
  std::vector<std::int64_t> lengths;
};

/// The inverse of pack_padded_sequence: (T, N, …) and the lengths, in the caller's order. Raises ValueError when
/// total_length is less than the greatest length.
PaddedSequence pad_packed_sequence(const PackedSequence& sequence, const PadOptions& options = {});
/// Tensors (length, …) as one, (T, N, …), padded behind; the first one's dtype and further sizes decide. Raises
/// ValueError for no tensors, ShapeError for one that does not fit.
Tensor pad_sequence(TensorList sequences, const PadOptions& options = {});

/// The first lengths[n] steps of each row n of `padded` (T, N, …), as views. Raises as pack_padded_sequence does, but
/// lengths may be 0.
std::vector<Tensor> unpad_sequence(const Tensor& padded, const Lengths& lengths, bool batch_first = false);
/// The sequences (length, …), in the caller's order.
std::vector<Tensor> unpack_sequence(const PackedSequence& sequence);

/// q with q[p[i]] = i, for a permutation p, Int64 (N). Undefined for undefined. Raises ValueError when p is none.
Tensor invert_permutation(const Tensor& permutation);

}  // namespace unroll::nn
#pragma GCC visibility pop
