#include <unroll/core/kernels/index.h>
#include <unroll/core/kernels/loops.h>

namespace unroll::kernels {
namespace {

// Walks index, `dense` of its shape and the indexed tensor x, whose place along `dim` the index gives: rows(at, n,
// steps, stride) has offsets and steps of the three, and x's stride along dim. A scalar x is one element.
template <class Rows>
void for_index_rows(const Tensor& dense, const Tensor& index, const Tensor& x, std::size_t dim, Rows rows) {
  Strides others = x.dim() > 0 ? x.strides() : Strides(index.shape().size(), 0);
  std::int64_t stride = 0;
  if (!others.empty()) std::swap(others[dim], stride);
  for_rows<3>(index.shape(), {&dense.strides(), &index.strides(), &others},
              [&](auto at, std::int64_t n, auto step) { rows(at, n, step, stride); });
}

}  // namespace

void check_indices(const char* op, const char* what, const Tensor& index, std::size_t dim, std::int64_t size) {
  const std::int64_t* p = index.raw<std::int64_t>();
  for_rows<1>(index.shape(), {&index.strides()}, [&](auto at, std::int64_t n, auto step) {
    for (std::int64_t i = 0; i < n; ++i) {
      std::int64_t value = p[at[0] + i * step[0]];
      check<IndexError>(value >= 0 && value < size, "{}: {} {} is out of bounds for dimension {} with size {}", op,
                        what, value, dim, size);
    }
  });
}

void gather(const Tensor& y, const Tensor& x, std::size_t dim, const Tensor& index) {
  const std::int64_t* indices = index.raw<std::int64_t>();
  dispatch(x.dtype(), [&]<class T>() {
    T* to = y.raw<T>();
    const T* from = x.raw<T>();
    for_index_rows(y, index, x, dim, [&](auto at, std::int64_t n, auto step, std::int64_t stride) {
      T* out = to + at[0];
      const std::int64_t* which = indices + at[1];
      const T* in = from + at[2];
      if (step[1] == 0) {  // one index for the whole row
        in += *which * stride;
        for (std::int64_t i = 0; i < n; ++i) out[i * step[0]] = in[i * step[2]];
      } else {
        for (std::int64_t i = 0; i < n; ++i) out[i * step[0]] = in[i * step[2] + which[i * step[1]] * stride];
      }
    });
  });
}

void scatter_add(const Tensor& y, std::size_t dim, const Tensor& index, const Tensor& source) {
  const std::int64_t* indices = index.raw<std::int64_t>();
  dispatch_number("scatter_add", y.dtype(), [&]<class T>() {
    T* to = y.raw<T>();
    const T* from = source.raw<T>();
    for_index_rows(source, index, y, dim, [&](auto at, std::int64_t n, auto step, std::int64_t stride) {
      const T* in = from + at[0];
      const std::int64_t* which = indices + at[1];
      T* out = to + at[2];
      if (step[1] == 0) {
        out += *which * stride;
        for (std::int64_t i = 0; i < n; ++i) out[i * step[2]] += in[i * step[0]];
      } else {
        for (std::int64_t i = 0; i < n; ++i) out[i * step[2] + which[i * step[1]] * stride] += in[i * step[0]];
      }
    });
  });
}

}  // namespace unroll::kernels
