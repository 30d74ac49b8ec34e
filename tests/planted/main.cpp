#include <fmt/ranges.h>

#include <algorithm>
#include <chrono>
#include <exception>
#include <functional>
#include <map>

#include "bugs.h"
#include "checks.h"
#include "usual.h"

// Plants each bug in the copies, runs the checks that the library's own parts pass, and prints which of them notice.
// Fails if one bug goes unnoticed, or if anything is noticed where there is no bug.
namespace planted {
namespace {

using Checks = std::vector<Check>;

struct Killed {
  std::vector<std::string> by;  // the checks that notice, in the order of the suite
  std::string first;            // what the first of them says

  bool by_check(const char* name) const { return std::ranges::find(by, name) != by.end(); }
};

/// Runs all checks and adds to `killed` those that notice.
void run(const Subject& subject, const Checks& checks, Killed& killed) {
  for (const Check& check : checks) {
    if (killed.by_check(check.name)) continue;
    std::string wrong;
    try {
      wrong = check.run(subject);
    } catch (const std::exception& e) {
      wrong = std::string("raised: ") + e.what();
    }
    if (wrong.empty()) continue;
    if (killed.by.empty()) killed.first = fmt::format("{}: {}", check.name, wrong);
    killed.by.emplace_back(check.name);
  }
}

Checks together(const Checks& a, const Checks& b) {
  Checks all = a;
  all.insert(all.end(), b.begin(), b.end());
  return all;
}

const Checks& layer_suite() {
  static const Checks all = together(together(kAnswerChecks, kLawChecks), kEngineChecks);
  return all;
}
/// The same and second derivatives, with which the loops of a kernel have nothing to do.
const Checks& definition_suite() {
  static const Checks all = together(layer_suite(), kSecondChecks);
  return all;
}
const Checks& training_suite() {
  static const Checks all = together(kEngineChecks, kStepChecks);
  return all;
}

struct Module {
  char letter;
  const char* name;
  std::vector<Mode> modes;
};
const Module kModules[] = {
    {'R', "RNN", {Mode::RNN, Mode::ReLU}}, {'L', "LSTM", {Mode::LSTM}}, {'G', "GRU", {Mode::GRU}}};

class Table {
 public:
  explicit Table(bool verbose) : verbose_(verbose) {}

  void title(const char* text) {
    fmt::print("\n{}\n\n| bug | in | what is wrong | killed by |\n|---|---|---|---|\n", text);
    killed_by_.clear();
    rows_ = killed_ = 0;
  }
  /// With `needed`, no other check counts.
  void row(const Bug& bug, const char* module, const Killed& killed, const char* needed = nullptr) {
    const bool survives = needed != nullptr ? !killed.by_check(needed) : killed.by.empty();
    ++rows_, ++all_;
    killed_ += !survives;
    survivors_ += survives;
    for (const std::string& check : killed.by) ++killed_by_[check];
    fmt::print("| {} | {} | {} | {}{} |\n", bug.number, module, bug.what, survives ? "**survives** " : "",
               fmt::join(killed.by, ", "));
    if (verbose_) fmt::print("    {}\n", killed.first);
  }
  void layers(const std::vector<Bug>& bugs, const Checks& suite, const char* needed = nullptr) {
    for (const Bug& bug : bugs)
      for (const Module& module : kModules) {
        if (bug.where.find(module.letter) == std::string_view::npos) continue;
        Switch on(bug.number);
        Killed killed;
        for (Mode mode : module.modes) run({.make = planted_layer, .mode = mode}, suite, killed);
        row(bug, module.name, killed, needed);
      }
    fmt::print("\nOf these {}, each check alone kills:", rows_);
    for (const Check& check : suite)
      if (killed_by_[check.name] > 0) fmt::print(" {} {},", check.name, killed_by_[check.name]);
    fmt::print(" all together {}.\n", killed_);
  }
  /// Since the last title.
  int rows() const { return rows_; }
  int all() const { return all_; }
  int survivors() const { return survivors_; }

