#include "support/error_table.h"

#include <doctest/doctest.h>

#include <cmath>

using namespace unroll;

// What C++ does not compile, torch has to check: an option of another type or an unknown one, proj_size of an RNN or a
// GRU, a nonlinearity by an unknown name, a bool or a string as dropout, a size that is no whole number.

namespace {

constexpr std::int64_t kHuge = std::int64_t{1} << 62;

// The rows that RNN, LSTM and GRU share. `op` is what their errors begin with.
template <class Layer, class Options>
void layer_options(ErrorTable& table, const std::string& op) {
  auto row = [&](const char* what, std::vector<std::string> tokens, std::int64_t in, std::int64_t hidden,
                 Options options = {}) {
    tokens.insert(tokens.begin(), op);
    table.row<ValueError>(what, tokens, [&] { Layer made(in, hidden, options); });
  };
  row("dropout below 0", {"dropout", "[0, 1]", "-0.1"}, 3, 4, {.num_layers = 2, .dropout = -0.1});
  row("dropout above 1", {"dropout", "[0, 1]", "1.5"}, 3, 4, {.num_layers = 2, .dropout = 1.5});
  row("dropout of NaN", {"dropout", "[0, 1]", "nan"}, 3, 4, {.num_layers = 2, .dropout = NAN});
  row("dropout of infinity", {"dropout", "[0, 1]", "inf"}, 3, 4, {.num_layers = 2, .dropout = INFINITY});
  row("dropout above 1 of a single layer", {"dropout", "[0, 1]", "2"}, 3, 4, {.dropout = 2});
  row("hidden_size 0", {"hidden_size", "positive", "got 0"}, 3, 0);
  row("a negative hidden_size", {"hidden_size", "positive", "got -4"}, 3, -4);
  row("no layers", {"num_layers", "positive", "got 0"}, 3, 4, {.num_layers = 0});
  row("a negative number of layers", {"num_layers", "positive", "got -1"}, 3, 4, {.num_layers = -1});
  row("a negative input_size", {"input_size", "negative", "got -3"}, -3, 4);
  table.row<DTypeError>("weights of int64", {"weight_ih", "float32 or float64", "int64"},
                        [] { Layer made(3, 4, {.dtype = DType::Int64}); });
  table.row<DTypeError>("weights of bool", {"weight_ih", "float32 or float64", "bool"},
                        [] { Layer made(3, 4, {.dtype = DType::Bool}); });
  table.row<ShapeError>("a hidden_size beyond 2^63", {"overflow", "2^63"}, [] { Layer made(3, kHuge); });
  table.row<ShapeError>("an input_size beyond 2^63", {"overflow", "2^63"}, [] { Layer made(kHuge, 4); });
}

template <class Cell>
void cell_options(ErrorTable& table, const std::string& op) {
  table.row<ValueError>("a negative input_size", {op, "input_size", "negative", "got -1"}, [] { Cell made(-1, 4); });
  table.row<ValueError>("a negative hidden_size", {op, "hidden_size", "negative", "got -2"}, [] { Cell made(3, -2); });
  table.row<DTypeError>("weights of int64", {"weight_ih", "float32 or float64", "int64"},
                        [] { Cell made(3, 4, {.dtype = DType::Int64}); });
  table.row<ShapeError>("a hidden_size beyond 2^63", {"overflow", "2^63"}, [] { Cell made(3, kHuge); });
}

}  // namespace

TEST_CASE("errors of nn: options of layers") {
  ErrorTable table("nn: options");
  layer_options<nn::RNN, nn::RNNOptions>(table, "rnn: ");
  layer_options<nn::LSTM, nn::LSTMOptions>(table, "lstm: ");
  layer_options<nn::GRU, nn::GRUOptions>(table, "gru: ");
  table.row<ValueError>("a negative proj_size", {"lstm", "proj_size", "negative", "got -1"},
                        [] { nn::LSTM made(3, 4, {.proj_size = -1}); });
  table.row<ValueError>("proj_size = hidden_size", {"lstm", "proj_size", "smaller than hidden_size", "4 and 4"},
                        [] { nn::LSTM made(3, 4, {.proj_size = 4}); });
  table.row<ValueError>("proj_size above hidden_size", {"lstm", "proj_size", "smaller than hidden_size", "5 and 4"},
                        [] { nn::LSTM made(3, 4, {.num_layers = 2, .bidirectional = true, .proj_size = 5}); });
  table.row<ValueError>("hidden_size 0 with a proj_size", {"lstm", "hidden_size", "positive", "got 0"},
                        [] { nn::LSTM made(3, 0, {.proj_size = 1}); });
  table.row<ValueError>("a layer of a cell's: no layers", {"layer_norm_lstm: ", "num_layers", "got 0"},
                        [] { nn::Recurrent<nn::LayerNormLSTMCell> made(3, 4, {.num_layers = 0}); });
  table.row<ValueError>("a layer of a cell's: hidden_size 0", {"peephole_lstm: ", "hidden_size", "got 0"},
                        [] { nn::Recurrent<nn::PeepholeLSTMCell> made(3, 0); });
}

