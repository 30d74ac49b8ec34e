#include <cblas.h>
#include <unroll/core/blas.h>
#include <unroll/core/error.h>

#include <limits>
#include <string_view>

namespace unroll::blas {
namespace {

// OpenBLAS has room for a fixed number of callers at a time (some hundreds, fixed when it was built) and ends the
// process when there are more; a host with that many threads in here has to bound them.
void call(CBLAS_TRANSPOSE ta, CBLAS_TRANSPOSE tb, int m, int n, int k, float alpha, const float* a, int lda,
          const float* b, int ldb, float beta, float* c, int ldc) {
  cblas_sgemm(CblasRowMajor, ta, tb, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc);
}

void call(CBLAS_TRANSPOSE ta, CBLAS_TRANSPOSE tb, int m, int n, int k, double alpha, const double* a, int lda,
          const double* b, int ldb, double beta, double* c, int ldc) {
  cblas_dgemm(CblasRowMajor, ta, tb, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc);
}

constexpr std::int64_t kMost = std::numeric_limits<int>::max();

int blas_int(std::int64_t value) {
  check<ShapeError>(value <= kMost, "gemm: {} exceeds 2^31 - 1, the most that BLAS takes", value);
  return static_cast<int>(value);
}

template <class T>
CBLAS_TRANSPOSE order(const Matrix<T>& x) {
  return x.transposed ? CblasTrans : CblasNoTrans;
}

// rows and columns as read, that is, after a transposition.
template <class T>
void check_ld(std::string_view name, const Matrix<T>& x, std::int64_t rows, std::int64_t columns) {
  std::int64_t row = x.transposed ? rows : columns;
  check<ShapeError>(x.ld >= row, "gemm: {} has rows of {} elements but ld = {}", name, row, x.ld);
}

// C ← beta C
template <class T>
void scale_rows(std::int64_t m, std::int64_t n, T beta, T* c, std::int64_t ld) {
  for (std::int64_t i = 0; i < m; ++i)
    for (std::int64_t j = 0; j < n; ++j) c[i * ld + j] = beta == 0 ? 0 : beta * c[i * ld + j];
}

}  // namespace

template <class T>
void gemm(const Size& size, Matrix<const std::type_identity_t<T>> a, Matrix<const std::type_identity_t<T>> b,
          Matrix<T> c, Scale<std::type_identity_t<T>> scale) {
  auto [m, n, k, batch] = size;
  if (c.transposed) {  // Cᵀ = Bᵀ Aᵀ
    a.transposed = !a.transposed;
    b.transposed = !b.transposed;
    c.transposed = false;
    return gemm<T>({n, m, k, batch}, b, a, c, scale);
  }
  check<ShapeError>(m >= 0 && n >= 0 && k >= 0 && batch >= 0,
                    "gemm: negative size in m = {}, n = {}, k = {}, batch = {}", m, n, k, batch);
  if (m == 0 || n == 0 || batch == 0) return;
  check_ld("C", c, m, n);
  if (k == 0) {
    for (std::int64_t i = 0; i < batch; ++i) scale_rows(m, n, scale.beta, c.data + i * c.next, c.ld);
    return;
  }
  check_ld("A", a, m, k);
  check_ld("B", b, k, n);
  // Where the rows of A and C run on from one matrix to the next and B stays the same, the batch is one tall product.
  if (batch > 1 && b.next == 0 && !a.transposed && a.next == m * a.ld && c.next == m * c.ld && m <= kMost / batch) {
    m *= batch;
    batch = 1;
  }
  int bm = blas_int(m), bn = blas_int(n), bk = blas_int(k), lda = blas_int(a.ld), ldb = blas_int(b.ld),
      ldc = blas_int(c.ld);
  for (std::int64_t i = 0; i < batch; ++i)
    call(order(a), order(b), bm, bn, bk, scale.alpha, a.data + i * a.next, lda, b.data + i * b.next, ldb, scale.beta,
         c.data + i * c.next, ldc);
}

template void gemm<float>(const Size&, Matrix<const float>, Matrix<const float>, Matrix<float>, Scale<float>);
template void gemm<double>(const Size&, Matrix<const double>, Matrix<const double>, Matrix<double>, Scale<double>);

}  // namespace unroll::blas
