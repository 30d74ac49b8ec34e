#pragma once
#include <unroll/core/tensor.h>

#include <iosfwd>
#include <string>

#pragma GCC visibility push(default)
namespace unroll {

/// The elements as PyTorch prints them: four digits after the point, or in scientific notation when the magnitudes ask
/// for it; aligned, in lines of 80; of more than 1000 elements only the first and last three of each dimension. Then
/// what is not evident: the size if empty, dtype=float64, requires_grad=true or grad_fn=<the op>. The same in every
/// locale.
///
///     tensor([[0.4963, 0.7682],
///             [0.0885, 0.1320]], requires_grad=true)
std::string to_string(const Tensor& x);

std::ostream& operator<<(std::ostream& stream, const Tensor& x);
std::ostream& operator<<(std::ostream& stream, DType dtype);

}  // namespace unroll
#pragma GCC visibility pop

template <>
struct fmt::formatter<unroll::Tensor> : unroll::detail::AsText {};
