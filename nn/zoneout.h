#pragma once
#include <unroll/autograd/ops/arithmetic.h>
#include <unroll/core/random.h>
#include <unroll/nn/cell_extension.h>

#pragma GCC visibility push(default)
namespace unroll::nn {

struct ZoneoutOptions {
  /// The probability with which an element of h keeps its old value, and one of the state's other tensors.
  double h = 0.1, c = 0.1;
};

/// Zoneout (Krueger et al. 2017) for any cell: while training, each element of the state keeps its value of the step
/// before with probability p; else, in expectation, s' = p·s + (1 − p)·cell(x, s).
template <Cell C>
class Zoneout : public C {
 public:
  using State = typename C::State;

  /// Raises ValueError unless the probabilities are in [0, 1], and what C raises.
  template <class... Args>
  Zoneout(std::int64_t in, std::int64_t hidden, const ZoneoutOptions& options = {}, const Args&... args)
      : C(detail::check_probability("zoneout", "h", options.h, in),
          detail::check_probability("zoneout", "c", options.c, hidden), args...),
        p_h(options.h), p_c(options.c) {}

  auto begin(const State& start) const {
    return [this, step = detail::begin(static_cast<const C&>(*this), start)](const Tensor& x, const State& state) {
      return mix(state, step(x, state));
    };
  }

  State operator()(const Tensor& x, const State& state = {}) const {
    State next = C::operator()(x, state);
    if (output_of(state).defined()) return mix(state, next);
    return mix(map_state(next, [](const Tensor& s) { return zeros_like(s); }), next);
  }

  const double p_h, p_c;

 private:
  State mix(const State& state, const State& next) const {
    auto before = state_tensors(state), after = state_tensors(next);
    return make_state<State>([&](std::size_t i) {
      const double keep = i == 0 ? p_h : p_c;
      if (keep == 0) return *after[i];
      if (!this->training()) return *after[i] + keep * (*before[i] - *after[i]);
      return where(bernoulli_(empty(after[i]->shape(), DType::Bool), keep), *before[i], *after[i]);
    });
  }
};

}  // namespace unroll::nn
#pragma GCC visibility pop
