#include "optim/golden.h"
#include "support/memory.h"

#include <doctest/doctest.h>
#include <unroll/autograd/engine.h>
#include <unroll/autograd/ops/arithmetic.h>
#include <unroll/autograd/ops/reduce.h>
#include <unroll/autograd/ops/shape.h>
#include <unroll/core/random.h>
#include <unroll/core/view.h>
#include <unroll/nn/linear.h>
#include <unroll/optim/adam.h>
#include <unroll/optim/lr_scheduler.h>
#include <unroll/optim/sgd.h>

#include <memory>
#include <type_traits>

using namespace unroll;
using namespace unroll::optim;

namespace {

void step(Optimizer& opt, std::size_t t) {
  for (const ParamGroup& group : opt.param_groups())
    for (const Tensor& p : group.params) golden::set_grad(p, t);
  opt.step();
}

std::vector<double> values(const Tensor& x) { return x.detach().to_vector<double>(); }

}  // namespace

TEST_CASE("optimizer: a parameter without gradient is left alone entirely, one with a zero gradient is not") {
  Tensor a = golden::parameter(), b = golden::parameter();
  Adam opt({a, b}, {.lr = 0.1, .weight_decay = 0.5});
  a.set_grad(zeros_like(a));
  opt.step();
  CHECK(values(b) == values(golden::parameter()));
  CHECK(b.version() == 0);
  CHECK(values(a) != values(golden::parameter()));
  CHECK(opt.state_dict().state.size() == 1);
  golden::set_grad(b, 0);
  opt.step();
  CHECK(opt.state_dict().state.at(0).at("step").item() == 2);
  CHECK(opt.state_dict().state.at(1).at("step").item() == 1);
}

TEST_CASE("optimizer: groups have options of their own over the optimizer's") {
  Tensor a = golden::parameter(), b = golden::parameter(), c = golden::parameter();
  SGD opt({{.params = {a}, .options = {{"lr", 1}}}, {.params = {b}}}, {.lr = 0.5});
  opt.add_param_group({{c}, {{"maximize", 1}}});
  CHECK(opt.param_groups().size() == 3);
  step(opt, 0);
  CHECK(values(a) == std::vector{0.5, -1.0, -1.5});
  CHECK(values(b) == std::vector{0.75, -1.5, -0.5});
  CHECK(values(c) == std::vector{1.25, -2.5, 1.5});
  opt.param_groups()[0]["lr"] = 0;
  opt.param_groups()[1]["lr"] *= 2;
  step(opt, 0);
  CHECK(values(a) == std::vector{0.5, -1.0, -1.5});
  CHECK(values(b) == std::vector{0.25, -0.5, -2.5});
  CHECK_RAISES(ValueError, "no option 'rate' among dampening, lr, maximize", opt.param_groups()[0]["rate"]);
}

TEST_CASE("optimizer: a group may bring the rate that schedules begin with") {
  Tensor p = golden::parameter();
  SGD opt({{.params = {p}, .options = {{"lr", 0.05}, {"initial_lr", 0.1}}}}, {.lr = 1});
  ExponentialLR schedule(opt, 0.5, 3);
  CHECK(opt.param_groups()[0].options.at("initial_lr") == 0.1);
  CHECK(schedule.get_last_lr()[0] == 0.05);
}

TEST_CASE("optimizer: what cannot be a parameter") {
  Tensor p = golden::parameter();
  auto sgd = [](const std::vector<Tensor>& params) { SGD opt(params, {.lr = 0.1}); };
  CHECK_RAISES(ValueError, "sgd: got no parameters", sgd({}));
  CHECK_RAISES(ValueError, "was computed, expected a leaf", sgd({p * 2}));
  CHECK_RAISES(ValueError, "more than once", sgd({p, p}));
  CHECK_RAISES(ValueError, "undefined", sgd({Tensor()}));
  CHECK_RAISES(ValueError, "more than once", SGD({{.params = {p}}, {.params = {p}}}, {}).zero_grad());

  SGD opt({p}, {.lr = 0.1});
  auto before = golden::everything(opt);
  CHECK_RAISES(ValueError, "more than once", opt.add_param_group({{golden::parameter(), p}}));
  CHECK_RAISES(ValueError, "sgd: no option 'beta1' among",
               opt.add_param_group({{golden::parameter()}, {{"beta1", 0.5}}}));
  CHECK_RAISES(ValueError, "lr", opt.add_param_group({{golden::parameter()}, {{"lr", -1}}}));
  CHECK_RAISES(ValueError, "leaf", opt.add_param_group({{golden::parameter(), p * 2}}));
  CHECK(opt.param_groups().size() == 1);
  CHECK(golden::everything(opt) == before);
}

