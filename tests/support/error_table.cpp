#include "error_table.h"

#include "memory.h"

#include <cxxabi.h>
#include <doctest/doctest.h>
#include <fmt/format.h>

#include <cstdlib>
#include <memory>

using namespace unroll;

namespace {

std::string readable(const std::type_info& type) {
  std::unique_ptr<char, void (*)(void*)> name(abi::__cxa_demangle(type.name(), nullptr, nullptr, nullptr), std::free);
  return name ? name.get() : type.name();
}

// Shape, dtype and elements.
std::string contents(const Tensor& x) {
  if (!x.defined()) return "undefined";
  NoGrad guard;
  Tensor y = x.contiguous();
  std::string text = fmt::format("{} {} ", y.shape(), y.dtype());
  dispatch(y.dtype(), [&]<class T>() {
    text.append(reinterpret_cast<const char*>(y.data<T>()), static_cast<std::size_t>(y.numel()) * sizeof(T));
  });
  return text;
}

// And where it lies, how often it was written, what autograd knows of it, and its gradient.
std::string state(const Tensor& x) {
  if (!x.defined()) return "undefined";
  const auto& body = x.body();
  return fmt::format("{} {} {} {} {} {} {} {}; gradient {}", static_cast<void*>(body.storage.get()), body.offset,
                     x.strides(), x.version(), x.is_leaf(), x.requires_grad(), static_cast<const void*>(x.grad_slot()),
                     contents(x), x.is_leaf() ? contents(x.grad()) : "");
}

std::string state(nn::Module& module) {
  std::string text;
  for (const auto& [name, tensor] : module.named_parameters()) text += name + state(tensor);
  for (const auto& [name, tensor] : module.state_dict()) text += name + contents(tensor);
  for (const auto& [name, part] : module.named_modules()) text += fmt::format("{} {};", name, part->training());
  return text;
}

std::string state(const optim::Optimizer& optimizer) {
  std::string text;
  optim::StateDict dict = optimizer.state_dict();
  for (const auto& [parameter, tensors] : dict.state)
    for (const auto& [name, tensor] : tensors) text += fmt::format("{} {} ", parameter, name) + contents(tensor);
  for (const auto& group : optimizer.param_groups()) {
    for (const auto& [name, value] : group.options) text += fmt::format("{} {};", name, value);
    for (const Tensor& x : group.params) text += state(x);
  }
  return text;
}

std::string state(const Generator& generator) {
  std::vector<std::byte> bytes = generator.get_state();
  return std::string(reinterpret_cast<const char*>(bytes.data()), bytes.size());
}

struct Counts {
  int rows = 0, failed = 0;
};
std::map<std::string, Counts>& counts() {
  static std::map<std::string, Counts> by_area;
  return by_area;
}

// Prints the figures of the run behind everything else.
struct Summary : doctest::IReporter {
  explicit Summary(const doctest::ContextOptions& options) : out(*options.cout) {}
  void test_run_end(const doctest::TestRunStats&) override {
    Counts all;
    std::string areas;
    for (const auto& [area, n] : counts()) {
      all.rows += n.rows;
      all.failed += n.failed;
      areas += fmt::format("{}{} {}", areas.empty() ? "" : ", ", area, n.rows);
    }
    if (all.rows > 0) out << fmt::format("error table: {} cases, {} failed ({})\n", all.rows, all.failed, areas);
  }
  void report_query(const doctest::QueryData&) override {}
  void test_run_start() override {}
  void test_case_start(const doctest::TestCaseData&) override {}
  void test_case_reenter(const doctest::TestCaseData&) override {}
  void test_case_end(const doctest::CurrentTestCaseStats&) override {}
  void test_case_exception(const doctest::TestCaseException&) override {}
  void subcase_start(const doctest::SubcaseSignature&) override {}
  void subcase_end() override {}
  void log_assert(const doctest::AssertData&) override {}
  void log_message(const doctest::MessageData&) override {}
  void test_case_skipped(const doctest::TestCaseData&) override {}

  std::ostream& out;
};
REGISTER_LISTENER("error_table", 1, Summary);

}  // namespace

void ErrorTable::watch_state(std::string name, std::function<std::string()> state) {
  watched_.push_back({std::move(name), std::move(state)});
}
void ErrorTable::watch_one(const Tensor& x) {
  watch_state(fmt::format("tensor {}", watched_.size()), [x] { return state(x); });
}
void ErrorTable::watch_one(const std::vector<Tensor>& xs) {
  for (const Tensor& x : xs) watch_one(x);
}
void ErrorTable::watch_one(nn::Module& module) {
  watch_state("module " + module.type_name(), [&module] { return state(module); });
}
void ErrorTable::watch_one(const optim::Optimizer& optimizer) {
  watch_state(fmt::format("optimizer {}", optimizer.name()), [&optimizer] { return state(optimizer); });
}
void ErrorTable::watch_one(const Generator& generator) {
  watch_state("generator", [&generator] { return state(generator); });
}

std::string ErrorTable::fault(const ErrorRow& row) const {
  if (row.tokens.size() < 2) return "the row asks for less than two tokens: the op or argument, and what came";
  std::vector<std::string> before;
  for (const Watched& object : watched_) before.push_back(object.state());
  bool recording = GradMode::enabled(), fused = FusedMode::enabled();
  Live live;
  try {
    row.action();
    return fmt::format("nothing was raised, expected {}", readable(*row.kind));
  } catch (const std::exception& error) {
    std::string text = error.what();
    if (typeid(error) != *row.kind)
      return fmt::format("{} instead of {}: {}", readable(typeid(error)), readable(*row.kind), text);
    for (const std::string& token : row.tokens)
      if (text.find(token) == std::string::npos) return fmt::format("\"{}\" is not in the text: {}", token, text);
  } catch (...) {
    return "what was raised is no std::exception";
  }
  Live after;
  for (std::size_t i = 0; i < watched_.size(); ++i)
    if (watched_[i].state() != before[i]) return fmt::format("{} has changed", watched_[i].name);
  if (!(after == live)) return fmt::format("left {} bytes of memory behind", after.bytes - live.bytes);
  if (GradMode::enabled() != recording || FusedMode::enabled() != fused) return "a mode of autograd has changed";
  return "";
}

void ErrorTable::report(const ErrorRow& row, const char* file, int line) const {
  std::string found = fault(row);
  Counts& count = counts()[area_];
  ++count.rows;
  if (found.empty()) return;
  ++count.failed;
  std::string text = fmt::format("{}: {}: {}", area_, row.what, found);
  ADD_FAIL_CHECK_AT(file, line, text);
}
