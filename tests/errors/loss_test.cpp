#include "support/error_table.h"

#include <doctest/doctest.h>

#include <cmath>

using namespace unroll;

namespace {

constexpr DType f64 = DType::Float64;

struct Fixture {
  Fixture() {
    x.set_grad(ones({2, 3}));
    table.watch(x, t, p, wide, classes, none);
  }

  Tensor x = tensor({{0.1, 0.2, 0.3}, {0.4, 0.5, 0.6}}).requires_grad_(), t = ones({2, 3});
  Tensor p = full({2, 3}, 0.5), wide = ones({2, 3}, f64), classes = tensor({0, 2}), none;
  ErrorTable table{"losses"};
};

using Loss = Tensor (*)(const Tensor& input, const Tensor& target);
const std::pair<const char*, Loss> kAlike[] = {
    {"mse_loss", [](const Tensor& x, const Tensor& t) { return mse_loss(x, t); }},
    {"l1_loss", [](const Tensor& x, const Tensor& t) { return l1_loss(x, t); }},
    {"smooth_l1_loss", [](const Tensor& x, const Tensor& t) { return smooth_l1_loss(x, t); }},
    {"huber_loss", [](const Tensor& x, const Tensor& t) { return huber_loss(x, t); }},
    {"kl_div", [](const Tensor& x, const Tensor& t) { return kl_div(x, t); }},
    {"binary_cross_entropy", [](const Tensor& x, const Tensor& t) { return binary_cross_entropy(x, t); }},
    {"binary_cross_entropy_with_logits",
     [](const Tensor& x, const Tensor& t) { return binary_cross_entropy_with_logits(x, t); }},
};
const std::pair<const char*, Loss> kClasses[] = {
    {"nll_loss", [](const Tensor& x, const Tensor& t) { return nll_loss(x, t); }},
    {"cross_entropy", [](const Tensor& x, const Tensor& t) { return cross_entropy(x, t); }},
};

}  // namespace

TEST_CASE_FIXTURE(Fixture, "errors of losses of two like tensors") {
  for (auto [name, loss] : kAlike) {
    table.row<ShapeError>("shapes that would broadcast", {name, "(2, 3)", "(3,)"},
                          [&, f = loss] { return f(x, ones(3)); });
    table.row<ShapeError>("as many elements in another shape", {name, "(2, 3)", "(3, 2)"}, [&, f = loss] {
      return f(x, ones({3, 2}));
    });
    table.row<DTypeError>("two dtypes", {name, "float32", "float64"}, [&, f = loss] { return f(x, wide); });
    table.row<DTypeError>("whole numbers", {name, "float32 or float64", "int64"},
                          [&, f = loss] { return f(classes, classes); });
    table.row<ValueError>("an undefined target", {"tensor", "undefined"}, [&, f = loss] { return f(x, none); });
  }
  table.row<ValueError>("a negative beta", {"smooth_l1_loss", "beta = -1", "negative"},
                        [&] { return smooth_l1_loss(x, t, {.beta = -1}); });
  table.row<ValueError>("beta = NaN", {"smooth_l1_loss", "beta = nan"},
                        [&] { return smooth_l1_loss(x, t, {.beta = NAN}); });
  table.row<ValueError>("delta = 0", {"huber_loss", "delta = 0", "positive"},
                        [&] { return huber_loss(x, t, {.delta = 0}); });
  table.row<ValueError>("a negative delta", {"huber_loss", "delta = -2", "positive"},
                        [&] { return huber_loss(x, t, {.delta = -2}); });
  table.row<ValueError>("delta = NaN", {"huber_loss", "delta = nan"}, [&] { return huber_loss(x, t, {.delta = NAN}); });
  table.row<ValueError>("kl_div's mean elsewhere", {"mse_loss", "BatchMean", "kl_div"},
                        [&] { return mse_loss(x, t, {.reduction = Reduction::BatchMean}); });
  table.row<ValueError>("a reduction that is none", {"mse_loss", "7", "Reduction"},
                        [&] { return mse_loss(x, t, {.reduction = static_cast<Reduction>(7)}); });
}

TEST_CASE_FIXTURE(Fixture, "errors of binary cross entropy") {
  table.row<ValueError>("an input above 1", {"binary_cross_entropy", "input", "1.5", "[0, 1]"}, [&] {
    return binary_cross_entropy(full({2, 3}, 1.5), p);
  });
  table.row<ValueError>("an input below 0", {"binary_cross_entropy", "input", "-1", "[0, 1]"}, [&] {
    return binary_cross_entropy(full({2, 3}, -1), p);
  });
  table.row<ValueError>("an input of NaN", {"binary_cross_entropy", "input", "nan", "[0, 1]"}, [&] {
    return binary_cross_entropy(full({2, 3}, NAN), p);
  });
  table.row<ValueError>("a target above 1", {"binary_cross_entropy", "target", "2", "[0, 1]"}, [&] {
    return binary_cross_entropy(p, full({2, 3}, 2));
  });
  table.row<ShapeError>("a weight that does not broadcast", {"binary_cross_entropy", "weight", "(2,)", "(2, 3)"},
                        [&] { return binary_cross_entropy(p, p, {.weight = ones(2)}); });
  table.row<DTypeError>("a weight of another dtype", {"binary_cross_entropy", "float32", "float64"},
                        [&] { return binary_cross_entropy(p, p, {.weight = wide}); });
  table.row<ShapeError>("a weight that is broader", {"with_logits", "weight", "(4, 2, 3)", "(2, 3)"}, [&] {
    return binary_cross_entropy_with_logits(x, t, {.weight = ones({4, 2, 3})});
  });
  table.row<ShapeError>("a weight that does not broadcast", {"with_logits", "weight", "(2,)", "(2, 3)"},
                        [&] { return binary_cross_entropy_with_logits(x, t, {.weight = ones(2)}); });
  table.row<ShapeError>("a pos_weight that does not broadcast", {"with_logits", "pos_weight", "(2,)", "(2, 3)"},
                        [&] { return binary_cross_entropy_with_logits(x, t, {.pos_weight = ones(2)}); });
  table.row<DTypeError>("a pos_weight of another dtype", {"with_logits", "float32", "float64"},
                        [&] { return binary_cross_entropy_with_logits(x, t, {.pos_weight = ones(3, f64)}); });
}

