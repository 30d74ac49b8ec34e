#include <doctest/doctest.h>
#include <unroll/autograd/gradcheck_time.h>
#include <unroll/autograd/ops/activation.h>
#include <unroll/autograd/ops/arithmetic.h>
#include <unroll/autograd/ops/shape.h>
#include <unroll/autograd/record.h>
#include <unroll/core/random.h>

#include "support/raises.h"

using namespace unroll;

namespace {

using Tensors = std::vector<Tensor>;

constexpr std::int64_t kSteps = 5;

// x is (T, N, H) = (5, 2, 3), h0 (N, H).
Tensors sequence() {
  Generator generator(3);
  return {randn({kSteps, 2, 3}, DType::Float64, generator).requires_grad_(),
          randn({2, 3}, DType::Float64, generator).requires_grad_()};
}

// y with a gradient that is `factor` times too large.
Tensor scaled_gradient(const Tensor& y, double factor) {
  return record("planted", {y}, y.detach().clone(), [factor](const Tensor& g) { return g * factor; });
}

// h_t = tanh(x_t + 0.8 h_{t−1}), where `x_of` and `h_of` may plant a fault in what step t reads.
using Read = std::function<Tensor(const Tensor&, std::int64_t t)>;
const Read kRight = [](const Tensor& value, std::int64_t) { return value; };

Tensor run(const Tensor& x, const Tensor& h0, const Read& x_of, const Read& h_of, bool reverse = false) {
  std::vector<Tensor> steps = unbind(x), outputs(steps.size());
  Tensor h = h0;
  for (std::int64_t k = 0; k < kSteps; ++k) {
    const auto t = static_cast<std::size_t>(reverse ? kSteps - 1 - k : k);
    h = tanh(x_of(steps[t], k) + h_of(h, k) * 0.8);
    outputs[t] = h;
  }
  return stack(outputs);
}

GradcheckTimeProfile profile_of(const Read& x_of, const Read& h_of) {
  return gradcheck_time([&](const Tensors& in) { return run(in[0], in[1], x_of, h_of); }, sequence());
}

bool contains(const std::string& text, const char* part) { return text.find(part) != std::string::npos; }

}  // namespace

TEST_CASE("gradcheck_time: what is right is right at all steps") {
  GradcheckTimeProfile profile = profile_of(kRight, kRight);
  CHECK(profile.ok());
  CHECK(profile.hints.empty());
  REQUIRE(profile.directions.size() == 1);
  CHECK(profile.directions[0].error.size() == kSteps);
  CHECK(to_string(profile) == "time: right at all steps\n");
}

TEST_CASE("gradcheck_time: a wrong derivative of the step itself is local, at the step that has it") {
  GradcheckTimeProfile profile =
      profile_of([](const Tensor& x, std::int64_t t) { return scaled_gradient(x, t == 2 ? 1.001 : 1); }, kRight);
  const auto& d = profile.directions[0];
  CHECK(d.verdict == TimeVerdict::Local);
  CHECK(d.first_t == 2);
  CHECK(d.first_s == 2);
  for (std::size_t t = 0; t < kSteps; ++t) {
    for (std::size_t s = 0; s < kSteps; ++s) CHECK(d.wrong[t][s] == (s == 2 && t >= 2));
    CHECK_FALSE(d.start_wrong[t]);
  }
  CHECK(contains(to_string(profile), "first for the cotangent at step 2, in dx at step 2"));
}

TEST_CASE("gradcheck_time: what a step hands on wrongly is the carry, and the first such step is found") {
  GradcheckTimeProfile profile =
      profile_of(kRight, [](const Tensor& h, std::int64_t t) { return scaled_gradient(h, t == 3 ? 1.01 : 1); });
  const auto& d = profile.directions[0];
  CHECK(d.verdict == TimeVerdict::Carry);
  CHECK(d.first_t == 3);  // the first cotangent that has to pass step 3
  CHECK(d.first_s == 2);
  CHECK(d.start_wrong[3]);
  CHECK_FALSE(d.start_wrong[2]);
  CHECK(contains(to_string(profile), "what step t hands to step t − 1 is wrong"));
}

TEST_CASE("gradcheck_time: a detached state truncates, and is said how far back") {
  for (std::int64_t every : {1, 2}) {
    GradcheckTimeProfile profile =
        profile_of(kRight, [=](const Tensor& h, std::int64_t t) { return t % every == 0 ? h.detach() : h; });
    const auto& d = profile.directions[0];
    CHECK(d.verdict == TimeVerdict::Truncated);
    CHECK(d.reach == 1);
    CHECK(contains(to_string(profile), "gets over 1 step and no further"));
  }
}

