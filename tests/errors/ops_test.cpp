#include "support/error_table.h"

#include <doctest/doctest.h>

#include <cmath>

using namespace unroll;

namespace {

struct Fixture {
  Fixture() {
    leaf.set_grad(ones({2, 3}));
    table.watch(x, wide, v, n, mask, number, leaf, computed, spread, none);
  }

  Tensor x = tensor({{1.0, 2.0, 3.0}, {4.0, 5.0, 6.0}}), wide = ones({2, 3}, DType::Float64), v = ones(3);
  Tensor n = tensor({0, 1, 2}), mask = tensor({true, false, true}), number = scalar(2);
  Tensor leaf = ones({2, 3}).requires_grad_(), computed = leaf * 2;
  Tensor spread = expand(ones({1, 3}), {2, 3}), none;
  ErrorTable table{"ops"};
};

}  // namespace

TEST_CASE_FIXTURE(Fixture, "errors of ops: arithmetic") {
  table.row<ShapeError>("add of shapes that do not broadcast", {"add", "(2, 3)", "(2,)"}, [&] { return x + ones(2); });
  table.row<ShapeError>("sub of shapes that do not broadcast", {"sub", "(2, 3)", "(3, 3)"}, [&] {
    return x - ones({3, 3});
  });
  table.row<ShapeError>("mul of shapes that do not broadcast", {"mul", "(2, 3)", "(0,)"}, [&] { return x * zeros(0); });
  table.row<ShapeError>("div of shapes that do not broadcast", {"div", "(2, 3)", "(4,)"}, [&] { return x / ones(4); });
  table.row<DTypeError>("add of two dtypes", {"add", "float32", "float64", "to()"}, [&] { return x + wide; });
  table.row<DTypeError>("mul of int64 by float32", {"mul", "int64", "float32"}, [&] { return n * v; });
  table.row<DTypeError>("add of bool", {"add", "bool"}, [&] { return mask + mask; });
  table.row<DTypeError>("add of a fraction to int64", {"add", "0.5", "int64"}, [&] { return n + 0.5; });
  table.row<DTypeError>("sub of int64 from a fraction", {"sub", "0.5", "int64"}, [&] { return 0.5 - n; });
  table.row<DTypeError>("mul of int64 by NaN", {"mul", "nan", "int64"}, [&] { return n * NAN; });
  table.row<DTypeError>("div of int64", {"div", "float32", "int64"}, [&] { return n / n; });
  table.row<DTypeError>("neg of bool", {"neg", "bool"}, [&] { return -mask; });
  table.row<DTypeError>("exp of int64", {"exp", "float32", "int64"}, [&] { return exp(n); });
  table.row<DTypeError>("log of bool", {"log", "float32", "bool"}, [&] { return log(mask); });
  table.row<DTypeError>("sqrt of int64", {"sqrt", "float32", "int64"}, [&] { return sqrt(n); });
  table.row<DTypeError>("tanh of int64", {"tanh", "float32", "int64"}, [&] { return tanh(n); });
  table.row<DTypeError>("sigmoid of bool", {"sigmoid", "float32", "bool"}, [&] { return sigmoid(mask); });
  table.row<DTypeError>("relu of int64", {"relu", "float32", "int64"}, [&] { return relu(n); });
  table.row<ShapeError>("pow of shapes that do not broadcast", {"pow", "(2, 3)", "(2,)"},
                        [&] { return pow(x, ones(2)); });
  table.row<ShapeError>("maximum of shapes that do not broadcast", {"maximum", "(2, 3)", "(2,)"},
                        [&] { return maximum(x, ones(2)); });
  table.row<DTypeError>("minimum of two dtypes", {"minimum", "float32", "float64"}, [&] { return minimum(x, wide); });
  table.row<DTypeError>("where by numbers", {"where", "bool", "float32"}, [&] { return where(v, v, v); });
  table.row<DTypeError>("where of two dtypes", {"where", "float32", "float64"}, [&] { return where(mask, x, wide); });
  table.row<ShapeError>("where that does not broadcast", {"where", "(3,)", "(2,)"},
                        [&] { return where(mask, v, ones(2)); });
  table.row<ShapeError>("eq of shapes that do not broadcast", {"eq", "(2, 3)", "(2,)"}, [&] { return eq(x, ones(2)); });
  table.row<DTypeError>("lt of two dtypes", {"lt", "float32", "int64"}, [&] { return lt(v, n); });
  table.row<DTypeError>("and of numbers", {"logical_and", "bool", "int64"}, [&] { return logical_and(mask, n); });
  table.row<DTypeError>("any of numbers", {"any", "bool", "float32"}, [&] { return any(x); });
  table.row<ShapeError>("argmax of nothing", {"argmax", "dimension 1", "(2, 0)"}, [&] {
    return argmax(zeros({2, 0}), 1);
  });
  table.row<IndexError>("argmin along no dimension", {"argmin", "dimension 2", "[-2, 1]"},
                        [&] { return argmin(x, 2); });
  table.row<ValueError>("add of an undefined tensor", {"tensor", "undefined"}, [&] { return x + none; });
}

