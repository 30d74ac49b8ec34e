// cross_entropy and nll_loss: losses of classes, by their numbers or their probabilities.
#include "losses.h"

#include <doctest/doctest.h>
#include <unroll/autograd/engine.h>
#include <unroll/autograd/fused.h>
#include <unroll/autograd/gradcheck.h>
#include <unroll/autograd/ops/arithmetic.h>
#include <unroll/autograd/ops/compare.h>
#include <unroll/autograd/ops/loss.h>
#include <unroll/autograd/ops/normalize.h>
#include <unroll/autograd/ops/reduce.h>
#include <unroll/autograd/ops/shape.h>
#include <unroll/core/random.h>

#include <cmath>
#include <limits>

using namespace unroll;
using namespace losses;

// Values are PyTorch 2.15's.
namespace {

constexpr double kInf = std::numeric_limits<double>::infinity();

// Three samples of three classes.
Tensor logits() { return tensor({{0.1, 0.2, 0.3}, {1.0, -1.0, 0.0}, {0.5, 0.25, 2.0}}, f64).requires_grad_(); }
Tensor classes() { return tensor({2, 0, 1}); }
Tensor class_weight() { return tensor({1.0, 2.0, 3.0}, f64); }
Tensor probabilities() { return tensor({{0.2, 0.3, 0.5}, {1.0, 0.0, 0.0}, {0.1, 0.1, 0.8}}, f64).requires_grad_(); }

}  // namespace

TEST_CASE("loss: cross_entropy of classes with weights, ignored targets and smoothing") {
  Tensor x = logits(), t = classes(), w = class_weight();
  auto check_values = [&](CrossEntropyLossOptions options, const std::vector<double>& each, double average,
                          double total, const std::vector<double>& dx) {
    auto loss = [&](Reduction r) {
      options.reduction = r;
      return cross_entropy(x, t, options);
    };
    check_reductions(loss, each, average, total);
    CHECK(near(gradient(loss(Reduction::Mean), x), dx));
  };
  check_values(
      {}, {1.001942848229244, 0.4076059644443804, 2.084258433393896}, 1.16460241535584, 3.4938072460675205,
      {0.10020320178524245, 0.11074166451111578, -0.21094486629635817, -0.1115863480750594, 0.030010191056793478,
       0.08157615701826587, 0.05324396990305792, -0.2918668878790015, 0.2386229179759436});
  check_values(
      {.weight = w}, {3.0058285446877324, 0.4076059644443804, 4.168516866787792}, 1.2636585626533174, 7.581951375919905,
      {0.15030480267786367, 0.16611249676667367, -0.3164172994445372, -0.0557931740375297, 0.015005095528396739,
       0.040788078509132936, 0.05324396990305792, -0.2918668878790015, 0.2386229179759436});
  check_values({.ignore_index = 0}, {1.001942848229244, 0, 2.084258433393896}, 1.54310064081157, 3.08620128162314,
               {0.15030480267786367, 0.16611249676667367, -0.3164172994445372, 0, 0, 0, 0.07986595485458689,
                -0.43780033181850225, 0.3579343769639154});
  check_values({.weight = w, .ignore_index = 0}, {3.0058285446877324, 0, 4.168516866787792}, 1.434869082295105,
               7.1743454114755245,
               {0.18036576321343642, 0.19933499612000843, -0.37970075933344477, 0, 0, 0, 0.06389276388366952,
                -0.3502402654548018, 0.2863475015711323});
  check_values(
      {.label_smoothing = 0.1}, {1.011942848229244, 0.5076059644443804, 2.0175917667272296}, 1.1790468598002846,
      3.537140579400854,
      {0.08909209067413133, 0.09963055340000466, -0.18872264407413597, -0.08936412585283716, 0.01889907994568237,
       0.07046504590715477, 0.04213285879194682, -0.2696446656567793, 0.22751180686483252});
  check_values({.weight = w, .ignore_index = 0, .label_smoothing = 0.1}, {2.9189675931981416, 0, 3.985183533454459},
               1.38083022533052, 6.9041511266526,
               {0.1676869044396552, 0.17935716291600814, -0.34704406735566323, 0, 0, 0, 0.05722609721700284,
                -0.3235735987881351, 0.2663475015711323});
}

