// A character-level language model: learns to write like a text, and says how well in bits per character.
#include <fmt/core.h>

#include <CLI/CLI.hpp>
#include <cerrno>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <system_error>

#include "train.h"

// NaN is neither positive nor negative, nor out of a range.
static std::string check_finite(const std::string& text) {
  return std::isfinite(std::strtod(text.c_str(), nullptr)) ? "" : text + " is not a finite number";
}
// CLI11's own says that 0 is not in a range from 0 to a number of 309 digits.
static std::string check_positive(const std::string& text) {
  return std::strtod(text.c_str(), nullptr) > 0 ? "" : text + " is not positive";
}

int main(int argc, char** argv) try {
  CLI::App app("A recurrent net that learns to write like a text, one character at a time.");
  app.require_subcommand(1);

  char_lm::TrainOptions t;
  bool quick = false;
  CLI::App* train = app.add_subcommand("train", "Learn from a text; leaves checkpoints, a log and a curve in --out");
  train->add_option("--text", t.text, "file to learn from (default: generated sentences)")->check(CLI::ExistingFile);
  train->add_option("--out", t.out, "folder for what the run leaves, in place of an older run's")
      ->capture_default_str();
  train->add_option("--model", t.model.cell, "recurrent cell")
      ->check(CLI::IsMember(char_lm::cells()))
      ->capture_default_str();
  train->add_option("--hidden-size", t.model.hidden_size, "units of a layer")
      ->check(check_positive)
      ->capture_default_str();
  train->add_option("--embedding-dim", t.model.embedding_dim, "size of a character's vector")
      ->check(check_positive)
      ->capture_default_str();
  train->add_option("--num-layers", t.model.num_layers, "recurrent layers")
      ->check(check_positive)
      ->capture_default_str();
  train->add_option("--dropout", t.model.dropout, "on what the layers read and give")
      ->check(check_finite)
      ->check(CLI::Range(0., 1.))
      ->capture_default_str();
  auto* steps = train->add_option("--steps", t.steps, "optimizer steps")->check(check_positive)->capture_default_str();
  train->add_option("--seconds", t.seconds, "instead of --steps: as many as fit in this time")
      ->check(check_finite)
      ->check(check_positive)
      ->excludes(steps);
  train->add_option("--seq-len", t.seq_len, "steps that a gradient goes back")
      ->check(check_positive)
      ->capture_default_str();
  train->add_option("--streams", t.streams, "places in the text that are read at once")
      ->check(check_positive)
      ->capture_default_str();
  train->add_option("--lr", t.lr, "learning rate at the start; falls to 0 along a cosine")
      ->check(check_finite)
      ->check(check_positive)
      ->capture_default_str();
  train->add_option("--weight-decay", t.weight_decay, "of AdamW")
      ->check(check_finite)
      ->check(CLI::NonNegativeNumber)
      ->capture_default_str();
  train->add_option("--clip", t.clip, "largest norm of a gradient")
      ->check(check_finite)
      ->check(check_positive)
      ->capture_default_str();
  train->add_option("--valid-every", t.valid_every, "steps between validations")
      ->check(check_positive)
      ->capture_default_str();
  train->add_option("--checkpoint-every", t.checkpoint_every, "steps between checkpoints")
      ->check(check_positive)
      ->capture_default_str();
  train->add_option("--seed", t.seed, "of weights and dropout")->capture_default_str();
  train->add_flag("--resume", t.resume, "go on from the checkpoint in --out, with the options that run was begun with");
  train->add_flag("--quick", quick, "a small model and a few steps, to see that it works");

  char_lm::SampleOptions s;
  CLI::App* sample = app.add_subcommand("sample", "Write with a trained model");
  sample->add_option("--checkpoint", s.checkpoint, "best.safetensors of a run")->required()->check(CLI::ExistingFile);
  sample->add_option("--prime", s.prime, "text to go on from (default: \"The \", or the first symbol)");
  sample->add_option("--temperature", s.temperature, "below 1: more careful, above: bolder, 0: always the likeliest")
      ->check(check_finite)
      ->check(CLI::NonNegativeNumber)
      ->capture_default_str();
  sample->add_option("--length", s.length, "characters to write")->check(CLI::NonNegativeNumber)->capture_default_str();
  sample->add_option("--seed", s.seed, "of the draws")->capture_default_str();
  CLI11_PARSE(app, argc, argv);

  if (train->parsed()) {
    for (const CLI::Option* option : train->get_options())
      if (option->count() > 0) t.given.insert(option->get_single_name());
    if (quick) {
      auto unless_given = [&](const char* option, auto& value, auto quick_value) {
        if (train->count(option) == 0) value = quick_value;
      };
      unless_given("--hidden-size", t.model.hidden_size, 32);
      unless_given("--embedding-dim", t.model.embedding_dim, 16);
      unless_given("--streams", t.streams, 16);
      unless_given("--seq-len", t.seq_len, 32);
      unless_given("--valid-every", t.valid_every, 20);
      unless_given("--steps", t.steps, 60);
    }
    char_lm::train(t);
  } else {
    fmt::print("{}\n", char_lm::sample_text(s));
  }
  if (std::fflush(stdout) != 0) throw std::system_error(errno, std::generic_category(), "cannot write");
  return 0;
} catch (const std::exception& error) {
  std::fprintf(stderr, "char_lm: %s\n", error.what());
  return 1;
}