 private:
  bool verbose_;
  int rows_ = 0, killed_ = 0;  // since the last title
  int all_ = 0, survivors_ = 0;
  std::map<std::string, int, std::less<>> killed_by_;
};

const Subject kPlantedTraining = {
    .backward = planted_backward, .scale = planted_scale, .clip = planted_clip, .make_stepper = planted_stepper};

/// Where nothing is wrong, nothing may be found. Returns the number of false alarms.
int false_alarms() {
  int alarms = 0;
  auto expect_clean = [&](const char* what, const Subject& subject, const Checks& checks) {
    Killed killed;
    run(subject, checks, killed);
    if (killed.by.empty()) return;
    ++alarms;
    fmt::print("false alarm: {}: {} ({})\n", what, killed.first, fmt::join(killed.by, ", "));
  };
  for (thorough = false;; thorough = true) {
    for (const Module& module : kModules)
      for (Mode mode : module.modes) {
        expect_clean(module.name, {.mode = mode}, definition_suite());
        expect_clean(module.name, {.make = planted_layer, .mode = mode}, definition_suite());
      }
    if (thorough) break;
  }
  thorough = false;
  expect_clean("training", {}, training_suite());
  expect_clean("planted training", kPlantedTraining, training_suite());
  return alarms;
}

/// How many of the 74 do not pass.
int count_killed(const std::function<bool(Mode)>& passes) {
  int killed = 0;
  for (const Bug& bug : kGradientBugs)
    for (const Module& module : kModules) {
      if (bug.where.find(module.letter) == std::string_view::npos) continue;
      Switch on(bug.number);
      killed += !passes(module.modes[0]);
    }
  return killed;
}

/// What a check of gradients kills as it is usually written, by its configuration, beside gradcheck.
void print_usual_checks() {
  fmt::print("\nWhat other checks of gradients kill:\n\n| | configuration | killed of 74 |\n|---|---|---|\n");
  for (const UsualCheck& check : kUsualChecks)
    fmt::print("| {} | {} | {} |\n", check.name, check.what,
               count_killed([&](Mode mode) { return passes(check, planted_layer, mode); }));
  fmt::print("| | gradcheck, outputs x 1e-6 | {} |\n",
             count_killed([](Mode mode) { return gradcheck_passes(planted_layer, mode, 1e-6); }));
}

int run_all(bool verbose) {
  const auto start = std::chrono::steady_clock::now();
  const int alarms = false_alarms();
  Table table(verbose);
  table.title("Gradients of layers:");
  table.layers(kGradientBugs, layer_suite());
  const int gradient_bugs = table.rows();
  table.title("Corners:");
  table.layers(kCornerBugs, layer_suite());
  table.title("Forward and backward wrong alike, which only PyTorch's answers can tell:");
  table.layers(kAgreedBugs, layer_suite(), "stored");
  table.title("The definition is not what the kernel computes:");
  table.layers(kDefinitionBugs, definition_suite());
  table.title("Engine, clipping, optimizers:");
  for (const Bug& bug : kStepBugs) {
    Switch on(bug.number);
    Killed killed;
    run(kPlantedTraining, training_suite(), killed);
    table.row(bug, "training", killed);
  }
  print_usual_checks();
  const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  fmt::print("\n{} of {} bugs killed, {} of them in gradients of layers; {} false alarms; {:.1f} s\n",
             table.all() - table.survivors(), table.all(), gradient_bugs, alarms, seconds);
  return table.survivors() == 0 && alarms == 0 && gradient_bugs == 74 ? 0 : 1;
}

}  // namespace
}  // namespace planted

int main(int argc, char** argv) {
  const bool verbose = argc > 1 && std::string_view(argv[1]) == "--verbose";  // what the first check says, too
  return planted::run_all(verbose);
}