TEST_CASE("gradcheck_time: an initial state without a gradient") {
  GradcheckTimeProfile profile =
      profile_of(kRight, [](const Tensor& h, std::int64_t t) { return t == 0 ? h.detach() : h; });
  const auto& d = profile.directions[0];
  CHECK(d.verdict == TimeVerdict::Start);
  CHECK(d.first_t == 0);
  CHECK(d.first_s == -1);
  CHECK(contains(to_string(profile), "the gradient of the initial state is zero"));
  // Wrong, but not zero.
  profile = profile_of(kRight, [](const Tensor& h, std::int64_t t) { return scaled_gradient(h, t == 0 ? 2 : 1); });
  CHECK(profile.directions[0].verdict == TimeVerdict::Start);
  CHECK(contains(to_string(profile), "hands to the initial state is wrong"));
  // Right for the first output, and cut for what is carried on.
  profile = gradcheck_time(
      [](const Tensors& in) {
        const Tensor first = narrow(run(in[0], in[1], kRight, kRight), 0, 0, 1);
        return cat({first, narrow(run(in[0], in[1].detach(), kRight, kRight), 0, 1, kSteps - 1)});
      },
      sequence());
  CHECK(profile.directions[0].verdict == TimeVerdict::Start);
  CHECK(profile.directions[0].first_t == 1);
  CHECK(contains(to_string(profile), "the gradient of the initial state is zero"));
}

TEST_CASE("gradcheck_time: what is named first is the wrong step nearest to the cotangent's") {
  // y_t = x_t, whose gradient is wrong at step t, and leaks to step t + 1.
  auto f = [](const Tensors& in) {
    return record("planted", {in[0]}, in[0].detach() * 1, [](const Tensor& g) {
      return g * 2 + cat({zeros({1, 2, 3}, DType::Float64), narrow(g, 0, 0, kSteps - 1)});
    });
  };
  const auto d = gradcheck_time(f, {sequence()[0]}).directions[0];
  CHECK(d.wrong[0][0]);
  CHECK(d.wrong[0][1]);
  CHECK(d.first_t == 0);
  CHECK(d.first_s == 0);
}

TEST_CASE("gradcheck_time: what cannot be measured is not right") {
  int calls = 0;
  auto verdict_of = [](const auto& f) {
    GradcheckTimeProfile profile = gradcheck_time(f, sequence());
    CHECK_FALSE(profile.ok());
    CHECK(profile.directions[0].verdict == TimeVerdict::Unmeasured);
    return to_string(profile);
  };
  // A wrong gradient under noise, which hides it.
  CHECK(contains(verdict_of([](const Tensors& in) {
                   const Read noisy = [](const Tensor& h, std::int64_t) { return h + 0.1 * randn_like(h); };
                   return scaled_gradient(run(in[0], in[1], kRight, noisy), 3);
                 }),
                 "output 0 of two runs with the same inputs differs"));
  CHECK(contains(verdict_of([&](const Tensors& in) { return run(in[0], in[1], kRight, kRight) * ++calls; }),
                 "output 0 of two runs with the same inputs differs"));
  CHECK(verdict_of([](const Tensors& in) { return sign(in[0]); }) ==
        "time: not measured\nhint: nothing was tested, all numeric derivatives are 0\n");
  // All at a kink.
  const Tensor x = zeros({3, 2}, DType::Float64).requires_grad_();
  GradcheckTimeProfile profile = gradcheck_time([](const Tensors& in) { return scaled_gradient(abs(in[0]), 3); }, {x});
  CHECK(profile.directions[0].verdict == TimeVerdict::Unmeasured);
  CHECK(contains(to_string(profile), "too many derivatives could not be measured"));
}

TEST_CASE("gradcheck_time: a fault in the reverse half only") {
  auto f = [](const Tensors& in) {
    Tensor backward = run(
        in[0], in[1], [](const Tensor& x, std::int64_t k) { return scaled_gradient(x, k == 1 ? -1 : 1); }, kRight,
        true);
    return cat({run(in[0], in[1], kRight, kRight), backward}, -1);
  };
  GradcheckTimeProfile profile = gradcheck_time(f, sequence(), {.directions = 2});
  CHECK_FALSE(profile.ok());
  CHECK(profile.directions[0].verdict == TimeVerdict::Right);
  CHECK(profile.directions[1].verdict == TimeVerdict::Local);
  CHECK(profile.directions[1].first_t == 3);  // its second step
  CHECK(contains(to_string(profile), "only the reverse half is wrong"));
}

TEST_CASE("gradcheck_time: what leaks to later steps is wrong at the step itself") {
  // y_t = x_t, whose gradient adds a tenth of the cotangent of the step before.
  auto f = [](const Tensors& in) {
    return record("planted", {in[0]}, in[0].detach() * 1, [](const Tensor& g) {
      return g + cat({zeros({1, 2, 3}, DType::Float64), narrow(g, 0, 0, kSteps - 1) * 0.1});
    });
  };
  const GradcheckTimeProfile profile = gradcheck_time(f, {sequence()[0]});
  CHECK(profile.directions[0].verdict == TimeVerdict::Local);
  CHECK(profile.directions[0].first_t == 0);
  CHECK(profile.directions[0].first_s == 1);
}