TEST_CASE("optimizer: tensors that require no gradient are accepted and stay") {
  Tensor p = golden::parameter(), frozen = tensor({1.0, 2.0}), mask = tensor({true, false});
  SGD opt({p, frozen, mask}, {.lr = 0.1});
  golden::set_grad(p, 0);
  opt.step();
  CHECK(frozen.to_vector<float>() == std::vector{1.f, 2.f});
  CHECK(mask.to_vector<bool>() == std::vector{true, false});
}

TEST_CASE("optimizer: a step that cannot be taken by all is taken by none") {
  Tensor a = golden::parameter(), b = golden::parameter();
  Adam opt({a, b}, {.lr = 0.1});
  golden::set_grad(a, 0);
  SUBCASE("a parameter whose elements share memory") {
    Tensor shared = views::expand(ones({1}, DType::Float64), {3}).requires_grad_();
    opt.add_param_group({{shared}});
    shared.set_grad(ones({3}, DType::Float64));
    CHECK_RAISES(ValueError, "adam", opt.step());
  }
  SUBCASE("no memory") {
    golden::set_grad(b, 0);
    for (int n = 0;; ++n) {
      auto before = golden::everything(opt);
      try {
        FailAfter hook(n);
        opt.step();
        CHECK(n > 3);  // two moments for each of two parameters at least
        return;
      } catch (const OutOfMemory&) {}
      REQUIRE(golden::everything(opt) == before);
    }
  }
  SUBCASE("no memory, with parameters of many dimensions that do not lie in order") {
    auto scattered = [] { return views::transpose(ones({2, 3, 2, 2, 2}, DType::Float64), 0, 4).requires_grad_(); };
    Tensor c = scattered(), d = scattered();
    SGD sgd({c, d}, {.lr = 0.5});
    for (const Tensor& p : {c, d}) p.set_grad(ones(p.shape(), DType::Float64));
    for (int n = 0;; ++n) try {
        FailAfter hook(n);
        sgd.step();
        CHECK(n > 0);
        break;
      } catch (const OutOfMemory&) {
        REQUIRE(values(c) == std::vector<double>(48, 1));
        REQUIRE(values(d) == std::vector<double>(48, 1));
      }
    CHECK(values(c) == std::vector<double>(48, 0.5));
    CHECK(values(d) == std::vector<double>(48, 0.5));
  }
  SUBCASE("a group that has lost an option") {
    golden::set_grad(b, 0);
    opt.add_param_group({{golden::parameter()}});
    opt.param_groups()[1].options = {{"lr", 0.1}};
    opt.param_groups()[1].params[0].set_grad(ones_like(a));
    CHECK_RAISES(ValueError, "no option", opt.step());
  }
  SUBCASE("an integer with a gradient") {
    Tensor integers = tensor({1, 2});
    opt.add_param_group({{integers}});
    integers.set_grad(tensor({1, 1}));
    CHECK_RAISES(DTypeError, "adam: parameter 2 is int64", opt.step());
  }
  CHECK(values(a) == values(golden::parameter()));
  CHECK(opt.state_dict().state.empty());
}

TEST_CASE("optimizer: state of another dtype than its parameter's") {
  nn::Linear model(1, 1);
  Adam opt(model.parameters());
  for (const Tensor& p : model.parameters()) p.set_grad(ones_like(p));
  opt.step();
  model.to(DType::Float64);
  const auto before = golden::everything(opt);
  CHECK_RAISES(DTypeError, "adam: exp_avg of parameter 0 is float32, the parameter float64", opt.step());
  CHECK(golden::everything(opt) == before);
  opt.load_state_dict(opt.state_dict());  // converts it
  opt.step();
  CHECK(opt.state_dict().state.at(0).at("step").item() == 2);
}

