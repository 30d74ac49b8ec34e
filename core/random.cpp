#include <unroll/core/kernels/copy.h>
#include <unroll/core/kernels/loops.h>
#include <unroll/core/kernels/random.h>
#include <unroll/core/random.h>
#include <unroll/core/view.h>

#include <algorithm>
#include <limits>
#include <numeric>
#include <span>
#include <utility>
#include <vector>

namespace unroll {

namespace {

// The dimensions of x from the outermost in memory to the innermost: by falling strides. An expanded dimension has no
// place of its own and stays where it is, by the rule with which PyTorch's TensorIterator orders loops.
Shape memory_order(const Tensor& x) {
  const Strides& strides = x.strides();
  Shape order(strides.size(), 0);
  std::iota(order.begin(), order.end(), 0);
  for (std::size_t sorted = order.size(); sorted-- > 0;) {
    std::size_t at = sorted;
    for (std::size_t next = sorted + 1; next < order.size(); ++next) {
      auto a = static_cast<std::size_t>(order[at]), b = static_cast<std::size_t>(order[next]);
      if (strides[a] == 0 || strides[b] == 0) continue;
      if (strides[a] > strides[b] || (strides[a] == strides[b] && x.shape()[a] >= x.shape()[b])) break;
      std::swap(order[at], order[next]);
      at = next;
    }
  }
  return order;
}

}  // namespace

Tensor detail::laid_out_like(const Tensor& like) {
  Tensor y = empty_like(like);
  if (like.is_contiguous()) return y;
  Shape order = memory_order(like);
  Strides strides = y.strides();
  std::int64_t stride = 1;
  for (std::size_t i = order.size(); i-- > 0;) {
    auto d = static_cast<std::size_t>(order[i]);
    strides[d] = stride;
    stride *= like.shape()[d];
  }
  return detail::new_tensor(y.body().storage, Shape(y.shape()), std::move(strides), 0, y.dtype(), false);
}

namespace {

// Calls fill(first, count, step) for rows of x that together hold its elements in the order of memory.
template <class T, class Fill>
void in_memory_order(const Tensor& x, Fill fill) {
  Tensor in_order = x.is_contiguous() ? x : views::permute(x, memory_order(x));
  T* p = x.raw<T>();
  kernels::for_rows<1>(in_order.shape(), {&in_order.strides()},
                       [&](auto offset, std::int64_t n, auto step) { fill(p + offset[0], n, step[0]); });
}

void fill_uniform(const char* op, const Tensor& x, double from, double to, Generator& g) {
  dispatch_float(op, x.dtype(), [&]<class T>() {
    double limit = std::numeric_limits<T>::max();
    check<ValueError>(from <= to && from >= -limit && to <= limit && to - from <= limit,
                      "{}: [{}, {}) is not a finite {} range with from <= to", op, from, to, x.dtype());
    in_memory_order<T>(x, [&](T* first, std::int64_t n, std::int64_t step) {
      kernels::uniform(first, n, step, static_cast<T>(from), static_cast<T>(to), g);
    });
  });
}

void fill_normal(const char* op, const Tensor& x, double mean, double std, Generator& g) {
  check<ValueError>(std >= 0, "{}: expected a standard deviation >= 0, got {}", op, std);
  dispatch_float(op, x.dtype(), [&]<class T>() {
    if (x.is_contiguous() && x.numel() >= 16)
      return kernels::normal_blocks(x.raw<T>(), x.numel(), static_cast<T>(mean), static_cast<T>(std), g);
    in_memory_order<T>(
        x, [&](T* first, std::int64_t n, std::int64_t step) { kernels::normal(first, n, step, mean, std, g); });
  });
}

void fill_bernoulli(const Tensor& x, double p, Generator& g) {
  check<ValueError>(p >= 0 && p <= 1, "bernoulli_: expected a probability in [0, 1], got {}", p);
  dispatch(x.dtype(), [&]<class T>() {
    if (g.bernoulli_stream() == BernoulliStream::Portable)
      return in_memory_order<T>(
          x, [&](T* first, std::int64_t n, std::int64_t step) { kernels::bernoulli(first, n, step, p, g); });
    kernels::Mcg31 stream(g.random32());  // one draw for all of x, whose elements are taken in row-major order
    T* elements = x.raw<T>();
    kernels::for_rows<1>(x.shape(), {&x.strides()}, [&](auto offset, std::int64_t n, auto step) {
      for (std::int64_t i = 0; i < n; ++i) elements[offset[0] + i * step[0]] = static_cast<T>(stream.unit() < p);
    });
  });
}

// Writes x by fill(), as an in-place op does.
template <class Fill>
const Tensor& in_place(const char* op, const Tensor& x, Fill fill) {
  detail::before_write(x, op);
  fill();
  kernels::wrote(x, op);
  if (!x.is_leaf())
    x.copy_(kernels::clone(x));  // tells a graph being recorded that x no longer depends on what it was computed from
  return x;
}

}  // namespace

Tensor rand(const Shape& shape, DType dtype, Generator& generator) {
  Tensor x = empty(shape, dtype);
  fill_uniform("rand", x, 0, 1, generator);
  return x;
}

Tensor randn(const Shape& shape, DType dtype, Generator& generator) {
  Tensor x = empty(shape, dtype);
  fill_normal("randn", x, 0, 1, generator);
  return x;
}

Tensor rand_like(const Tensor& like, Generator& generator) {
  Tensor x = detail::laid_out_like(like);
  fill_uniform("rand_like", x, 0, 1, generator);
  return x;
}

Tensor randn_like(const Tensor& like, Generator& generator) {
  Tensor x = detail::laid_out_like(like);
  fill_normal("randn_like", x, 0, 1, generator);
  return x;
}

Tensor randint(std::int64_t low, std::int64_t high, const Shape& shape, Generator& generator) {
  check<ValueError>(low < high, "randint: expected low < high, got {} and {}", low, high);
  Tensor x = empty(shape, DType::Int64);
  std::uint64_t range = static_cast<std::uint64_t>(high) - static_cast<std::uint64_t>(low);
  kernels::integers(x.raw<std::int64_t>(), x.numel(), low, range, generator);
  return x;
}

Tensor randperm(std::int64_t n, Generator& generator) {
  check<ValueError>(n >= 0, "randperm: expected n >= 0, got {}", n);
  Tensor x = empty({n}, DType::Int64);
  kernels::permutation(x.raw<std::int64_t>(), n, generator);
  return x;
}

Tensor bernoulli(const Tensor& probabilities, Generator& generator) {
  Tensor p = kernels::contiguous(probabilities), x = empty_like(p);
  dispatch_float("bernoulli", p.dtype(), [&]<class T>() {
    const T* values = p.raw<T>();
    for (std::int64_t i = 0; i < p.numel(); ++i)
      check<ValueError>(values[i] >= 0 && values[i] <= 1, "bernoulli: expected probabilities in [0, 1], got {}",
                        values[i]);
    kernels::bernoulli(x.raw<T>(), values, p.numel(), generator);
  });
  return x;
}

namespace {

template <class T>
void check_weights(std::span<const T> weights, std::int64_t row) {
  T sum = 0;
  for (T w : weights) {
    check<ValueError>(w >= 0 && w <= std::numeric_limits<T>::max(),
                      "multinomial: expected finite weights >= 0, got {} in row {}", w, row);
    sum += w;
  }
  check<ValueError>(sum > 0 && sum <= std::numeric_limits<T>::max(),
                    "multinomial: expected weights of a finite sum > 0, got {} in row {}", sum, row);
}

// The first category at which the cumulative probability, summed in T as in PyTorch, reaches a uniform number, once a
// sample.
template <class T>
void draw_with_replacement(std::span<const T> weights, std::span<std::int64_t> chosen, Generator& g) {
  std::vector<T> cumulative(weights.size());
  std::partial_sum(weights.begin(), weights.end(), cumulative.begin());
  const T sum = cumulative.back();
  for (T& c : cumulative) c /= sum;
  for (std::int64_t& index : chosen) {
    double u = 0;
    kernels::uniform(&u, 1, 1, 0., 1., g);
    index =
        std::ranges::lower_bound(cumulative, u, {}, [](T c) { return static_cast<double>(c); }) - cumulative.begin();
  }
}

// Exponential clocks of rates w, each of which first rings after a time e / w: the order in which they do is that of
// draws without replacement.
template <class T>
void draw_first_to_ring(std::span<const T> weights, const T* clocks, std::span<std::int64_t> chosen) {
  std::vector<std::pair<T, std::int64_t>> rates(weights.size());  // w / e, negated, so that the first come first
  for (std::size_t c = 0; c < rates.size(); ++c)
    rates[c] = {weights[c] > 0 ? -weights[c] / clocks[c] : T{0}, static_cast<std::int64_t>(c)};
  std::ranges::partial_sort(rates, rates.begin() + std::ssize(chosen));
  for (std::size_t k = 0; k < chosen.size(); ++k) chosen[k] = rates[k].second;
}

}  // namespace

Tensor multinomial(const Tensor& probabilities, std::int64_t num_samples, bool replacement, Generator& generator) {
  check<ShapeError>(probabilities.dim() == 1 || probabilities.dim() == 2,
                    "multinomial: expected probabilities (C) or (N, C), got shape {}", probabilities.shape());
  const std::int64_t categories = probabilities.size(-1), rows = probabilities.dim() == 2 ? probabilities.size(0) : 1;
  check<ValueError>(num_samples > 0, "multinomial: expected num_samples > 0, got {}", num_samples);
  check<ValueError>(replacement || num_samples <= categories,
                    "multinomial: {} samples of {} categories need replacement", num_samples, categories);
  Shape shape = probabilities.shape();
  shape.back() = num_samples;
  const Tensor chosen = empty(shape, DType::Int64), p = kernels::contiguous(probabilities);
  dispatch_float("multinomial", p.dtype(), [&]<class T>() {
    auto weights = [&](std::int64_t row) {
      return std::span<const T>(p.raw<T>() + row * categories, static_cast<std::size_t>(categories));
    };
    auto samples = [&](std::int64_t row) {
      return std::span(chosen.raw<std::int64_t>() + row * num_samples, static_cast<std::size_t>(num_samples));
    };
    for (std::int64_t row = 0; row < rows; ++row) check_weights(weights(row), row);
    if (replacement && num_samples > 1) {
      for (std::int64_t row = 0; row < rows; ++row) draw_with_replacement(weights(row), samples(row), generator);
      return;
    }
    Tensor clocks = detail::laid_out_like(probabilities);
    in_memory_order<T>(
        clocks, [&](T* first, std::int64_t n, std::int64_t step) { kernels::exponential(first, n, step, generator); });
    clocks = kernels::contiguous(clocks);
    for (std::int64_t row = 0; row < rows; ++row)
      draw_first_to_ring(weights(row), clocks.raw<T>() + row * categories, samples(row));
  });
  return chosen;
}

const Tensor& uniform_(const Tensor& x, double from, double to, Generator& generator) {
  return in_place("uniform_", x, [&] { fill_uniform("uniform_", x, from, to, generator); });
}

const Tensor& normal_(const Tensor& x, double mean, double std, Generator& generator) {
  return in_place("normal_", x, [&] { fill_normal("normal_", x, mean, std, generator); });
}

const Tensor& bernoulli_(const Tensor& x, double p, Generator& generator) {
  return in_place("bernoulli_", x, [&] { fill_bernoulli(x, p, generator); });
}

}  // namespace unroll
