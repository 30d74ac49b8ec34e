#include <unroll/core/kernels/copy.h>
#include <unroll/core/kernels/elementwise.h>

#include <algorithm>
#include <cmath>
#include <cstring>

namespace unroll::kernels {

void fill(const Tensor& x, double value) {
  check<ValueError>(x.dtype() != DType::Int64 || detail::fits<std::int64_t>(value), "fill: {} is no int64", value);
  dispatch(x.dtype(), [&]<class T>() {
    T* p = x.raw<T>();
    auto v = static_cast<T>(value);
    for_rows<1>(x.shape(), {&x.strides()}, [&](auto offset, std::int64_t n, auto step) {
      if (step[0] == 1) {
        std::fill_n(p + offset[0], n, v);
      } else {
        for (std::int64_t i = 0; i < n; ++i) p[offset[0] + i * step[0]] = v;
      }
    });
  });
}

void copy(const Tensor& to, const Tensor& from) {
  Tensor source = from.shape() == to.shape() ? from : views::expand(from, to.shape());
  if (to.dtype() == from.dtype() && to.is_contiguous() && source.is_contiguous()) {
    dispatch(to.dtype(), [&]<class T>() {
      if (to.numel() > 0) std::memmove(to.raw<T>(), source.raw<T>(), static_cast<std::size_t>(to.numel()) * sizeof(T));
    });
    return;
  }
  dispatch(to.dtype(), [&]<class T>() {
    dispatch(source.dtype(), [&]<class S>() { map_into<S, T>(to, source, [](S v) { return static_cast<T>(v); }); });
  });
}

Tensor clone(const Tensor& x) {
  Tensor y = empty_like(x);
  copy(y, x);
  return y;
}

Tensor contiguous(const Tensor& x) { return x.is_contiguous() ? x : clone(x); }

Tensor cast(const Tensor& x, DType dtype) {
  if (x.dtype() == dtype) return x;
  Tensor y = empty(x.shape(), dtype);
  copy(y, x);
  return y;
}

void wrote(const Tensor& x, const char* op) {
  ++x.body().storage->version;
  x.body().storage->last_write = op;
}

}  // namespace unroll::kernels
