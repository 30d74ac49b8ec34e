#include "optim/golden.h"

#include <doctest/doctest.h>
#include <unroll/optim/adam.h>

#include <cmath>
#include <limits>

using namespace unroll;
using optim::Adam;
using optim::AdamOptions;
using optim::AdamW;
using optim::AdamWOptions;

TEST_CASE("adam: four steps under every option, as PyTorch takes them") {
  golden::check<Adam, AdamOptions>({
      {{}, {0.997536466428097, -1.998537089688918, 0.4977266927879803}},
      {{.lr = 0.1}, {0.753646642809707, -1.853708968891836, 0.2726692787980328}},
      {{.lr = 0.1, .betas = {0.5, 0.75}}, {0.7735330983367756, -1.9416855892642644, 0.3651377451299034}},
      {{.lr = 0.1, .betas = {0.0, 0.0}}, {0.8999999990000002, -2.0999999920000008, 0.4999999998333333}},
      {{.lr = 0.1, .eps = 0.5}, {0.8719733535660618, -1.9065270123451137, 0.32220135106886444}},
      {{.lr = 0.1, .weight_decay = 0.25}, {0.6818855774308991, -1.726827383416272, 0.2641392812354892}},
      {{.lr = 0.1, .amsgrad = true}, {0.7536736037996037, -1.8537424801835138, 0.2726692787980328}},
      {{.lr = 0.1, .betas = {0.5, 0.25}, .weight_decay = 0.25, .amsgrad = true},
       {0.7465906829554363, -1.8208080504447361, 0.34979904763220565}},
      {{.lr = 0.1, .weight_decay = 0.25, .maximize = true},
       {1.101919537047575, -1.9654279078696244, 0.7111033966491698}},
      {{.lr = 0.1, .betas = {0.8, 0.3}, .eps = 0.001, .weight_decay = 0.1, .amsgrad = true, .maximize = true},
       {1.1638774997137997, -2.0666708183073563, 0.7047763033189463}},
  });
}

TEST_CASE("adamw: four steps under every option, as PyTorch takes them") {
  golden::check<AdamW, AdamWOptions>({
      {{}, {0.9974965089356226, -1.998457133431031, 0.497706747416201}},
      {{.lr = 0.1}, {0.7500713908366247, -1.8461460188626064, 0.2712151648502902}},
      {{.lr = 0.1, .betas = {0.5, 0.75}}, {0.7699185362266601, -1.9340469274957373, 0.36364257372459385}},
      {{.lr = 0.1, .betas = {0.0, 0.0}}, {0.896205795102002, -2.0922116841000036, 0.49840259793200214}},
      {{.lr = 0.1, .eps = 0.5}, {0.8681901884403072, -1.8988119336877878, 0.3206326044794321}},
      {{.lr = 0.1, .weight_decay = 0.25}, {0.6676089138642446, -1.6714925558682046, 0.23784803090080459}},
      {{.lr = 0.1, .amsgrad = true}, {0.7500983518265214, -1.8461794631652124, 0.2712151648502902}},
      {{.lr = 0.1, .betas = {0.5, 0.25}, .weight_decay = 0.25, .amsgrad = true},
       {0.7178851655466396, -1.7555186067881183, 0.3200837555125047}},
      {{.lr = 0.1, .weight_decay = 0.25, .maximize = true},
       {1.1397668673857553, -1.943259006631795, 0.6658398597241955}},
      {{.lr = 0.1, .betas = {0.8, 0.3}, .eps = 0.001, .weight_decay = 0.1, .amsgrad = true, .maximize = true},
       {1.1638246971973463, -2.0353249876088975, 0.6852175094574418}},
  });
}

TEST_CASE("adam: the state bears torch's names") {
  Tensor p = golden::parameter(), idle = golden::parameter();
  Adam opt({idle, p}, {.betas = {0.5, 0.75}, .amsgrad = true});
  for (std::size_t t = 0; t < 2; ++t) golden::set_grad(p, t), opt.step();
  auto state = opt.state_dict().state;
  REQUIRE(state.size() == 1);
  auto& named = state.at(1);
  CHECK(named.size() == 4);
  CHECK(named.at("step").dtype() == DType::Float32);
  CHECK(named.at("step").item() == 2);
  CHECK(named.at("exp_avg").to_vector<double>() == std::vector{0.0, -0.25, 1.25});
  CHECK(named.at("exp_avg_sq").to_vector<double>() == std::vector{0.0625, 0.1875, 1.3125});
  CHECK(named.at("max_exp_avg_sq").to_vector<double>() == std::vector{0.0625, 0.25, 1.3125});
}

TEST_CASE("adam: infinite and undefined gradients do to it what they do to torch's") {
  const double nan = std::numeric_limits<double>::quiet_NaN(), inf = std::numeric_limits<double>::infinity();
  Tensor p = golden::parameter();
  Adam opt({p}, {.lr = 0.1, .amsgrad = true});
  p.set_grad(tensor({nan, inf, 1.0}, DType::Float64));
  opt.step();
  std::vector<double> after = p.detach().to_vector<double>();
  CHECK(std::isnan(after[0]));
  CHECK(std::isnan(after[1]));
  CHECK(after[2] == doctest::Approx(0.4));
  CHECK(std::isnan(opt.state_dict().state.at(0).at("max_exp_avg_sq").to_vector<double>()[0]));
}

TEST_CASE("adam: options outside their domain") {
  auto make = [](AdamOptions options) { Adam opt({golden::parameter()}, options); };
  CHECK_RAISES(ValueError, "adam: expected lr ≥ 0, got -0.1", make({.lr = -0.1}));
  CHECK_RAISES(ValueError, "eps ≥ 0, got -1", make({.eps = -1}));
  CHECK_RAISES(ValueError, "weight_decay ≥ 0, got -1", make({.weight_decay = -1}));
  CHECK_RAISES(ValueError, "beta1 in [0, 1), got 1", make({.betas = {1, 0.5}}));
  CHECK_RAISES(ValueError, "beta2 in [0, 1), got -0.5", make({.betas = {0.5, -0.5}}));
  CHECK_RAISES(ValueError, "beta2", make({.betas = {0.5, std::numeric_limits<double>::quiet_NaN()}}));
  CHECK_RAISES(ValueError, "adamw: expected lr", AdamW({golden::parameter()}, {.lr = -1}).zero_grad());
}