TEST_CASE("optimizer: a transposed parameter and an expanded gradient") {
  Tensor p = views::transpose(arange(0, 6, 1, DType::Float64), 0, 0);
  p = views::transpose(views::view(p, {2, 3}), 0, 1).requires_grad_();
  Tensor straight = p.detach().clone().requires_grad_();
  SGD opt({p, straight}, {.lr = 0.5, .momentum = 0.5});
  Tensor g = views::expand(tensor({1.0, 2.0}, DType::Float64), {3, 2});
  for (int t = 0; t < 3; ++t) {
    p.set_grad(g);
    straight.set_grad(g.clone());
    opt.step();
  }
  CHECK(!p.is_contiguous());
  CHECK(values(p) == values(straight));
  CHECK(values(p)[1] == 3 - 0.5 * 2 * (1 + 1.5 + 1.75));
}

TEST_CASE("optimizer: a step counts as writing in place, and is not recorded") {
  Tensor p = golden::parameter();
  Tensor y = sum(p * p);
  SGD opt({p}, {.lr = 0.1});
  golden::set_grad(p, 0);
  opt.step();
  CHECK(p.version() == 1);
  CHECK(p.is_leaf());
  CHECK_RAISES(GradError, "sgd", y.backward());
}

TEST_CASE("optimizer: step(closure) computes the loss with gradients, whatever the mode outside") {
  Tensor p = golden::parameter();
  SGD opt({p}, {.lr = 0.25});
  NoGrad no_grad;
  Tensor loss = opt.step([&] {
    opt.zero_grad();
    Tensor l = sum(p * p);
    l.backward();
    return l;
  });
  CHECK(loss.item() == 5.25);
  CHECK(values(p) == std::vector{0.5, -1.0, 0.25});
  CHECK(!GradMode::enabled());
}

TEST_CASE("optimizer: a closure that raises moves nothing, and the mode is as before") {
  Tensor p = golden::parameter();
  SGD opt({p}, {.lr = 0.25});
  NoGrad no_grad;
  CHECK_THROWS_AS(opt.step([&]() -> Tensor {
    sum(p * p).backward();
    throw 7;
  }),
                  int);
  CHECK(values(p) == values(golden::parameter()));
  CHECK(values(p.grad()) == std::vector{2.0, -4.0, 1.0});  // what the closure did stays
  CHECK(!GradMode::enabled());
}

TEST_CASE("optimizer: a single tensor is no list of parameters") {
  CHECK_FALSE(std::is_constructible_v<SGD, Tensor>);
  CHECK_FALSE(std::is_constructible_v<Adam, Tensor, AdamOptions>);
  CHECK_FALSE(std::is_copy_constructible_v<SGD>);
}

TEST_CASE("optimizer: a group that is added in mid-training starts afresh and leaves the others' state") {
  Tensor a = golden::parameter(), late = golden::parameter(), alone = golden::parameter();
  Adam opt({a}, {.lr = 0.1}), fresh({alone}, {.lr = 0.5});
  for (std::size_t t = 0; t < 3; ++t) step(opt, t);
  Tensor moment = opt.state_dict().state.at(0).at("exp_avg").clone();
  opt.add_param_group({{late}, {{"lr", 0.5}}});
  CHECK(values(opt.state_dict().state.at(0).at("exp_avg")) == values(moment));
  for (std::size_t t = 0; t < 2; ++t) step(opt, t), step(fresh, t);
  CHECK(values(late) == values(alone));
  CHECK(opt.state_dict().state.at(0).at("step").item() == 5);
  CHECK(opt.state_dict().param_groups[1].params == std::vector<std::int64_t>{1});
}