TEST_CASE_FIXTURE(Fixture, "errors of losses of classes") {
  for (auto [name, loss] : kClasses) {
    table.row<IndexError>("a class past the end", {name, "target 3", "size 3"}, [&, f = loss] {
      return f(x, tensor({0, 3}));
    });
    table.row<IndexError>("a negative class", {name, "target -1", "size 3"}, [&, f = loss] {
      return f(x, tensor({-1, 0}));
    });
    table.row<ShapeError>("too few targets", {name, "(2, 3)", "(1,)", "(2,)"},
                          [&, f = loss] { return f(x, tensor({0})); });
    table.row<ShapeError>("targets with the classes' dimension", {name, "(2, 3)", "(2, 1)", "(2,)"}, [&, f = loss] {
      return f(x, tensor({{0}, {1}}));
    });
    table.row<ShapeError>("targets of other places", {name, "(2, 3, 4)", "(2, 3)", "(2, 4)"}, [&, f = loss] {
      return f(ones({2, 3, 4}), zeros({2, 3}, DType::Int64));
    });
    table.row<DTypeError>("targets of bool", {name, "int64", "bool"}, [&, f = loss] {
      return f(x, tensor({true, false}));
    });
    table.row<DTypeError>("an input of int64", {name, "float32 or float64", "int64"}, [&, f = loss] {
      return f(tensor({{1, 2}, {3, 4}}), classes);
    });
    table.row<ShapeError>("an input that is a scalar", {name, "scalar", "(N, C)"},
                          [&, f = loss] { return f(scalar(1), select(classes, 0, 0)); });
    table.row<ValueError>("an undefined target", {"tensor", "undefined"}, [&, f = loss] { return f(x, none); });
  }
  table.row<DTypeError>("targets that are numbers", {"nll_loss", "int64", "float32"},
                        [&] { return nll_loss(x, ones(2)); });
  table.row<ShapeError>("a weight for two of three classes", {"nll_loss", "weight", "(2,)", "3 classes"},
                        [&] { return nll_loss(x, classes, {.weight = ones(2)}); });
  table.row<ShapeError>("a weight of two dimensions", {"cross_entropy", "weight", "(3, 1)", "3 classes"}, [&] {
    return cross_entropy(x, classes, {.weight = ones({3, 1})});
  });
  table.row<DTypeError>("a weight of another dtype", {"cross_entropy", "float32", "float64"},
                        [&] { return cross_entropy(x, classes, {.weight = ones(3, f64)}); });
  table.row<IndexError>("a class that another ignore_index no longer excuses",
                        {"cross_entropy", "target -100", "size 3"}, [&] {
                          return cross_entropy(x, tensor({-100, 0}), {.ignore_index = 1});
                        });
  table.row<ValueError>("smoothing above 1", {"cross_entropy", "label_smoothing = 1.5", "[0, 1]"},
                        [&] { return cross_entropy(x, classes, {.label_smoothing = 1.5}); });
  table.row<ValueError>("smoothing below 0", {"cross_entropy", "label_smoothing = -0.1", "[0, 1]"},
                        [&] { return cross_entropy(x, classes, {.label_smoothing = -0.1}); });
  table.row<ValueError>("smoothing by NaN", {"cross_entropy", "label_smoothing = nan", "[0, 1]"},
                        [&] { return cross_entropy(x, classes, {.label_smoothing = NAN}); });
  table.row<ShapeError>("probabilities of another shape", {"cross_entropy", "(2, 3)", "(2,)"},
                        [&] { return cross_entropy(x, ones(2)); });
  table.row<DTypeError>("probabilities of another dtype", {"cross_entropy", "float32", "float64"},
                        [&] { return cross_entropy(x, wide); });
  table.row<ValueError>("probabilities with an ignore_index", {"cross_entropy", "ignore_index = 1", "probabilities"},
                        [&] { return cross_entropy(x, p, {.ignore_index = 1}); });
  table.row<ValueError>("kl_div's mean", {"cross_entropy", "BatchMean", "kl_div"},
                        [&] { return cross_entropy(x, classes, {.reduction = Reduction::BatchMean}); });
}