TEST_CASE_FIXTURE(Fixture, "errors of ops: products") {
  table.row<ShapeError>("matmul of inner sizes that differ", {"matmul", "(2, 3)", "3 columns", "2 rows"},
                        [&] { return matmul(x, x); });
  table.row<ShapeError>("matmul of a vector that does not fit", {"matmul", "(2, 3)", "(2,)", "3 columns"},
                        [&] { return matmul(x, ones(2)); });
  table.row<ShapeError>("matmul of a scalar", {"matmul", "(2, 3)", "()", "scalar"}, [&] { return matmul(x, number); });
  table.row<ShapeError>("matmul of batches that do not broadcast", {"matmul", "(2, 2, 3)", "(3, 3, 1)", "batch"}, [&] {
    return matmul(ones({2, 2, 3}), ones({3, 3, 1}));
  });
  table.row<DTypeError>("matmul of two dtypes", {"matmul", "float32", "float64"}, [&] { return matmul(x, wide); });
  table.row<DTypeError>("matmul of int64", {"matmul", "float32", "int64"}, [&] { return matmul(n, n); });
  table.row<ShapeError>("linear with a weight of one dimension", {"linear", "weight", "(3,)", "(out, in)"},
                        [&] { return linear(x, v); });
  table.row<ShapeError>("linear of other features", {"linear", "(2, 3)", "(2, 4)", "4 features"}, [&] {
    return linear(x, ones({2, 4}));
  });
  table.row<ShapeError>("linear of a scalar", {"linear", "()", "3 features"}, [&] { return linear(number, x); });
  table.row<ShapeError>("linear with a bias that does not fit", {"linear", "bias", "(3,)", "(2,)"},
                        [&] { return linear(x, x, v); });
  table.row<DTypeError>("linear of two dtypes", {"linear", "float32", "float64"}, [&] { return linear(x, wide); });
  table.row<DTypeError>("linear with a bias of another dtype", {"linear", "float32", "float64"},
                        [&] { return linear(x, x, ones(2, DType::Float64)); });
}

TEST_CASE_FIXTURE(Fixture, "errors of ops: reductions and normalization") {
  table.row<IndexError>("sum along no dimension", {"sum", "dimension 2", "[-2, 1]"}, [&] { return sum(x, 2); });
  table.row<ValueError>("sum along one dimension twice", {"sum", "dimension -1 is repeated", "(1, -1)"}, [&] {
    return sum(x, {1, -1});
  });
  table.row<IndexError>("mean along no dimension", {"mean", "dimension -3", "[-2, 1]"}, [&] { return mean(x, -3); });
  table.row<DTypeError>("mean of int64", {"mean", "float32", "int64"}, [&] { return mean(n); });
  table.row<ShapeError>("amax of nothing", {"amax", "(0,)"}, [&] { return amax(zeros(0)); });
  table.row<ShapeError>("amin along an empty dimension", {"amin", "(2, 0)"}, [&] { return amin(zeros({2, 0}), 1); });
  table.row<DTypeError>("logsumexp of int64", {"logsumexp", "float32", "int64"}, [&] { return logsumexp(n, 0); });
  table.row<ValueError>("norm of order NaN", {"norm", "p is NaN"}, [&] { return norm(x, NAN); });
  table.row<DTypeError>("norm of int64", {"norm", "float32", "int64"}, [&] { return norm(n); });
  table.row<ShapeError>("norm of nothing of a negative order", {"norm", "p = -1", "(0,)"},
                        [&] { return norm(zeros(0), -1); });
  table.row<ShapeError>("sum_to a shape that does not broadcast", {"sum_to", "(2,)", "(2, 3)"},
                        [&] { return sum_to(x, 2); });
  table.row<IndexError>("softmax along no dimension", {"softmax", "dimension 2", "[-2, 1]"},
                        [&] { return softmax(x, 2); });
  table.row<DTypeError>("softmax of int64", {"softmax", "float32", "int64"}, [&] { return softmax(n, 0); });
  table.row<IndexError>("log_softmax along no dimension", {"log_softmax", "dimension -3", "[-2, 1]"},
                        [&] { return log_softmax(x, -3); });
  table.row<ShapeError>("layer_norm over no dimension", {"layer_norm", "normalized_shape"},
                        [&] { return layer_norm(x, Shape()); });
  table.row<ShapeError>("layer_norm over another shape", {"layer_norm", "(2, 3)", "normalized_shape = (2,)"},
                        [&] { return layer_norm(x, 2); });
  table.row<ShapeError>("layer_norm with a weight that does not fit", {"layer_norm", "weight", "(2,)", "(3,)"},
                        [&] { return layer_norm(x, 3, ones(2)); });
  table.row<ShapeError>("layer_norm with a bias that does not fit", {"layer_norm", "bias", "(3, 1)", "(3,)"}, [&] {
    return layer_norm(x, 3, v, ones({3, 1}));
  });
  table.row<DTypeError>("layer_norm with a weight of another dtype", {"layer_norm", "float32", "float64"},
                        [&] { return layer_norm(x, 3, ones(3, DType::Float64)); });
  table.row<DTypeError>("layer_norm of int64", {"layer_norm", "float32", "int64"}, [&] { return layer_norm(n, 3); });
}

