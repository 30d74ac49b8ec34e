#include "support/gradients.h"

#include <doctest/doctest.h>
#include <unroll/autograd/engine.h>
#include <unroll/autograd/grad_mode.h>
#include <unroll/autograd/ops/activation.h>
#include <unroll/autograd/ops/arithmetic.h>
#include <unroll/autograd/ops/matmul.h>
#include <unroll/autograd/ops/normalize.h>
#include <unroll/autograd/ops/reduce.h>
#include <unroll/autograd/ops/shape.h>
#include <unroll/core/view.h>

#include <functional>

using namespace unroll;

// What is written in place after an op has saved it is noticed by backward.

namespace {

struct Write {
  const char* name;
  std::function<void(const Tensor& x)> write;
};
// Every in-place op.
const Write kWrites[] = {
    {"fill_", [](auto& x) { x.fill_(0.5); }},
    {"zero_", [](auto& x) { x.zero_(); }},
    {"copy_", [](auto& x) { x.copy_(full_like(x, 0.7)); }},
    {"add_", [](auto& x) { x.add_(full_like(x, 0.7)); }},
    {"add_", [](auto& x) { x.add_(0.7); }},
    {"sub_", [](auto& x) { x.sub_(full_like(x, 0.7)); }},
    {"sub_", [](auto& x) { x.sub_(0.7); }},
    {"mul_", [](auto& x) { x.mul_(full_like(x, 0.7)); }},
    {"mul_", [](auto& x) { x.mul_(0.7); }},
    {"div_", [](auto& x) { x.div_(full_like(x, 0.7)); }},
    {"div_", [](auto& x) { x.div_(0.7); }},
    {"clamp_", [](auto& x) { x.clamp_(0.1, 0.2); }},
    {"exp_", [](auto& x) { x.exp_(); }},
    {"relu_", [](auto& x) { x.relu_(); }},
    {"sigmoid_", [](auto& x) { x.sigmoid_(); }},
    {"tanh_", [](auto& x) { x.tanh_(); }},
    {"", [](auto& x) { normal_(x); }},
    {"", [](auto& x) { uniform_(x); }},
    {"", [](auto& x) { bernoulli_(x); }},
};

// Every way to the memory of a (2, 2) tensor.
const std::pair<const char*, std::function<Tensor(const Tensor&)>> kWays[] = {
    {"itself", [](auto& x) { return x; }},
    {"select", [](auto& x) { return select(x, 0, 1); }},
    {"slice of transpose", [](auto& x) { return slice(transpose(x, 0, 1), 0, 0, 2, 2); }},
    {"view",
     [](auto& x) {
       return view(x, {2, 1, 2});
     }},
    {"expand of another size",
     [](auto& x) {
       return expand(x, {1, 2, 2});
     }},
    {"unsqueeze, squeeze", [](auto& x) { return squeeze(unsqueeze(x, 1)); }},
    {"detach", [](auto& x) { return x.detach(); }},
    {"view of detach", [](auto& x) { return narrow(x.detach(), 0, 1, 1); }},
    {"unrecorded view", [](auto& x) { return views::select(x.detach(), 0, 0); }},
};

enum class Keeps { Input, Output, Nothing };
struct Saver {
  const char* name;
  Keeps keeps;
  std::function<Tensor(const Tensor& x, const Tensor& w)> f;
};
const Saver kSavers[] = {
    {"exp", Keeps::Output, [](auto& x, auto&) { return exp(x); }},
    {"tanh", Keeps::Output, [](auto& x, auto&) { return tanh(x); }},
    {"sigmoid", Keeps::Output, [](auto& x, auto&) { return sigmoid(x); }},
    {"sqrt", Keeps::Output, [](auto& x, auto&) { return sqrt(x); }},
    {"relu", Keeps::Output, [](auto& x, auto&) { return relu(x); }},
    {"softmax", Keeps::Output, [](auto& x, auto&) { return softmax(x, 1); }},
    {"log_softmax", Keeps::Output, [](auto& x, auto&) { return log_softmax(x, 1); }},
    {"mul", Keeps::Input, [](auto& x, auto& w) { return x * w; }},
    {"div", Keeps::Input, [](auto& x, auto& w) { return w / x; }},
    {"matmul", Keeps::Input, [](auto& x, auto& w) { return matmul(x, w); }},
    {"pow", Keeps::Input, [](auto& x, auto&) { return pow(x, 3); }},
    {"square", Keeps::Input, [](auto& x, auto&) { return square(x); }},
    {"sin", Keeps::Input, [](auto& x, auto&) { return sin(x); }},
    {"cos", Keeps::Input, [](auto& x, auto&) { return cos(x); }},
    {"log", Keeps::Input, [](auto& x, auto&) { return log(x); }},
    {"abs", Keeps::Input, [](auto& x, auto&) { return abs(x); }},
    {"clamp", Keeps::Input, [](auto& x, auto&) { return clamp(x, 0, 9); }},
    {"maximum", Keeps::Input, [](auto& x, auto& w) { return maximum(x, w); }},
    {"add", Keeps::Nothing, [](auto& x, auto& w) { return x + w; }},
    {"sub", Keeps::Nothing, [](auto& x, auto& w) { return x - w; }},
    {"scalar mul", Keeps::Nothing, [](auto& x, auto&) { return x * 3; }},
    {"neg", Keeps::Nothing, [](auto& x, auto&) { return -x; }},
    {"sum", Keeps::Nothing, [](auto& x, auto&) { return sum(x, 0, true); }},
};

}  // namespace

