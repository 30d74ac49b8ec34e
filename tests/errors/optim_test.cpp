#include "support/error_table.h"

#include <doctest/doctest.h>

#include <cmath>

using namespace unroll;

namespace {

struct Fixture {
  Fixture() {
    w.set_grad(ones(3));
    v.set_grad(ones({2, 2}));
    sgd.step();
    adam.step();
    table.watch(w, v, n, computed, sgd, adam);
  }

  Tensor w = ones(3).requires_grad_(), v = ones({2, 2}).requires_grad_(), n = tensor({1, 2}), computed = w * 2, none;
  optim::SGD sgd{{w, v}, {.lr = 0.1, .momentum = 0.9}};
  optim::Adam adam{{w, v}};
  ErrorTable table{"optimizers"};
};

optim::ParamGroup group(const Tensor& x, optim::Options options = {}) {
  return {.params = {x}, .options = std::move(options)};
}

}  // namespace

TEST_CASE_FIXTURE(Fixture, "errors of optimizers: parameters") {
  using namespace unroll::optim;
  std::vector<Tensor> nothing;
  table.row<ValueError>("none at all", {"sgd", "no parameters"}, [&] { SGD made(nothing); });
  table.row<ValueError>("none at all", {"adam", "no parameters"}, [&] { Adam made(nothing); });
  table.row<ValueError>("one that was computed", {"sgd", "(3,)", "computed", "leaf"},
                        [&] { SGD made(std::vector{computed}); });
  table.row<ValueError>("one that is undefined", {"adam", "undefined"}, [&] { Adam made(std::vector{none}); });
  table.row<ValueError>("one twice", {"adam", "(3,)", "more than once"}, [&] { Adam made(std::vector{w, w}); });
  table.row<ValueError>("one in two groups", {"sgd", "(3,)", "more than once"}, [&] {
    SGD made(std::vector{group(w), group(w)});
  });
  table.row<ValueError>("a group with an unknown option", {"sgd", "'beta1'", "momentum"}, [&] {
    SGD made(std::vector{group(w, {{"beta1", 0.9}})});
  });
  table.row<ValueError>("a further group with one that is here", {"sgd", "(3,)", "more than once"},
                        [&] { sgd.add_param_group(group(w)); });
  table.row<ValueError>("a further group with one that was computed", {"adam", "(3,)", "leaf"},
                        [&] { adam.add_param_group(group(computed)); });
  table.row<ValueError>("a further group with a negative rate", {"adam", "lr", "-1"}, [&] {
    adam.add_param_group(group(ones(1), {{"lr", -1}}));
  });
  table.row<ValueError>("an option that is not there", {"param_groups", "'beta1'", "momentum"},
                        [&] { return sgd.param_groups()[0]["beta1"]; });
}

TEST_CASE_FIXTURE(Fixture, "errors of optimizers: options") {
  using namespace unroll::optim;
  for (double bad : {-0.1, double(NAN)}) {
    std::string text = std::isnan(bad) ? "nan" : "-0.1";
    table.row<ValueError>("lr", {"sgd", "lr", text}, [&, bad] { SGD made({w}, {.lr = bad}); });
    table.row<ValueError>("momentum", {"sgd", "momentum", text}, [&, bad] { SGD made({w}, {.momentum = bad}); });
    table.row<ValueError>("weight_decay", {"sgd", "weight_decay", text},
                          [&, bad] { SGD made({w}, {.weight_decay = bad}); });
    table.row<ValueError>("lr", {"adam", "lr", text}, [&, bad] { Adam made({w}, {.lr = bad}); });
    table.row<ValueError>("eps", {"adam", "eps", text}, [&, bad] { Adam made({w}, {.eps = bad}); });
    table.row<ValueError>("weight_decay", {"adam", "weight_decay", text},
                          [&, bad] { Adam made({w}, {.weight_decay = bad}); });
    table.row<ValueError>("beta1", {"adam", "beta1", "[0, 1)", text}, [&, bad] {
      Adam made({w}, {.betas = {bad, 0.9}});
    });
    table.row<ValueError>("beta2", {"adam", "beta2", "[0, 1)", text}, [&, bad] {
      Adam made({w}, {.betas = {0.9, bad}});
    });
    table.row<ValueError>("weight_decay", {"adamw", "weight_decay", text},
                          [&, bad] { AdamW made({w}, {.weight_decay = bad}); });
  }
  table.row<ValueError>("beta1 = 1", {"adam", "beta1", "[0, 1)", "1"}, [&] { Adam made({w}, {.betas = {1, 0.9}}); });
  table.row<ValueError>("beta2 = 1", {"adamw", "beta2", "[0, 1)", "1"}, [&] { AdamW made({w}, {.betas = {0.9, 1}}); });
  table.row<ValueError>("nesterov without momentum", {"sgd", "nesterov", "momentum"},
                        [&] { SGD made({w}, {.nesterov = true}); });
  table.row<ValueError>("nesterov with dampening", {"sgd", "nesterov", "dampening", "0.5"},
                        [&] { SGD made({w}, {.momentum = 0.9, .dampening = 0.5, .nesterov = true}); });
}

