#include "model.h"

#include <cmath>
#include <functional>
#include <map>
#include <numbers>
#include <stdexcept>

#include "text.h"

namespace char_lm {

using namespace unroll;

namespace {

/// The minimal gated unit (Zhou et al., arXiv:1603.09420), f = σ(W [x, h]), h' = (1 − f) h + f tanh(U [x, f h]): how
/// one brings a cell of one's own.
struct MGUCell : nn::Module {
  using State = Tensor;
  nn::Linear forget, candidate;
  MGUCell(std::int64_t input_size, std::int64_t hidden_size)
      : forget(input_size + hidden_size, hidden_size), candidate(input_size + hidden_size, hidden_size) {
    add("forget", forget);
    add("candidate", candidate);
  }
  Tensor operator()(const Tensor& x, const Tensor& h) const {
    Tensor f = sigmoid(forget(cat({x, h}, 1)));
    return (1 - f) * h + f * tanh(candidate(cat({x, f * h}, 1)));
  }
};

template <nn::Cell C>
class RecurrentModel final : public Model {
 public:
  RecurrentModel(const ModelOptions& o, std::int64_t vocabulary)
      : embedding(vocabulary, o.embedding_dim),
        rnn(o.embedding_dim, o.hidden_size, {.num_layers = o.num_layers, .dropout = o.dropout}), dropout(o.dropout),
        head(o.hidden_size, vocabulary) {
    add("embedding", embedding);
    add("rnn", rnn);
    add("dropout", dropout);
    add("head", head);
  }

  Prediction operator()(const Tensor& symbols, const std::vector<Tensor>& state) const override {
    typename C::State before;
    if (!state.empty()) before = nn::make_state<typename C::State>([&](std::size_t i) { return state.at(i); });
    auto [output, after] = rnn(dropout(embedding(symbols)), before);
    Prediction prediction{head(dropout(output)), {}};
    for (const Tensor* tensor : nn::state_tensors(after)) prediction.state.push_back(*tensor);
    return prediction;
  }

  nn::Embedding embedding;
  nn::Recurrent<C> rnn;
  nn::Dropout dropout;
  nn::Linear head;
};

using Factory = std::function<std::unique_ptr<Model>(const ModelOptions&, std::int64_t)>;

template <nn::Cell C>
std::unique_ptr<Model> make(const ModelOptions& options, std::int64_t vocabulary) {
  return std::make_unique<RecurrentModel<C>>(options, vocabulary);
}

const std::map<std::string, Factory>& factories() {
  static const std::map<std::string, Factory> all{{"lstm", make<nn::LSTMCell>}, {"mgu", make<MGUCell>}};
  return all;
}

}  // namespace

std::vector<std::string> cells() {
  std::vector<std::string> names;
  for (const auto& [name, factory] : factories()) names.push_back(name);
  return names;
}

std::unique_ptr<Model> make_model(const ModelOptions& options, std::int64_t vocabulary) {
  auto found = factories().find(options.cell);
  if (found == factories().end()) throw std::invalid_argument("there is no model named " + options.cell);
  return found->second(options, vocabulary);
}

double bits_per_character(Model& model, const std::vector<std::int64_t>& symbols) {
  NoGrad guard;
  model.eval();
  Streams streams(symbols, 1);
  std::vector<Tensor> state;
  double nats = 0;
  for (std::int64_t start = 0; start < streams.length();) {
    auto [input, target] = streams.chunk(start, 256);
    auto [logits, after] = model(input, state);
    nats += cross_entropy(flatten(logits, 0, 1), flatten(target), {.reduction = Reduction::Sum}).item();
    state = std::move(after);
    start += input.size(0);
  }
  return nats / static_cast<double>(streams.length()) / std::numbers::ln2;
}

namespace {

// A symbol drawn with probabilities softmax(logits / temperature). The largest logit is 0 before it is divided by next
// to nothing.
std::int64_t draw(const Tensor& logits, double temperature) {
  if (temperature == 0) return argmax(logits).item<std::int64_t>();
  return multinomial(softmax((logits - amax(logits)).to(DType::Float64) / temperature, 0), 1).item<std::int64_t>();
}

}  // namespace

std::vector<std::int64_t> sample(Model& model, const std::vector<std::int64_t>& prime, std::int64_t length,
                                 double temperature) {
  if (prime.empty()) throw std::invalid_argument("a sample needs at least one character to go on from");
  NoGrad guard;
  model.eval();
  auto read = [&](const std::vector<std::int64_t>& symbols, const std::vector<Tensor>& state) {
    return model(from_data(symbols, {static_cast<std::int64_t>(symbols.size()), 1}), state);
  };
  std::vector<std::int64_t> written;
  Model::Prediction now = read(prime, {});
  for (std::int64_t i = 0; i < length; ++i) {
    written.push_back(draw(select(select(now.logits, 0, -1), 0, 0), temperature));
    now = read({written.back()}, now.state);
  }
  return written;
}

}  // namespace char_lm