TEST_CASE("optimizer: zero_grad drops gradients, or fills them with zeros where they are") {
  Tensor p = golden::parameter(), none = golden::parameter();
  SGD opt({p, none}, {.lr = 0.1});
  golden::set_grad(p, 0);
  Tensor grad = p.grad();
  opt.zero_grad(false);
  CHECK(p.grad().is_same(grad));
  CHECK(grad.to_vector<double>() == std::vector{0.0, 0.0, 0.0});
  CHECK(!none.grad().defined());
  opt.zero_grad();
  CHECK(!p.grad().defined());

  p.set_grad(views::expand(ones({1}, DType::Float64), {3}));
  opt.zero_grad(false);
  CHECK(p.grad().to_vector<double>() == std::vector{0.0, 0.0, 0.0});

  backward({sum(p * p * p)}, {}, {.create_graph = true});
  opt.zero_grad();
  backward({sum(p * p * p)}, {}, {.create_graph = true});
  CHECK(p.grad().requires_grad());
  opt.zero_grad(false);
  CHECK(!p.grad().requires_grad());
}

TEST_CASE_TEMPLATE("optimizer: a run that goes on from a state_dict equals the uninterrupted one bit for bit", O, SGD,
                   Adam, AdamW) {
  for (std::size_t stop : {0u, 1u, 3u}) {
    auto make = [](const Tensor& a, const Tensor& b) {
      std::vector<ParamGroup> groups = {{{a}}, {{b}, {{"lr", 0.05}}}};
      auto opt = std::make_unique<O>(groups);
      opt->param_groups()[1][std::is_same_v<O, SGD> ? "momentum" : "amsgrad"] = std::is_same_v<O, SGD> ? 0.9 : 1.0;
      return opt;
    };
    Tensor a = golden::parameter(DType::Float32), b = golden::parameter();
    auto whole = make(a, b);
    for (std::size_t t = 0; t < stop; ++t) step(*whole, t);
    Tensor a2 = a.detach().clone().requires_grad_(), b2 = b.detach().clone().requires_grad_();
    O resumed(std::vector<ParamGroup>{{{a2}}, {{b2}}});
    resumed.load_state_dict(whole->state_dict());
    for (std::size_t t = stop; t < 9; ++t) step(*whole, t);  // what was loaded is a copy
    for (std::size_t t = stop; t < 9; ++t) step(resumed, t);
    CHECK(golden::everything(resumed) == golden::everything(*whole));
  }
}

TEST_CASE("optimizer: state is converted to the parameter's dtype, except the step") {
  Tensor p64 = golden::parameter(), p32 = golden::parameter(DType::Float32);
  Adam from({p64}, {.lr = 0.1}), to({p32}, {.lr = 0.5});
  step(from, 0);
  auto state = from.state_dict();
  state.state.at(0).at("step") = scalar(7, DType::Int64);
  to.load_state_dict(state);
  CHECK(to.param_groups()[0]["lr"] == 0.1);
  auto loaded = to.state_dict().state.at(0);
  CHECK(loaded.at("exp_avg").dtype() == DType::Float32);
  CHECK(loaded.at("step").dtype() == DType::Float32);
  CHECK(loaded.at("step").item() == 7);
}

TEST_CASE("optimizer: a count of steps that float32 cannot hold comes back as it was") {
  Tensor p = golden::parameter();
  Adam opt({p});
  step(opt, 0);
  for (double count : {0x1p24, 0x1p24 + 1, 0x1p53 - 1}) {
    auto state = opt.state_dict();
    state.state.at(0).at("step") = scalar(count, DType::Float64);
    opt.load_state_dict(state);
    CHECK(opt.state_dict().state.at(0).at("step").item() == count);
  }
}

TEST_CASE("optimizer: amsgrad turned on after some steps is taken up where it is loaded, as where it was turned on") {
  Tensor p = golden::parameter();
  Adam running({p});
  for (std::size_t t = 0; t < 4; ++t) step(running, t);
  running.param_groups()[0]["amsgrad"] = 1;
  Tensor q = p.detach().clone().requires_grad_();
  Adam resumed({q});
  resumed.load_state_dict(running.state_dict());
  for (std::size_t t = 4; t < 8; ++t) step(running, t), step(resumed, t);
  CHECK(golden::everything(resumed) == golden::everything(running));
}

