#pragma once
#include <cstdint>
#include <filesystem>
#include <set>
#include <string>

#include "model.h"

namespace char_lm {

struct TrainOptions {
  std::filesystem::path text;  // empty: generated
  std::filesystem::path out = "char_lm.run";
  ModelOptions model;
  std::int64_t steps = 2000;
  double seconds = 0;  // > 0: as many steps as fit, measured at the start
  std::int64_t seq_len = 64, streams = 32;
  double lr = 4e-3, clip = 1, weight_decay = 0;
  std::int64_t valid_every = 100, checkpoint_every = 500;
  std::uint64_t seed = 0;
  bool resume = false;
  std::set<std::string> given = {};  // names of the options that somebody asked for: "lr"
};

/// Trains, and leaves in `out`: last.safetensors to resume from, best.safetensors by the validation text, log.jsonl,
/// curve.svg. Those of an older run go when a new one begins. A run that is resumed has the options it was begun with.
void train(const TrainOptions& options);

struct SampleOptions {
  std::filesystem::path checkpoint;
  std::string prime = {};  // empty: "The ", or the first symbol if those do not occur
  double temperature = 0.8;
  std::int64_t length = 400;
  std::uint64_t seed = 0;
};

/// What a trained model writes.
std::string sample_text(const SampleOptions& options);

}  // namespace char_lm
