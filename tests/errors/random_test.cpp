#include "support/error_table.h"

#include <doctest/doctest.h>

#include <cmath>

using namespace unroll;

namespace {

struct Fixture {
  Fixture() {
    randn(3, DType::Float32, g);  // at an odd place of the stream, with a normal left over
    leaf.set_grad(ones(4));
    table.watch(g, x, matrix, n, leaf, spread);
  }

  Generator g{5};
  Tensor x = ones(4), matrix = ones({2, 3}), n = tensor({1, 2}), leaf = ones(4).requires_grad_();
  Tensor spread = expand(ones(1), 4), none;
  ErrorTable table{"random"};
};

}  // namespace

TEST_CASE_FIXTURE(Fixture, "errors of random numbers") {
  table.row<DTypeError>("rand of int64", {"rand", "float32", "int64"}, [&] { return rand(3, DType::Int64, g); });
  table.row<DTypeError>("randn of bool", {"randn", "float32", "bool"}, [&] { return randn(3, DType::Bool, g); });
  table.row<DTypeError>("randn_like of int64", {"randn_like", "float32", "int64"}, [&] { return randn_like(n, g); });
  table.row<DTypeError>("rand_like of int64", {"rand_like", "float32", "int64"}, [&] { return rand_like(n, g); });
  table.row<ShapeError>("rand of a negative size", {"negative size -1", "(2, -1)"}, [&] {
    return rand({2, -1}, DType::Float32, g);
  });
  table.row<ValueError>("randint without a number", {"randint", "low < high", "3 and 3"},
                        [&] { return randint(3, 3, 2, g); });
  table.row<ValueError>("randint the wrong way", {"randint", "low < high", "4 and -4"},
                        [&] { return randint(4, -4, 2, g); });
  table.row<ShapeError>("randint of a negative size", {"negative size -1", "(-1,)"},
                        [&] { return randint(0, 2, -1, g); });
  table.row<ValueError>("randperm of less than none", {"randperm", "n >= 0", "-1"}, [&] { return randperm(-1, g); });
  table.row<ValueError>("uniform_ the wrong way", {"uniform_", "[1, 0)", "from <= to"}, [&] { uniform_(x, 1, 0, g); });
  table.row<ValueError>("uniform_ to NaN", {"uniform_", "nan", "finite"}, [&] { uniform_(x, 0, NAN, g); });
  table.row<ValueError>("uniform_ to infinity", {"uniform_", "inf", "finite"}, [&] { uniform_(x, 0, INFINITY, g); });
  table.row<ValueError>("uniform_ too wide for the dtype", {"uniform_", "float32", "finite"},
                        [&] { uniform_(x, -3e38, 3e38, g); });
  table.row<DTypeError>("uniform_ of int64", {"uniform_", "float32", "int64"}, [&] { uniform_(n, 0, 1, g); });
  table.row<GradError>("uniform_ of a leaf", {"uniform_", "leaf", "NoGrad"}, [&] { uniform_(leaf, 0, 1, g); });
  table.row<ValueError>("uniform_ of an expanded tensor", {"uniform_", "(4,)", "share memory"},
                        [&] { uniform_(spread, 0, 1, g); });
  table.row<ValueError>("uniform_ of an undefined tensor", {"tensor", "undefined"}, [&] { uniform_(none, 0, 1, g); });
  table.row<ValueError>("normal_ with a negative deviation", {"normal_", ">= 0", "-0.5"},
                        [&] { normal_(x, 0, -0.5, g); });
  table.row<ValueError>("normal_ with NaN for deviation", {"normal_", ">= 0", "nan"}, [&] { normal_(x, 0, NAN, g); });
  table.row<DTypeError>("normal_ of int64", {"normal_", "float32", "int64"}, [&] { normal_(n, 0, 1, g); });
  table.row<GradError>("normal_ of a leaf", {"normal_", "leaf", "NoGrad"}, [&] { normal_(leaf, 0, 1, g); });
  table.row<ValueError>("bernoulli_ above 1", {"bernoulli_", "[0, 1]", "1.5"}, [&] { bernoulli_(x, 1.5, g); });
  table.row<ValueError>("bernoulli_ below 0", {"bernoulli_", "[0, 1]", "-0.5"}, [&] { bernoulli_(x, -0.5, g); });
  table.row<ValueError>("bernoulli_ of NaN", {"bernoulli_", "[0, 1]", "nan"}, [&] { bernoulli_(x, NAN, g); });
  table.row<GradError>("bernoulli_ of a leaf", {"bernoulli_", "leaf", "NoGrad"}, [&] { bernoulli_(leaf, 0.5, g); });
  table.row<ValueError>("bernoulli with one above 1", {"bernoulli", "[0, 1]", "2"}, [&] {
    return bernoulli(tensor({0.5, 2.0}), g);
  });
  table.row<ValueError>("bernoulli with NaN at the end", {"bernoulli", "[0, 1]", "nan"}, [&] {
    return bernoulli(tensor({0.5, 1.0, double(NAN)}), g);
  });
  table.row<DTypeError>("bernoulli of int64", {"bernoulli", "float32", "int64"}, [&] { return bernoulli(n, g); });
}

