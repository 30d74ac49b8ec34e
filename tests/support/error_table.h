#pragma once
#include <unroll/unroll.h>

#include <concepts>
#include <functional>
#include <typeinfo>

/// A promise of the library: this mistake raises that error, and the error changes nothing.
struct ErrorRow {
  std::string what;                 // the mistake, in a few words
  const std::type_info* kind;       // the class of the error: this very one
  std::vector<std::string> tokens;  // all in its text: the op or argument first, then what came, what was expected
  std::function<void()> action;
};

/// The rows of one area, run as they are written down:
///
///     ErrorTable table("losses");
///     table.watch(x, model, optimizer);
///     table.row<ShapeError>("shapes differ", {"mse_loss", "(2, 3)", "(3,)"}, [&] { mse_loss(x, y); });
///
/// After each row everything watched must be as before to the last bit; so must, always, the default generator, the
/// modes of autograd and the library's live memory. At the end of the run one line tells how many rows each area had.
class ErrorTable {
 public:
  explicit ErrorTable(std::string area) : area_(std::move(area)) { watch(unroll::default_generator()); }

  /// Modules, optimizers and generators must outlive the table.
  template <class... Objects>
  void watch(Objects&&... objects) {
    (watch_one(objects), ...);
  }
  /// Anything else, by a function that writes down all of its state.
  void watch_state(std::string name, std::function<std::string()> state);

  template <std::derived_from<std::exception> E, std::invocable Action>
  void row(std::string what, std::vector<std::string> tokens, Action action, const char* file = __builtin_FILE(),
           int line = __builtin_LINE()) {
    report({std::move(what), &typeid(E), std::move(tokens), [&] { static_cast<void>(action()); }}, file, line);
  }

  /// What is wrong with the row; empty if nothing is.
  std::string fault(const ErrorRow& row) const;

 private:
  struct Watched {
    std::string name;
    std::function<std::string()> state;
  };

  void watch_one(const unroll::Tensor& x);
  void watch_one(const std::vector<unroll::Tensor>& xs);
  void watch_one(unroll::nn::Module& module);
  void watch_one(const unroll::optim::Optimizer& optimizer);
  void watch_one(const unroll::Generator& generator);
  void report(const ErrorRow& row, const char* file, int line) const;

  std::string area_;
  std::vector<Watched> watched_;
};
