#include "optim/golden.h"

#include <doctest/doctest.h>
#include <unroll/optim/sgd.h>

#include <cmath>
#include <limits>

using namespace unroll;
using optim::SGD;
using optim::SGDOptions;

TEST_CASE("sgd: four steps under every option, as PyTorch takes them") {
  golden::check<SGD, SGDOptions>({
      {{.lr = 0.1}, {0.875, -2.0125, 0.55}},
      {{.lr = 0.1, .weight_decay = 0.25}, {0.783610546875, -1.82468984375, 0.5213783203125}},
      {{.lr = 0.1, .momentum = 0.9}, {0.7058, -1.8585999999999998, -0.10429999999999999}},
      {{.lr = 0.1, .momentum = 0.9, .dampening = 0.5}, {0.766925, -1.75735, -0.14605}},
      {{.lr = 0.1, .momentum = 0.5, .weight_decay = 0.25, .nesterov = true},
       {0.6212100341796875, -1.682002099609375, 0.4286325317382812}},
      {{.lr = 0.1, .momentum = 0.9, .dampening = 0.25, .weight_decay = 0.25, .maximize = true},
       {1.0698961242675782, -1.8061023071289057, 0.9924927825927736}},
      {{.lr = 0.1, .momentum = 0.9, .nesterov = true, .maximize = true},
       {1.38978, -2.1147599999999995, 0.9938699999999998}},
      {{.lr = 0.0, .momentum = 0.9}, {1.0, -2.0, 0.5}},
      {{.lr = 0.1, .weight_decay = 0.5, .maximize = true}, {0.9298125, -1.6072499999999998, 0.319103125}},
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
