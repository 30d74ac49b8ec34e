#include "replay.h"

#include <unroll/autograd/ops/loss.h>
#include <unroll/core/random.h>
#include <unroll/optim/adam.h>
#include <unroll/optim/sgd.h>

#include <nlohmann/json.hpp>

namespace conformance {
namespace {

// -- loss

Reduction reduction(Case& c) {
  static const std::map<std::string, Reduction> names = {
      {"none", Reduction::None}, {"mean", Reduction::Mean}, {"sum", Reduction::Sum}};
  const std::string name = c.option("reduction");
  check<ValueError>(names.contains(name), "reduction {} is unknown", name);
  return names.at(name);
}

Tensor class_weight(Case& c) { return c.has("class_weight") ? c.given("class_weight") : Tensor(); }

using Loss = Tensor (*)(Case&, const Tensor& input, const Tensor& target);
const std::map<std::string_view, Loss> kLosses = {
    {"mse_loss", [](Case& c, const Tensor& x, const Tensor& t) { return mse_loss(x, t, {.reduction = reduction(c)}); }},
    {"l1_loss", [](Case& c, const Tensor& x, const Tensor& t) { return l1_loss(x, t, {.reduction = reduction(c)}); }},
    {"smooth_l1_loss",
     [](Case& c, const Tensor& x, const Tensor& t) {
       SmoothL1LossOptions options{.reduction = reduction(c)};
       c.option("beta", options.beta);
       return smooth_l1_loss(x, t, options);
     }},
    {"huber_loss",
     [](Case& c, const Tensor& x, const Tensor& t) {
       HuberLossOptions options{.reduction = reduction(c)};
       c.option("delta", options.delta);
       return huber_loss(x, t, options);
     }},
    {"binary_cross_entropy_with_logits",
     [](Case& c, const Tensor& x, const Tensor& t) {
       return binary_cross_entropy_with_logits(x, t, {.reduction = reduction(c)});
     }},
    {"nll_loss",
     [](Case& c, const Tensor& x, const Tensor& t) {
       NLLLossOptions options{.weight = class_weight(c), .reduction = reduction(c)};
       c.option("ignore_index", options.ignore_index);
       return nll_loss(x, t, options);
     }},
    {"cross_entropy",
     [](Case& c, const Tensor& x, const Tensor& t) {
       CrossEntropyLossOptions options{.weight = class_weight(c), .reduction = reduction(c)};
       c.option("ignore_index", options.ignore_index);
       c.option("label_smoothing", options.label_smoothing);
       return cross_entropy(x, t, options);
     }},
};

// -- optim

template <class Algorithm, class Options>
std::unique_ptr<optim::Optimizer> make_adam(Case& c, std::vector<Tensor> params) {
  Options options;
  c.option("lr", options.lr);
  c.option("beta1", options.betas.first);
  c.option("beta2", options.betas.second);
  c.option("eps", options.eps);
  c.option("weight_decay", options.weight_decay);
  c.option("amsgrad", options.amsgrad);
  c.option("maximize", options.maximize);
  return std::make_unique<Algorithm>(std::move(params), options);
}

std::unique_ptr<optim::Optimizer> make_sgd(Case& c, std::vector<Tensor> params) {
  optim::SGDOptions options;
  c.option("lr", options.lr);
  c.option("momentum", options.momentum);
  c.option("dampening", options.dampening);
  c.option("weight_decay", options.weight_decay);
  c.option("nesterov", options.nesterov);
  c.option("maximize", options.maximize);
  return std::make_unique<optim::SGD>(std::move(params), options);
}

// -- random

/// One draw of a case's `calls`: ["randn", 5, "float64"].
Answer draw(const std::string& name, const nlohmann::json& call) {
  const std::string function = call.at(0);
  const auto integer = [&](std::size_t i) { return call.at(i).get<std::int64_t>(); };
  const auto dtype = [&] { return dtype_named(call.at(2)); };
  const auto expect_length = [&](std::size_t n) {
    check<ValueError>(call.size() == n, "call not understood: {}", call.dump());
  };
  // PyTorch's versions differ by so much there among themselves.
  const auto ulps = [&] { return dtype() == DType::Float64 && integer(1) < 16 ? 1 : 0; };

  if (function == "rand") return expect_length(3), Answer{name, rand(integer(1), dtype())};
  if (function == "randn") return expect_length(3), Answer{name, randn(integer(1), dtype()), ulps()};
  if (function == "randint") return expect_length(4), Answer{name, randint(integer(1), integer(2), integer(3))};
  if (function == "randperm") return expect_length(2), Answer{name, randperm(integer(1))};
  if (function == "uniform")
    return expect_length(5), Answer{name, uniform_(empty(integer(1), dtype()), call.at(3), call.at(4))};
  if (function == "normal")
    return expect_length(5), Answer{name, normal_(empty(integer(1), dtype()), call.at(3), call.at(4)), ulps()};
  throw ValueError("call not understood: " + call.dump());
}

}  // namespace

Answers replay_loss(Case& c) {
  const std::string function = c.option("function");
  const auto loss = kLosses.find(function);
  check<ValueError>(loss != kLosses.end(), "loss {} is unknown", function);
  const Tensor input = c.leaf("input");
  const DType dtype = c.option<DType>("dtype");
  check<ValueError>(input.dtype() == dtype, "input is not {}", dtype);
  return with_gradients(c, {{"loss", loss->second(c, input, c.given("target"))}}, {{"input", input}});
}

std::unique_ptr<optim::Optimizer> make_optimizer(Case& c, std::vector<Tensor> params) {
  static const std::map<std::string_view, std::unique_ptr<optim::Optimizer> (*)(Case&, std::vector<Tensor>)>
      algorithms = {
          {"SGD", make_sgd},
          {"Adam", make_adam<optim::Adam, optim::AdamOptions>},
          {"AdamW", make_adam<optim::AdamW, optim::AdamWOptions>},
      };
  const std::string algorithm = c.option("algorithm");
  const auto make = algorithms.find(algorithm);
  check<ValueError>(make != algorithms.end(), "algorithm {} is unknown", algorithm);
  return make->second(c, std::move(params));
}

Answers replay_optim(Case& c) {
  const DType dtype = c.option<DType>("dtype");
  std::vector<Tensor> params;
  while (c.has(fmt::format("param.{}", params.size()))) {
    params.push_back(c.leaf(fmt::format("param.{}", params.size())));
    check<ValueError>(params.back().dtype() == dtype, "a parameter is not {}", dtype);
  }
  const auto optimizer = make_optimizer(c, params);

  Answers answers;
  const auto steps = c.option<std::int64_t>("steps");
  for (std::int64_t t = 0; t < steps; ++t) {
    for (std::size_t i = 0; i < params.size(); ++i) params[i].set_grad(c.given(fmt::format("grad.{}.{}", t, i)));
    optimizer->step();
    for (std::size_t i = 0; i < params.size(); ++i)
      answers.push_back({fmt::format("param.{}.{}", t, i), params[i].detach().clone()});
  }
  return answers;
}

Answers replay_random(Case& c) {
  manual_seed(c.option<std::int64_t>("seed"));
  Answers answers;
  for (const auto& call : nlohmann::json::parse(c.option("calls")))
    answers.push_back(draw(std::to_string(answers.size()), call));
  return answers;
}

}  // namespace conformance