TEST_CASE_FIXTURE(Fixture, "errors of ops: shapes") {
  table.row<IndexError>("flatten of no dimension", {"flatten", "dimension 2", "[-2, 1]"},
                        [&] { return flatten(x, 0, 2); });
  table.row<ValueError>("flatten the wrong way", {"flatten", "start_dim 1", "end_dim 0", "(2, 3)"},
                        [&] { return flatten(x, 1, 0); });
  table.row<ShapeError>("t of three dimensions", {"t:", "two dimensions", "(1, 2, 3)"}, [&] {
    return t(ones({1, 2, 3}));
  });
  table.row<ShapeError>("split of a scalar", {"split", "scalar"}, [&] { return split(number, 1); });
  table.row<ValueError>("split by 0", {"split", "split_size 0", "(2, 3)"}, [&] { return split(x, 0); });
  table.row<ValueError>("split by a negative size", {"split", "split_size -1", "(2, 3)"},
                        [&] { return split(x, -1, 1); });
  table.row<ShapeError>("split into sizes that do not add up", {"split", "(1, 1)", "3", "(2, 3)"}, [&] {
    return split(x, {1, 1}, 1);
  });
  table.row<ValueError>("split into a negative size", {"split", "negative", "(4, -1)"}, [&] {
    return split(x, {4, -1}, 1);
  });
  table.row<IndexError>("split along no dimension", {"split", "dimension 2", "[-2, 1]"},
                        [&] { return split(x, 1, 2); });
  table.row<IndexError>("chunk along no dimension", {"chunk", "dimension 2", "[-2, 1]"},
                        [&] { return chunk(x, 2, 2); });
  table.row<ValueError>("chunk into none", {"chunk", "0 chunks", "at least 1"}, [&] { return chunk(x, 0); });
  table.row<ShapeError>("unbind of a scalar", {"unbind", "scalar"}, [&] { return unbind(number); });
  table.row<ValueError>("flip of one dimension twice", {"flip", "dimension", "repeated", "(0, -2)"}, [&] {
    return flip(x, {0, -2});
  });
  table.row<IndexError>("flip of no dimension", {"flip", "dimension 2", "[-2, 1]"}, [&] { return flip(x, 2); });
  table.row<ValueError>("cat of nothing", {"cat", "empty"}, [&] { return cat(std::vector<Tensor>()); });
  table.row<ShapeError>("cat of scalars", {"cat", "scalar"}, [&] { return cat({number, number}); });
  table.row<ShapeError>("cat of sizes that differ", {"cat", "tensor 1", "(2, 2)", "(2, 3)", "dimension 0"}, [&] {
    return cat({x, ones({2, 2})});
  });
  table.row<DTypeError>("cat of two dtypes", {"cat", "float32", "float64"}, [&] { return cat({x, wide}); });
  table.row<IndexError>("cat along no dimension", {"cat", "dimension 2", "[-2, 1]"}, [&] { return cat({x, x}, 2); });
  table.row<ValueError>("cat of an undefined tensor", {"tensor", "undefined"}, [&] { return cat({x, none}); });
  table.row<ValueError>("stack of nothing", {"stack", "empty"}, [&] { return stack(std::vector<Tensor>()); });
  table.row<ShapeError>("stack of two shapes", {"stack", "tensor 1", "(3,)", "(2, 3)"}, [&] { return stack({x, v}); });
  table.row<DTypeError>("stack of two dtypes", {"stack", "float32", "float64"}, [&] { return stack({x, wide}); });
}

