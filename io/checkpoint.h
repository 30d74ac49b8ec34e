#pragma once
#include <unroll/io/safetensors.h>

#include <cstdint>
#include <string>

#pragma GCC visibility push(default)
namespace unroll {
class Generator;
namespace nn {
class Module;
}
namespace optim {
class LRScheduler;
class Optimizer;
}  // namespace optim
}  // namespace unroll

/// All that a training run needs to go on as if it had never stopped, in one safetensors file.
namespace unroll::io {

/// The parts of a run; those that are null are left out. Whatever draws random numbers, dropout for one, takes
/// `generator` along: &default_generator().
struct Checkpoint {
  nn::Module* model = nullptr;
  optim::Optimizer* optimizer = nullptr;
  optim::LRScheduler* scheduler = nullptr;
  Generator* generator = nullptr;
  std::int64_t step = 0;
  NamedTensors tensors = {};  // anything of the caller's, such as a state that is carried from chunk to chunk
  Metadata metadata = {};     // anything of the caller's
};

/// Writes atomically (io/file.h). The file carries a checksum over all of its bytes.
///
///     io::save_checkpoint("run.ckpt", {.model = &model, .optimizer = &opt, .step = 1000});
void save_checkpoint(const std::string& path, const Checkpoint& run);

/// Brings the parts that are given to the state in the file and returns them with the file's step, tensors and
/// metadata. Parts that the file holds and that are not asked for are skipped.
///
/// Raises IoError; FormatError when the file is no checkpoint or damaged in any way; ValueError when it holds no such
/// part, or an optimizer or schedule of another kind; what load_state_dict raises. Then none of the parts has changed.
/// A model is told by its names and shapes, not by its class, and numbers of another dtype are converted to its own.
Checkpoint load_checkpoint(const std::string& path, Checkpoint run);

}  // namespace unroll::io
#pragma GCC visibility pop