TEST_CASE("in place after save: every write, by every way, to what every op keeps") {
  Tensor w = from_data(Values{0.3, 0.8, 1.1, 0.4}, {2, 2}).requires_grad_();
  int raised = 0, passed = 0;
  for (const Saver& saver : kSavers)
    for (const Write& write : kWrites)
      for (const auto& [name, way] : kWays)
        for (bool no_grad : {false, true})
          for (bool is_view : {false, true})
            for (Keeps written : {Keeps::Input, Keeps::Output}) {
              if (written == Keeps::Output && saver.name == std::string("sum")) continue;  // of another shape
              CAPTURE(saver.name);
              CAPTURE(write.name);
              const auto& way_name = name;  // clang 14 captures no binding
              CAPTURE(way_name);
              CAPTURE(no_grad);
              CAPTURE(is_view);
              CAPTURE((written == Keeps::Input));
              Tensor x = full({2, 2}, 0.6, DType::Float64).requires_grad_(), h = x * 1;
              if (is_view) h = transpose(h, 0, 1);
              Tensor y = saver.f(h, w), z = y * 1;
              const Tensor expected = grad({sum(saver.f(h, w) * 1)}, {x}, {.retain_graph = true})[0];
              const Tensor& target = written == Keeps::Input ? h : y;
              const std::uint32_t before = target.version();
              {
                Tensor way_in = way(target);
                GradMode mode(!no_grad);
                write.write(way_in);
              }
              CHECK(target.version() > before);
              if (written == saver.keeps) {
                std::string text;
                try {
                  sum(z).backward();
                } catch (const GradError& e) {
                  text = e.what();
                }
                ++raised;
                CHECK(text.find(saver.name) == 0);
                CHECK(text.find("modified in place by " + std::string(write.name)) != std::string::npos);
                CHECK_FALSE(x.grad().defined());
              } else {
                sum(z).backward();
                ++passed;
                CHECK(allclose(x.grad(), expected, 1e-13, 0));
              }
            }
  CHECK(raised > 10000);
  CHECK(passed > 10000);
}

TEST_CASE("in place after save: without the raised version the gradient would be wrong") {
  Tensor x = leaf({1, 2}), h = x * 1, y = square(h);
  select(h, 0, 0).mul_(10);
  --h.body().storage->version;  // what a write that forgets to count leaves behind
  sum(y).backward();
  CHECK(of(x.grad()) == Values{20, 4});  // 2 and 4 is right
}