TEST_CASE_FIXTURE(Fixture, "errors of generators") {
  std::vector<std::byte> state = g.get_state();
  auto with = [&](std::size_t at, unsigned char byte) {
    std::vector<std::byte> other = state;
    other[at] = static_cast<std::byte>(byte);
    return other;
  };
  table.row<ValueError>("a state of no bytes", {"set_state", "5056 bytes", "got 0"}, [&] { g.set_state({}); });
  table.row<ValueError>("a state that is cut off", {"set_state", "5056 bytes", "got 5055"},
                        [&] { g.set_state(std::span(state).first(5055)); });
  table.row<ValueError>("a state that is not seeded", {"set_state", "seeded 0"}, [&] { g.set_state(with(12, 0)); });
  table.row<ValueError>("a state outside its words", {"set_state", "left 767"}, [&] { g.set_state(with(8, 255)); });
  table.row<ValueError>("a state whose place is another", {"set_state", "next 200"},
                        [&] { g.set_state(with(16, 200)); });
  table.row<ValueError>("a word of more than 32 bits", {"set_state", "32 bits"},
                        [&] { g.set_state(with(24 + 8 * 623 + 7, 1)); });
  table.row<ValueError>("a flag that is none", {"set_state", "flags", "2"},
                        [&] { g.set_state(with(24 + 8 * 624 + 24, 2)); });
}

TEST_CASE_FIXTURE(Fixture, "errors of dropout") {
  table.row<ValueError>("more than all", {"dropout", "[0, 1]", "1.5"}, [&] { return dropout(x, 1.5, true, g); });
  table.row<ValueError>("less than nothing", {"dropout", "[0, 1]", "-0.5"}, [&] { return dropout(x, -0.5, true, g); });
  table.row<ValueError>("NaN", {"dropout", "[0, 1]", "nan"}, [&] { return dropout(x, NAN, true, g); });
  table.row<ValueError>("more than all, out of training", {"dropout", "[0, 1]", "2"},
                        [&] { return dropout(x, 2, false, g); });
  table.row<DTypeError>("of int64", {"dropout", "float32", "int64"}, [&] { return dropout(n, 0.5, true, g); });
  table.row<ValueError>("of an undefined tensor", {"tensor", "undefined"}, [&] { return dropout(none, 0.5, true, g); });
  table.row<ValueError>("a module of more than all", {"dropout", "p ", "[0, 1]", "1.5"},
                        [] { nn::Dropout layer(1.5); });
  table.row<ValueError>("a module of NaN", {"dropout", "p ", "[0, 1]", "nan"}, [] { nn::Dropout layer(NAN); });
}

TEST_CASE_FIXTURE(Fixture, "errors of initialisers") {
  using namespace unroll::nn;
  table.row<ValueError>("a gain of what is no nonlinearity", {"calculate_gain", "leaky_relu", "\"swish\""},
                        [] { return init::calculate_gain("swish"); });
  table.row<ValueError>("a gain of nothing", {"calculate_gain", "leaky_relu", "\"\""},
                        [] { return init::calculate_gain(""); });
  table.row<ShapeError>("xavier_uniform_ of a vector", {"xavier_uniform_", "2 dimensions", "(4,)"},
                        [&] { init::xavier_uniform_(x, 1, g); });
  table.row<ShapeError>("xavier_normal_ of a vector", {"xavier_normal_", "2 dimensions", "(4,)"},
                        [&] { init::xavier_normal_(x, 1, g); });
  table.row<ShapeError>("kaiming_uniform_ of a vector", {"kaiming_uniform_", "2 dimensions", "(4,)"},
                        [&] { init::kaiming_uniform_(x, {}, g); });
  table.row<ShapeError>("kaiming_normal_ of a scalar", {"kaiming_normal_", "2 dimensions", "()"},
                        [&] { init::kaiming_normal_(scalar(1), {}, g); });
  table.row<ValueError>("kaiming_uniform_ before an unknown nonlinearity", {"calculate_gain", "\"swish\""},
                        [&] { init::kaiming_uniform_(matrix, {.nonlinearity = "swish"}, g); });
  table.row<ValueError>("xavier_normal_ of a negative gain", {"normal_", ">= 0", "-"},
                        [&] { init::xavier_normal_(matrix, -1, g); });
  table.row<ValueError>("uniform_ the wrong way", {"uniform_", "[1, 0)", "from <= to"},
                        [&] { init::uniform_(leaf, 1, 0, g); });
  table.row<ValueError>("normal_ with a negative deviation", {"normal_", ">= 0", "-1"},
                        [&] { init::normal_(leaf, 0, -1, g); });
  table.row<DTypeError>("uniform_ of int64", {"uniform_", "float32", "int64"}, [&] { init::uniform_(n, 0, 1, g); });
  table.row<ValueError>("constant_ of an int64 tensor with NaN", {"fill", "nan", "int64"},
                        [&] { init::constant_(n, NAN); });
}