TEST_CASE("optimizer: a state that does not fit changes nothing") {
  Tensor a = golden::parameter(), b = golden::parameter();
  Adam opt({{.params = {a}}, {.params = {b}}}, {.lr = 0.1});
  step(opt, 0);
  auto before = golden::everything(opt);
  StateDict state = opt.state_dict();
  for (auto& [index, named] : state.state)
    for (auto& [name, x] : named) x = x + 1;
  SUBCASE("groups") {
    state.param_groups.pop_back();
    CHECK_RAISES(ValueError, "adam: the state has 1 parameter groups, the optimizer 2", opt.load_state_dict(state));
  }
  SUBCASE("sizes") {
    state.param_groups[1].params.push_back(2);
    CHECK_RAISES(ValueError, "group 1 of the state has 2 parameters, that of the optimizer 1",
                 opt.load_state_dict(state));
  }
  SUBCASE("an option") {
    state.param_groups[1].options.erase("eps");
    CHECK_RAISES(ValueError, "group 1 of the state has no option 'eps'", opt.load_state_dict(state));
  }
  SUBCASE("an option outside its domain") {
    state.param_groups[1].options["beta2"] = 1;
    CHECK_RAISES(ValueError, "adam: expected beta2 in [0, 1), got 1", opt.load_state_dict(state));
  }
  SUBCASE("numbers of parameters") {
    state.param_groups[1].params[0] = 0;
    CHECK_RAISES(ValueError, "two parameters of number 0", opt.load_state_dict(state));
  }
  SUBCASE("a stranger's parameter") {
    state.state[5] = {};
    CHECK_RAISES(ValueError, "parameter 5 that is in none", opt.load_state_dict(state));
  }
  SUBCASE("a name") {
    state.state.at(1)["momentum_buffer"] = ones(3);
    CHECK_RAISES(ValueError, "unknown 'momentum_buffer'", opt.load_state_dict(state));
  }
  SUBCASE("a missing name") {
    state.state.at(1).erase("exp_avg_sq");
    CHECK_RAISES(ValueError, "the state of parameter 1 is incomplete", opt.load_state_dict(state));
  }
  SUBCASE("no step") {
    state.state.at(1).erase("step");
    CHECK_RAISES(ValueError, "incomplete", opt.load_state_dict(state));
  }
  SUBCASE("a shape") {
    state.state.at(1).at("exp_avg") = ones(4);
    CHECK_RAISES(ShapeError, "exp_avg of parameter 1 has shape (4,), the parameter (3,)", opt.load_state_dict(state));
  }
  SUBCASE("a step of several elements") {
    state.state.at(1).at("step") = ones(2);
    CHECK_RAISES(ShapeError, "the step of parameter 1", opt.load_state_dict(state));
  }
  SUBCASE("a step between two") {
    state.state.at(1).at("step") = scalar(1.5);
    CHECK_RAISES(ValueError, "the step of parameter 1 is 1.5", opt.load_state_dict(state));
  }
  SUBCASE("numbers may be any, only their order counts") {
    state.param_groups[0].params[0] = 20;
    state.param_groups[1].params[0] = 10;
    auto node = state.state.extract(0);
    node.key() = 20;
    state.state.insert(std::move(node));
    state.state.erase(1);
    state.param_groups[1].params[0] = 1;
    opt.load_state_dict(state);
    CHECK(opt.state_dict().state.size() == 1);
    CHECK(opt.state_dict().state.at(0).at("step").item() == 2);
    return;
  }
  CHECK(golden::everything(opt) == before);
}

namespace {
struct Holder : nn::Module {
  explicit Holder(Tensor x) : held(std::move(x)) { add("held", held, Kind::Buffer); }
  Tensor held;
};
}  // namespace

TEST_CASE("optimizers: a gradient that has been converted is refused, and nothing moves") {
  Tensor w = tensor({1.0, 2.0}).requires_grad_(), v = tensor({3.0, 4.0}).requires_grad_();
  for (const Tensor& p : {v, w}) p.set_grad(ones_like(p));
  SGD opt({v, w}, {.lr = 1});
  Holder(w.grad()).to(DType::Float64);  // the tensor itself becomes float64
  CHECK_THROWS_AS(opt.step(), DTypeError);
  CHECK(v.to_vector<float>() == std::vector<float>{3, 4});
}
