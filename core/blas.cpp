#include <cblas.h>
#include <dlfcn.h>
#include <unroll/core/blas.h>
#include <unroll/core/error.h>
#include <unroll/core/parallel.h>

#include <algorithm>
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

// While it lives OpenBLAS works in the thread that calls it: what is worth several is cut into parts here. Its build on
// OpenMP takes as many threads as OpenMP would just there, a number that is the host's and given back to it. Other
// builds know one number for the process, which is set for good.
class OneThread {
 public:
  OneThread() noexcept : before_(openmp().get != nullptr ? openmp().get() : 1) {
    if (before_ > 1) openmp().set(1);
  }
  ~OneThread() {
    if (before_ > 1) openmp().set(before_);
  }
  OneThread(const OneThread&) = delete;
  OneThread& operator=(const OneThread&) = delete;

 private:
  struct OpenMP {
    int (*get)() = nullptr;
    void (*set)(int) = nullptr;
  };
  // By name, since the library has nothing to do with OpenMP where its OpenBLAS has not.
  static const OpenMP& openmp() noexcept {
    static const OpenMP found = [] {
      constexpr int kBuiltOnOpenMP = 2;
      if (openblas_get_parallel() == kBuiltOnOpenMP)
        return OpenMP{reinterpret_cast<int (*)()>(dlsym(RTLD_DEFAULT, "omp_get_max_threads")),
                      reinterpret_cast<void (*)(int)>(dlsym(RTLD_DEFAULT, "omp_set_num_threads"))};
      openblas_set_num_threads(1);
      return OpenMP{};
    }();
    return found;
  }

  const int before_;
};

// How many parts C is cut into along its longer side. Each reads and packs the whole of the other factor once more: a
// large product takes 1 to 5 % longer in one thread. Their number does not depend on threads, as OpenBLAS may sum in
// another order where a matrix has another size.
std::int64_t parts_of(std::int64_t length, double multiplications) {
  constexpr double kMultiplications = 1 << 21, kLength = 128, kMostParts = 8;
  const double lengths = static_cast<double>(length) / kLength;
  const double halves = std::min(2 * lengths, 2.0);  // of a gradient of W, whose k is long
  return static_cast<std::int64_t>(
      std::clamp(std::min(std::max(lengths, halves), multiplications / kMultiplications), 1.0, kMostParts));
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
  const int bm = blas_int(m), bn = blas_int(n), bk = blas_int(k), lda = blas_int(a.ld), ldb = blas_int(b.ld),
            ldc = blas_int(c.ld);
  // Parts are rows of A and C, or columns of B and C.
  const bool by_rows = m > n;
  const std::int64_t length = std::max(m, n);
  const std::int64_t step_a = by_rows ? (a.transposed ? 1 : a.ld) : 0, step_b = by_rows ? 0 : (b.transposed ? b.ld : 1),
                     step_c = by_rows ? c.ld : 1;
  auto product = [&](std::int64_t i, std::int64_t first, int count) {
    call(order(a), order(b), by_rows ? count : bm, by_rows ? bn : count, bk, scale.alpha,
         a.data + i * a.next + first * step_a, lda, b.data + i * b.next + first * step_b, ldb, scale.beta,
         c.data + i * c.next + first * step_c, ldc);
  };
  const double multiplications = static_cast<double>(m) * static_cast<double>(n) * static_cast<double>(k);
  if (multiplications < 1 << 16) {  // up to 2^18 OpenBLAS takes no threads by itself
    for (std::int64_t i = 0; i < batch; ++i) product(i, 0, std::max(bm, bn));
    return;
  }
  const std::int64_t parts = parts_of(length, multiplications);
  for (std::int64_t i = 0; i < batch; ++i)
    parallel(parts, [&, i](std::int64_t part) {
      const OneThread only;
      const std::int64_t first = length * part / parts, last = length * (part + 1) / parts;
      product(i, first, static_cast<int>(last - first));
    });
}

template void gemm<float>(const Size&, Matrix<const float>, Matrix<const float>, Matrix<float>, Scale<float>);
template void gemm<double>(const Size&, Matrix<const double>, Matrix<const double>, Matrix<double>, Scale<double>);

}  // namespace unroll::blas
