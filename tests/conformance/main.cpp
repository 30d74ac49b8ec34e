// Replays PyTorch's answers: README.md says what a case holds and what this program does with it.
#include "replay.h"

#include <fnmatch.h>

#include <algorithm>
#include <cstdio>

namespace fs = std::filesystem;
using namespace conformance;

namespace {

/// The cases below `path`, sorted; a file stands for itself.
std::vector<fs::path> cases_below(const fs::path& path) {
  if (!fs::is_directory(path)) return {path};
  std::vector<fs::path> found;
  for (const auto& entry : fs::recursive_directory_iterator(path))
    if (entry.is_regular_file() && entry.path().extension() == ".safetensors") found.push_back(entry.path());
  std::ranges::sort(found);
  return found;
}

struct Tally {
  std::size_t cases = 0, failed = 0;
  double error = 0;
};

/// Replays one case and adds it to the tally of its kind.
void run(const fs::path& file, std::map<std::string, Tally>& kinds) {
  std::string kind = "(unreadable)";
  Verdict verdict;
  try {
    Case c(file);
    kind = c.option("kind");
    verdict = judge(c, replay(c));
  } catch (const std::exception& error) {
    verdict.failure = error.what();
  }
  Tally& tally = kinds[kind];
  ++tally.cases;
  tally.error = std::max(tally.error, verdict.error);
  if (verdict.failure.empty()) return;
  ++tally.failed;
  std::ranges::replace(verdict.failure, '\n', ' ');
  fmt::print("{}: {}\n", file.stem().string(), verdict.failure);
}

}  // namespace

int main(int argc, char** argv) {
  const std::vector<std::string> arguments(argv + 1, argv + argc);
  std::vector<fs::path> files;
  std::string only = "*";
  for (std::size_t i = 0; i < arguments.size(); ++i) {
    if (arguments[i] == "--only" && i + 1 < arguments.size()) {
      only = arguments[++i];
    } else if (arguments[i].starts_with("-")) {
      fmt::print(stderr,
                 "usage: conformance [--only GLOB] DIR_OR_FILE...\n"
                 "  --only   replays the cases whose name matches, such as 'module-*-LSTM*'\n");
      return 2;
    } else {
      const auto below = cases_below(arguments[i]);
      files.insert(files.end(), below.begin(), below.end());
    }
  }
  std::erase_if(files, [&](const fs::path& file) { return fnmatch(only.c_str(), file.stem().c_str(), 0) != 0; });

  std::map<std::string, Tally> kinds;
  for (const fs::path& file : files) run(file, kinds);

  Tally all;
  fmt::print("{:<12} {:>5}  {}\n", "kind", "cases", "worst error");
  for (const auto& [kind, tally] : kinds) {
    const std::string failed = tally.failed > 0 ? fmt::format("  ({} failed)", tally.failed) : "";
    fmt::print("{:<12} {:>5}  {:.2e}{}\n", kind, tally.cases, tally.error, failed);
    all.cases += tally.cases;
    all.failed += tally.failed;
  }
  fmt::print("{} passed, {} failed\n", all.cases - all.failed, all.failed);
  return all.failed == 0 && all.cases > 0 ? 0 : 1;
}
