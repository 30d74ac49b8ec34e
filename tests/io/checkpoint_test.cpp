#include "io/temporary_folder.h"
#include "support/digest.h"
#include "support/raises.h"

#include <doctest/doctest.h>
#include <unroll/autograd/ops/arithmetic.h>
#include <unroll/autograd/ops/loss.h>
#include <unroll/autograd/ops/shape.h>
#include <unroll/core/random.h>
#include <unroll/io/checkpoint.h>
#include <unroll/io/file.h>
#include <unroll/nn/dropout.h>
#include <unroll/nn/linear.h>
#include <unroll/nn/lstm.h>
#include <unroll/optim/adam.h>
#include <unroll/optim/lr_scheduler.h>
#include <unroll/optim/sgd.h>

#include <cfenv>
#include <cmath>
#include <fstream>
#include <memory>

using namespace unroll;
using namespace unroll::io;

namespace {

struct Net : nn::Module {
  explicit Net(std::int64_t hidden = 4)
      : rnn(2, hidden, {.num_layers = 2, .dropout = 0.3}), drop(0.4), head(hidden, 1) {
    add("rnn", rnn);
    add("drop", drop);
    add("head", head);
  }
  Tensor operator()(const Tensor& x) const { return head(drop(rnn(x).output)); }

  nn::LSTM rnn;
  nn::Dropout drop;
  nn::Linear head;
};

// A training run: model, optimizer with two groups, schedule, generator.
template <class Optimizer = optim::Adam, class Schedule = optim::StepLR>
struct Run {
  explicit Run(std::int64_t seed)
      : net((manual_seed(seed), 4)),
        opt({{.params = net.rnn.parameters()}, {.params = net.head.parameters(), .options = {{"lr", 0.02}}}}),
        schedule(opt, 3, 0.5) {}

  void steps(int n) {
    Generator data(123);
    Tensor x = randn({5, 3, 2}, DType::Float32, data), y = randn({5, 3, 1}, DType::Float32, data);
    for (; n > 0; --n) {
      opt.zero_grad();
      Tensor loss = mse_loss(net(x), y);
      loss.backward();
      opt.step();
      schedule.step();
      ++step;
    }
  }
  Checkpoint parts() {
    return {.model = &net, .optimizer = &opt, .scheduler = &schedule, .generator = &default_generator(), .step = step};
  }
  // Of every bit that counts.
  std::uint64_t hash() {
    Digest d;
    for (const auto& [name, x] : net.state_dict()) d << x;
    for (const auto& [index, named] : opt.state_dict().state)
      for (const auto& [name, x] : named) d << x;
    for (const auto& group : opt.param_groups())
      for (const auto& [name, value] : group.options) d.add(&value, sizeof value);
    for (const auto& [name, values] : schedule.state_dict()) d.add(values.data(), values.size() * sizeof(double));
    auto generator = default_generator().get_state();
    d.add(generator.data(), generator.size());
    return d.value();
  }

  Net net;
  Optimizer opt;
  Schedule schedule;
  std::int64_t step = 0;
};

}  // namespace

TEST_CASE("checkpoint: a resumed run equals the uninterrupted one bit for bit") {
  TemporaryFolder folder;
  const auto path = folder.path / "run.ckpt";
  for (int stop : {0, 1, 2, 3, 7}) {
    CAPTURE(stop);
    Run<> whole(1);
    whole.steps(stop);
    default_generator().random_normal();  // leaves one over, which is part of the state
    save_checkpoint(path, whole.parts());
    whole.steps(10 - stop);
    const std::uint64_t expected = whole.hash();

    Run<> resumed(2);  // other weights, another state of the generator
    resumed.steps(1);
    Checkpoint loaded = load_checkpoint(path, resumed.parts());
    CHECK(loaded.step == stop);
    resumed.steps(10 - stop);
    CHECK(resumed.hash() == expected);

    // And from the file into a run of which it came: the file again.
    Run<> again(3);
    Checkpoint parts = again.parts();
    parts.step = load_checkpoint(path, parts).step;
    const std::string before = read_file(path);
    save_checkpoint(path, parts);
    CHECK(read_file(path) == before);
  }
}

