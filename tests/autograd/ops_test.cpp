// The table of all recorded ops, and what each of its rows goes through. tools/check_op_table.sh asks for a row for
// every name that is given to record. An op has several rows where it has several cases.
#include "support/memory.h"
#include "support/op_table.h"

#include <doctest/doctest.h>
#include <unroll/unroll.h>

#include <cmath>

using namespace unroll;

namespace {

using Tensors = std::vector<Tensor>;
using Shapes = std::vector<std::vector<Shape>>;

using T = const Tensor&;
const Domain kPositive = Domain::Positive;
const Shapes kOne = {{{2, 3}}, {{}}, {{1}}, {{0, 3}}};
const Shapes kTwo = {{{2, 3}, {2, 3}}, {{2, 1}, {3}}, {{}, {2}}, {{2, 2}, {}}, {{0, 3}, {1}}, {{1}, {2, 0}}};
const Shapes kSame = {{{2, 3}, {2, 3}}, {{}, {}}, {{0, 2}, {0, 2}}};  // both alike

Tensor mask() { return from_data(std::vector<bool>{true, false, true}, 3); }
Tensor index(std::initializer_list<int> values) { return tensor(values); }
Tensor weights(T like) { return tensor({0.5, 1.0, 2.0}, like.dtype()); }

// An in-place op as a function: it works on a copy.
template <class F>
auto copied(F f) {
  return [f](const Tensors& in) {
    Tensor h = in[0] * 1;
    f(h, in);
    return h;
  };
}

// Zeros that hold a² at [1 : 3], which is slice's gradient.
Tensor place(T a) {
  Shape shape = a.shape();
  shape[0] = 4;
  Tensor x = zeros(shape, a.dtype()).requires_grad_();
  return grad({slice(x, 0, 1, 3)}, {x}, {.grad_outputs = {a * a}, .create_graph = true})[0];
}

// A view of a that was taken before a was multiplied by b.
Tensor viewed_before_write(T a, T b) {
  Tensor h = a * 1, v = transpose(h, 0, 1);
  h.mul_(b);
  return v;
}

// What such a view passes on to its base, for the gradient g².
Tensor gradient_of_view(T g) {
  Tensor x = zeros({2, 3}, g.dtype()).requires_grad_(), v = viewed_before_write(x, scalar(1, g.dtype()));
  return grad({v}, {x}, {.grad_outputs = {g * g}, .create_graph = true})[0];
}

// What a base passes on to the elements it had and to those written into rows 1 and 2, for the gradient g².
Tensor gradient_of_write(T g, std::size_t input) {
  const Tensors x = {zeros({4, 3}, g.dtype()).requires_grad_(), zeros({2, 3}, g.dtype()).requires_grad_()};
  Tensor h = x[0] * 1;
  narrow(h, 0, 1, 2).copy_(x[1]);
  return grad({h}, {x[input]}, {.grad_outputs = {g * g}, .create_graph = true})[0];
}

const OpRow kTable[] = {
    // arithmetic
    {"add", [](T a, T b) { return a + b; }, kTwo},
    {"add", [](T a) { return a + 2; }, kOne},
    {"sub", [](T a, T b) { return a - b; }, kTwo},
    {"sub", [](T a) { return sub(2, a) - sub(a, 3); }, kOne},
    {"mul", [](T a, T b) { return a * b; }, kTwo, {}, 3},
    {"mul", [](T a) { return a * a * 3; }, kOne, {}, 3},
    {"div", [](T a, T b) { return a / b; }, kTwo, {}, 3},
    {"div", [](T a) { return div(2, a); }, kOne, {}, 3},
    {"div", [](T a) { return div(a, 3); }, kOne},
    {"neg", [](T a) { return -a; }, kOne},
    {"pow", [](T a) { return pow(a, 3); }, kOne, {}, 3},
    {"pow", [](T a) { return pow(a, -0.5); }, kOne, kPositive, 3},
    {"pow", [](T a) { return pow(a, 0); }, kOne},
    {"pow", [](T a) { return pow(a, 1); }, kOne},
    {"pow", [](T a, T b) { return pow(a, b); }, kTwo, kPositive, 3},
    {"square", unroll::square, kOne, {}, 3},
    {"sqrt", unroll::sqrt, kOne, kPositive, 3},
    {"exp", unroll::exp, kOne, {}, 3},
    {"log", unroll::log, kOne, kPositive, 3},
    {"sin", unroll::sin, kOne, {}, 3},
    {"cos", unroll::cos, kOne, {}, 3},
    {"abs", unroll::abs, kOne},
    {"sign", unroll::sign, kOne},
    {"maximum", unroll::maximum, kTwo},
    {"minimum", unroll::minimum, kTwo},
    {"clamp", [](T a) { return clamp(a, -0.5, 0.7); }, kOne},
    {"where", [](T a, T b) { return where(mask(), a, b); }, {{{2, 3}, {2, 3}}, {{2, 1}, {3}}, {{}, {}}, {{0, 3}, {1}}}},

    // activation
    {"tanh", unroll::tanh, kOne, {}, 3},
    {"sigmoid", unroll::sigmoid, kOne, {}, 3},
    {"relu", unroll::relu, kOne},
    {"softplus", [](T a) { return softplus(a, 2, 1); }, kOne, {}, 3},

    // copies and in-place ops
    {"clone", [](T a) { return a.clone(); }, kOne},
    {"to", [](T a) { return square(a.to(DType::Float64)).to(a.dtype()); }, kOne},
    {"fill_", copied([](T h, auto&) { h.fill_(2); }), kOne},
    {"zero_", copied([](T h, auto&) { h.zero_(); }), kOne},
    {"copy_", copied([](T h, auto& in) { h.copy_(in[1]); }), {{{2, 3}, {2, 3}}, {{2, 3}, {3}}, {{}, {}}, {{0, 3}, {1}}}},
    {"add_", copied([](T h, auto& in) { h.add_(in[1], -2); }), {{{2, 3}, {2, 3}}, {{2, 3}, {3}}, {{}, {}}, {{0, 3}, {1}}}},
    {"add_", copied([](T h, auto&) { h.add_(2); }), kOne},
    {"mul_", copied([](T h, auto& in) { h.mul_(in[1]); }), {{{2, 3}, {2, 3}}, {{2, 3}, {3}}, {{}, {}}, {{0, 3}, {1}}}},
    {"mul_", copied([](T h, auto&) { h.mul_(2); }), kOne},
    {"sub_", copied([](T h, auto& in) { h.sub_(in[1]); }), {{{2, 3}, {2, 3}}, {{2, 3}, {3}}, {{}, {}}, {{0, 3}, {1}}}},
    {"div_", copied([](T h, auto& in) { h.div_(in[1]); }), {{{2, 3}, {2, 3}}, {{2, 3}, {3}}, {{}, {}}, {{0, 3}, {1}}}},
    {"div_", copied([](T h, auto&) { h.div_(2); }), kOne},
    {"clamp_", copied([](T h, auto&) { h.clamp_(-0.5, 0.7); }), kOne},
    {"exp_", copied([](T h, auto&) { h.exp_(); }), kOne},
    {"relu_", copied([](T h, auto&) { h.relu_(); }), kOne},
    {"sigmoid_", copied([](T h, auto&) { h.sigmoid_(); }), kOne},
    {"tanh_", copied([](T h, auto&) { h.tanh_(); }), kOne},
    {"copy_slices", copied([](T h, auto& in) { narrow(h, 0, 1, 2).copy_(in[1]); }), {{{4, 3}, {2, 3}}, {{3, 0}, {2, 0}}}},
    {"as_strided", viewed_before_write, {{{2, 3}, {2, 3}}, {{3, 2}, {2}}, {{0, 3}, {1}}}},
    {"put", [](T a) { return gradient_of_view(a); }, {{{3, 2}}}},
    {"erase", [](T a) { return gradient_of_write(a, 0); }, {{{4, 3}}}},
    {"take", [](T a) { return gradient_of_write(a, 1); }, {{{4, 3}}}},

    // matmul
    {"matmul", matmul, {{{2, 3}, {3, 2}}, {{3}, {3}}, {{3}, {3, 2}}, {{2, 3}, {3}}, {{0, 3}, {3, 2}}, {{2, 0}, {0, 2}}}, {}, 3},
    {"matmul", matmul, {{{2, 1, 2, 2}, {3, 2, 1}}, {{2, 2}, {2, 2, 1}}, {{2}, {3, 2, 1}}, {{2, 1, 2}, {2}}, {{2, 0, 2}, {2, 2}}}},
    {"linear", [](const Tensors& in) { return linear(in[0], in[1], in[2]); }, {{{2, 3}, {2, 3}, {2}}, {{3}, {2, 3}, {2}}, {{2, 1, 2}, {2, 2}, {2}}, {{0, 3}, {2, 3}, {2}}}},
    {"linear", [](T x, T w) { return linear(x, w); }, {{{2, 3}, {2, 3}}, {{2, 0}, {3, 0}}}, {}, 3},

    // reduce
    {"sum", [](T a) { return sum(a); }, kOne},
    {"sum", [](T a) { return sum(a * a, {-1, 0}, true); }, {{{2, 3, 2}}, {{2, 0}}}},
    {"sum_to", [](T a) { return sum_to(a * a, {2, 1}); }, {{{2, 3}}, {{3, 2, 1}}, {{0, 2, 3}}}},
    {"mean", [](T a) { return mean(a * a); }, {{{2, 3}}, {{}}}},
    {"mean", [](T a) { return mean(a, 1); }, {{{2, 3, 2}}, {{0, 3}}}},
    {"amax", [](T a) { return amax(a); }, {{{2, 3}}, {{}}}},
    {"amax", [](T a) { return amax(a, {-1}, true); }, {{{2, 3}}, {{0, 3}}}},
    {"amin", [](T a) { return amin(a, 0); }, {{{3, 2}}, {{1, 0}}}},
    {"logsumexp", [](T a) { return logsumexp(a, 1); }, {{{2, 3}}, {{2, 1, 2}}, {{0, 3}}}, {}, 3},
    {"norm", [](T a) { return norm(a); }, {{{2, 3}}, {{}}, {{0}}}, {}, 3},
    {"norm", [](T a) { return norm(a, 3, {0}, true); }, {{{2, 3}}, {{2, 0}}}, {}, 3},
    {"norm", [](T a) { return norm(a, 1); }, {{{2, 3}}}},
    {"norm", [](T a) { return norm(a, INFINITY); }, {{{2, 3}}}},
    {"norm", [](T a) { return norm(a, 0); }, {{{2, 3}}}},

    // shape
    {"view", [](T a) { return view(a * a, {3, -1}); }, {{{2, 3}}, {{3, 4}}, {{3, 1}}}},
    {"reshape", [](T a) { return reshape(transpose(a * a, 0, 1), {2, 3}); }, {{{2, 3}}}},
    {"reshape", [](T a) { return flatten(transpose(a, 0, 1)); }, {{{2, 3}}, {{0, 3}}}},
    {"transpose", [](T a) { return transpose(a * a, 0, -1); }, kOne},
    {"permute", [](T a) { return permute(a * a, {2, 0, -2}); }, {{{2, 3, 1}}, {{2, 0, 3}}}},
    {"expand", [](T a) { return expand(a * a, {2, -1, 3}); }, {{{2, 1}}, {{1, 3}}, {{0, 1}}}},
    {"squeeze", [](T a) { return squeeze(a * a); }, {{{1, 2, 1}}, {{}}, {{1, 0}}}},
    {"squeeze", [](T a) { return squeeze(a * a, 0); }, {{{1, 2}}, {{2, 1}}, {{}}, {{1, 0}}}},
    {"unsqueeze", [](T a) { return unsqueeze(a * a, -1); }, kOne},
    {"narrow", [](T a) { return narrow(a * a, 1, -2, 2); }, {{{2, 3}}, {{0, 3}}}},
    {"slice", [](T a) { return slice(a * a, -1, 0, 5, 2); }, {{{2, 3}}, {{2, 4}}, {{1}}, {{2, 0}}}},
    {"slice_backward", place, {{{2}}, {{2, 3}}, {{2, 0}}}},
    {"select", [](T a) { return select(a * a, -1, -1); }, {{{2, 3}}, {{3}}, {{0, 3}}}},
    {"split", [](T a) { return split(a * a, 2, -1); }, {{{2, 3}}, {{4}}, {{2, 0}}}},
    {"split", [](T a) { return split(a * a, {1, 0, 2}, 0); }, {{{3, 2}}}},
    {"split", [](T a) { return chunk(a * a, 2)[1]; }, {{{3, 2}}}},
    {"unbind", [](T a) { return unbind(a * a, 1); }, {{{2, 3}}, {{0, 2}}}},
    {"flip", [](T a) { return flip(a * a, {0, -1}); }, {{{2, 3}}, {{0, 2}}}},
    {"cat", [](T a, T b) { return cat({a * a, b, a}, -1); }, {{{2, 3}, {2, 1}}, {{2}, {0}}, {{0, 2}, {0, 1}}}},
    {"stack", [](T a, T b) { return stack({a * a, b, a}, -1); }, kSame},

    // index
    {"gather", [](T a) { return index_select(a * a, 0, index({1, 0, 1})); }, {{{2, 3}}, {{2}}, {{2, 0}}}},
    {"gather", [](T a) { return gather(a * a, 1, from_data(std::vector<std::int64_t>{2, 2, 0, 1}, {2, 2})); }, {{{2, 3}}}},
    {"gather", [](T a) { return index_select(a, 0, zeros(0, DType::Int64)); }, {{{2, 3}}}},
    {"scatter_add", [](T a, T b) { return index_add(a * a, -1, index({1, 1}), b * b); }, {{{2, 3}, {2, 2}}, {{3}, {2}}, {{0, 3}, {0, 2}}}},
    {"scatter_add", [](T a, T b) { return scatter_add(a * a, 0, from_data(std::vector<std::int64_t>{1, 0, 1}, {1, 3}), b * b); }, {{{2, 3}, {1, 3}}}},
    {"embedding", [](T w) { return embedding(from_data(std::vector<std::int64_t>{2, 0, 2, 2}, {2, 2}), w * w); }, {{{3, 2}}, {{3, 0}}}},
    {"embedding", [](T w) { return embedding(zeros({0, 2}, DType::Int64), w * w); }, {{{3, 2}}}},

    // normalize
    {"softmax", [](T a) { return softmax(a, 0); }, {{{3, 2}}, {{}}, {{0, 2}}}, {}, 3},
    {"softmax", [](T a) { return softmax(a, -1); }, {{{2, 3}}, {{2, 0}}}},
    {"log_softmax", [](T a) { return log_softmax(a, 1); }, {{{2, 3}}, {{2, 3, 1}}, {{0, 2}}}, {}, 3},
    {"layer_norm", [](T a) { return layer_norm(a, {3}); }, {{{2, 3}}, {{0, 3}}}},
    {"layer_norm", [](T a, T w) { return layer_norm(a, {3, 2}, w); }, {{{2, 3, 2}, {3, 2}}}},
    {"layer_norm", [](T a, T w, T b) { return layer_norm(a, w.shape(), w, b, 0.1); }, {{{2, 3}, {3}, {3}}, {{0, 3}, {3}, {3}}, {{2, 0}, {0}, {0}}}},

    // loss
    {"huber", [](T a, T b) { return huber_loss(a, b, {.reduction = Reduction::None, .delta = 0.8}); }, kSame},
    {"smooth_l1", [](T a, T b) { return smooth_l1_loss(a, b, {.reduction = Reduction::Sum, .beta = 0.8}); }, kSame},
    {"mse_loss", [](T a, T b) { return mse_loss(a, b); }, {{{2, 3}, {2, 3}}, {{}, {}}}},
    {"l1_loss", [](T a, T b) { return l1_loss(a, b, {.reduction = Reduction::None}); }, kSame},
    {"binary_cross_entropy_with_logits", [](T a, T b) { return binary_cross_entropy_with_logits(a, b, {.weight = weights(a), .pos_weight = weights(a) * 2}); }, {{{2, 3}, {2, 3}}}},
    {"binary_cross_entropy", [](T a, T b) { return binary_cross_entropy(sigmoid(a), sigmoid(b), {.weight = weights(a), .reduction = Reduction::Sum}); }, {{{2, 3}, {2, 3}}, {{0, 3}, {0, 3}}}},
    {"kl_div", [](T a, T b) { return kl_div(a, b * b, {.reduction = Reduction::BatchMean}); }, {{{2, 3}, {2, 3}}, {{}, {}}}},
    {"kl_div", [](T a, T b) { return kl_div(a, b, {.reduction = Reduction::Sum, .log_target = true}); }, kSame},
    {"nll_loss", [](T a) { return nll_loss(a * a, index({2, 1}), {.weight = weights(a), .ignore_index = 1}); }, {{{2, 3}}}},
    {"cross_entropy", [](T a) { return cross_entropy(a, index({2, 0}), {.weight = weights(a), .label_smoothing = 0.1}); }, {{{2, 3}}}},
    {"cross_entropy", [](T a, T p) { return cross_entropy(a, p); }, {{{2, 3}, {2, 3}}, {{2, 3, 2}, {2, 3, 2}}}},

    // dropout
    {"dropout", [](T a) { Generator generator(1); return dropout(a * a, 0.4, true, generator); }, kOne},
};

// Strided: the dimensions lie in memory in reverse order, and of a vector's memory every second element is skipped.
Tensor random_input(const Shape& shape, Domain domain, bool strided, Generator& generator) {
  auto draw = [&](const Shape& sizes) {
    Tensor x = rand(sizes, DType::Float64, generator) + 0.3;
    return domain == Domain::Positive ? x : x * (bernoulli(full_like(x, 0.5), generator) * 2 - 1);
  };
  if (!strided || shape.empty()) return draw(shape);
  if (shape.size() == 1) return views::slice(draw(shape[0] * 2), 0, 0, shape[0] * 2, 2);
  Shape reversed, dims;
  for (std::size_t d = shape.size(); d-- > 0;) {
    reversed.push_back(shape[d]);
    dims.push_back(static_cast<std::int64_t>(d));
  }
  return views::permute(draw(reversed), dims);
}

Tensors random_inputs(const OpRow& row, const std::vector<Shape>& shapes, bool strided) {
  Generator generator(42);
  Tensors in;
  for (const Shape& shape : shapes) in.push_back(random_input(shape, row.domain, strided, generator).requires_grad_());
  return in;
}

// Leaves with the same elements.
Tensors like(const Tensors& in, DType dtype, unsigned requires_grad = ~0u) {
  Tensors result;
  for (std::size_t i = 0; i < in.size(); ++i)
    result.push_back(in[i].detach().clone().to(dtype).requires_grad_(requires_grad >> i & 1));
  return result;
}

Tensors differentiable(const Tensors& xs) {
  Tensors result;
  for (const Tensor& x : xs)
    if (x.requires_grad()) result.push_back(x);
  return result;
}

// Gradients by those inputs that require one, of a fixed random combination of the outputs.
Tensors gradients(const OpFunction& f, const Tensors& in) {
  Generator generator(9);
  Tensors ys = differentiable(f.call(in)), combination;
  for (const Tensor& y : ys) combination.push_back((rand(y.shape(), DType::Float64, generator) - 0.3).to(y.dtype()));
  return grad(ys, differentiable(in), {.grad_outputs = combination, .allow_unused = true});
}

// f's gradient as a function, for derivatives of the order above.
OpFunction gradient_of(const OpFunction& f) {
  return [f](const Tensors& in) {
    Tensors ys = differentiable(f.call(in)), ones;
    for (const Tensor& y : ys) ones.push_back(ones_like(y) * 0.7);
    return ys.empty() ? Tensors() : grad(ys, in, {.grad_outputs = ones, .create_graph = true, .allow_unused = true});
  };
}

bool close(const Tensor& a, const Tensor& b, double tolerance) {
  if (a.defined() != b.defined()) return false;
  if (!a.defined()) return true;
  auto p = a.to(DType::Float64).to_vector<double>(), q = b.to(DType::Float64).to_vector<double>();
  double scale = 1e-3;
  for (double v : q) scale = std::max(scale, std::abs(v));
  return a.shape() == b.shape() && std::equal(p.begin(), p.end(), q.begin(), [&](double v, double w) {
           return v == w || std::abs(v - w) <= tolerance * scale;
         });
}

bool close(const Tensors& a, const Tensors& b, double tolerance) {
  return std::equal(a.begin(), a.end(), b.begin(), b.end(), [=](T p, T q) { return close(p, q, tolerance); });
}

// Calls go for each case of each row. Afterwards nothing may be left of it.
template <class Go>
void for_all_rows(Go go) {
  for (const OpRow& row : kTable)
    for (const std::vector<Shape>& shapes : row.shapes) {
      std::string name = row.name + " of";
      for (const Shape& shape : shapes) name += fmt::format(" {}", shape);
      CAPTURE(name);
      Live before;
      try {
        go(row, shapes);
      } catch (const std::exception& error) {
        FAIL_CHECK(std::string(error.what()));
      }
      CHECK(Live() == before);
    }
}

}  // namespace

