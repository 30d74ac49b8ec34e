#include <unroll/core/kernels/recurrent.h>
#include <unroll/core/kernels/recurrent_plan.h>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "unroll/core/kernels/recurrent.cpp"
#include <hwy/foreach_target.h>  // must come before the others
#include <unroll/core/kernels/recurrent_backward-inl.h>
#include <unroll/core/kernels/recurrent_forward-inl.h>

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
  with_kind(sizes.kind, [&](auto kind) { Forward<kind(), T>(sizes, steps, in, out).run(); });
}
template <class T>
void backward(const RecurrentSizes& sizes, const RecurrentSteps& steps, const RecurrentInputs<T>& in,
              const RecurrentOutputs<T>& out, T* grad_gates, const RecurrentCotangents<T>& dy,
              const RecurrentGradients<T>& dx) {
  with_kind(sizes.kind, [&](auto kind) { Backward<kind(), T>(sizes, steps, in, out, grad_gates, dy, dx).run(); });
}

void forward_f32(const RecurrentSizes& s, const RecurrentSteps& t, const RecurrentInputs<float>& in,
                 const RecurrentOutputs<float>& out) {
  forward(s, t, in, out);
}
void forward_f64(const RecurrentSizes& s, const RecurrentSteps& t, const RecurrentInputs<double>& in,
                 const RecurrentOutputs<double>& out) {
  forward(s, t, in, out);
}
void backward_f32(const RecurrentSizes& s, const RecurrentSteps& t, const RecurrentInputs<float>& in,
                  const RecurrentOutputs<float>& out, float* grad_gates, const RecurrentCotangents<float>& dy,
                  const RecurrentGradients<float>& dx) {
  backward(s, t, in, out, grad_gates, dy, dx);
}
void backward_f64(const RecurrentSizes& s, const RecurrentSteps& t, const RecurrentInputs<double>& in,
                  const RecurrentOutputs<double>& out, double* grad_gates, const RecurrentCotangents<double>& dy,
                  const RecurrentGradients<double>& dx) {
  backward(s, t, in, out, grad_gates, dy, dx);
}

}  // namespace unroll::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace unroll::kernels {

HWY_EXPORT(forward_f32);
HWY_EXPORT(forward_f64);
HWY_EXPORT(backward_f32);
HWY_EXPORT(backward_f64);

template <class T>
void recurrent_forward(const RecurrentSizes& sizes, const RecurrentSteps& steps, const RecurrentInputs<T>& in,
                       const RecurrentOutputs<T>& out) {
  if constexpr (sizeof(T) == 4)
    HWY_DYNAMIC_DISPATCH(forward_f32)(sizes, steps, in, out);
  else
    HWY_DYNAMIC_DISPATCH(forward_f64)(sizes, steps, in, out);
}
template <class T>
void recurrent_backward(const RecurrentSizes& sizes, const RecurrentSteps& steps, const RecurrentInputs<T>& in,
                        const RecurrentOutputs<T>& out, T* grad_gates, const RecurrentCotangents<T>& dy,
                        const RecurrentGradients<T>& dx) {
  if constexpr (sizeof(T) == 4)
    HWY_DYNAMIC_DISPATCH(backward_f32)(sizes, steps, in, out, grad_gates, dy, dx);
  else
    HWY_DYNAMIC_DISPATCH(backward_f64)(sizes, steps, in, out, grad_gates, dy, dx);
}

template void recurrent_forward(const RecurrentSizes&, const RecurrentSteps&, const RecurrentInputs<float>&,
                                const RecurrentOutputs<float>&);
template void recurrent_forward(const RecurrentSizes&, const RecurrentSteps&, const RecurrentInputs<double>&,
                                const RecurrentOutputs<double>&);
template void recurrent_backward(const RecurrentSizes&, const RecurrentSteps&, const RecurrentInputs<float>&,
                                 const RecurrentOutputs<float>&, float*, const RecurrentCotangents<float>&,
                                 const RecurrentGradients<float>&);
template void recurrent_backward(const RecurrentSizes&, const RecurrentSteps&, const RecurrentInputs<double>&,
                                 const RecurrentOutputs<double>&, double*, const RecurrentCotangents<double>&,
                                 const RecurrentGradients<double>&);

}  // namespace unroll::kernels
#endif
