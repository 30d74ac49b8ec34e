#pragma once
#include <cstdint>

/// A step of an optimizer over n elements, in one pass, rounded as PyTorch rounds it: where a comment says a·b + c, it
/// is rounded once in float. T is float or double.
namespace unroll::kernels {

template <class T>
struct SGDStep {
  T lr, momentum, kept, decay, sign;
  bool nesterov;
};

/// g = sign·grad, and if decay is not 0, g = decay·p + g; p = −lr·d + p, where the direction d is g. With a buffer,
/// buffer = kept·g + (momentum·buffer), or g in the `first` step, and d is that or, by Nesterov, momentum·buffer + g.
template <class T>
void sgd(T* p, T* buffer, const T* grad, std::int64_t n, const SGDStep<T>& step, bool first);

template <class T>
struct AdamStep {
  T beta1, kept1, beta2, kept2;  // kept is 1 − beta
  T rate, root, eps;             // lr / (1 − beta1ᵗ) and √(1 − beta2ᵗ)
  T shrink, decay, sign;         // p is scaled by shrink; decay is added to the gradient
};

/// g as above, m = kept1·g + (beta1·m), v = (kept2·g)·g + (beta2·v), and p = shrink·p − rate·m / (√v / root + eps), all
/// rounded one by one in the last. Unless `greatest` is null, it becomes max(greatest, v) and takes the place of v.
template <class T>
void adam(T* p, T* m, T* v, T* greatest, const T* grad, std::int64_t n, const AdamStep<T>& step);

}  // namespace unroll::kernels
