#pragma once
#include <unroll/core/dtype.h>

namespace bench {

/// The most multiply-adds, two operations each, that `threads` threads do in registers alone, in 10⁹ a second: the
/// vectors are the widest that the library would use on this machine. Measures for about that many seconds.
double fma_peak_gflops(unroll::DType dtype, int threads, double seconds);

/// The same of the best square matrix product of the library, with as many threads as it has been given.
double gemm_peak_gflops(unroll::DType dtype, double seconds);

}  // namespace bench
