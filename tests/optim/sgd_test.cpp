#include "optim/golden.h"

#include <doctest/doctest.h>
#include <unroll/optim/sgd.h>

#include <cmath>
#include <limits>

using namespace unroll;
using optim::SGD;
using optim::SGDOptions;

TEST_CASE("sgd: twenty steps under every option, as PyTorch takes them") {
  golden::check<SGD, SGDOptions>({
      {{.lr = 0.1}, {{{0.95, -1.9, 0.3}, {0.68125, -1.878125, 0.08749999999999999}, {0.0625, -2.09375, 0.875}}}},
      {{.lr = 0.1, .weight_decay = 0.25},
       {{{0.925, -1.85, 0.2875},
         {0.4948643250415538, -1.441857179798676, 0.01302598186529993},
         {-0.1653089525499779, -1.316113500409367, 0.7460752456683307}}}},
      {{.lr = 0.1, .momentum = 0.9},
       {{{0.95, -1.9, 0.3},
         {-0.4418011922000001, -1.5849441176, -0.8749740463},
         {-4.234269137661867, -1.783397989404814, -0.5340647533793694}}}},
      {{.lr = 0.1, .momentum = 0.9, .dampening = 0.5},
       {{{0.95, -1.9, 0.3},
         {0.1162690139249998, -1.46681127885, -0.8388085830500002},
         {-1.836740405183292, -1.452487321997691, -0.8954557220991158}}}},
      {{.lr = 0.1, .momentum = 0.5, .weight_decay = 0.25, .nesterov = true},
       {{{0.8875, -1.775, 0.18125},
         {0.09640184697607361, -1.038857543873569, -0.2522023402890472},
         {-0.9142434377010636, -0.9078124030321252, 0.8418737352402891}}}},
      {{.lr = 0.1, .momentum = 0.9, .dampening = 0.25, .weight_decay = 0.25, .maximize = true},
       {{{1.025, -2.05, 0.6875},
         {1.29353584520277, -0.9684104359809506, 1.116907886393593},
         {2.134879509896269, 0.5818663084790722, -0.311974134892163}}}},
      {{.lr = 0.1, .momentum = 0.9, .nesterov = true, .maximize = true},
       {{{1.095, -2.19, 0.88},
         {2.61637107298, -2.49542529416, 2.149976641669999},
         {6.64834222389568, -2.101191809535667, 1.055658278041432}}}},
      {{.lr = 0.0, .momentum = 0.9}, {{{1, -2, 0.5}, {1, -2, 0.5}, {1, -2, 0.5}}}},
      {{.lr = 0.1, .weight_decay = 0.5, .maximize = true},
       {{{1, -2, 0.675},
         {0.8473274918330079, -1.299425620894531, 0.6451259007105957},
         {0.9968320877071785, -0.5964926130121166, -0.3087636687145302}}}},
      {{.lr = 0.1, .momentum = 0.75, .weight_decay = 0.125, .nesterov = true, .maximize = true},
       {{{1.065625, -2.13125, 0.8390625},
         {1.591244918009258, -1.581964707706528, 1.187840769388822},
         {2.796862598838532, -0.5371112490022801, -0.432331865975441}}}},
  });
}

TEST_CASE("sgd: the first step with momentum takes the gradient as it is, dampening only begins then") {
  Tensor p = golden::parameter();
  SGD opt({p}, {.lr = 1, .momentum = 0.5, .dampening = 1});
  golden::set_grad(p, 0);
  opt.step();
  CHECK(p.detach().to_vector<double>() == std::vector{0.5, -1.0, -1.5});
  golden::set_grad(p, 1);
  opt.step();  // b = 0.5 · b + 0 · g
  CHECK(p.detach().to_vector<double>() == std::vector{0.25, -0.5, -2.5});
}

TEST_CASE("sgd: momentum that is switched on later starts then") {
  Tensor p = golden::parameter();
  SGD opt({p}, {.lr = 1, .dampening = 1});
  golden::set_grad(p, 0);
  opt.step();
  CHECK(opt.state_dict().state.empty());
  opt.param_groups()[0]["momentum"] = 0.5;
  golden::set_grad(p, 1);
  opt.step();
  CHECK(opt.state_dict().state.at(0).at("momentum_buffer").to_vector<double>() == golden::kGradients[1]);
}

TEST_CASE("sgd: weight decay and momentum act on a zero gradient") {
  Tensor p = golden::parameter();
  SGD opt({p}, {.lr = 0.5, .momentum = 0.5, .weight_decay = 1});
  p.set_grad(zeros_like(p));
  opt.step();
  CHECK(p.detach().to_vector<double>() == std::vector{0.5, -1.0, 0.25});
  p.set_grad(zeros_like(p));
  opt.step();  // b = 0.5 p₀ + 0.5 p₀
  CHECK(p.detach().to_vector<double>() == std::vector{0.0, 0.0, 0.0});
}

TEST_CASE("sgd: options outside their domain") {
  auto make = [](SGDOptions options) { SGD opt({golden::parameter()}, options); };
  const double nan = std::numeric_limits<double>::quiet_NaN();
  CHECK_RAISES(ValueError, "sgd: expected lr ≥ 0, got -0.1", make({.lr = -0.1}));
  CHECK_RAISES(ValueError, "lr", make({.lr = nan}));
  CHECK_RAISES(ValueError, "momentum ≥ 0, got -1", make({.momentum = -1}));
  CHECK_RAISES(ValueError, "weight_decay ≥ 0, got -2", make({.weight_decay = -2}));
  CHECK_RAISES(ValueError, "nesterov", make({.nesterov = true}));
  CHECK_RAISES(ValueError, "nesterov", make({.momentum = 0.9, .dampening = 0.1, .nesterov = true}));
  make({.lr = 0});  // allowed
}
