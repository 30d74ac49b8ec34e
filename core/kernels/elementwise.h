#pragma once
#include <unroll/core/kernels/copy.h>
#include <unroll/core/kernels/loops.h>
#include <unroll/core/view.h>

#include <array>
#include <cmath>
#include <type_traits>

/// Elementwise computation, unrecorded. `f` is a generic lambda on values; the dtype is resolved once, outside the
/// loop. Several threads may call it.
namespace unroll::kernels {

/// Walks y and x of y's shape, whatever their geometry. Kept apart from the loop over contiguous ones, which should
/// find its arguments in registers: most tensors are small.
template <class T, class R, class F>
[[gnu::noinline]] void map_strided(const Tensor& y, const Tensor& x, F f) {
  const T* in = x.raw<T>();
  R* out = y.raw<R>();
  for_rows<2>(y.shape(), {&y.strides(), &x.strides()}, [&](auto offset, std::int64_t n, auto step) {
    in_parts(n, [&](std::int64_t first, std::int64_t count) {
      for (std::int64_t i = first; i < first + count; ++i)
        out[offset[0] + i * step[0]] = f(in[offset[1] + i * step[1]]);
    });
  });
}

/// y[i] = f(x[i]) with elements of type R from elements of type T.
template <class T, class R, class F>
void map_into(const Tensor& y, const Tensor& x, F f) {
  const detail::Elements &to = y.body(), &from = x.body();
  if (!from.contiguous || !to.contiguous) [[unlikely]]
    return map_strided<T, R>(y, x, f);
  const T* in = from.data<T>();
  R* out = to.data<R>();
  in_parts(to.numel, [=](std::int64_t first, std::int64_t n) {
    for (std::int64_t i = first; i < first + n; ++i) out[i] = f(in[i]);
  });
}

/// The same of two.
template <class T, class R, class F>
[[gnu::noinline]] void zip_strided(const Tensor& y, const Tensor& a, const Tensor& b, F f) {
  const T *pa = a.raw<T>(), *pb = b.raw<T>();
  R* out = y.raw<R>();
  for_rows<3>(y.shape(), {&y.strides(), &a.strides(), &b.strides()}, [&](auto offset, std::int64_t n, auto step) {
    R* o = out + offset[0];
    const T *x = pa + offset[1], *z = pb + offset[2];
    in_parts(n, [=](std::int64_t first, std::int64_t count) {
      const std::int64_t last = first + count;
      auto row = [=](auto so, auto sx, auto sz) {
        for (std::int64_t i = first; i < last; ++i) o[i * so] = f(x[i * sx], z[i * sz]);
      };
      // Rows in which nothing is left out become vectors, one broadcast number beside them too.
      constexpr std::integral_constant<std::int64_t, 0> stays;
      constexpr std::integral_constant<std::int64_t, 1> next;
      using Steps = std::array<std::int64_t, 3>;
      if (step == Steps{1, 1, 1})
        row(next, next, next);
      else if (step == Steps{1, 1, 0})
        row(next, next, stays);
      else if (step == Steps{1, 0, 1})
        row(next, stays, next);
      else
        row(step[0], step[1], step[2]);
    });
  });
}

/// y[i] = f(a[i], b[i]); all three have y's shape.
template <class T, class R, class F>
void zip_into(const Tensor& y, const Tensor& a, const Tensor& b, F f) {
  const detail::Elements &to = y.body(), &left = a.body(), &right = b.body();
  if (!left.contiguous || !right.contiguous || !to.contiguous) [[unlikely]]
    return zip_strided<T, R>(y, a, b, f);
  const T *pa = left.data<T>(), *pb = right.data<T>();
  R* out = to.data<R>();
  in_parts(to.numel, [=](std::int64_t first, std::int64_t n) {
    for (std::int64_t i = first; i < first + n; ++i) out[i] = f(pa[i], pb[i]);
  });
}

/// y[i] = f(y[i], x[i]) of n elements in a row; x lies elsewhere.
template <class T, class F>
[[gnu::always_inline]] inline void update_row(T* __restrict y, const T* x, std::int64_t n, F f) {
  for (std::int64_t i = 0; i < n; ++i) y[i] = f(y[i], x[i]);
}

/// The same of tensors of one shape and dtype.
template <class T, class F>
void update(const Tensor& y, const Tensor& x, F f) {
  const detail::Elements &to = y.body(), &from = x.body();
  if (!from.contiguous || !to.contiguous) [[unlikely]]
    return zip_strided<T, T>(y, y, x, f);
  T* sum = to.data<T>();
  const T* more = from.data<T>();
  in_parts(to.numel, [=](std::int64_t first, std::int64_t n) { update_row(sum + first, more + first, n, f); });
}

inline void check_same_dtype(const char* op, const Tensor& a, const Tensor& b) {
  check<DTypeError>(a.dtype() == b.dtype(), "{}: dtypes {} and {} differ; convert one with to()", op, a.dtype(),
                    b.dtype());
}

/// An int64 tensor takes whole numbers only: 0.5 would silently become 0.
inline void check_number(const char* op, const Tensor& x, double b) {
  check<DTypeError>(x.dtype() != DType::Int64 || (b == std::trunc(b) && std::abs(b) < 0x1p63),
                    "{}: {} is no int64; convert the tensor with to()", op, b);
}

/// f of every element of a floating tensor.
template <class F>
Tensor map(const char* op, const Tensor& x, F f) {
  return dispatch_float(op, x.dtype(), [&]<class T>() {
    Tensor y = empty_like(x);
    map_into<T, T>(y, x, f);
    return y;
  });
}

/// f(y, x, n) of n elements in a row, for a floating tensor.
template <class F>
Tensor map_rows(const char* op, const Tensor& x, F f) {
  if (!x.is_contiguous()) [[unlikely]]
    return map_rows(op, contiguous(x), f);
  return dispatch_float(op, x.dtype(), [&]<class T>() {
    Tensor y = empty_like(x);
    T* to = y.body().data<T>();
    const T* from = x.body().data<T>();
    in_parts(x.numel(), [=](std::int64_t first, std::int64_t n) { f(to + first, from + first, n); });
    return y;
  });
}

/// f of every element of a floating or Int64 tensor.
template <class F>
Tensor map_number(const char* op, const Tensor& x, F f) {
  return dispatch_number(op, x.dtype(), [&]<class T>() {
    Tensor y = empty_like(x);
    map_into<T, T>(y, x, f);
    return y;
  });
}

/// y[i] = f(a[i], b[i]) of n elements in a row; y is memory of its own.
template <class T, class R, class F>
[[gnu::always_inline]] inline void zip_row(R* __restrict y, const T* a, const T* b, std::int64_t n, F f) {
  for (std::int64_t i = 0; i < n; ++i) y[i] = f(a[i], b[i]);
}

/// Which operands an op takes, and what it makes of them: numbers of their dtype, or Bool.
enum class Zip { Floats, Numbers, Comparison };

template <Zip kind, class F>
decltype(auto) dispatch_zip(const char* op, DType dtype, F&& f) {
  if constexpr (kind == Zip::Floats)
    return dispatch_float(op, dtype, f);
  else if constexpr (kind == Zip::Numbers)
    return dispatch_number(op, dtype, f);
  else
    return dispatch(dtype, f);
}

/// An element of the result for operands of type T.
template <Zip kind, class T>
using Zipped = std::conditional_t<kind == Zip::Comparison, bool, T>;

/// Operands that have to be broadcast, or refused, or are not row-major.
template <Zip kind, class F>
[[gnu::noinline]] Tensor zip_broadcast(const char* op, const Tensor& a, const Tensor& b, F f) {
  check_same_dtype(op, a, b);
  const DType result = kind == Zip::Comparison ? DType::Bool : a.dtype();
  Tensor y =
      a.shape() == b.shape() ? detail::new_like(a.body(), result) : empty(broadcast(op, a.shape(), b.shape()), result);
  auto to_size = [&](const Tensor& x) { return x.shape() == y.shape() ? x : views::expand(x, y.shape()); };
  Tensor left = to_size(a), right = to_size(b);
  dispatch_zip<kind>(op, a.dtype(), [&]<class T>() { zip_into<T, Zipped<kind, T>>(y, left, right, f); });
  return y;
}

/// f of two tensors of one dtype, broadcast.
template <Zip kind, class F>
Tensor zip(const char* op, const Tensor& a, const Tensor& b, F f) {
  const detail::Elements &left = a.body(), &right = b.body();
  const bool in_step = left.dtype == right.dtype && left.contiguous && right.contiguous && left.shape == right.shape;
  if (!in_step) [[unlikely]] {
    Tensor y = zip_broadcast<kind>(op, a, b, f);
    // A tensor of its own: zip_broadcast is told where its result is to lie, and if that were the op's y, the op would
    // read y from memory from then on.
    return Tensor(std::move(y));
  }
  return dispatch_zip<kind>(op, left.dtype, [&]<class T>() {
    using R = Zipped<kind, T>;
    Tensor y = detail::new_like(left, dtype_of<R>);
    R* to = static_cast<R*>(y.body().storage->data());
    const T *from = left.data<T>(), *with = right.data<T>();
    in_parts(left.numel,
             [=](std::int64_t first, std::int64_t n) { zip_row(to + first, from + first, with + first, n, f); });
    return y;
  });
}

/// f of two floating tensors, broadcast.
template <class F>
Tensor zip(const char* op, const Tensor& a, const Tensor& b, F f) {
  return zip<Zip::Floats>(op, a, b, f);
}

/// f of two floating or two Int64 tensors, broadcast.
template <class F>
Tensor zip_number(const char* op, const Tensor& a, const Tensor& b, F f) {
  return zip<Zip::Numbers>(op, a, b, f);
}

/// A predicate of two tensors of one dtype, broadcast, as a Bool tensor.
template <class F>
Tensor compare(const char* op, const Tensor& a, const Tensor& b, F f) {
  return zip<Zip::Comparison>(op, a, b, f);
}

}  // namespace unroll::kernels