TEST_CASE("gradcheck_time: a carry of which a part is cut is no truncation, and reaches nowhere") {
  // Of the three features that step 3 reads the last one is detached, and the others are a hundredth too large.
  const GradcheckTimeProfile profile = profile_of(kRight, [](const Tensor& h, std::int64_t t) {
    return t == 3 ? cat({scaled_gradient(narrow(h, -1, 0, 2), 1.01), narrow(h, -1, 2, 1).detach()}, -1) : h;
  });
  CHECK(profile.directions[0].verdict == TimeVerdict::Carry);
  // Nor where one step hands nothing on, and another one something wrong.
  const auto d = profile_of(kRight, [](const Tensor& h, std::int64_t t) {
                   return t == 3 ? h.detach() : scaled_gradient(h, t == 1 ? 1.01 : 1);
                 }).directions[0];
  CHECK(d.verdict == TimeVerdict::Carry);
  CHECK(d.reach == -1);
}

TEST_CASE("gradcheck_time: the start of a reverse half lies behind the last step") {
  const Read cut = [](const Tensor& h, std::int64_t k) { return k == 0 ? h.detach() : h; };
  auto f = [&](const Tensors& in) {
    return cat({run(in[0], in[1], kRight, kRight), run(in[0], in[1], kRight, cut, true)}, -1);
  };
  const GradcheckTimeProfile profile = gradcheck_time(f, sequence(), {.directions = 2});
  CHECK(profile.directions[1].verdict == TimeVerdict::Start);
  CHECK(profile.directions[1].first_t == kSteps - 1);
  CHECK(profile.directions[1].first_s == kSteps);
  CHECK(contains(to_string(profile), "  start'\n"));
}

TEST_CASE("gradcheck_time: where both halves are wrong it is not the reverse half's time index") {
  const Read wrong = [](const Tensor& x, std::int64_t k) { return scaled_gradient(x, k == 1 ? -1 : 1); };
  auto f = [&](const Tensors& in) {
    return cat({run(in[0], in[1], wrong, kRight), run(in[0], in[1], wrong, kRight, true)}, -1);
  };
  CHECK_FALSE(contains(to_string(gradcheck_time(f, sequence(), {.directions = 2})), "only the reverse half"));
}

TEST_CASE("gradcheck_time: time as a dimension from the end; errors are relative to the cotangent's own derivatives") {
  // y_t = (t + 1) x_t, x as (N, T, H); the gradient of step 2 is half as large again.
  auto f = [](const Tensors& in) {
    std::vector<Tensor> steps = unbind(in[0], 1);
    for (std::size_t t = 0; t < steps.size(); ++t)
      steps[t] = scaled_gradient(steps[t], t == 2 ? 1.5 : 1) * static_cast<double>(t + 1);
    return stack(steps, 1);
  };
  const Tensor x = transpose(sequence()[0].detach(), 0, 1).clone().requires_grad_();
  const auto d = gradcheck_time(f, {x}, {.time_dim = -2}).directions[0];
  CHECK(d.first_t == 2);
  CHECK(d.first_s == 2);
  CHECK(d.error[2][2] == doctest::Approx(0.5));
}

TEST_CASE("gradcheck_time: other layouts, float32, and wrong use") {
  auto batch_first = [](const Tensors& in) {
    return transpose(run(transpose(in[0], 0, 1), in[1], kRight, kRight), 0, 1);
  };
  Tensors in = sequence();
  Tensor x = in[0].detach().to(DType::Float32).requires_grad_();
  Tensors turned{transpose(in[0].detach(), 0, 1).requires_grad_(), in[1]};
  CHECK(gradcheck_time(batch_first, turned, {.time_dim = 1}).ok());
  CHECK(gradcheck_time([](const Tensors& i) { return tanh(i[0]); }, {x}).ok());
  CHECK(x.dtype() == DType::Float32);
  CHECK_RAISES(ValueError, "requires no gradient", gradcheck_time(batch_first, {in[0].detach()}));
  CHECK_RAISES(ValueError, "the output has 2 steps, the sequence 5",
               gradcheck_time([](const Tensors& i) { return narrow(i[0], 0, 0, 2); }, in));
  CHECK_RAISES(ValueError, "returned no tensors", gradcheck_time([](const Tensors&) { return Tensors(); }, in));
  auto same = [](const Tensors& i) { return i[0] * 1; };
  CHECK_RAISES(ValueError, "1 or 2 directions, got 3", gradcheck_time(same, in, {.directions = 3}));
  for (const Shape& shape : {Shape{4}, Shape{4, 1}, Shape{4, 2, 3}})
    CHECK_RAISES(ValueError, "has no halves for 2 directions",
                 gradcheck_time(same, {zeros(shape, DType::Float64).requires_grad_()}, {.directions = 2}));
  CHECK_RAISES(
      ValueError, "(2, 4) has no halves",
      gradcheck_time(same, {zeros({2, 4}, DType::Float64).requires_grad_()}, {.time_dim = -1, .directions = 2}));
}
