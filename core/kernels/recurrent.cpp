#include <unroll/core/kernels/recurrent.h>
#include <unroll/core/kernels/recurrent_plan.h>
#include <unroll/core/kernels/target_table.h>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "unroll/core/kernels/recurrent.cpp"
#include <hwy/foreach_target.h>  // must come before the others
#include <unroll/core/kernels/recurrent_backward-inl.h>
#include <unroll/core/kernels/recurrent_forward-inl.h>

#ifndef UNROLL_RECURRENT_KERNELS
#define UNROLL_RECURRENT_KERNELS
namespace unroll::kernels {
// What one target has of them.
template <class T>
struct RecurrentKernels {
  using Pass = void(const RecurrentSizes&, const RecurrentSteps&, const RecurrentInputs<T>&,
                    const RecurrentOutputs<T>&);
  Pass *forward, *gates;
  void (*backward)(const RecurrentSizes&, const RecurrentSteps&, const RecurrentInputs<T>&, const RecurrentOutputs<T>&,
                   T* grad_gates, const RecurrentCotangents<T>&, const RecurrentGradients<T>&);
};
}  // namespace unroll::kernels
#endif

HWY_BEFORE_NAMESPACE();
namespace unroll::kernels::HWY_NAMESPACE {

// Calls f with the kind as a constant.
template <class F>
void with_kind(RecurrentKind kind, F f) {
  using K = RecurrentKind;
  switch (kind) {
    case K::LSTM:
      return f(std::integral_constant<K, K::LSTM>());
    case K::GRU:
      return f(std::integral_constant<K, K::GRU>());
    case K::RNN:
      return f(std::integral_constant<K, K::RNN>());
  }
}

template <class T>
void forward(const RecurrentSizes& sizes, const RecurrentSteps& steps, const RecurrentInputs<T>& in,
             const RecurrentOutputs<T>& out) {
  const FlushDenormals flush;
  with_kind(sizes.kind, [&](auto kind) { Forward<kind(), T>(sizes, steps, in, out).run(); });
}
template <class T>
void gates(const RecurrentSizes& sizes, const RecurrentSteps& steps, const RecurrentInputs<T>& in,
           const RecurrentOutputs<T>& out) {
  const FlushDenormals flush;
  with_kind(sizes.kind, [&](auto kind) { Forward<kind(), T>(sizes, steps, in, out).rebuild(); });
}
template <class T>
void backward(const RecurrentSizes& sizes, const RecurrentSteps& steps, const RecurrentInputs<T>& in,
              const RecurrentOutputs<T>& out, T* grad_gates, const RecurrentCotangents<T>& dy,
              const RecurrentGradients<T>& dx) {
  const FlushDenormals flush;
  with_kind(sizes.kind, [&](auto kind) { Backward<kind(), T>(sizes, steps, in, out, grad_gates, dy, dx).run(); });
}

template <class T>
constexpr RecurrentKernels<T> kRecurrentKernels = {forward<T>, gates<T>, backward<T>};

}  // namespace unroll::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace unroll::kernels {

UNROLL_CHOOSE_TABLE(RecurrentKernels)

template <class T>
void recurrent_forward(const RecurrentSizes& sizes, const RecurrentSteps& steps, const RecurrentInputs<T>& in,
                       const RecurrentOutputs<T>& out) {
  chosen_RecurrentKernels<T>().forward(sizes, steps, in, out);
}
template <class T>
void recurrent_gates(const RecurrentSizes& sizes, const RecurrentSteps& steps, const RecurrentInputs<T>& in,
                     const RecurrentOutputs<T>& out) {
  if (out.gates != nullptr) chosen_RecurrentKernels<T>().gates(sizes, steps, in, out);
}
template <class T>
void recurrent_backward(const RecurrentSizes& sizes, const RecurrentSteps& steps, const RecurrentInputs<T>& in,
                        const RecurrentOutputs<T>& out, T* grad_gates, const RecurrentCotangents<T>& dy,
                        const RecurrentGradients<T>& dx) {
  chosen_RecurrentKernels<T>().backward(sizes, steps, in, out, grad_gates, dy, dx);
}

template void recurrent_forward(const RecurrentSizes&, const RecurrentSteps&, const RecurrentInputs<float>&,
                                const RecurrentOutputs<float>&);
template void recurrent_forward(const RecurrentSizes&, const RecurrentSteps&, const RecurrentInputs<double>&,
                                const RecurrentOutputs<double>&);
template void recurrent_gates(const RecurrentSizes&, const RecurrentSteps&, const RecurrentInputs<float>&,
                              const RecurrentOutputs<float>&);
template void recurrent_gates(const RecurrentSizes&, const RecurrentSteps&, const RecurrentInputs<double>&,
                              const RecurrentOutputs<double>&);
template void recurrent_backward(const RecurrentSizes&, const RecurrentSteps&, const RecurrentInputs<float>&,
                                 const RecurrentOutputs<float>&, float*, const RecurrentCotangents<float>&,
                                 const RecurrentGradients<float>&);
template void recurrent_backward(const RecurrentSizes&, const RecurrentSteps&, const RecurrentInputs<double>&,
                                 const RecurrentOutputs<double>&, double*, const RecurrentCotangents<double>&,
                                 const RecurrentGradients<double>&);

}  // namespace unroll::kernels
#endif
