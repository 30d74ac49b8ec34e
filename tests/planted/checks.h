#pragma once
#include <string>

#include "training.h"

namespace planted {

/// What the checks look at: the library's own layers, engine and optimizers, unless another part is put in.
struct Subject {
  MakeLayer make = real_layer;
  Mode mode = Mode::LSTM;
  Backward backward = real_backward;
  Scale scale = real_scale;
  Clip clip = real_clip;
  MakeStepper make_stepper = real_stepper;
};

/// Says what is wrong with the subject, "" if nothing. What it raises is wrong as well.
struct Check {
  const char* name;
  std::string (*run)(const Subject& subject);
};

/// Of a layer: PyTorch's stored answers, the layer composed of recorded ops, gradcheck, the definition.
extern const std::vector<Check> kAnswerChecks;
/// Of a layer: laws between its runs.
extern const std::vector<Check> kLawChecks;
/// Of the gradient's gradient.
extern const std::vector<Check> kSecondChecks;
/// Of backward through a layer, and of in-place writes.
extern const std::vector<Check> kEngineChecks;
/// Of what comes after backward: clipping and the optimizers.
extern const std::vector<Check> kStepChecks;

/// Whether gradcheck, along random directions, finds nothing in a layer whose outputs are multiplied by `scale`.
bool gradcheck_passes(MakeLayer make, Mode mode, double scale);

/// Whether gradcheck measures every element, or along random directions.
inline bool thorough = false;

}  // namespace planted
