#pragma once
#include <unroll/core/tensor.h>

/// Reading and adding by Int64 indices along one dimension, unrecorded; any geometry. An index that is repeated along
/// other dimensions comes as an expanded view (stride 0), and whole rows are then moved at once.
namespace unroll::kernels {

/// Raises IndexError unless all indices are in [0, size): "gather: index 7 is out of bounds for dimension 1 with size
/// 3".
void check_indices(const char* op, const char* what, const Tensor& index, std::size_t dim, std::int64_t size);

/// y[i, j, k] = x[i, index[i, j, k], k] for dim = 1 of three, and so on. y and index have one shape; the indices are
/// good.
void gather(const Tensor& y, const Tensor& x, std::size_t dim, const Tensor& index);

/// y[i, index[i, j, k], k] += source[i, j, k], in row-major order. source and index have one shape; the indices are
/// good.
void scatter_add(const Tensor& y, std::size_t dim, const Tensor& index, const Tensor& source);

}  // namespace unroll::kernels
