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

TEST_CASE("adam: twenty steps under every option, as PyTorch takes them") {
  golden::check<Adam, AdamOptions>({
      {{},
       {{{0.99900000002, -1.99900000001, 0.499000000005},
         {0.9941704001776814, -1.997895627015319, 0.4970134413715812},
         {0.9882532703961774, -1.99813985860148, 0.4971236012761076}}}},
      {{.lr = 0.1},
       {{{0.900000002, -1.900000001, 0.4000000005},
         {0.4170400177681485, -1.789562701531924, 0.2013441371581236},
         {-0.1746729603822484, -1.813985860148029, 0.2123601276107588}}}},
      {{.lr = 0.1, .betas = {0.5, 0.75}},
       {{{0.900000002, -1.900000001, 0.4000000005},
         {0.4638543616338012, -1.856486713782979, 0.2842185956739724},
         {-0.116070732458613, -1.974507182671718, 0.3716878863836167}}}},
      {{.lr = 0.1, .betas = {0.0, 0.0}},
       {{{0.900000002, -1.900000001, 0.4000000005},
         {0.7999999968666669, -2.099999986266668, 0.3000000004777778},
         {0.4999999964619051, -2.49999997169524, 0.4999999994103176}}}},
      {{.lr = 0.1, .eps = 0.5},
       {{{0.95, -1.933333333333333, 0.42},
         {0.6843219174479853, -1.866259316427955, 0.2645086748967888},
         {0.3204089910050174, -1.882537569352472, 0.2742358273457087}}}},
      {{.lr = 0.1, .weight_decay = 0.25},
       {{{0.9000000013333334, -1.900000000666667, 0.4000000004705883},
         {0.2583420987829066, -1.415480868981522, 0.174316323367736},
         {-0.3814410496632114, -1.102292188562307, 0.1660893179931539}}}},
      {{.lr = 0.1, .amsgrad = true},
       {{{0.900000002, -1.900000001, 0.4000000005},
         {0.4170943870934877, -1.789616411110439, 0.2013441371581236},
         {-0.1745321034260086, -1.814051087761573, 0.2123601276107588}}}},
      {{.lr = 0.1, .betas = {0.5, 0.25}, .weight_decay = 0.25, .amsgrad = true},
       {{{0.9000000013333334, -1.900000000666667, 0.4000000004705882},
         {0.4822475025134507, -1.603083010156191, 0.264243456759493},
         {0.06655312596824865, -1.4752808702444, 0.3142519946271915}}}},
      {{.lr = 0.1, .weight_decay = 0.25, .maximize = true},
       {{{1.099999996, -2.099999998, 0.5999999994666667},
         {1.190732477458751, -1.707515317055361, 0.7363330604873103},
         {1.442839204770523, -1.295029518517903, 0.6606430053320897}}}},
      {{.lr = 0.1, .betas = {0.8, 0.3}, .eps = 0.001, .weight_decay = 0.1, .amsgrad = true, .maximize = true},
       {{{1.099750623441397, -2.099875156054931, 0.5999487442337263},
         {1.321969263928487, -2.01102095790251, 0.7394427598884553},
         {1.599232559179561, -1.859475216455414, 0.699177064040443}}}},
  });
}

TEST_CASE("adamw: twenty steps under every option, as PyTorch takes them") {
  golden::check<AdamW, AdamWOptions>({
      {{},
       {{{0.99899000002, -1.99898000001, 0.498995000005},
         {0.9940706807257457, -1.997695786584676, 0.4969636567669902},
         {0.9880544140131738, -1.997740248422689, 0.4970241232728788}}}},
      {{.lr = 0.1},
       {{{0.899000002, -1.898000001, 0.3995000005},
         {0.4098377723431141, -1.77115272302278, 0.1984906733891793},
         {-0.1833055779030791, -1.777852663193731, 0.2075379814627619}}}},
      {{.lr = 0.1, .betas = {0.5, 0.75}},
       {{{0.899000002, -1.898000001, 0.3995000005},
         {0.4564837900484315, -1.837505010613215, 0.2807632863291717},
         {-0.1252664322642371, -1.936709906372638, 0.3651252680016671}}}},
      {{.lr = 0.1, .betas = {0.0, 0.0}},
       {{{0.899000002, -1.898000001, 0.3995000005},
         {0.7913412840749713, -2.079789150534502, 0.295918450365116},
         {0.4851579973745634, -2.457390174112337, 0.4920765358974799}}}},
      {{.lr = 0.1, .eps = 0.5},
       {{{0.949, -1.931333333333333, 0.4195},
         {0.6758169821736097, -1.847305288548686, 0.2612009782494847},
         {0.3067796290513639, -1.845135713008326, 0.2683328618365364}}}},
      {{.lr = 0.1, .weight_decay = 0.25},
       {{{0.8750000019999999, -1.850000001, 0.3875000005},
         {0.2577865193226637, -1.376607774540508, 0.138375874338312},
         {-0.3294217173416305, -1.091077283078666, 0.1186291239391309}}}},
      {{.lr = 0.1, .amsgrad = true},
       {{{0.899000002, -1.898000001, 0.3995000005},
         {0.4098919255171276, -1.771206116574166, 0.1984906733891793},
         {-0.1831658148427028, -1.77791699544333, 0.2075379814627619}}}},
      {{.lr = 0.1, .betas = {0.5, 0.25}, .weight_decay = 0.25, .amsgrad = true},
       {{{0.8750000019999999, -1.850000001, 0.3875000005},
         {0.4255172667556565, -1.451062264081716, 0.211744448603217},
         {-0.008150396600975825, -1.210662293330909, 0.2253015647501145}}}},
      {{.lr = 0.1, .weight_decay = 0.25, .maximize = true},
       {{{1.074999998, -2.049999999, 0.5874999995},
         {1.294872722390211, -1.728710708885242, 0.6379537465181256},
         {1.534797077779831, -1.319673437797735, 0.4840585562799692}}}},
      {{.lr = 0.1, .betas = {0.8, 0.3}, .eps = 0.001, .weight_decay = 0.1, .amsgrad = true, .maximize = true},
       {{{1.089800399201597, -2.0799000999001, 0.5949500249875063},
         {1.304600818349017, -1.958286587069506, 0.6935041441196221},
         {1.514223816537185, -1.733769205858439, 0.6044103198481968}}}},
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

TEST_CASE("adam: amsgrad may be switched on between two steps, and a step is a write to what state_dict() shares") {
  for (DType dtype : {DType::Float32, DType::Float64}) {
    Tensor p = ones(3, dtype).requires_grad_();
    Adam opt(std::vector<Tensor>{p});
    p.set_grad(ones(3, dtype));
    opt.step();
    const Tensor mean = opt.state_dict().state.at(0).at("exp_avg");
    const auto before = mean.version();
    opt.param_groups()[0]["amsgrad"] = 1;
    opt.step();
    CHECK(opt.state_dict().state.at(0).contains("max_exp_avg_sq"));
    CHECK(mean.version() > before);
  }
}

TEST_CASE("adam: without amsgrad no greatest square is kept") {
  Tensor w = tensor({1.0, 2.0}, DType::Float64).requires_grad_();
  w.set_grad(ones_like(w));
  Adam opt({w});
  opt.step();
  std::vector<std::string> names;
  const auto state = opt.state_dict().state;
  for (const auto& [name, tensor] : state.at(0)) names.push_back(name);
  CHECK(names == std::vector<std::string>{"exp_avg", "exp_avg_sq", "step"});
}
