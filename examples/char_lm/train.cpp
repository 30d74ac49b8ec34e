#include "train.h"

#include <fmt/format.h>

#include <chrono>
#include <cmath>
#include <csignal>
#include <fstream>
#include <iterator>
#include <numbers>
#include <optional>
#include <stdexcept>

#include "description.h"
#include "report.h"
#include "text.h"

namespace char_lm {

using namespace unroll;
namespace fs = std::filesystem;

namespace {

double seconds_since(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

std::string read_text(const fs::path& path) {
  std::ifstream file(path, std::ios::binary);
  std::string text((std::istreambuf_iterator<char>(file)), {});
  if (!file) throw std::runtime_error("cannot read " + path.string());
  return text;
}

// While it lives, the first Ctrl-C (or SIGTERM) is a request to stop after this step; a second one is fatal as ever.
class StopRequest {
 public:
  StopRequest() {
    requested_ = 0;
    struct sigaction action {};
    action.sa_handler = [](int) { requested_ = 1; };
    action.sa_flags = static_cast<int>(SA_RESETHAND | SA_RESTART);  // what is being written is written
    sigaction(SIGINT, &action, &interrupt_);
    sigaction(SIGTERM, &action, &terminate_);
  }
  ~StopRequest() {
    sigaction(SIGINT, &interrupt_, nullptr);
    sigaction(SIGTERM, &terminate_, nullptr);
  }
  static bool requested() { return requested_ != 0; }

 private:
  static inline volatile std::sig_atomic_t requested_ = 0;
  struct sigaction interrupt_ {
  }, terminate_{};
};

// What people begin a sentence with, if it can be said.
std::string usual_prime(const Vocabulary& vocabulary) {
  for (char c : std::string("The "))
    if (!vocabulary.has(c)) return vocabulary.symbols().substr(0, 1);
  return "The ";
}

// One line of the log: what was measured at a step.
struct Record {
  std::int64_t step;
  double train_bits, valid_bits, lr, grad_norm, seconds;
  std::string json() const {
    return fmt::format(
        R"({{"step": {}, "train_bits": {:.6f}, "valid_bits": {:.6f}, "lr": {:.8f}, "grad_norm": {:.6f}, "seconds": {:.3f}}})",
        step, train_bits, valid_bits, lr, grad_norm, seconds);
  }
};

class Run {
 public:
  explicit Run(const TrainOptions& options)
      : o_(options), text_(options.text.empty() ? generate_text(60000, 1) : read_text(options.text)),
        split_(split(text_)), vocabulary_(text_), streams_(vocabulary_.encode(split_.train), options.streams),
        valid_(vocabulary_.encode(split_.valid)), test_(vocabulary_.encode(split_.test)) {
    fs::create_directories(o_.out);
    manual_seed(o_.seed);
    model_ = make_model(o_.model, vocabulary_.size());
    optimizer_.emplace(model_->parameters(), optim::AdamWOptions{.lr = o_.lr, .weight_decay = o_.weight_decay});
  }

  void run() {
    fmt::print("text       {}: {} characters, {} different; {} to learn, {} to choose the best by, {} held out\n",
               o_.text.empty() ? "generated" : o_.text.string(), text_.size(), vocabulary_.size(), split_.train.size(),
               valid_.size(), test_.size());
    std::size_t parameters = 0;
    for (const Tensor& p : model_->parameters()) parameters += static_cast<std::size_t>(p.numel());
    fmt::print("model      {}, {} units, {} layer(s), {} parameters, seed {}\n\n", o_.model.cell, o_.model.hidden_size,
               o_.model.num_layers, parameters, o_.seed);
    for (std::size_t order = 0; order <= 4; ++order)
      ngrams_.push_back(ngram_bits(split_.train, split_.test, order, static_cast<std::size_t>(vocabulary_.size())));

    if (o_.resume) {
      resume();
    } else {
      show_samples("before training");
      plan();
    }
    learn();
    if (step_ < o_.steps) {
      fmt::print("\nstopped after step {}; go on with --resume\n", step_);
      return;
    }
    io::load_checkpoint(o_.out / "best.safetensors", {.model = model_.get()});
    show_samples("after training");
    report();
  }

 private:
  // Fixes the number of steps and with it the schedule. Counting what fits in a time is done once, on steps that are
  // undone again.
  void plan() {
    for (const char* name : kFiles) fs::remove(o_.out / name);  // of an older run
    if (o_.seconds > 0) {
      constexpr std::int64_t kTrial = 10;
      constexpr double kMost = 1e12;
      std::vector<Tensor> weights;
      for (const Tensor& p : model_->parameters()) weights.push_back(p.detach().clone());
      const Generator generator = default_generator();
      auto start = std::chrono::steady_clock::now();
      for (std::int64_t i = 0; i < kTrial; ++i) train_step();
      double each = seconds_since(start) / kTrial;
      start = std::chrono::steady_clock::now();
      bits_per_character(*model_, valid_);
      each += seconds_since(start) / static_cast<double>(o_.valid_every);
      position_ = 0;
      state_.clear();
      optimizer_.emplace(model_->parameters(), optim::AdamWOptions{.lr = o_.lr, .weight_decay = o_.weight_decay});
      NoGrad no_grad;
      for (std::size_t i = 0; const Tensor& p : model_->parameters()) p.copy_(weights[i++]);
      default_generator() = generator;
      o_.steps =
          std::max<std::int64_t>(1, static_cast<std::int64_t>(std::min(kMost, o_.seconds * 0.85 / each)) - kTrial);
    }
    scheduler_.emplace(*optimizer_, o_.steps);
    open_log();
  }

  void open_log() {
    log_.open(o_.out / "log.jsonl", std::ios::app);
    if (!log_) throw std::runtime_error("cannot write " + (o_.out / "log.jsonl").string());
  }

  io::Checkpoint checkpoint() {
    io::Metadata metadata = describe(o_, vocabulary_, text_digest_);
    metadata["position"] = std::to_string(position_);
    metadata["best_bits"] = fmt::format("{}", best_bits_);
    metadata["mean_bits"] = fmt::format("{}", mean_bits_);
    metadata["elapsed"] = fmt::format("{}", elapsed_);
    NamedTensors state;
    for (const Tensor& s : state_) state.emplace_back(fmt::format("state.{}", state.size()), s);
    return {.model = model_.get(),
            .optimizer = &*optimizer_,
            .scheduler = scheduler_ ? &*scheduler_ : nullptr,
            .generator = &default_generator(),
            .step = step_,
            .tensors = std::move(state),
            .metadata = std::move(metadata)};
  }

  void resume() {
    const fs::path last = o_.out / "last.safetensors";
    if (entry(io::load_checkpoint(last, {}).metadata, "text-digest") != text_digest_)
      throw std::runtime_error("the text is not that of the run that is to be resumed");
    scheduler_.emplace(*optimizer_, o_.steps);
    io::Checkpoint run = io::load_checkpoint(last, {.model = model_.get(),
                                                    .optimizer = &*optimizer_,
                                                    .scheduler = &*scheduler_,
                                                    .generator = &default_generator()});
    step_ = run.step;
    position_ = static_cast<std::int64_t>(number(run.metadata, "position"));
    best_bits_ = number(run.metadata, "best_bits");
    mean_bits_ = number(run.metadata, "mean_bits");
    elapsed_ = number(run.metadata, "elapsed");
    for (auto& [name, tensor] : run.tensors) state_.push_back(tensor);
    keep_log();
    fmt::print("resumed at step {} of {}\n\n", step_, o_.steps);
  }

  // The log up to the step that is resumed from; what an interrupted run wrote after its last checkpoint will be
  // written again.
  void keep_log() {
    std::ifstream old(o_.out / "log.jsonl");
    std::string kept;
    for (std::string line; std::getline(old, line);) {
      Record r{};
      if (std::sscanf(
              line.c_str(),
              R"({"step": %ld, "train_bits": %lf, "valid_bits": %lf, "lr": %lf, "grad_norm": %lf, "seconds": %lf})",
              &r.step, &r.train_bits, &r.valid_bits, &r.lr, &r.grad_norm, &r.seconds) != 6 ||
          r.step > step_)
        break;
      records_.push_back(r);
      kept += line + "\n";
    }
    io::write_atomically(o_.out / "log.jsonl", kept);
    open_log();
  }

  // One step of truncated backpropagation through time: the state is carried from chunk to chunk, its history is not.
  // Returns bits per character.
  double train_step() {
    model_->train();
    if (position_ + 1 >= streams_.length()) {  // from the top again, knowing nothing
      position_ = 0;
      state_.clear();
    }
    auto [input, target] = streams_.chunk(position_, o_.seq_len);
    position_ += input.size(0);
    auto [logits, after] = (*model_)(input, state_);
    Tensor loss = cross_entropy(flatten(logits, 0, 1), flatten(target));
    optimizer_->zero_grad();
    loss.backward();
    grad_norm_ = nn::clip_grad_norm_(model_->parameters(), o_.clip);
    optimizer_->step();
    state_.clear();
    for (const Tensor& s : after) state_.push_back(s.detach());
    return finite(loss.item() / std::numbers::ln2, "training");
  }

  // What is lost is lost: no later step brings it back.
  double finite(double bits, const char* text) const {
    if (!std::isfinite(bits))
      throw std::runtime_error(
          fmt::format("step {}: {} bits per character of the {} text; a smaller --lr may help", step_, bits, text));
    return bits;
  }

  void learn() {
    StopRequest stop;
    Progress progress(step_, o_.steps);
    auto start = std::chrono::steady_clock::now();
    double before = elapsed_;
    for (bool stopped = false; step_ < o_.steps && !stopped;) {
      ++step_;
      double bits = train_step();
      scheduler_->step();
      mean_bits_ = step_ == 1 ? bits : mean_bits_ + 0.05 * (bits - mean_bits_);
      elapsed_ = before + seconds_since(start);
      bool late =
          o_.seconds > 0 && elapsed_ > o_.seconds;  // the machine became slower than it was when the steps were counted
      if (late) o_.steps = step_;
      if (step_ % o_.valid_every == 0 || step_ == o_.steps) validate();
      stopped = StopRequest::requested();
      if (step_ % o_.checkpoint_every == 0 || step_ == o_.steps || stopped)
        io::save_checkpoint(o_.out / "last.safetensors", checkpoint());
      const std::string valid = records_.empty() ? "" : fmt::format("  valid {:.3f}", records_.back().valid_bits);
      progress.update(step_, fmt::format("train {:.3f}{} bits/char", mean_bits_, valid));
    }
  }

  void validate() {
    Record r{
        step_,      mean_bits_, finite(bits_per_character(*model_, valid_), "validation"), scheduler_->get_last_lr()[0],
        grad_norm_, elapsed_};
    records_.push_back(r);
    log_ << r.json() << std::endl;
    if (!log_) throw std::runtime_error("cannot write " + (o_.out / "log.jsonl").string());
    if (r.valid_bits < best_bits_) {
      best_bits_ = r.valid_bits;
      io::save_checkpoint(o_.out / "best.safetensors",
                          {.model = model_.get(), .step = step_, .metadata = describe(o_.model, vocabulary_)});
    }
    draw_curve();
  }

  void draw_curve() const {
    Curve train{"training text", "#9db8d9", {}}, valid{"validation text", "#1f5fa8", {}};
    for (const Record& r : records_) {
      train.points.emplace_back(r.step, r.train_bits);
      valid.points.emplace_back(r.step, r.valid_bits);
    }
    std::vector<Level> levels;
    for (std::size_t order = 1; order < ngrams_.size(); ++order)
      levels.push_back({fmt::format("n-gram, order {}: {:.2f}", order, ngrams_[order]), ngrams_[order]});
    std::string svg = line_chart(fmt::format("char_lm: {} with {} units", o_.model.cell, o_.model.hidden_size),
                                 "optimizer steps", "bits per character", {train, valid}, levels);
    io::write_atomically(o_.out / "curve.svg", svg);
  }

  void show_samples(const char* when) {
    Generator before = default_generator();  // looking must not change the run
    const std::string prime = usual_prime(vocabulary_);
    for (double temperature : {0.5, 0.8}) {
      fmt::print("--- {}, temperature {} ---\n{}", when, temperature, prime);
      for (std::int64_t symbol : sample(*model_, vocabulary_.encode(prime), 200, temperature))
        fmt::print("{}", vocabulary_.decode(symbol));
      fmt::print("\n\n");
    }
    default_generator() = before;
  }

  void report() {
    double bits = bits_per_character(*model_, test_);
    fmt::print("bits per character on the held-out text\n");
    for (std::size_t order = 0; order < ngrams_.size(); ++order)
      fmt::print("  n-gram of order {}   {:.3f}{}\n", order, ngrams_[order],
                 bits < ngrams_[order] ? "" : "   (better than the net)");
    fmt::print("  {:<19} {:.3f}\n\n", o_.model.cell, bits);
    fmt::print("trained {} steps in {}\n", step_, clock_time(elapsed_));
    for (const char* name : kFiles) fmt::print("  {}\n", (o_.out / name).string());
    fmt::print("write more with: char_lm sample --checkpoint {}\n", (o_.out / "best.safetensors").string());
  }

  static constexpr const char* kFiles[] = {"best.safetensors", "last.safetensors", "log.jsonl", "curve.svg"};

  TrainOptions o_;
  std::string text_, text_digest_ = digest(text_);
  Split split_;
  Vocabulary vocabulary_;
  Streams streams_;
  std::vector<std::int64_t> valid_, test_;
  std::unique_ptr<Model> model_;
  std::optional<optim::AdamW> optimizer_;
  std::optional<optim::CosineAnnealingLR> scheduler_;
  std::vector<double> ngrams_;  // by characters of context, on the held-out text

  std::int64_t step_ = 0, position_ = 0;  // in the streams
  std::vector<Tensor> state_;             // carried from the chunk before
  double best_bits_ = 1e300, mean_bits_ = 0, grad_norm_ = 0, elapsed_ = 0;
  std::vector<Record> records_;
  std::ofstream log_;
};

}  // namespace

void train(const TrainOptions& options) {
  Run(options.resume ? as_begun(options, io::load_checkpoint(options.out / "last.safetensors", {}).metadata) : options)
      .run();
}

std::string sample_text(const SampleOptions& options) {
  auto [model_options, vocabulary] = described(io::load_checkpoint(options.checkpoint, {}).metadata);
  std::unique_ptr<Model> model = make_model(model_options, vocabulary.size());
  io::load_checkpoint(options.checkpoint, {.model = model.get()});
  manual_seed(options.seed);
  std::string text = options.prime.empty() ? usual_prime(vocabulary) : options.prime;
  for (std::int64_t symbol : sample(*model, vocabulary.encode(text), options.length, options.temperature))
    text += vocabulary.decode(symbol);
  return text;
}

}  // namespace char_lm