TEST_CASE_FIXTURE(Fixture, "errors of optimizers: step and state") {
  auto load = [&](auto change) {
    return [&, change] {
      optim::StateDict state = adam.state_dict();
      change(state);
      adam.load_state_dict(state);
    };
  };
  using State = optim::StateDict&;
  table.row<ValueError>("fewer groups", {"adam", "0 parameter groups", "1"},
                        load([](State s) { s.param_groups.clear(); }));
  table.row<ValueError>("fewer parameters", {"adam", "group 0", "1 parameters", "2"},
                        load([](State s) { s.param_groups[0].params.pop_back(); }));
  table.row<ValueError>("an option less", {"adam", "group 0", "'eps'"},
                        load([](State s) { s.param_groups[0].options.erase("eps"); }));
  table.row<ValueError>("a parameter twice", {"adam", "two parameters", "0"},
                        load([](State s) { s.param_groups[0].params[1] = 0; }));
  table.row<ValueError>("a state of no parameter", {"adam", "parameter 7"},
                        load([](State s) { s.state[7] = s.state[0]; }));
  table.row<ValueError>("a state that is incomplete", {"adam", "parameter 1", "incomplete"},
                        load([](State s) { s.state[1].erase("exp_avg"); }));
  table.row<ValueError>("an unknown state", {"adam", "parameter 0", "'momentum'"},
                        load([](State s) { s.state[0]["momentum"] = ones(3); }));
  table.row<ShapeError>("a state of another shape", {"adam", "exp_avg", "(2,)", "(3,)"},
                        load([](State s) { s.state[0]["exp_avg"] = ones(2); }));
  table.row<ShapeError>("a step of several numbers", {"adam", "step", "(2,)", "one element"},
                        load([](State s) { s.state[0]["step"] = ones(2); }));
  table.row<ValueError>("a step that is no count", {"adam", "step", "1.5"},
                        load([](State s) { s.state[0]["step"] = scalar(1.5); }));
  table.row<ValueError>("an option out of its domain", {"adam", "eps", "-1"},
                        load([](State s) { s.param_groups[0].options["eps"] = -1; }));
  table.row<ValueError>("a state of another optimizer", {"sgd", "group 0", "'dampening'"},
                        [&] { sgd.load_state_dict(adam.state_dict()); });
  table.row<ValueError>("a closure that raises", {"closure", "1 of 2"},
                        [&] { adam.step([]() -> Tensor { throw ValueError("closure: 1 of 2"); }); });
}

TEST_CASE_FIXTURE(Fixture, "errors of clipping") {
  Tensor odd = ones(2).requires_grad_();
  odd.set_grad(tensor({1.0, double(NAN)}));
  table.watch(odd);
  table.row<ValueError>("a negative norm", {"clip_grad_norm_", "max_norm", "-1"},
                        [&] { nn::clip_grad_norm_({w}, -1); });
  table.row<ValueError>("a norm of NaN", {"clip_grad_norm_", "max_norm", "nan"},
                        [&] { nn::clip_grad_norm_({w}, NAN); });
  table.row<ValueError>("a total that is not finite", {"clip_grad_norm_", "order 2", "nan"}, [&] {
    nn::clip_grad_norm_({w, odd}, 1, 2, true);
  });
  table.row<ValueError>("a negative bound", {"clip_grad_value_", "clip_value", "-1"},
                        [&] { nn::clip_grad_value_({w}, -1); });
  table.row<ValueError>("a bound of NaN", {"clip_grad_value_", "clip_value", "nan"},
                        [&] { nn::clip_grad_value_({w}, NAN); });
}

TEST_CASE_FIXTURE(Fixture, "errors of schedules") {
  using namespace unroll::optim;
  table.row<ValueError>("a step of 0", {"step_lr", "step_size", "0"}, [&] { StepLR made(sgd, 0); });
  table.row<ValueError>("going on without a start", {"step_lr", "last_epoch = 3", "initial_lr"},
                        [&] { StepLR made(sgd, 2, 0.1, 3); });
  table.row<ValueError>("an epoch before the first", {"exponential_lr", "last_epoch", "-2"},
                        [&] { ExponentialLR made(sgd, 0.9, -2); });
  table.row<ValueError>("a factor above 1", {"constant_lr", "factor", "1.5"},
                        [&] { ConstantLR made(sgd, {.factor = 1.5}); });
  table.row<ValueError>("a negative factor", {"constant_lr", "factor", "-0.5"},
                        [&] { ConstantLR made(sgd, {.factor = -0.5}); });
  table.row<ValueError>("a start of 0", {"linear_lr", "start_factor", "0"},
                        [&] { LinearLR made(sgd, {.start_factor = 0}); });
  table.row<ValueError>("an end above 1", {"linear_lr", "end_factor", "2"},
                        [&] { LinearLR made(sgd, {.end_factor = 2}); });
}
