#include <unroll/autograd/ops/compare.h>
#include <unroll/autograd/ops/index.h>
#include <unroll/autograd/ops/shape.h>
#include <unroll/nn/packed_sequence.h>

#include <algorithm>
#include <numeric>

namespace unroll::nn {

namespace {
using Sizes = std::vector<std::int64_t>;

Tensor vector_of(const Sizes& values) { return from_data(values, static_cast<std::int64_t>(values.size())); }

std::int64_t greatest(const Sizes& lengths) {
  return lengths.empty() ? 0 : *std::max_element(lengths.begin(), lengths.end());
}

/// x.shape() with the first `dims` sizes replaced by `lead`.
Shape with_lead(Shape lead, const Tensor& x, std::size_t dims) {
  for (std::size_t d = dims; d < x.shape().size(); ++d) lead.push_back(x.shape()[d]);
  return lead;
}

/// B_t for t = 0, 1, …: how many of the lengths, longest first, exceed t.
Sizes batch_sizes_of(const Sizes& sorted) {
  Sizes sizes(static_cast<std::size_t>(greatest(sorted)));
  auto running = sorted.end();
  for (std::size_t t = 0; t < sizes.size(); ++t) {
    while (running[-1] <= static_cast<std::int64_t>(t)) --running;
    sizes[t] = running - sorted.begin();
  }
  return sizes;
}

/// Checks `lengths` against the rows and steps of `x`, (T, N, …) or (N, T, …).
void check_lengths(const char* op, const Tensor& x, const Sizes& lengths, bool batch_first, std::int64_t least) {
  check<ValueError>(x.defined(), "{}: expected a tensor to pack or unpack, got an undefined one", op);
  check<ShapeError>(x.dim() >= 2, "{}: expected at least 2 dimensions, steps and batch, got shape {}", op, x.shape());
  const std::int64_t steps = x.size(batch_first ? 1 : 0), batch = x.size(batch_first ? 0 : 1);
  check<ValueError>(static_cast<std::int64_t>(lengths.size()) == batch, "{}: got {} lengths for a batch of {}", op,
                    lengths.size(), batch);
  for (std::size_t n = 0; n < lengths.size(); ++n) {
    check<ValueError>(lengths[n] >= least, "{}: lengths must be {}, got {} at {}", op, least > 0 ? "> 0" : ">= 0",
                      lengths[n], n);
    check<ValueError>(lengths[n] <= steps, "{}: length {} at {} exceeds the {} steps of shape {}", op, lengths[n], n,
                      steps, x.shape());
  }
}

void check_integers(const char* op, const char* name, const Tensor& list) {
  check<ValueError>(list.defined(), "{}: {} must be an int64 vector, got an undefined tensor", op, name);
  check<DTypeError>(list.dtype() == DType::Int64, "{}: {} must be int64, got {}", op, name, list.dtype());
  check<ShapeError>(list.dim() == 1, "{}: {} must be a vector, got shape {}", op, name, list.shape());
}

Tensor inverse_of(const char* op, const char* name, const Tensor& permutation) {
  if (!permutation.defined()) return {};
  const Sizes p = Lengths(permutation).values(op, name);
  Sizes inverse(p.size(), -1);
  for (std::size_t i = 0; i < p.size(); ++i) {
    bool fits = p[i] >= 0 && p[i] < static_cast<std::int64_t>(p.size());
    check<ValueError>(fits && inverse[static_cast<std::size_t>(p[i])] < 0,
                      "{}: {} is no permutation: {} at {} of {} is out of range or comes twice", op, name, p[i], i,
                      p.size());
    inverse[static_cast<std::size_t>(p[i])] = static_cast<std::int64_t>(i);
  }
  return vector_of(inverse);
}
}  // namespace

std::vector<std::int64_t> Lengths::values(const char* op, const char* name) const {
  if (!is_tensor_) return list_;
  check_integers(op, name, tensor_);
  return tensor_.to_vector<std::int64_t>();
}

PackedSequence::PackedSequence(Tensor data, const Lengths& batch_sizes, Tensor sorted_indices, Tensor unsorted_indices)
    : data_(std::move(data)), batch_sizes_(batch_sizes.values("packed_sequence", "batch_sizes")),
      sorted_indices_(std::move(sorted_indices)), unsorted_indices_(std::move(unsorted_indices)) {
  check<ValueError>(data_.defined(), "packed_sequence: expected a tensor as data, got an undefined one");
  check<ShapeError>(data_.dim() >= 1, "packed_sequence: data must have a dimension of rows, got shape {}",
                    data_.shape());
  std::int64_t rows = 0;
  for (std::size_t t = 0; t < batch_sizes_.size(); ++t) {
    check<ValueError>(batch_sizes_[t] > 0, "packed_sequence: batch_sizes must be > 0, got {} at {}", batch_sizes_[t],
                      t);
    check<ValueError>(t == 0 || batch_sizes_[t] <= batch_sizes_[t - 1],
                      "packed_sequence: batch_sizes must not rise, got {} after {} at {}", batch_sizes_[t],
                      t == 0 ? 0 : batch_sizes_[t - 1], t);
    check<ValueError>(batch_sizes_[t] <= data_.size(0) - rows,
                      "packed_sequence: batch_sizes add up to more than the {} rows of data", data_.size(0));
    rows += batch_sizes_[t];
  }
  check<ValueError>(rows == data_.size(0), "packed_sequence: batch_sizes add up to {}, data has {} rows", rows,
                    data_.size(0));
  const char* op = "packed_sequence";
  if (sorted_indices_.defined()) sorted_indices_ = sorted_indices_.clone();  // the caller's may be written
  if (unsorted_indices_.defined()) check_integers(op, "unsorted_indices", unsorted_indices_);
  if (!sorted_indices_.defined()) sorted_indices_ = inverse_of(op, "unsorted_indices", unsorted_indices_);
  const Tensor inverse = inverse_of(op, "sorted_indices", sorted_indices_);
  if (!inverse.defined()) {
    check<ValueError>(!batch_sizes_.empty(), "packed_sequence: batch_sizes must not be empty");
    return;
  }
  check<ValueError>(!unsorted_indices_.defined() || equal(unsorted_indices_, inverse),
                    "packed_sequence: unsorted_indices is not the inverse of sorted_indices");
  unsorted_indices_ = inverse;
  const std::int64_t running = batch_sizes_.empty() ? 0 : batch_sizes_[0];
  check<ValueError>(inverse.size(0) >= running, "packed_sequence: got {} indices for {} sequences", inverse.size(0),
                    running);
}

std::int64_t PackedSequence::size() const {
  return sorted_indices_.defined() ? sorted_indices_.numel() : batch_sizes_[0];
}

std::vector<std::int64_t> PackedSequence::lengths() const {
  Sizes sorted(static_cast<std::size_t>(size()));
  for (std::int64_t running : batch_sizes_)
    for (std::int64_t b = 0; b < running; ++b) ++sorted[static_cast<std::size_t>(b)];
  if (!unsorted_indices_.defined()) return sorted;
  Sizes lengths;
  for (std::int64_t rank : unsorted_indices_.to_vector<std::int64_t>())
    lengths.push_back(sorted[static_cast<std::size_t>(rank)]);
  return lengths;
}

PackedSequence PackedSequence::with_data(Tensor data) const {
  check<ShapeError>(data.dim() >= 1 && data.size(0) == data_.size(0),
                    "packed_sequence: expected {} rows of data, got shape {}", data_.size(0), data.shape());
  PackedSequence other = *this;
  other.data_ = std::move(data);
  return other;
}

PackedSequence pack_padded_sequence(const Tensor& input, const Lengths& list, const PackOptions& options) {
  const char* op = "pack_padded_sequence";
  const Sizes lengths = list.values(op);
  check_lengths(op, input, lengths, options.batch_first, options.allow_empty ? 0 : 1);
  check<ValueError>(input.numel() > 0 || options.allow_empty, "{}: cannot pack an empty tensor, got shape {}", op,
                    input.shape());
  const auto batch = static_cast<std::int64_t>(lengths.size());
  Sizes order(lengths.size());
  std::iota(order.begin(), order.end(), 0);
  auto length_of = [&](std::int64_t n) { return lengths[static_cast<std::size_t>(n)]; };
  auto longer = [&](std::int64_t a, std::int64_t b) { return length_of(a) > length_of(b); };
  if (!options.enforce_sorted) std::ranges::stable_sort(order, longer);
  auto later = std::ranges::adjacent_find(order, [&](std::int64_t a, std::int64_t b) { return longer(b, a); });
  check<ValueError>(later == order.end(),
                    "{}: lengths must be sorted in decreasing order, got {} before {}; enforce_sorted = false sorts "
                    "them",
                    op, later == order.end() ? 0 : length_of(*later), later == order.end() ? 0 : length_of(later[1]));

  Sizes sorted;
  for (std::int64_t n : order) sorted.push_back(length_of(n));
  Sizes batch_sizes = batch_sizes_of(sorted), rows;  // of input, its first two dimensions flattened to one
  const std::int64_t steps = input.size(options.batch_first ? 1 : 0);
  for (std::size_t t = 0; t < batch_sizes.size(); ++t)
    for (std::int64_t b = 0; b < batch_sizes[t]; ++b) {
      const std::int64_t n = order[static_cast<std::size_t>(b)], step = static_cast<std::int64_t>(t);
      rows.push_back(options.batch_first ? n * steps + step : step * batch + n);
    }
  Tensor data = index_select(reshape(input, with_lead({steps * batch}, input, 2)), 0, vector_of(rows));
  // A sequence of length 0 has no row: only the indices tell that it is there.
  const bool all_have_rows = !sorted.empty() && sorted.back() > 0;
  return {std::move(data), std::move(batch_sizes),
          options.enforce_sorted && all_have_rows ? Tensor() : vector_of(order)};
}

PaddedSequence pad_packed_sequence(const PackedSequence& sequence, const PadOptions& options) {
  const Tensor& data = sequence.data();
  const std::int64_t longest = static_cast<std::int64_t>(sequence.batch_sizes().size());
  const std::int64_t steps = options.total_length.value_or(longest), batch = sequence.size();
  check<ValueError>(steps >= longest, "pad_packed_sequence: total_length is {}, the longest sequence has {}", steps,
                    longest);
  // Every place of the result is a row of data, or the row of padding behind them.
  const std::int64_t padding = data.size(0);
  Sizes rank(static_cast<std::size_t>(batch));
  std::iota(rank.begin(), rank.end(), 0);
  if (sequence.unsorted_indices().defined()) rank = sequence.unsorted_indices().to_vector<std::int64_t>();
  const Tensor places = full(checked_mul(steps, batch), static_cast<double>(padding), DType::Int64);
  std::int64_t* rows = places.raw<std::int64_t>();
  std::int64_t first = 0;  // the row where step t begins
  for (std::int64_t t = 0; t < longest; ++t) {
    const std::int64_t running = sequence.batch_sizes()[static_cast<std::size_t>(t)];
    for (std::int64_t n = 0; n < batch; ++n)
      if (const std::int64_t b = rank[static_cast<std::size_t>(n)]; b < running)
        rows[options.batch_first ? n * steps + t : t * batch + n] = first + b;
    first += running;
  }
  Tensor padded_data = cat({data, full(with_lead({1}, data, 1), options.padding_value, data.dtype())});
  Shape lead = options.batch_first ? Shape{batch, steps} : Shape{steps, batch};
  return {view(index_select(padded_data, 0, places), with_lead(lead, data, 1)), sequence.lengths()};
}

Tensor pad_sequence(TensorList sequences, const PadOptions& options) {
  check<ValueError>(!sequences.empty(), "pad_sequence: expected at least one sequence");
  const Tensor& first = sequences[0];
  std::int64_t longest = 0;
  for (std::size_t n = 0; n < sequences.size(); ++n) {
    check<ValueError>(sequences[n].defined(), "pad_sequence: sequence {} is undefined", n);
    check<ShapeError>(sequences[n].dim() >= 1, "pad_sequence: sequence {} has shape (), expected a dimension of steps",
                      n);
    check<ShapeError>(with_lead({0}, sequences[n], 1) == with_lead({0}, first, 1),
                      "pad_sequence: sequence {} has shape {}, which does not continue shape {}", n,
                      sequences[n].shape(), first.shape());
    longest = std::max(longest, sequences[n].size(0));
  }
  const std::int64_t steps = options.total_length.value_or(longest);
  check<ValueError>(steps >= longest, "pad_sequence: total_length is {}, the longest sequence has {}", steps, longest);
  std::vector<Tensor> padded;
  for (const Tensor& x : sequences) {
    Tensor rest = full(with_lead({steps - x.size(0)}, first, 1), options.padding_value, first.dtype());
    padded.push_back(cat({x.to(first.dtype()), rest}));
  }
  return stack(padded, options.batch_first ? 0 : 1);
}

PackedSequence pack_sequence(TensorList sequences, bool enforce_sorted) {
  Sizes lengths;
  Tensor padded = pad_sequence(sequences);
  for (const Tensor& x : sequences) lengths.push_back(x.size(0));
  return pack_padded_sequence(padded, lengths, {.enforce_sorted = enforce_sorted});
}

std::vector<Tensor> unpad_sequence(const Tensor& padded, const Lengths& list, bool batch_first) {
  const Sizes lengths = list.values("unpad_sequence");
  check_lengths("unpad_sequence", padded, lengths, batch_first, 0);
  std::vector<Tensor> sequences;
  for (std::size_t n = 0; n < lengths.size(); ++n) {
    Tensor row = select(padded, batch_first ? 0 : 1, static_cast<std::int64_t>(n));
    sequences.push_back(narrow(row, 0, 0, lengths[n]));
  }
  return sequences;
}

std::vector<Tensor> unpack_sequence(const PackedSequence& sequence) {
  auto [padded, lengths] = pad_packed_sequence(sequence);
  return unpad_sequence(padded, lengths);
}

Tensor invert_permutation(const Tensor& permutation) {
  return inverse_of("invert_permutation", "the argument", permutation);
}

}  // namespace unroll::nn
