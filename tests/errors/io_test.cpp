#include "io/temporary_folder.h"
#include "support/error_table.h"

#include <doctest/doctest.h>

using namespace unroll;

namespace {

std::string file(std::string header, std::size_t data = 0) {
  std::uint64_t length = header.size();
  std::string bytes(reinterpret_cast<const char*>(&length), sizeof length);
  return bytes + header + std::string(data, '\0');
}

}  // namespace

TEST_CASE("errors of safetensors") {
  ErrorTable table("files");
  auto reads = [&](std::string what, std::vector<std::string> tokens, std::string bytes) {
    table.row<FormatError>(std::move(what), std::move(tokens), [bytes] { return io::read_safetensors(bytes); });
  };
  reads("no bytes", {"safetensors", "0 bytes"}, "");
  reads("a header past the end", {"safetensors", "header of 2 bytes", "1"}, file("{}").substr(0, 9));
  reads("an unknown dtype", {"safetensors", "'a'", "F16", "F32"},
        file(R"({"a":{"dtype":"F16","shape":[1],"data_offsets":[0,2]}})", 2));
  reads("a shape that is larger than its data", {"safetensors", "'a'", "4 bytes", "(2,)"},
        file(R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,4]}})", 4));
  reads("data past the end", {"safetensors", "'a'", "[0, 8)", "4"},
        file(R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}})", 4));
  reads("data that nobody owns", {"safetensors", "8 bytes", "4"},
        file(R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}})", 8));
  reads("a tensor without a shape", {"safetensors", "'a'", "shape"},
        file(R"({"a":{"dtype":"F32","data_offsets":[0,4]}})", 4));
  reads("three offsets", {"safetensors", "'a'", "3 data_offsets"},
        file(R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4,4]}})", 4));
  reads(
      "two tensors of one name", {"safetensors", "two", "'a'"},
      file(
          R"({"a":{"dtype":"F32","shape":[0],"data_offsets":[0,0]},"a":{"dtype":"F32","shape":[0],"data_offsets":[0,0]}})"));
  reads("a bool of 2", {"safetensors", "'a'", "0 and 1"},
        file(R"({"a":{"dtype":"BOOL","shape":[1],"data_offsets":[0,1]}})") + '\2');
  table.row<ValueError>("writing two tensors of one name", {"safetensors", "two", "'a'"}, [] {
    return io::write_safetensors({{"a", ones(1)}, {"a", ones(1)}});
  });
  table.row<ValueError>("writing an undefined tensor", {"safetensors", "'a'", "undefined"}, [] {
    return io::write_safetensors({{"a", Tensor()}});
  });
  table.row<ValueError>("writing a tensor named as the metadata", {"safetensors", "__metadata__"}, [] {
    return io::write_safetensors({{"__metadata__", ones(1)}});
  });
}

TEST_CASE("errors of files and checkpoints") {
  TemporaryFolder folder;
  nn::Linear model(2, 3), other(2, 4);
  optim::SGD sgd(model.parameters(), {.lr = 0.1, .momentum = 0.9});
  optim::Adam adam(model.parameters());
  Generator generator(3);
  ErrorTable table("files");
  table.watch(model, other, sgd, adam, generator);
  const auto path = folder.path / "run.ckpt", bare = folder.path / "bare.ckpt",
             plain = folder.path / "plain.safetensors", cut = folder.path / "cut.ckpt";
  io::save_checkpoint(path, {.model = &model, .optimizer = &sgd, .generator = &generator});
  io::save_checkpoint(bare, {.step = 3});
  io::save_safetensors(plain, model.state_dict());
  std::string bytes = io::read_file(path);
  bytes[bytes.size() - 3] ^= 1;
  io::write_atomically(cut, bytes);

  table.row<IoError>("a file that is not there", {"open", "none.ckpt"},
                     [&] { return io::load_checkpoint(folder.path / "none.ckpt", {}); });
  table.row<IoError>("a folder", {"read_file", "Is a directory"}, [&] { return io::read_file(folder.path / "."); });
  table.row<IoError>("a folder that is not there", {"none", "No such file"},
                     [&] { io::write_atomically(folder.path / "none" / "x", ""); });
  table.row<FormatError>("no checkpoint", {"checkpoint", "safetensors"},
                         [&] { return io::load_checkpoint(plain, {.model = &model}); });
  table.row<FormatError>("a bit that has turned", {"checkpoint", "damaged", "checksum"},
                         [&] { return io::load_checkpoint(cut, {.model = &model, .optimizer = &sgd}); });
  table.row<ValueError>("no model in it", {"checkpoint", "no model"},
                        [&] { return io::load_checkpoint(bare, {.model = &model}); });
  table.row<ValueError>("no generator in it", {"checkpoint", "no generator"},
                        [&] { return io::load_checkpoint(bare, {.generator = &generator}); });
  table.row<ValueError>("another model", {"weight", "(3, 2)", "(4, 2)"},
                        [&] { return io::load_checkpoint(path, {.model = &other, .generator = &generator}); });
  table.row<ValueError>("another optimizer", {"checkpoint", "sgd", "adam"},
                        [&] { return io::load_checkpoint(path, {.model = &model, .optimizer = &adam}); });
}
