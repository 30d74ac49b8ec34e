#include <fmt/format.h>
#include <unroll/core/detail/text.h>
#include <unroll/core/generator.h>
#include <unroll/io/checkpoint.h>
#include <unroll/io/file.h>
#include <unroll/nn/module.h>
#include <unroll/optim/lr_scheduler.h>
#include <unroll/optim/optimizer.h>

#include <array>
#include <cfenv>
#include <charconv>
#include <cstring>
#include <optional>

// What a checkpoint holds, as safetensors:
//
//   metadata   checkpoint: format version · checksum · step · user.KEY
//              optimizer: its name · optimizer.groups · optimizer.G.size · optimizer.G.option.NAME
//              scheduler: its name · scheduler.NAME: numbers
//   tensors    model.NAME · optimizer.I.NAME, the state of parameter I · generator.state · user.NAME
namespace unroll::io {
namespace {

using detail::Quoted;

constexpr std::string_view kVersion = "1", kChecksum = "checksum", kNoChecksum = "0000000000000000";
constexpr std::int64_t kMostParameters = 1 << 24;  // no file makes us allocate more than this

/// CRC-64/XZ (the polynomial of ECMA-182, reflected), as in the .xz file format: finds every error within 64
/// neighbouring bits. `before` is that of the bytes before these.
std::uint64_t crc64(std::string_view bytes, std::uint64_t before = 0) {
  static constexpr auto kTable = [] {
    std::array<std::uint64_t, 256> table{};
    for (std::uint64_t i = 0; i < 256; ++i) {
      table[i] = i;
      for (int bit = 0; bit < 8; ++bit) table[i] = table[i] >> 1 ^ (table[i] & 1 ? 0xc96c5795d7870f42 : 0);
    }
    return table;
  }();
  std::uint64_t crc = ~before;
  for (char c : bytes) crc = kTable[(crc ^ static_cast<unsigned char>(c)) & 0xff] ^ crc >> 8;
  return ~crc;
}

/// Where the checksum's digits stand in the file. No text can hold these quotes without backslashes, so it is found in
/// the right place.
std::size_t checksum_position(std::string_view file, std::string_view digits) {
  std::size_t at = file.find(fmt::format("\"{}\":\"{}\"", kChecksum, digits));
  check<FormatError>(at != std::string_view::npos, "checkpoint: the checksum is not where it is written");
  return at + kChecksum.size() + 4;
}

/// Of all the file's bytes, with zeros for the digits of the checksum.
std::string checksum_of(std::string_view file, std::size_t position) {
  std::uint64_t crc = crc64(kNoChecksum, crc64(file.substr(0, position)));
  return fmt::format("{:016x}", crc64(file.substr(position + kNoChecksum.size()), crc));
}

// -- Numbers as text: the shortest digits that read back the same, whatever the locale

std::string text_of(const std::vector<double>& values) { return fmt::format("{}", fmt::join(values, " ")); }

// Digits are read as the nearest number, however the host rounds.
struct ToNearest {
  const int before = std::fegetround();
  ToNearest() noexcept { std::fesetround(FE_TONEAREST); }
  ~ToNearest() { std::fesetround(before); }
  ToNearest(const ToNearest&) = delete;
  ToNearest& operator=(const ToNearest&) = delete;
};

std::vector<double> numbers_in(std::string_view text) {
  const ToNearest rounding;
  std::vector<double> values;
  for (const char *at = text.data(), *last = at + text.size(); at != last;) {
    bool spaced = values.empty() || *at++ == ' ';
    auto [end, error] = std::from_chars(at, last, values.emplace_back());
    check<FormatError>(spaced && error == std::errc(), "checkpoint: expected numbers, got {}", Quoted{text});
    at = end;
  }
  return values;
}

std::int64_t whole_in(std::string_view text) {
  std::int64_t value = 0;
  auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  check<FormatError>(error == std::errc() && end == text.data() + text.size(),
                     "checkpoint: expected a whole number, got {}", Quoted{text});
  return value;
}

// -- The parts

const std::string& at(const Metadata& metadata, const std::string& key) {
  auto found = metadata.find(key);
  check<FormatError>(found != metadata.end(), "checkpoint: lacks {}", Quoted{key});
  return found->second;
}

/// The members of an ordered map whose names begin with `prefix`, under the rest of the name.
template <class Visit>
void with_prefix(const auto& named, std::string_view prefix, Visit visit) {
  for (const auto& [name, value] : named)
    if (name.starts_with(prefix)) visit(name.substr(prefix.size()), value);
}

/// Raises ValueError unless the file's part `kind` is called `name`.
void check_part(const Metadata& metadata, const char* kind, const char* name) {
  auto found = metadata.find(kind);
  check<ValueError>(found != metadata.end(), "checkpoint: the file holds no {}", kind);
  check<ValueError>(found->second == name, "checkpoint: the file holds the {} {}, expected {}", kind,
                    Quoted{found->second}, name);
}

void put(const optim::Optimizer& optimizer, Safetensors& file) {
  optim::StateDict dict = optimizer.state_dict();
  file.metadata["optimizer"] = optimizer.name();
  file.metadata["optimizer.groups"] = std::to_string(dict.param_groups.size());
  for (std::size_t g = 0; g < dict.param_groups.size(); ++g) {
    file.metadata[fmt::format("optimizer.{}.size", g)] = std::to_string(dict.param_groups[g].params.size());
    for (const auto& [name, value] : dict.param_groups[g].options)
      file.metadata[fmt::format("optimizer.{}.option.{}", g, name)] = text_of({value});
  }
  for (const auto& [index, named] : dict.state)
    for (const auto& [name, tensor] : named)
      file.tensors.emplace_back(fmt::format("optimizer.{}.{}", index, name), tensor);
}

optim::StateDict optimizer_in(const Safetensors& file, const optim::Optimizer& expected) {
  check_part(file.metadata, "optimizer", expected.name());
  optim::StateDict dict;
  std::int64_t groups = whole_in(at(file.metadata, "optimizer.groups")), index = 0;
  // Before each costs a walk through the metadata.
  check<ValueError>(groups == std::ssize(expected.param_groups()),
                    "checkpoint: the file has {} parameter groups, the optimizer {}", groups,
                    expected.param_groups().size());
  for (std::int64_t g = 0; g < groups; ++g) {
    optim::StateDict::Group& group = dict.param_groups.emplace_back();
    std::int64_t size = whole_in(at(file.metadata, fmt::format("optimizer.{}.size", g)));
    check<FormatError>(size >= 0 && size <= kMostParameters - index, "checkpoint: group {} has {} parameters", g, size);
    while (size-- > 0) group.params.push_back(index++);
    with_prefix(
        file.metadata, fmt::format("optimizer.{}.option.", g), [&](const std::string& name, const std::string& text) {
          std::vector<double> values = numbers_in(text);
          check<FormatError>(values.size() == 1, "checkpoint: option {} has {} values", Quoted{name}, values.size());
          group.options[name] = values[0];
        });
  }
  with_prefix(file.tensors, "optimizer.", [&](const std::string& name, const Tensor& tensor) {
    std::size_t dot = std::min(name.find('.'), name.size());
    dict.state[whole_in(name.substr(0, dot))].emplace(name.substr(std::min(dot + 1, name.size())), tensor);
  });
  return dict;
}

void put(const optim::LRScheduler& scheduler, Safetensors& file) {
  file.metadata["scheduler"] = scheduler.name();
  for (const auto& [name, values] : scheduler.state_dict()) file.metadata["scheduler." + name] = text_of(values);
}

optim::LRScheduler::StateDict scheduler_in(const Safetensors& file, const char* expected) {
  check_part(file.metadata, "scheduler", expected);
  optim::LRScheduler::StateDict dict;
  with_prefix(file.metadata, "scheduler.",
              [&](const std::string& name, const std::string& text) { dict[name] = numbers_in(text); });
  return dict;
}

// The bytes of a state as Int64, the only dtype of safetensors and ours that keeps any bits.
Tensor tensor_of(const std::vector<std::byte>& bytes) {
  Tensor x = empty({static_cast<std::int64_t>(bytes.size() / sizeof(std::int64_t))}, DType::Int64);
  std::memcpy(x.raw<std::int64_t>(), bytes.data(), bytes.size());
  return x;
}

Generator generator_in(const Safetensors& file, Generator generator) {
  bool found = false;
  with_prefix(file.tensors, "generator.state", [&](const std::string&, const Tensor& x) {
    check<FormatError>(x.dtype() == DType::Int64, "checkpoint: generator.state is {}, expected int64", x.dtype());
    generator.set_state(std::as_bytes(std::span(x.raw<std::int64_t>(), static_cast<std::size_t>(x.numel()))));
    found = true;
  });
  check<ValueError>(found, "checkpoint: the file holds no generator");
  return generator;
}

Safetensors read_checked(std::string_view bytes) {
  Safetensors file = read_safetensors(bytes);
  auto version = file.metadata.find("checkpoint");
  check<FormatError>(version != file.metadata.end(), "checkpoint: a safetensors file, but no checkpoint");
  check<FormatError>(version->second == kVersion, "checkpoint: format version {}, this library reads {}",
                     Quoted{version->second}, kVersion);
  const std::string& stored = at(file.metadata, std::string(kChecksum));
  check<FormatError>(stored.size() == kNoChecksum.size(), "checkpoint: the checksum {} has not 16 digits",
                     Quoted{stored});
  std::string computed = checksum_of(bytes, checksum_position(bytes, stored));
  check<FormatError>(stored == computed, "checkpoint: damaged: its checksum is {}, it says {}", computed,
                     Quoted{stored});
  return file;
}

template <class E>
[[noreturn]] void raise_again(const std::string& path, const E& error) {
  throw E(fmt::format("{}: {}", Quoted{path}, error.what()));
}

Checkpoint loaded(std::string_view bytes, Checkpoint run) {
  Safetensors file = read_checked(bytes);
  run.step = whole_in(at(file.metadata, "step"));
  run.tensors.clear();
  with_prefix(file.tensors, "user.",
              [&](const std::string& name, const Tensor& x) { run.tensors.emplace_back(name, x); });
  run.metadata.clear();
  with_prefix(file.metadata, "user.",
              [&](const std::string& key, const std::string& value) { run.metadata[key] = value; });

  // First everything that can fail, the model last since it changes at once; then what cannot.
  optim::Optimizer::Prepared optimizer;
  optim::LRScheduler::StateDict scheduler;
  std::optional<Generator> generator;
  if (run.optimizer) optimizer = run.optimizer->prepare(optimizer_in(file, *run.optimizer));
  if (run.scheduler) {
    scheduler = scheduler_in(file, run.scheduler->name());
    run.scheduler->check_state_dict(scheduler);
  }
  if (run.generator) generator = generator_in(file, *run.generator);
  if (run.model) {
    check<ValueError>(file.metadata.contains("model"), "checkpoint: the file holds no model");
    NamedTensors tensors;
    with_prefix(file.tensors, "model.",
                [&](const std::string& name, const Tensor& x) { tensors.emplace_back(name, x); });
    run.model->load_state_dict(tensors);
  }
  if (run.optimizer) run.optimizer->load(std::move(optimizer));
  if (run.scheduler) run.scheduler->load(std::move(scheduler));
  if (run.generator) *run.generator = *generator;
  return run;
}

}  // namespace

void save_checkpoint(const std::string& path, const Checkpoint& run) {
  Safetensors file{{},
                   {{"checkpoint", std::string(kVersion)},
                    {std::string(kChecksum), std::string(kNoChecksum)},
                    {"step", std::to_string(run.step)}}};
  for (const auto& [key, value] : run.metadata) file.metadata["user." + key] = value;
  if (run.model) {
    file.metadata["model"] = run.model->type_name();
    for (const auto& [name, tensor] : run.model->state_dict()) file.tensors.emplace_back("model." + name, tensor);
  }
  if (run.optimizer) put(*run.optimizer, file);
  if (run.scheduler) put(*run.scheduler, file);
  if (run.generator) file.tensors.emplace_back("generator.state", tensor_of(run.generator->get_state()));
  for (const auto& [name, tensor] : run.tensors) file.tensors.emplace_back("user." + name, tensor);

  std::string bytes = write_safetensors(file.tensors, file.metadata);
  std::size_t position = checksum_position(bytes, kNoChecksum);
  bytes.replace(position, kNoChecksum.size(), checksum_of(bytes, position));
  write_atomically(path, bytes);
}

Checkpoint load_checkpoint(const std::string& path, Checkpoint run) {
  const std::string bytes = read_file(path);
  try {
    return loaded(bytes, std::move(run));
  } catch (const FormatError& error) {
    raise_again(path, error);
  } catch (const ValueError& error) {
    raise_again(path, error);
  } catch (const ShapeError& error) {
    raise_again(path, error);
  }
}

}  // namespace unroll::io