TEST_CASE("checkpoint: with AdamW and a cosine") {
  TemporaryFolder folder;
  const auto path = folder.path / "run.ckpt";
  using R = Run<optim::AdamW, optim::CosineAnnealingLR>;
  R whole(1);
  whole.steps(5);
  save_checkpoint(path, whole.parts());
  whole.steps(6);
  const std::uint64_t expected = whole.hash();
  R resumed(2);
  load_checkpoint(path, resumed.parts());
  resumed.steps(6);
  CHECK(resumed.hash() == expected);
}

TEST_CASE("checkpoint: metadata of the caller's, and parts that are not asked for") {
  TemporaryFolder folder;
  const auto path = folder.path / "run.ckpt";
  Run<> run(1);
  run.steps(1);
  Checkpoint parts = run.parts();
  parts.step = -7;
  parts.metadata = {{"", "empty"}, {"checksum", "\"checksum\":\"0000000000000000\""}, {"optimizer", "größe\n"}};
  save_checkpoint(path, parts);
  CHECK(load_safetensors(path).metadata.at("step") == "-7");  // an ordinary safetensors file

  Net other;
  Checkpoint loaded = load_checkpoint(path, {.model = &other});
  CHECK(loaded.model == &other);
  CHECK(loaded.step == -7);
  CHECK(loaded.metadata == parts.metadata);
  CHECK(digest(other.rnn.state_dict()[0].second) == digest(run.net.rnn.state_dict()[0].second));
  CHECK(load_checkpoint(path, {}).metadata == parts.metadata);

  save_checkpoint(path, {.step = 3});
  CHECK(load_checkpoint(path, {.step = 9, .metadata = {{"old", "gone"}}}).metadata.empty());
  CHECK_RAISES(ValueError, "the file holds no model", load_checkpoint(path, {.model = &other}));
  CHECK_RAISES(ValueError, "the file holds no optimizer", load_checkpoint(path, {.optimizer = &run.opt}));
  CHECK_RAISES(ValueError, "the file holds no scheduler", load_checkpoint(path, {.scheduler = &run.schedule}));
  CHECK_RAISES(ValueError, "the file holds no generator", load_checkpoint(path, {.generator = &default_generator()}));
}

TEST_CASE("checkpoint: whatever does not fit, nothing changes") {
  TemporaryFolder folder;
  const auto path = folder.path / "run.ckpt";
  Run<> run(1);
  run.steps(2);
  save_checkpoint(path, run.parts());
  run.steps(1);
  Net wide(5);
  const std::uint64_t before = run.hash();
  SUBCASE("model") {
    Checkpoint parts = run.parts();
    parts.model = &wide;
    CHECK_RAISES(ValueError, "rnn.weight_ih_l0", load_checkpoint(path, parts));
  }
  SUBCASE("optimizer of another kind") {
    optim::SGD sgd(run.net.parameters(), {.lr = 0.1});
    Checkpoint parts = run.parts();
    parts.optimizer = &sgd;
    CHECK_RAISES(ValueError, "holds the optimizer 'adam', expected sgd", load_checkpoint(path, parts));
  }
  SUBCASE("optimizer of other groups") {
    optim::Adam adam(run.net.parameters(), {.lr = 0.1});
    Checkpoint parts = run.parts();
    parts.optimizer = &adam;
    CHECK_RAISES(ValueError, "2 parameter groups, the optimizer 1", load_checkpoint(path, parts));
  }
  SUBCASE("scheduler of another kind") {
    optim::SGD sgd(run.net.parameters(), {.lr = 0.1});
    optim::ExponentialLR other(sgd, 0.5);
    Checkpoint parts = run.parts();
    parts.scheduler = &other;
    CHECK_RAISES(ValueError, "holds the scheduler 'step_lr', expected exponential_lr", load_checkpoint(path, parts));
  }
  SUBCASE("scheduler of other groups") {
    optim::SGD sgd(run.net.parameters(), {.lr = 0.1});
    optim::StepLR other(sgd, 3);
    Checkpoint parts = run.parts();
    parts.scheduler = &other;
    CHECK_RAISES(ValueError, "2 values of 'base_lrs', the schedule 1", load_checkpoint(path, parts));
  }
  SUBCASE("damage") {
    std::string bytes = read_file(path);
    bytes.back() = static_cast<char>(bytes.back() ^ 1);
    write_atomically(path, bytes);
    CHECK_RAISES(FormatError, "run.ckpt': checkpoint: damaged", load_checkpoint(path, run.parts()));
  }
  SUBCASE("no checkpoint") {
    save_safetensors(path, run.net.state_dict());
    CHECK_RAISES(FormatError, "but no checkpoint", load_checkpoint(path, run.parts()));
  }
  SUBCASE("no file") { CHECK_RAISES(IoError, "No such file", load_checkpoint(folder.path / "none", run.parts())); }
  CHECK(run.hash() == before);
}

