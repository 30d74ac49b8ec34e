#include "description.h"

#include <fmt/format.h>

#include <charconv>
#include <sstream>
#include <type_traits>

namespace char_lm {

using unroll::io::Metadata;

namespace {

// Calls f(name, value) for each option that says what a model is.
template <class Options, class F>
void each_of_model(Options& o, const F& f) {
  f("model", o.cell);
  f("hidden-size", o.hidden_size);
  f("embedding-dim", o.embedding_dim);
  f("num-layers", o.num_layers);
  f("dropout", o.dropout);
}

// And for each that says what a run is, but for its text.
template <class Options, class F>
void each_of_run(Options& o, const F& f) {
  each_of_model(o.model, f);
  f("steps", o.steps);
  f("seconds", o.seconds);
  f("seq-len", o.seq_len);
  f("streams", o.streams);
  f("lr", o.lr);
  f("weight-decay", o.weight_decay);
  f("clip", o.clip);
  f("valid-every", o.valid_every);
  f("checkpoint-every", o.checkpoint_every);
  f("seed", o.seed);
}

void read(const Metadata& metadata, const std::string& name, std::string& value) { value = entry(metadata, name); }

template <class T>
void read(const Metadata& metadata, const std::string& name, T& value) {
  const std::string& text = entry(metadata, name);
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size())
    throw std::runtime_error(fmt::format("the checkpoint's {} is '{}', expected a number", name, text));
}

}  // namespace

std::string digest(std::string_view text) {
  std::uint64_t hash = 0xcbf29ce484222325;
  for (char c : text) hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001b3;
  return fmt::format("{:016x}", hash);
}

const std::string& entry(const Metadata& metadata, const std::string& name) {
  const auto found = metadata.find(name);
  if (found == metadata.end())
    throw std::runtime_error(fmt::format("not a checkpoint of char_lm: it says nothing of '{}'", name));
  return found->second;
}

double number(const Metadata& metadata, const std::string& name) {
  double value = 0;
  read(metadata, name, value);
  return value;
}

Metadata describe(const ModelOptions& model, const Vocabulary& vocabulary) {
  Metadata metadata;
  each_of_model(model, [&](const char* name, const auto& value) { metadata[name] = fmt::format("{}", value); });
  std::string& symbols = metadata["symbols"];
  for (char c : vocabulary.symbols())
    symbols += fmt::format("{}{}", symbols.empty() ? "" : " ", static_cast<unsigned char>(c));
  return metadata;
}

Described described(const Metadata& metadata) {
  ModelOptions model;
  each_of_model(model, [&](const char* name, auto& value) { read(metadata, name, value); });
  std::istringstream numbers(entry(metadata, "symbols"));
  std::string symbols;
  for (int symbol = 0; numbers >> symbol;) symbols += static_cast<char>(symbol);
  return {model, Vocabulary(symbols)};
}

Metadata describe(const TrainOptions& run, const Vocabulary& vocabulary, const std::string& text_digest) {
  Metadata metadata = describe(run.model, vocabulary);
  each_of_run(run, [&](const char* name, const auto& value) { metadata[name] = fmt::format("{}", value); });
  metadata["text"] = run.text.empty() ? "" : std::filesystem::absolute(run.text).string();
  metadata["text-digest"] = text_digest;
  return metadata;
}

TrainOptions as_begun(TrainOptions again, const Metadata& metadata) {
  each_of_run(again, [&](const char* name, auto& value) {
    const auto asked = value;
    read(metadata, name, value);
    if (again.given.contains(name) && asked != value)
      throw std::runtime_error(
          fmt::format("--{} {}: the run that is to be resumed was begun with {}", name, asked, value));
  });
  for (const std::int64_t* positive :
       {&again.steps, &again.seq_len, &again.streams, &again.valid_every, &again.checkpoint_every})
    if (*positive < 1)
      throw std::runtime_error(fmt::format("the checkpoint is of no run: {} where a number ≥ 1 belongs", *positive));
  if (!again.given.contains("text")) again.text = entry(metadata, "text");
  return again;
}

}  // namespace char_lm
