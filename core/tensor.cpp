#include <unroll/core/kernels/copy.h>
#include <unroll/core/tensor.h>

#include <algorithm>
#include <cmath>

namespace unroll {

Tensor empty(const Shape& shape, DType dtype) {
  const std::int64_t n = numel(shape);  // first, as it checks the sizes
  return detail::adopted(detail::new_dense_of(shape, n, dtype));
}

Tensor full(const Shape& shape, double value, DType dtype) {
  Tensor x = empty(shape, dtype);
  kernels::fill(x, value);
  return x;
}

Tensor zeros(const Shape& shape, DType dtype) { return full(shape, 0, dtype); }
Tensor ones(const Shape& shape, DType dtype) { return full(shape, 1, dtype); }
Tensor scalar(double value, DType dtype) { return full({}, value, dtype); }

namespace {
// [i] value(i)
template <class F>
Tensor range_of(std::int64_t count, DType dtype, F value) {
  Tensor x = empty(count, dtype);
  dispatch_number("arange", dtype, [&]<class T>() {
    T* p = x.raw<T>();
    for (std::int64_t i = 0; i < count; ++i) p[i] = static_cast<T>(value(i));
  });
  return x;
}

template <class Bound>
void check_range(Bound start, Bound end, Bound step) {
  check<ValueError>(step != 0 && std::isfinite(start) && std::isfinite(end),
                    "arange: expected finite bounds and a step other than 0, got {}, {}, {}", start, end, step);
  check<ValueError>(step > 0 ? start <= end : step < 0 && start >= end,
                    "arange: a step of {} does not lead from {} to {}", step, start, end);
}
}  // namespace

Tensor detail::arange(double start, double end, double step, DType dtype) {
  check_range(start, end, step);
  const double count = std::ceil((end - start) / step);
  check<ShapeError>(count < 0x1p62, "arange: {} elements are too many", count);
  if (dtype == DType::Int64) {
    start = std::trunc(start), step = std::trunc(step);
    for (double value : {start, end, step})
      check<ValueError>(detail::fits<std::int64_t>(value), "arange: {} is no int64", value);
  }
  return range_of(static_cast<std::int64_t>(count), dtype,
                  [=](std::int64_t i) { return start + static_cast<double>(i) * step; });
}

Tensor detail::arange(std::int64_t start, std::int64_t end, std::int64_t step, DType dtype) {
  check_range(start, end, step);
  // Without their sign, since a difference may be beyond int64, and so may i · step.
  const auto first = static_cast<std::uint64_t>(start), last = static_cast<std::uint64_t>(end),
             by = static_cast<std::uint64_t>(step);
  const std::uint64_t way = step > 0 ? last - first : first - last, stride = step > 0 ? by : -by;
  const std::uint64_t count = way / stride + (way % stride != 0);
  check<ShapeError>(count < std::uint64_t{1} << 62, "arange: {} elements are too many", count);
  return range_of(static_cast<std::int64_t>(count), dtype, [=](std::int64_t i) {
    return static_cast<std::int64_t>(first + static_cast<std::uint64_t>(i) * by);
  });
}

Tensor eye(std::int64_t n, DType dtype) {
  Tensor x = zeros({n, n}, dtype);
  if (n > 0) kernels::fill(detail::new_tensor(x.body().storage, {n}, {n + 1}, 0, dtype, false), 1);
  return x;
}

Tensor zeros_like(const Tensor& like) { return zeros(like.shape(), like.dtype()); }
Tensor ones_like(const Tensor& like) { return ones(like.shape(), like.dtype()); }
Tensor full_like(const Tensor& like, double value) { return full(like.shape(), value, like.dtype()); }

namespace {
void check_count(std::size_t values, const Shape& shape) {
  check<ShapeError>(static_cast<std::int64_t>(values) == numel(shape), "from_data: {} values do not fill shape {}",
                    values, shape);
}

template <class T, class Values>
Tensor copied(const Values& values, const Shape& shape) {
  check_count(values.size(), shape);
  Tensor x = empty(shape, dtype_of<T>);
  std::copy(values.begin(), values.end(), x.raw<T>());
  return x;
}

// Where T is an integer, raises unless it can hold the number, its fraction aside.
template <class T, class S>
T converted(const char* op, S number) {
  if constexpr (std::signed_integral<T>)
    check<ValueError>(detail::fits<T>(number), "{}: {} is no int{}", op, number, 8 * sizeof(T));
  return static_cast<T>(number);
}
}  // namespace

template <Literal V>
Tensor tensor(std::initializer_list<V> values, DType dtype) {
  Tensor x = empty({static_cast<std::int64_t>(values.size())}, dtype);
  dispatch(dtype, [&]<class T>() {
    std::transform(values.begin(), values.end(), x.raw<T>(), [](V v) { return converted<T>("tensor", v); });
  });
  return x;
}

template <Literal V>
Tensor tensor(std::initializer_list<std::initializer_list<V>> rows, DType dtype) {
  if (rows.size() == 0) return empty({0}, dtype);  // what an empty list is taken for
  const std::size_t columns = rows.begin()->size();
  Tensor x = empty({static_cast<std::int64_t>(rows.size()), static_cast<std::int64_t>(columns)}, dtype);
  dispatch(dtype, [&]<class T>() {
    T* p = x.raw<T>();
    for (const auto& row : rows) {
      check<ShapeError>(row.size() == columns, "tensor: rows of {} and {} elements", columns, row.size());
      p = std::transform(row.begin(), row.end(), p, [](V v) { return converted<T>("tensor", v); });
    }
  });
  return x;
}

template <class T>
Tensor from_data(std::span<const T> values, const Shape& shape) {
  return copied<T>(values, shape);
}
template <class T>
Tensor from_data(const std::vector<T>& values, const Shape& shape) {
  return copied<T>(values, shape);
}
template <Literal T>
T Tensor::item() const {
  check<ShapeError>(numel() == 1, "item: expected one element, got shape {}", shape());
  return dispatch(dtype(), [&]<class S>() { return converted<T>("item", *raw<S>()); });
}
template <Element T>
std::vector<T> Tensor::to_vector() const {
  check<DTypeError>(dtype_of<T> == dtype(), "to_vector: the tensor is {}, asked for as {}", dtype(), dtype_of<T>);
  Tensor x = kernels::contiguous(*this);
  return std::vector<T>(x.raw<T>(), x.raw<T>() + x.numel());
}

template Tensor from_data(std::span<const float>, const Shape&);
template Tensor from_data(std::span<const double>, const Shape&);
template Tensor from_data(std::span<const std::int64_t>, const Shape&);
template Tensor from_data(std::span<const bool>, const Shape&);
template Tensor from_data(const std::vector<float>&, const Shape&);
template Tensor from_data(const std::vector<double>&, const Shape&);
template Tensor from_data(const std::vector<std::int64_t>&, const Shape&);
template Tensor from_data(const std::vector<bool>&, const Shape&);
template float Tensor::item() const;
template double Tensor::item() const;
template int Tensor::item() const;
template long Tensor::item() const;
template long long Tensor::item() const;
template bool Tensor::item() const;
template std::vector<float> Tensor::to_vector() const;
template std::vector<double> Tensor::to_vector() const;
template std::vector<std::int64_t> Tensor::to_vector() const;
template std::vector<bool> Tensor::to_vector() const;
template Tensor tensor(std::initializer_list<float>, DType);
template Tensor tensor(std::initializer_list<double>, DType);
template Tensor tensor(std::initializer_list<int>, DType);
template Tensor tensor(std::initializer_list<long>, DType);
template Tensor tensor(std::initializer_list<long long>, DType);
template Tensor tensor(std::initializer_list<bool>, DType);
template Tensor tensor(std::initializer_list<std::initializer_list<float>>, DType);
template Tensor tensor(std::initializer_list<std::initializer_list<double>>, DType);
template Tensor tensor(std::initializer_list<std::initializer_list<int>>, DType);
template Tensor tensor(std::initializer_list<std::initializer_list<long>>, DType);
template Tensor tensor(std::initializer_list<std::initializer_list<long long>>, DType);
template Tensor tensor(std::initializer_list<std::initializer_list<bool>>, DType);

}  // namespace unroll