TEST_CASE("checkpoint: a save that fails leaves the old file") {
  TemporaryFolder folder;
  Run<> run(1);
  save_checkpoint(folder.path / "run.ckpt", run.parts());
  const std::string before = read_file(folder.path / "run.ckpt");
  Checkpoint parts = run.parts();
  parts.metadata = {{"k", "\xff"}};
  CHECK_RAISES(ValueError, "not UTF-8", save_checkpoint(folder.path / "run.ckpt", parts));
  CHECK_RAISES(IoError, "No space left on device", save_checkpoint(TemporaryFolder().full_device(), run.parts()));
  CHECK(read_file(folder.path / "run.ckpt") == before);
  CHECK(folder.files() == 1);
}

TEST_CASE("checkpoint: every flipped bit, every truncation and a seventh of all changed bytes are found") {
  TemporaryFolder folder;
  const auto path = folder.path / "f";
  nn::Linear model(2, 1);
  optim::SGD opt(model.parameters(), {.lr = 0.1, .momentum = 0.9});
  opt.zero_grad();
  for (const Tensor& p : model.parameters()) p.set_grad(ones_like(p));
  opt.step();
  optim::StepLR schedule(opt, 1);
  save_checkpoint(path,
                  {.model = &model, .optimizer = &opt, .scheduler = &schedule, .step = 5, .metadata = {{"k", "\x1f"}}});
  const std::string good = read_file(path);
  auto damaged = [&] {
    try {
      load_checkpoint(path, {.model = &model, .optimizer = &opt, .scheduler = &schedule});
    } catch (const FormatError&) {
      return true;
    }
    return false;
  };
  REQUIRE(!damaged());
  // In place, since a new file each time would take minutes.
  std::fstream file(path, std::ios::in | std::ios::out | std::ios::binary);
  auto put = [&](std::size_t at, char byte) { file.seekp(static_cast<std::streamoff>(at)).put(byte).flush(); };
  for (std::size_t at = 0; at < good.size(); ++at) {
    CAPTURE(at);
    for (int change = 1; change < 256; ++change) {
      bool one_bit = (change & (change - 1)) == 0;
      if (!one_bit && (at * 255 + static_cast<std::size_t>(change)) % 7 != 0) continue;
      CAPTURE(change);
      put(at, static_cast<char>(good[at] ^ change));
      REQUIRE(damaged());
    }
    put(at, good[at]);
  }
  REQUIRE(!damaged());
  put(good.size(), '\0');
  CHECK(damaged());
  for (std::size_t n = good.size(); n-- > 0;) {
    CAPTURE(n);
    std::filesystem::resize_file(path, n);
    REQUIRE(damaged());
  }
}

TEST_CASE("checkpoint: what is loaded are the file's tensors, not those that came") {
  const TemporaryFolder folder;
  const std::string path = folder.path / "c";
  save_checkpoint(path, {.tensors = {{"a", ones(1)}}});
  CHECK(load_checkpoint(path, {.tensors = {{"old", ones(2)}}}).tensors.size() == 1);
}

TEST_CASE("checkpoint: numbers come back as they were, however the host rounds") {
  const TemporaryFolder folder;
  const std::string path = folder.path / "c";
  const Tensor w = ones(1).requires_grad_();
  Generator draw(1);
  for (int i = 0; i < 50; ++i) {
    const double there = std::abs(draw.random_normal() * draw.random_normal() * 1e-3);
    optim::SGD saved({w}, {.lr = there}), loaded({w}, {.lr = 1});
    save_checkpoint(path, {.optimizer = &saved});
    for (int mode : {FE_UPWARD, FE_DOWNWARD, FE_TOWARDZERO}) {
      std::fesetround(mode);
      load_checkpoint(path, {.optimizer = &loaded});
      const bool kept = std::fegetround() == mode;
      std::fesetround(FE_TONEAREST);
      CHECK(kept);
      CHECK(loaded.param_groups()[0].options.at("lr") == there);
    }
  }
}