TEST_CASE("loss: cross_entropy of class probabilities") {
  Tensor x = logits(), p = probabilities(), w = class_weight();
  auto check_values = [&](CrossEntropyLossOptions options, const std::vector<double>& each, double average,
                          double total, const std::vector<double>& dx, const std::vector<double>& dp) {
    auto loss = [&](Reduction r) {
      options.reduction = r;
      return cross_entropy(x, p, options);
    };
    check_reductions(loss, each, average, total);
    CHECK(near(gradient(loss(Reduction::Mean), x), dx));
    CHECK(near(gradient(loss(Reduction::Mean), p), dp));
  };
  check_values(
      {}, {1.0719428482292441, 0.4076059644443804, 0.6592584333938962}, 0.7129357486891736, 2.138807246067521,
      {0.03353653511857577, 0.01074166451111578, -0.0442781996296915, -0.1115863480750594, 0.030010191056793478,
       0.08157615701826587, 0.01991063656972459, 0.0081331121209985, -0.028043748690723083},
      {0.40064761607641464, 0.3673142827430813, 0.333980949409748, 0.13586865481479346, 0.8025353214814601,
       0.46920198814812675, 0.6114194777979653, 0.6947528111312986, 0.11141947779796542});
  check_values(
      {.weight = w}, {2.4044685509272616, 0.4076059644443804, 1.40249777016352}, 1.4048574285117208, 4.214572285535162,
      {0.16380069743939094, 0.054705828375566284, -0.21850652581495714, -0.1115863480750594, 0.030010191056793478,
       0.08157615701826587, 0.11042538540492307, 0.045292736060029294, -0.1557181214649523},
      {0.40064761607641464, 0.7346285654861626, 1.001942848229244, 0.13586865481479346, 1.6050706429629202,
       1.4076059644443804, 0.6114194777979653, 1.3895056222625972, 0.33425843339389627});
  check_values(
      {.weight = w, .label_smoothing = 0.1}, {2.3777435988137174, 0.6816998942221518, 1.495766346492614},
      1.518403279842828, 4.555209839528484,
      {0.15635015694138923, 0.04916135621801057, -0.20551151315939975, -0.06718942732700982, 0.010788987940250605,
       0.05640043938675913, 0.09892052973393124, 0.026834529322670508, -0.12575505905660173},
      {0.3605828544687732, 0.6611657089375463, 0.9017485634063197, 0.12228178933331411, 1.4445635786666282,
       1.2668453679999423, 0.5502775300181688, 1.2505550600363375, 0.30083259005450663});
}

TEST_CASE("loss: one sample without a batch, and samples with further dimensions") {
  Tensor x = sin(reshape(arange(12, f64), {2, 3, 2}) * 0.5), t = tensor({{0, 2}, {1, 1}}), w = class_weight();
  CHECK(near(cross_entropy(x, t, {.weight = w, .reduction = Reduction::None}),
             {1.758263792541364, 3.651970535335128, 2.903927310459337, 2.8625765775938126}));
  CHECK(near(cross_entropy(x, t, {.weight = w, .ignore_index = 2, .label_smoothing = 0.2}), {1.4933493187318292}));
  CHECK(near(nll_loss(x, t, {.weight = w, .reduction = Reduction::None}),
             {0, -1.7954164323118698, 1.5136049906158564, 1.955060235330194}));
  CHECK(near(nll_loss(x, t, {.weight = w, .ignore_index = 2}), {0.6937330451892101}));
  CHECK(near(nll_loss(x, t), {0.28396511721726714}));

  Tensor one = select(select(x, 2, 0), 0, 0), target = select(tensor({1}), 0, 0);
  CHECK(near(cross_entropy(one, target), {0.9167928077334676}));
  CHECK(near(nll_loss(one, target), {-0.8414709848078965}));
  CHECK(near(cross_entropy(one, tensor({0.0, 1.0, 0.0}, f64)), {0.9167928077334676}));
  CHECK(near(cross_entropy(one, target, {.weight = w, .reduction = Reduction::None}), {2 * 0.9167928077334676}));

  // Probabilities that are all on one class say the same as the class.
  Tensor hot = transpose(eq(unsqueeze(t, 2), arange(3)).to(f64), 1, 2);
  CHECK(allclose(cross_entropy(x, hot, {.weight = w, .reduction = Reduction::Sum}),
                 cross_entropy(x, t, {.weight = w, .reduction = Reduction::Sum}), 1e-14, 0));
}

TEST_CASE("loss: with every target ignored the mean is NaN and the sum 0") {
  Tensor x = logits(), t = tensor({-100, -100, -100});
  for (double smoothing : {0.0, 0.1})
    for (const Tensor& w : {Tensor(), class_weight()}) {
      CHECK(std::isnan(cross_entropy(x, t, {.weight = w, .label_smoothing = smoothing}).item()));
      Tensor total = cross_entropy(x, t, {.weight = w, .reduction = Reduction::Sum, .label_smoothing = smoothing});
      CHECK(total.item() == 0);
      CHECK(near(gradient(total, x), std::vector<double>(9, 0)));
    }
  CHECK(std::isnan(nll_loss(x, t).item()));
}

TEST_CASE("loss: an ignored sample counts for nothing even where its input is infinite") {
  Tensor log_p = tensor({{-kInf, 0.0}, {-1.0, -2.0}}, f64).requires_grad_();
  Tensor y = nll_loss(log_p, tensor({0, 1}), {.ignore_index = 0});
  CHECK(y.item() == 2);
  CHECK(near(gradient(y, log_p), {0, 0, 0, -1}));
}

