#pragma once
#include <cstdint>
#include <type_traits>

#pragma GCC visibility push(default)
/// Matrix products on raw pointers, by OpenBLAS. Those of at least 2²² multiplications and 128 rows or columns are cut
/// into up to 8 parts, which `set_num_threads` threads share; the parts depend on the sizes alone. OpenBLAS itself
/// stays in the thread that calls it: one that is built on pthreads is told so by the first product, for the whole
/// process and for good (openblas_set_num_threads), one that is built on OpenMP for the time of each product.
namespace unroll::blas {

/// Where the elements of a row-major matrix stand: row i begins at data[i · ld]. With `transposed`, what is read is
/// that matrix the other way round. In a batch the next matrix begins `next` elements on; 0 is the same one again.
template <class T>
struct Matrix {
  T* data;
  std::int64_t ld;
  bool transposed = false;
  std::int64_t next = 0;
};

struct Size {
  std::int64_t m, n, k, batch = 1;
};

template <class T>
struct Scale {
  T alpha = 1, beta = 0;
};

/// C ← alpha A B + beta C for each matrix of a batch, where A is (m, k), B (k, n) and C (m, n); float and double.
///
///     gemm<float>({.m = N, .n = 4 * H, .k = I}, {x, I}, {w_ih, I, true}, {gates, 4 * H});  // gates = x w_ihᵀ
///
/// beta = 0 overwrites C whatever it holds; alpha = 0 leaves A and B unread; k = 0 is an empty sum. C must not overlap
/// A or B, nor the matrices of C each other. Raises ShapeError for a negative size, an ld shorter than a row, and sizes
/// beyond 2³¹ − 1.
template <class T>
[[gnu::visibility("default")]] void gemm(const Size& size, Matrix<const std::type_identity_t<T>> a,
                                         Matrix<const std::type_identity_t<T>> b, Matrix<T> c,
                                         Scale<std::type_identity_t<T>> scale = {});

}  // namespace unroll::blas
#pragma GCC visibility pop
