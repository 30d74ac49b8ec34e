#include "support/error_table.h"

#include <doctest/doctest.h>

#include <cmath>

using namespace unroll;

namespace {

struct Fixture {
  Fixture() {
    table.watch(x, v, wide, n, mask, leaf, computed, spread, hidden);
    table.watch(kept);
  }

  Tensor x = ones({2, 3}), v = ones(3), wide = ones({2, 3}, DType::Float64), n = tensor({{1, 2, 3}, {4, 5, 6}});
  Tensor mask = ones({2, 3}, DType::Bool), leaf = ones({2, 3}).requires_grad_(), computed = leaf * 2, none;
  Tensor spread = expand(ones(1), {2, 3}), hidden = [this] {
    NoGrad guard;
    return narrow(leaf, 0, 0, 1);
  }();
  std::vector<Tensor> kept = unbind(computed);
  ErrorTable table{"in place"};
};

}  // namespace

TEST_CASE_FIXTURE(Fixture, "errors of ops in place: every one of them") {
  struct Op {
    std::string name;
    std::function<void(const Tensor&)> write;
  };
  const std::vector<Op> ops{
      {"fill_", [](const Tensor& t) { t.fill_(2); }},
      {"zero_", [](const Tensor& t) { t.zero_(); }},
      {"copy_", [](const Tensor& t) { t.copy_(scalar(1)); }},
      {"add_", [](const Tensor& t) { t.add_(1); }},
      {"add_", [](const Tensor& t) { t.add_(scalar(1), 2); }},
      {"sub_", [](const Tensor& t) { t.sub_(1); }},
      {"sub_", [](const Tensor& t) { t.sub_(scalar(1)); }},
      {"mul_", [](const Tensor& t) { t.mul_(2); }},
      {"mul_", [](const Tensor& t) { t.mul_(scalar(2)); }},
      {"div_", [](const Tensor& t) { t.div_(2); }},
      {"div_", [](const Tensor& t) { t.div_(scalar(2)); }},
      {"clamp_", [](const Tensor& t) { t.clamp_(0, 0.5); }},
      {"exp_", [](const Tensor& t) { t.exp_(); }},
      {"relu_", [](const Tensor& t) { t.relu_(); }},
      {"sigmoid_", [](const Tensor& t) { t.sigmoid_(); }},
      {"tanh_", [](const Tensor& t) { t.tanh_(); }},
  };
  for (const Op& op : ops) {
    const std::string name = op.name + ": ";
    table.row<GradError>("a leaf", {name, "leaf", "NoGrad"}, [&] { op.write(leaf); });
    table.row<GradError>("a view of a leaf", {name, "leaf", "NoGrad"}, [&] { op.write(narrow(leaf, 0, 0, 1)); });
    table.row<GradError>("a view of a leaf made under NoGrad", {name, "made under NoGrad"}, [&] { op.write(hidden); });
    table.row<GradError>("a piece that unbind returned", {name, "unbind", "narrow or select"},
                         [&] { op.write(kept[0]); });
    table.row<ValueError>("an expanded tensor", {name, "(2, 3)", "share memory", "clone()"}, [&] { op.write(spread); });
    table.row<ValueError>("an undefined tensor", {"tensor", "undefined"}, [&] { op.write(none); });
  }
}

TEST_CASE_FIXTURE(Fixture, "errors of ops in place: operands") {
  using Member = const Tensor& (Tensor::*)(const Tensor&) const;
  struct Op {
    std::string name;
    Member member;
  };
  for (const Op& op : {Op{"sub_", &Tensor::sub_}, Op{"mul_", &Tensor::mul_}, Op{"div_", &Tensor::div_}}) {
    auto call = [&, m = op.member](const Tensor& to, const Tensor& by) { return [&, m] { (to.*m)(by); }; };
    table.row<ShapeError>("by what is broader", {op.name, "(3,)", "(2, 3)"}, call(v, x));
    table.row<ShapeError>("by what does not broadcast", {op.name, "(2, 3)", "(2,)"},
                          [&, m = op.member] { (x.*m)(ones(2)); });
    table.row<DTypeError>("by another dtype", {op.name, "float32", "float64"}, call(x, wide));
    table.row<DTypeError>("of float32 by int64", {op.name, "float32", "int64"}, call(x, n));
    table.row<ValueError>("by an undefined tensor", {"tensor", "undefined"}, call(x, none));
  }
  table.row<DTypeError>("sub_ of bool", {"sub_", "bool"}, [&] { mask.sub_(mask); });
  table.row<DTypeError>("sub_ of a fraction from int64", {"sub_", "0.5", "int64"}, [&] { n.sub_(0.5); });
  table.row<DTypeError>("mul_ of int64 by a fraction", {"mul_", "0.5", "int64"}, [&] { n.mul_(0.5); });
  table.row<DTypeError>("add_ of int64 by a fraction of another", {"add_", "0.5", "int64"}, [&] { n.add_(n, 0.5); });
  table.row<DTypeError>("div_ of int64", {"div_", "int64"}, [&] { n.div_(2); });
  table.row<DTypeError>("div_ of bool", {"div_", "bool"}, [&] { mask.div_(mask); });
  table.row<DTypeError>("exp_ of int64", {"exp_", "int64"}, [&] { n.exp_(); });
  table.row<DTypeError>("sigmoid_ of int64", {"sigmoid_", "int64"}, [&] { n.sigmoid_(); });
  table.row<DTypeError>("tanh_ of int64", {"tanh_", "int64"}, [&] { n.tanh_(); });
  table.row<DTypeError>("relu_ of bool", {"relu_", "bool"}, [&] { mask.relu_(); });
  table.row<DTypeError>("clamp_ of bool", {"clamp_", "bool"}, [&] { mask.clamp_(0, 1); });
}
