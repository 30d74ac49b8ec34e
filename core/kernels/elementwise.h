#pragma once
#include <unroll/core/kernels/copy.h>
#include <unroll/core/kernels/loops.h>
#include <unroll/core/view.h>

#include <cmath>

/// Elementwise computation, unrecorded. `f` is a generic lambda on values; the dtype is resolved once, outside the
/// loop.
namespace unroll::kernels {

/// Walks y and x of y's shape, whatever their geometry. Kept apart from the loop over contiguous ones, which should
/// find its arguments in registers: most tensors are small.
template <class T, class R, class F>
[[gnu::noinline]] void map_strided(const Tensor& y, const Tensor& x, F f) {
  const T* in = x.data<T>();
  R* out = y.data<R>();
  for_rows<2>(y.shape(), {&y.strides(), &x.strides()}, [&](auto offset, std::int64_t n, auto step) {
    for (std::int64_t i = 0; i < n; ++i) out[offset[0] + i * step[0]] = f(in[offset[1] + i * step[1]]);
  });
}

/// y[i] = f(x[i]) with elements of type R from elements of type T.
template <class T, class R, class F>
void map_into(const Tensor& y, const Tensor& x, F f) {
  if (!x.is_contiguous() || !y.is_contiguous()) return map_strided<T, R>(y, x, f);
  const T* in = x.data<T>();
  R* out = y.data<R>();
  for (std::int64_t i = 0, n = y.numel(); i < n; ++i) out[i] = f(in[i]);
}

/// The same of two.
template <class T, class R, class F>
[[gnu::noinline]] void zip_strided(const Tensor& y, const Tensor& a, const Tensor& b, F f) {
  const T *pa = a.data<T>(), *pb = b.data<T>();
  R* out = y.data<R>();
  for_rows<3>(y.shape(), {&y.strides(), &a.strides(), &b.strides()}, [&](auto offset, std::int64_t n, auto step) {
    R* o = out + offset[0];
    const T *x = pa + offset[1], *z = pb + offset[2];
    if (step[0] == 1 && step[1] == 1 && step[2] == 1)
      for (std::int64_t i = 0; i < n; ++i) o[i] = f(x[i], z[i]);
    else
      for (std::int64_t i = 0; i < n; ++i) o[i * step[0]] = f(x[i * step[1]], z[i * step[2]]);
  });
}

/// y[i] = f(a[i], b[i]); all three have y's shape.
template <class T, class R, class F>
void zip_into(const Tensor& y, const Tensor& a, const Tensor& b, F f) {
  if (!a.is_contiguous() || !b.is_contiguous() || !y.is_contiguous()) return zip_strided<T, R>(y, a, b, f);
  const T *pa = a.data<T>(), *pb = b.data<T>();
  R* out = y.data<R>();
  for (std::int64_t i = 0, n = y.numel(); i < n; ++i) out[i] = f(pa[i], pb[i]);
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
  Tensor y = empty_like(x);
  dispatch_float(op, x.dtype(), [&]<class T>() { map_into<T, T>(y, x, f); });
  return y;
}

/// f(y, x, n) of n elements in a row, for a floating tensor.
template <class F>
Tensor map_rows(const char* op, const Tensor& x, F f) {
  Tensor y = empty_like(x), in = contiguous(x);
  dispatch_float(op, x.dtype(), [&]<class T>() { f(y.data<T>(), static_cast<const T*>(in.data<T>()), y.numel()); });
  return y;
}

/// f of every element of a floating or Int64 tensor.
template <class F>
Tensor map_number(const char* op, const Tensor& x, F f) {
  Tensor y = empty_like(x);
  dispatch_number(op, x.dtype(), [&]<class T>() { map_into<T, T>(y, x, f); });
  return y;
}

/// Calls go(a, b, y) with both operands expanded to the shape they broadcast to and an empty result of dtype `result`.
template <class Go>
Tensor broadcast_zip(const char* op, const Tensor& a, const Tensor& b, DType result, Go go) {
  check_same_dtype(op, a, b);
  if (a.shape() == b.shape()) {
    Tensor y = detail::new_like(a.body(), result);
    go(a, b, y);
    return y;
  }
  Tensor y = empty(broadcast(op, a.shape(), b.shape()), result);
  go(views::expand(a, y.shape()), views::expand(b, y.shape()), y);
  return y;
}

/// f of two floating tensors, broadcast.
template <class F>
Tensor zip(const char* op, const Tensor& a, const Tensor& b, F f) {
  return broadcast_zip(op, a, b, a.dtype(), [&](const Tensor& x, const Tensor& z, const Tensor& y) {
    dispatch_float(op, a.dtype(), [&]<class T>() { zip_into<T, T>(y, x, z, f); });
  });
}

/// f of two floating or two Int64 tensors, broadcast.
template <class F>
Tensor zip_number(const char* op, const Tensor& a, const Tensor& b, F f) {
  return broadcast_zip(op, a, b, a.dtype(), [&](const Tensor& x, const Tensor& z, const Tensor& y) {
    dispatch_number(op, a.dtype(), [&]<class T>() { zip_into<T, T>(y, x, z, f); });
  });
}

/// A predicate of two tensors of one dtype, broadcast, as a Bool tensor.
template <class F>
Tensor compare(const char* op, const Tensor& a, const Tensor& b, F f) {
  return broadcast_zip(op, a, b, DType::Bool, [&](const Tensor& x, const Tensor& z, const Tensor& y) {
    dispatch(a.dtype(), [&]<class T>() { zip_into<T, bool>(y, x, z, f); });
  });
}

}  // namespace unroll::kernels
