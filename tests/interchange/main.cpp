// The library's half of interchange.py: `interchange write DIR` writes models, inputs and answers, `interchange read
// DIR` checks those that PyTorch wrote.
#include <unroll/unroll.h>

#include <fmt/core.h>

#include <filesystem>

using namespace unroll;

namespace {

/// One model of each kind and unusual option, by the names interchange.py has for them.
struct Models {
  nn::RNN rnn{3, 4, {.num_layers = 2, .nonlinearity = nn::Nonlinearity::ReLU, .bias = false}};
  nn::LSTM lstm{3, 4, {.num_layers = 2, .bidirectional = true, .proj_size = 2, .dtype = DType::Float64}};
  nn::GRU gru{3, 4, {.batch_first = true, .bidirectional = true}};
  nn::LSTMCell cell{3, 4};

  template <class F>
  void for_each(F f) {
    f("rnn", rnn, [&](const Tensor& x) { return rnn(x).output; });
    f("lstm", lstm, [&](const Tensor& x) { return lstm(x.to(DType::Float64)).output; });
    f("gru", gru, [&](const Tensor& x) { return gru(x).output; });
    f("cell", cell, [&](const Tensor& x) { return cell(select(x, 0, 0)).h; });
  }
};

const Tensor& named(const NamedTensors& tensors, std::string_view name) {
  for (const auto& [key, tensor] : tensors)
    if (key == name) return tensor;
  throw ValueError(fmt::format("no tensor {}", name));
}

void write(const std::filesystem::path& folder) {
  manual_seed(1);
  Models models;
  models.for_each([&](const std::string& name, const nn::Module& module, auto call) {
    const Tensor x = randn({5, 2, 3});
    io::save_safetensors(folder / (name + ".safetensors"), module.state_dict());
    io::save_safetensors(folder / (name + ".answer.safetensors"), {{"input", x}, {"output", call(x).detach()}});
  });
}

int read(const std::filesystem::path& folder) {
  int failed = 0;
  Models models;
  models.for_each([&](const std::string& name, nn::Module& module, auto call) {
    module.load_state_dict(io::load_safetensors(folder / (name + ".safetensors")).tensors);
    const NamedTensors answer = io::load_safetensors(folder / (name + ".answer.safetensors")).tensors;
    const bool same = allclose(call(named(answer, "input")).detach(), named(answer, "output"), 1e-5, 1e-6);
    fmt::print("{}: {}\n", name, same ? "same output" : "another output");
    failed += !same;
  });
  return failed;
}

}  // namespace

int main(int argc, char** argv) {
  const std::string_view what = argc == 3 ? argv[1] : "";
  try {
    if (what == "write") return write(argv[2]), 0;
    if (what == "read") return read(argv[2]);
  } catch (const std::exception& error) {
    fmt::print(stderr, "{}\n", error.what());
    return 1;
  }
  fmt::print(stderr, "usage: interchange write|read DIR\n");
  return 2;
}
