#pragma once
#include <unroll/unroll.h>

#include <stdexcept>
#include <string>

#include "text.h"
#include "train.h"

namespace char_lm {

/// What a checkpoint says besides its tensors: the options, by their names on the command line, and the symbols as
/// numbers, since a text may hold any byte.
unroll::io::Metadata describe(const ModelOptions& model, const Vocabulary& vocabulary);
struct Described {
  ModelOptions model;
  Vocabulary vocabulary;
};
Described described(const unroll::io::Metadata& metadata);

/// FNV-1a, 64 bits.
std::string digest(std::string_view text);
/// The same of a whole run. Its text is told by place and digest.
unroll::io::Metadata describe(const TrainOptions& run, const Vocabulary& vocabulary, const std::string& text_digest);
/// The options of the run that `metadata` describes, so that `again` needs to name only where it is. Raises
/// std::runtime_error where it asks for others.
TrainOptions as_begun(TrainOptions again, const unroll::io::Metadata& metadata);

/// Raises std::runtime_error where there is none: not a checkpoint of ours.
const std::string& entry(const unroll::io::Metadata& metadata, const std::string& name);
double number(const unroll::io::Metadata& metadata, const std::string& name);

}  // namespace char_lm