TEST_CASE("errors of nn: options of cells") {
  ErrorTable table("nn: options");
  cell_options<nn::RNNCell>(table, "rnn_cell: ");
  cell_options<nn::LSTMCell>(table, "lstm_cell: ");
  cell_options<nn::GRUCell>(table, "gru_cell: ");
  cell_options<nn::LayerNormLSTMCell>(table, "layer_norm_lstm_cell: ");
  cell_options<nn::LayerNormGRUCell>(table, "layer_norm_gru_cell: ");
  cell_options<nn::PeepholeLSTMCell>(table, "peephole_lstm_cell: ");
  table.row<ValueError>("a negative proj_size", {"lstm", "proj_size", "negative", "got -1"},
                        [] { nn::LSTMCell made(3, 4, {.proj_size = -1}); });
  table.row<ValueError>("proj_size = hidden_size", {"lstm", "proj_size", "smaller", "4 and 4"},
                        [] { nn::LSTMCell made(3, 4, {.proj_size = 4}); });
}

TEST_CASE("errors of nn: options of what surrounds cells") {
  ErrorTable table("nn: options");
  using Zoneout = nn::Zoneout<nn::GRUCell>;
  using WeightDrop = nn::WeightDrop<nn::GRUCell>;
  using Variational = nn::VariationalDropout<nn::GRUCell>;
  for (double bad : {-0.1, 1.5, double(NAN)}) {
    std::string text = std::isnan(bad) ? "nan" : bad < 0 ? "-0.1" : "1.5";
    table.row<ValueError>("zoneout of h", {"zoneout", "h must be in [0, 1]", text},
                          [bad] { Zoneout made(3, 4, {.h = bad}); });
    table.row<ValueError>("zoneout of c", {"zoneout", "c must be in [0, 1]", text},
                          [bad] { Zoneout made(3, 4, {.c = bad}); });
    table.row<ValueError>("weight_drop", {"weight_drop", "p must be in [0, 1]", text},
                          [bad] { WeightDrop made(3, 4, {.p = bad}); });
    table.row<ValueError>("variational_dropout of x", {"variational_dropout", "input must be in [0, 1]", text},
                          [bad] { Variational made(3, 4, {.input = bad}); });
    table.row<ValueError>("variational_dropout of h", {"variational_dropout", "hidden must be in [0, 1]", text},
                          [bad] { Variational made(3, 4, {.hidden = bad}); });
    table.row<ValueError>("dropout of a stack", {"stack", "dropout must be in [0, 1]", text},
                          [bad] { nn::Stack<nn::GRU> made(3, {4}, {.dropout = bad}); });
    table.row<ValueError>("dropout", {"dropout", "p must be in [0, 1]", text}, [bad] { nn::Dropout made(bad); });
  }
  table.row<ValueError>("around a cell of a negative size", {"gru_cell", "hidden_size", "got -4"},
                        [] { Zoneout made(3, -4); });
  table.row<ValueError>("a layer of such cells", {"zoneout", "h must be in [0, 1]", "2"}, [] {
    nn::Recurrent<nn::Zoneout<nn::WeightDrop<nn::LSTMCell>>> made(3, 4, {.num_layers = 2}, nn::ZoneoutOptions{.h = 2});
  });
  table.row<ValueError>("a stack of no widths", {"stack", "at least one hidden size"},
                        [] { nn::Stack<nn::GRU> made(3, {}); });
  table.row<ValueError>("a stack with a width of 0", {"stack", "hidden sizes", "positive", "got 0 at 1"}, [] {
    nn::Stack<nn::GRU> made(3, {4, 0});
  });
  table.row<ValueError>("a stack with a negative width", {"stack", "hidden sizes", "positive", "got -1 at 0"}, [] {
    nn::Stack<nn::LSTM> made(3, {-1, 4});
  });
  table.row<ValueError>("a stack of layers without layers", {"gru", "num_layers", "got 0"},
                        [] { nn::Stack<nn::GRU> made(3, {4}, {}, nn::GRUOptions{.num_layers = 0}); });
}

TEST_CASE("errors of nn: options of other modules") {
  ErrorTable table("nn: options");
  table.row<ValueError>("linear of negative in_features", {"linear", "in_features", "-1"},
                        [] { nn::Linear made(-1, 2); });
  table.row<ValueError>("linear of negative out_features", {"linear", "out_features", "-2"},
                        [] { nn::Linear made(1, -2); });
  table.row<DTypeError>("linear of int64", {"weight", "float32 or float64", "int64"},
                        [] { nn::Linear made(1, 2, {.dtype = DType::Int64}); });
  table.row<ValueError>("embedding of negative rows", {"embedding", "num_embeddings", "-1"},
                        [] { nn::Embedding made(-1, 2); });
  table.row<ValueError>("embedding of negative width", {"embedding", "embedding_dim", "-2"},
                        [] { nn::Embedding made(3, -2); });
  table.row<IndexError>("a padding_idx past the end", {"embedding", "padding_idx 3", "3 rows"},
                        [] { nn::Embedding made(3, 2, {.padding_idx = 3}); });
  table.row<IndexError>("a padding_idx before the first", {"embedding", "padding_idx -4", "3 rows"},
                        [] { nn::Embedding made(3, 2, {.padding_idx = -4}); });
  table.row<IndexError>("a padding_idx of no rows", {"embedding", "padding_idx 0", "0 rows"},
                        [] { nn::Embedding made(0, 2, {.padding_idx = 0}); });
  table.row<ValueError>("layer_norm of no dimension", {"layer_norm", "normalized_shape", "at least one dimension"},
                        [] { nn::LayerNorm made(Shape{}); });
  table.row<ValueError>("layer_norm of a negative size", {"layer_norm", "normalized_shape (2, -3)", "negative"}, [] {
    nn::LayerNorm made({2, -3});
  });
  table.row<DTypeError>("layer_norm of int64", {"weight", "float32 or float64", "int64"},
                        [] { nn::LayerNorm made({2}, {.dtype = DType::Int64}); });
}
