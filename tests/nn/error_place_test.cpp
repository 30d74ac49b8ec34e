#include "support/raises.h"

#include <doctest/doctest.h>
#include <unroll/autograd/anomaly.h>
#include <unroll/nn/gru.h>
#include <unroll/nn/linear.h>
#include <unroll/nn/recurrent.h>

using namespace unroll;

namespace {
// Adds what does not fit at its third call.
struct Cell : nn::Module {
  using State = Tensor;
  static constexpr const char* kLayer = "failing";
  nn::Linear input;
  mutable int calls = 0;
  Cell(std::int64_t in, std::int64_t hidden) : input(in, hidden) { add("input", input); }
  Tensor operator()(const Tensor& x, const Tensor& h) const {
    const Tensor y = input(x) + h;
    return ++calls < 3 ? y : y + zeros(y.size(1) + 1);
  }
};

struct Encoder : nn::Module {
  nn::Linear embed;
  nn::Recurrent<Cell> rnn;
  explicit Encoder(const nn::RecurrentOptions& options) : embed(2, 3), rnn(3, 4, options) {
    add("embed", embed);
    add("rnn", rnn);
  }
  Tensor operator()(const Tensor& x) const {
    return hooked([this](const Tensor& input) { return rnn(embed(input)).output; }, x);
  }
};

struct Net : nn::Module {
  Encoder encoder;
  nn::Linear head;
  explicit Net(const nn::RecurrentOptions& options = {}) : encoder(options), head(4, 2) {
    add("encoder", encoder);
    add("head", head);
  }
};
}  // namespace

TEST_CASE("an error names the module of the model in which it arose") {
  const Net net;
  CHECK(error_of<Error>([&] { net.head(ones({2, 5})); }).ends_with(" (in head)"));
  CHECK(error_of<Error>([&] { net.encoder(ones({3, 2, 7})); }).ends_with(" (in encoder.embed)"));
}

TEST_CASE("an error names a module that is called as its class is") {
  struct Named : nn::Module {
    nn::Linear linear{4, 2};
    Named() { add("Linear", linear); }
  };
  CHECK(error_of<Error>([] { Named().linear(ones({2, 5})); }).ends_with(" (in Linear)"));
}

TEST_CASE("an error names the layer and step of a cell that raises, and keeps its type") {
  const Net net, reverse({.num_layers = 2, .bidirectional = true});
  CHECK(error_of<Error>([&] {
          net.encoder(ones({5, 1, 2}));
        }) == "add: shapes (1, 4) and (5,) do not broadcast (in encoder.rnn, layer 0, step 2)");
  CHECK_THROWS_AS(Net().encoder(ones({5, 1, 2})), ShapeError);
  reverse.encoder.rnn.cell(0, 0).calls = -100;
  CHECK(error_of<Error>([&] {
          reverse.encoder(ones({5, 1, 2}));
        }).ends_with("(in encoder.rnn, layer 0, reverse step 2)"));
}

TEST_CASE("an error in a layer by itself names layer and step, one that the layer raises does so once") {
  const nn::Recurrent<Cell> rnn(3, 4);
  CHECK(error_of<Error>([&] { rnn(ones({5, 1, 3})); }).ends_with("do not broadcast (in layer 0, step 2)"));
  CHECK_FALSE(error_of<Error>([&] { rnn(ones({5, 1, 2})); }).ends_with(")"));
}

TEST_CASE("an error outside of any model, or in a module that is part of none, says no place") {
  const nn::Linear linear(4, 2);
  const std::string alone = error_of<Error>([&] { linear(ones({2, 5})); });
  CHECK(alone == "linear: input of shape (2, 5) does not fit weight of shape (2, 4): expected 4 features");
  const Net net;
  CHECK_THROWS_AS(net.encoder(ones({5, 1, 2})), ShapeError);
  CHECK(error_of<Error>([&] { linear(ones({2, 5})); }) == alone);  // nothing is left of the way to the one before
  const AnomalyScope scope("batch", 7, nullptr);
  CHECK(error_of<Error>([&] { linear(ones({2, 5})); }) == alone + " (in batch 7)");
}