TEST_CASE("loss: derivatives of class losses agree with differences") {
  Generator g(8);
  Tensor t = tensor({{0, 2}, {1, 1}}), w = class_weight();
  for (Reduction r : {Reduction::None, Reduction::Mean, Reduction::Sum}) {
    check_gradients([=](auto& in) { return nll_loss(in[0], t, {.weight = w, .ignore_index = 2, .reduction = r}); },
                    {leaf({2, 3, 2}, g)});
    check_gradients(
        [=](auto& in) {
          return cross_entropy(in[0], t, {.weight = w, .ignore_index = 2, .reduction = r, .label_smoothing = 0.3});
        },
        {leaf({2, 3, 2}, g)});
  }
  check_gradients([=](auto& in) { return cross_entropy(in[0], t, {.weight = in[1], .label_smoothing = 0.3}); },
                  {leaf({2, 3, 2}, g), class_weight().requires_grad_()});
  check_gradients([](auto& in) { return cross_entropy(in[0], in[1], {.weight = in[2], .label_smoothing = 0.3}); },
                  {leaf({2, 3, 2}, g), rand({2, 3, 2}, f64, g).requires_grad_(), class_weight().requires_grad_()});
  check_gradients([](auto& in) { return cross_entropy(in[0], in[1]); }, {leaf(3, g), rand(3, f64, g).requires_grad_()});
}

TEST_CASE("loss: cross_entropy's kernel and its definition agree, values and gradients of any order") {
  Generator g(9);
  Tensor t = tensor({0, 2, -100, 1}), w = class_weight();
  for (Reduction r : {Reduction::None, Reduction::Mean, Reduction::Sum})
    for (const Tensor& weight : {Tensor(), w}) {
      auto loss = [=](const Tensor& x) { return cross_entropy(x, t, {.weight = weight, .reduction = r}); };
      Tensor x = leaf({4, 3}, g), y = loss(x), dx = gradient(y, x);
      FusedMode by_ops(false);
      Tensor by_definition = loss(x);
      CHECK(allclose(y, by_definition, 1e-14, 1e-15));
      CHECK(allclose(dx, gradient(by_definition, x), 1e-13, 1e-15));
    }
  check_gradients([=](auto& in) { return cross_entropy(in[0], t); }, {leaf({4, 3}, g)});
  check_gradients([=](auto& in) { return cross_entropy(transpose(in[0], 0, 1), t, {.weight = in[1]}); },
                  {leaf({3, 4}, g), class_weight().requires_grad_()});
  check_gradients([](auto& in) { return cross_entropy(in[0], select(tensor({1}), 0, 0)); }, {leaf(3, g)});
}

TEST_CASE("loss: errors of class losses") {
  Tensor x = ones({2, 3}), t = tensor({0, 1});
  CHECK_THROWS_WITH_AS(cross_entropy(x, tensor({0, 3})),
                       "cross_entropy: target 3 is out of bounds for dimension 1 with size 3", IndexError);
  CHECK_THROWS_WITH_AS(nll_loss(x, tensor({-1, 0})), "nll_loss: target -1 is out of bounds for dimension 1 with size 3",
                       IndexError);
  CHECK_THROWS_AS(cross_entropy(x, tensor({-100, 0}), {.ignore_index = 1}), IndexError);
  CHECK_THROWS_WITH_AS(cross_entropy(x, tensor({0})),
                       "cross_entropy: input of shape (2, 3) and target of shape (1,), expected (2,) for the target",
                       ShapeError);
  CHECK_THROWS_AS(cross_entropy(x, tensor({{0, 1, 2}, {0, 1, 2}})), ShapeError);
  CHECK_THROWS_AS(nll_loss(ones({2, 3, 4}), t), ShapeError);
  CHECK_THROWS_WITH_AS(cross_entropy(x, ones(2)),
                       "cross_entropy: input of shape (2, 3) and target of shape (2,) differ", ShapeError);
  CHECK_THROWS_AS(cross_entropy(scalar(1), select(t, 0, 0)), ShapeError);
  CHECK_THROWS_WITH_AS(cross_entropy(x, t, {.weight = ones(2)}),
                       "cross_entropy: weight has shape (2,), expected one for each of 3 classes", ShapeError);
  CHECK_THROWS_AS(nll_loss(x, t, {.weight = ones({3, 1})}), ShapeError);
  CHECK_THROWS_WITH_AS(nll_loss(x, ones(2)), doctest::Contains("must be int64; got float32"), DTypeError);
  CHECK_THROWS_AS(cross_entropy(x, tensor({true, false})), DTypeError);
  CHECK_THROWS_AS(cross_entropy(x, t, {.weight = ones(3, f64)}), DTypeError);
  CHECK_THROWS_AS(cross_entropy(x, ones({2, 3}, f64)), DTypeError);
  CHECK_THROWS_AS(cross_entropy(tensor({{1, 2}, {3, 4}}), t), DTypeError);
  for (double bad : {-0.1, 1.5, std::nan("")})
    CHECK_THROWS_WITH_AS(cross_entropy(x, t, {.label_smoothing = bad}), doctest::Contains("label_smoothing"),
                         ValueError);
  CHECK_THROWS_WITH_AS(cross_entropy(x, x, {.ignore_index = 1}), doctest::Contains("ignore_index = 1"), ValueError);
}
