#pragma once
#include <unroll/unroll.h>

#include <memory>
#include <string>
#include <vector>

namespace char_lm {

struct ModelOptions {
  std::string cell = "lstm";
  std::int64_t embedding_dim = 64, hidden_size = 128, num_layers = 1;
  double dropout = 0;
};

/// Predicts the next symbol at every step: embedding → recurrent layers → linear. The state comes in and goes out as
/// tensors, so that whoever carries it need not know the cell.
class Model : public unroll::nn::Module {
 public:
  struct Prediction {
    unroll::Tensor logits;              // (T, N, vocabulary)
    std::vector<unroll::Tensor> state;  // after the last step
  };
  /// `symbols` is (T, N) Int64; an empty state means zeros.
  virtual Prediction operator()(const unroll::Tensor& symbols, const std::vector<unroll::Tensor>& state) const = 0;
};

/// The names that `cell` may have.
std::vector<std::string> cells();
/// Raises std::invalid_argument for an unknown cell.
std::unique_ptr<Model> make_model(const ModelOptions& options, std::int64_t vocabulary);

/// Bits per character that the model needs for `symbols` read as one stream, the first given. Leaves the model in
/// evaluation mode.
double bits_per_character(Model& model, const std::vector<std::int64_t>& symbols);

/// Lets the model go on from `prime` by `length` symbols, each drawn from softmax(logits / temperature); temperature 0
/// takes the likeliest.
std::vector<std::int64_t> sample(Model& model, const std::vector<std::int64_t>& prime, std::int64_t length,
                                 double temperature);

}  // namespace char_lm