TEST_CASE_FIXTURE(Fixture, "errors of ops: indices") {
  table.row<IndexError>("index_select past the end", {"index_select", "index 2", "dimension 0", "size 2"},
                        [&] { return index_select(x, 0, n); });
  table.row<IndexError>("index_select of a negative index", {"index_select", "index -1", "size 3"},
                        [&] { return index_select(x, 1, tensor({-1})); });
  table.row<DTypeError>("index_select by numbers", {"index_select", "int64", "float32"},
                        [&] { return index_select(x, 1, v); });
  table.row<ShapeError>("index_select by a matrix", {"index_select", "vector", "(1, 1)"},
                        [&] { return index_select(x, 1, tensor({{0}})); });
  table.row<ShapeError>("index_add of a source that does not fit", {"index_add", "source", "(2, 2)", "(2, 3)"}, [&] {
    return index_add(x, 1, n, ones({2, 2}));
  });
  table.row<DTypeError>("index_add of another dtype", {"index_add", "float32", "float64"},
                        [&] { return index_add(x, 1, n, wide); });
  table.row<ShapeError>("gather by fewer dimensions", {"gather", "(3,)", "(2, 3)"}, [&] { return gather(x, 1, n); });
  table.row<IndexError>("gather past the end", {"gather", "index 3", "dimension 1", "size 3"}, [&] {
    return gather(x, 1, tensor({{3}, {0}}));
  });
  table.row<ShapeError>("gather by more rows", {"gather", "(3, 1)", "(2, 3)"}, [&] {
    return gather(x, 1, tensor({{0}, {0}, {0}}));
  });
  table.row<ShapeError>("scatter_add of too few", {"scatter_add", "source", "(2, 1)", "(2, 2)"}, [&] {
    return scatter_add(x, 1, tensor({{0, 1}, {0, 1}}), ones({2, 1}));
  });
  table.row<IndexError>("embedding past the end", {"embedding", "2", "size 2"}, [&] { return embedding(n, x); });
  table.row<ShapeError>("embedding in a vector", {"embedding", "weight", "(3,)", "num_embeddings"},
                        [&] { return embedding(n, v); });
  table.row<DTypeError>("embedding of numbers", {"embedding", "int64", "float32"}, [&] { return embedding(v, x); });
  table.row<IndexError>("embedding with a padding_idx past the end", {"embedding", "padding_idx 2", "2 rows"},
                        [&] { return embedding(tensor({0}), x, 2); });
  table.row<ShapeError>("masked_fill by a mask that does not fit", {"masked_fill", "(2,)", "(2, 3)"}, [&] {
    return masked_fill(x, tensor({true, false}), 0);
  });
  table.row<DTypeError>("masked_fill by numbers", {"masked_fill", "bool", "float32"},
                        [&] { return masked_fill(x, v, 0); });
}

TEST_CASE_FIXTURE(Fixture, "errors of ops: in place") {
  table.row<GradError>("fill_ of a leaf", {"fill_", "leaf", "NoGrad"}, [&] { leaf.fill_(0); });
  table.row<GradError>("zero_ of a leaf", {"zero_", "leaf", "NoGrad"}, [&] { leaf.zero_(); });
  table.row<GradError>("copy_ to a leaf", {"copy_", "leaf", "NoGrad"}, [&] { leaf.copy_(x); });
  table.row<GradError>("add_ to a leaf", {"add_", "leaf", "NoGrad"}, [&] { leaf.add_(1); });
  table.row<GradError>("mul_ of a leaf", {"mul_", "leaf", "NoGrad"}, [&] { leaf.mul_(x); });
  table.row<GradError>("writing a leaf through a view", {"zero_", "leaf", "view"},
                       [&] { narrow(leaf, 0, 0, 1).zero_(); });
  table.row<GradError>("add_ to a piece that split returned", {"add_", "split"},
                       [&] { split(computed, 1)[0].add_(1); });
  table.row<GradError>("mul_ of a piece that unbind returned", {"mul_", "unbind"},
                       [&] { unbind(computed)[1].mul_(2); });
  table.row<ValueError>("fill_ of an expanded tensor", {"fill_", "(2, 3)", "share memory", "clone()"},
                        [&] { spread.fill_(1); });
  table.row<ValueError>("add_ to an expanded tensor", {"add_", "(2, 3)", "share memory", "clone()"},
                        [&] { spread.add_(1); });
  table.row<ShapeError>("add_ of what is broader", {"add_", "(3,)", "(2, 3)"}, [&] { v.add_(x); });
  table.row<ShapeError>("mul_ by what does not broadcast", {"mul_", "(2, 3)", "(2,)"}, [&] { x.mul_(ones(2)); });
  table.row<ShapeError>("copy_ of what does not broadcast", {"copy_", "(2, 3)", "(2,)"}, [&] { x.copy_(ones(2)); });
  table.row<DTypeError>("add_ of another dtype", {"add_", "float32", "float64"}, [&] { x.add_(wide); });
  table.row<DTypeError>("mul_ of bool", {"mul_", "bool"}, [&] { mask.mul_(mask); });
  table.row<DTypeError>("add_ of a fraction to int64", {"add_", "0.5", "int64"}, [&] { n.add_(0.5); });
  table.row<ValueError>("fill_ of int64 with infinity", {"fill", "inf", "int64"}, [&] { n.fill_(INFINITY); });
}
