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
  for (const Shape& shape : {Shape{4}, Shape{4, 1}, Shape{4, 2, 3}})
    CHECK_RAISES(ValueError, "has no halves for 2 directions",
                 gradcheck_time(same, {zeros(shape, DType::Float64).requires_grad_()}, {.directions = 2}));
  CHECK_RAISES(
      ValueError, "(2, 4) has no halves",
      gradcheck_time(same, {zeros({2, 4}, DType::Float64).requires_grad_()}, {.time_dim = -1, .directions = 2}));
}
