#include "io/safetensors_oracle.h"
#include "io/temporary_folder.h"

#include <doctest/doctest.h>
#include <fmt/core.h>
#include <unroll/core/generator.h>
#include <unroll/io/checkpoint.h>
#include <unroll/io/file.h>
#include <unroll/optim/lr_scheduler.h>
#include <unroll/optim/sgd.h>

// Checkpoints that say what is wrong under a checksum that is right.

using namespace unroll;
using namespace unroll::io;
using doctest::Contains;

namespace {
// Bit by bit, from the parameters that catalogues give for CRC-64/XZ.
std::uint64_t crc64_xz(std::string_view bytes) {
  std::uint64_t crc = ~std::uint64_t{0};
  for (char c : bytes) {
    crc ^= static_cast<unsigned char>(c);
    for (int bit = 0; bit < 8; ++bit) crc = crc >> 1 ^ (crc & 1 ? 0xc96c5795d7870f42u : 0);
  }
  return ~crc;
}

// A checkpoint with these parts, whatever they say, under a right checksum.
std::string forged(NamedTensors tensors, Metadata metadata) {
  metadata.insert({{"checkpoint", "1"}, {"step", "7"}});
  metadata["checksum"] = "0000000000000000";
  std::string bytes = write_safetensors(tensors, metadata);
  const std::size_t at = bytes.find("\"checksum\":\"0000000000000000\"") + 12;
  return bytes.replace(at, 16, fmt::format("{:016x}", crc64_xz(bytes)));
}
}  // namespace

TEST_CASE("checkpoint: the checksum is CRC-64/XZ of the file with zeros in its place, now and ever") {
  CHECK(crc64_xz("123456789") == 0x995dc9bbdf1939fa);
  TemporaryFolder folder;
  const auto path = folder.path / "run.ckpt";
  const NamedTensors tensors{{"x", tensor({1.0, 2.0, 3.0})}};
  save_checkpoint(path, {.step = 7, .tensors = tensors, .metadata = {{"note", "hello"}}});
  CHECK(read_file(path) == forged({{"user.x", tensors[0].second}}, {{"user.note", "hello"}}));
  CHECK(load_checkpoint(path, {}).step == 7);
}

TEST_CASE("checkpoint: what is wrong under a right checksum is an error, and changes nothing") {
  TemporaryFolder folder;
  const auto path = folder.path / "run.ckpt";
  optim::SGD opt({tensor({1.0, 2.0}).requires_grad_()}, {.lr = 0.5});
  optim::MultiStepLR schedule(opt, {3, 5});
  Generator generator(1);
  const Checkpoint parts{.optimizer = &opt, .scheduler = &schedule, .generator = &generator, .step = 7};
  save_checkpoint(path, parts);
  const Safetensors good = load_safetensors(path);
  auto load_with = [&](const Metadata& instead, NamedTensors tensors) {
    Metadata metadata = instead;
    metadata.insert(good.metadata.begin(), good.metadata.end());
    write_atomically(path, forged(std::move(tensors), metadata));
    return load_checkpoint(path, parts).step;
  };
  CHECK(load_with({}, good.tensors) == 7);
  opt.param_groups()[0]["lr"] = 0.25;
  for (const auto& wrong : Metadata{{"checkpoint", "2"},
                                    {"step", "7x"},
                                    {"optimizer.0.option.lr", "0.5 1"},
                                    {"optimizer.0.size", "16777217"},
                                    {"scheduler.milestones", "3,5"}}) {
    CAPTURE(wrong.first);
    CHECK_THROWS_WITH_AS(load_with({wrong}, good.tensors), Contains(path.c_str()), FormatError);
  }
  const Tensor state = good.tensors[0].second;
  CHECK_THROWS_AS(load_with({}, {{"generator.state", state.to(DType::Float64)}}), FormatError);
  CHECK(opt.param_groups()[0]["lr"] == 0.25);
}

TEST_CASE("checkpoint: a checksum that is too short, where the file ends") {
  TemporaryFolder folder;
  const auto path = folder.path / "run.ckpt";
  std::string header = R"({"__metadata__":{"checkpoint":"1","step":"7","checksum":""}})";
  header.resize((header.size() + 7) / 8 * 8, ' ');
  write_atomically(path, safetensors_oracle::file(header));
  CHECK_THROWS_WITH_AS(load_checkpoint(path, {}), Contains("has not 16 digits"), FormatError);
}

TEST_CASE("checkpoint: of a state that has another shape, the file is named") {
  TemporaryFolder folder;
  const auto path = folder.path / "run.ckpt";
  auto momentum = [](Tensor w) {
    w.requires_grad_().set_grad(ones_like(w));
    optim::SGD opt({w}, {.lr = 0.5, .momentum = 0.9});
    opt.step();
    return opt.state_dict();
  };
  optim::SGD two({tensor({1.0, 2.0}).requires_grad_()}, {.lr = 0.5, .momentum = 0.9}),
      three({tensor({1.0, 2.0, 3.0}).requires_grad_()}, {.lr = 0.5, .momentum = 0.9});
  two.load_state_dict(momentum(tensor({1.0, 2.0})));
  save_checkpoint(path, {.optimizer = &two});
  CHECK_THROWS_WITH_AS(load_checkpoint(path, {.optimizer = &three}), Contains(path.c_str()), ShapeError);
}