std::span<const OpRow> op_table() { return kTable; }

TEST_CASE("ops: gradcheck, order one to three") {
  for_all_rows([](const OpRow& row, const std::vector<Shape>& shapes) {
    for (bool strided : {false, true}) {
      CAPTURE(strided);
      Tensors in = random_inputs(row, shapes, strided);
      CHECK(gradcheck(row.f.call, in));
      CHECK(gradgradcheck(row.f.call, in));
      if (row.order > 2 && !strided) CHECK(gradgradcheck(gradient_of(row.f).call, in));
    }
  });
}

TEST_CASE("ops: strided inputs give what contiguous ones do") {
  for_all_rows([](const OpRow& row, const std::vector<Shape>& shapes) {
    Tensors strided = random_inputs(row, shapes, true), contiguous = like(strided, DType::Float64);
    CHECK(close(row.f.call(strided), row.f.call(contiguous), 1e-14));
    CHECK(close(gradients(row.f, strided), gradients(row.f, contiguous), 1e-14));
  });
}

TEST_CASE("ops: float32 agrees with float64") {
  for_all_rows([](const OpRow& row, const std::vector<Shape>& shapes) {
    Tensors narrow = like(random_inputs(row, shapes, false), DType::Float32), wide = like(narrow, DType::Float64);
    for (T y : row.f.call(narrow)) CHECK(y.dtype() == DType::Float32);
    CHECK(close(row.f.call(narrow), row.f.call(wide), 1e-6));
    Tensors d = gradients(row.f, narrow);
    for (T dx : d) CHECK((!dx.defined() || dx.dtype() == DType::Float32));
    CHECK(close(d, gradients(row.f, wide), 1e-5));
  });
}

