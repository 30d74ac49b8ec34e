#include "support/error_table.h"

#include <doctest/doctest.h>

using namespace unroll;

namespace {

struct Model : nn::Module {
  Model() : head(2, 2) { add("head", head); }
  nn::Linear head;
};

std::vector<ErrorRow> rows(const std::vector<std::function<void()>>& actions) {
  std::vector<ErrorRow> planted;
  for (const auto& action : actions) planted.push_back({"planted", &typeid(ShapeError), {"op", "(2,)"}, action});
  return planted;
}

[[noreturn]] void raise_error() { throw ShapeError("op: got (2,)"); }

}  // namespace

TEST_CASE("error table: a row that keeps its promise has no fault") {
  ErrorTable table("planted");
  CHECK(table.fault(rows({raise_error})[0]) == "");
  CHECK(table
            .fault({"a class of the standard library",
                    &typeid(std::bad_alloc),
                    {"bad", "alloc"},
                    [] { throw std::bad_alloc(); }})
            .find("is not in the text") == std::string::npos);
}

TEST_CASE("error table: a row that asks too little, or gets something else, is a fault") {
  ErrorTable table("planted");
  auto fault = [&](std::vector<std::string> tokens, std::function<void()> action) {
    return table.fault({"planted", &typeid(ShapeError), std::move(tokens), std::move(action)});
  };
  CHECK(fault({"op"}, raise_error) == "the row asks for less than two tokens: the op or argument, and what came");
  CHECK(fault({"op", "(2,)"}, [] {}) == "nothing was raised, expected unroll::ShapeError");
  CHECK(fault({"op", "(3,)"}, raise_error) == "\"(3,)\" is not in the text: op: got (2,)");
  CHECK(fault({"op", "(2,)"}, [] { throw ValueError("op: got (2,)"); }) ==
        "unroll::ValueError instead of unroll::ShapeError: op: got (2,)");
  struct Derived : ShapeError {
    using ShapeError::ShapeError;
  };
  CHECK(fault({"op", "(2,)"}, [] { throw Derived("op: got (2,)"); }).find("instead of") != std::string::npos);
  CHECK(fault({"op", "(2,)"}, [] { throw 1; }) == "what was raised is no std::exception");
}

TEST_CASE("error table: whatever has changed is a fault") {
  Model model;
  Tensor x = zeros({2}), leaf = ones({2}).requires_grad_();
  leaf.set_grad(zeros({2}));
  optim::Adam optimizer(model.parameters());
  Generator generator(1);
  ErrorTable table("planted");
  table.watch(x, std::vector<Tensor>{leaf}, model, optimizer, generator);
  double settings = 1;
  table.watch_state("settings", [&] { return std::to_string(settings); });
  std::vector<Tensor> kept;

  CHECK(table.fault(rows({raise_error})[0]) == "");
  auto after = [&](std::function<void()> change) {
    return table.fault(rows({[&] {
      change();
      raise_error();
    }})[0]);
  };
  CHECK(after([&] { x.data<float>()[1] = -0.f; }) == "tensor 1 has changed");
  CHECK(after([&] { x.zero_(); }) == "tensor 1 has changed");  // its version
  CHECK(after([&] { x.requires_grad_(); }) == "tensor 1 has changed");
  CHECK(after([&] { leaf.grad().data<float>()[0] = 1; }) == "tensor 2 has changed");
  CHECK(after([&] { model.eval(); }).find("has changed") != std::string::npos);
  CHECK(after([&] { model.head.bias.data<float>()[0] += 1; }).find("has changed") != std::string::npos);
  CHECK(after([&] { optimizer.param_groups()[0]["lr"] = 2; }) == "optimizer adam has changed");
  CHECK(after([&] { generator.random32(); }) == "generator has changed");
  CHECK(after([&] { rand({3}); }) == "generator has changed");  // the default one
  CHECK(after([&] { settings = 2; }) == "settings has changed");
  CHECK(after([&] { kept.push_back(zeros({16})); }).find("of memory behind") != std::string::npos);
  CHECK(after([&] { detail::switches().grad = false; }) == "a mode of autograd has changed");
  detail::switches().grad = true;
}