TEST_CASE("ops: whichever inputs require a gradient, theirs is the same; inputs stay as they are") {
  for_all_rows([](const OpRow& row, const std::vector<Shape>& shapes) {
    Tensors in = random_inputs(row, shapes, false);
    Tensors values = row.f.call(in), all = gradients(row.f, in);
    for (unsigned some = 0; some < 1u << in.size(); ++some) {
      CAPTURE(some);
      Tensors part = like(in, DType::Float64, some);
      Live before;
      Tensors ys = row.f.call(part);
      CHECK(close(ys, values, 0));
      if (some == 0) {
        CHECK(differentiable(ys).empty());
        CHECK(Live().nodes == before.nodes);
      } else if (!differentiable(ys).empty()) {
        Tensors expected;
        for (std::size_t i = 0; i < in.size(); ++i)
          if (some >> i & 1) expected.push_back(all[i]);
        CHECK(close(gradients(row.f, part), expected, 0));
      }
      for (std::size_t i = 0; i < in.size(); ++i) {
        CHECK(part[i].is_leaf());
        CHECK(part[i].requires_grad() == bool(some >> i & 1));
        CHECK(part[i].version() == 0);
        CHECK_FALSE(part[i].grad().defined());
        CHECK(close(part[i], in[i], 0));
      }
    }
  });
}
