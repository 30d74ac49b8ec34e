#pragma once
#include <unroll/core/tensor.h>

#include <filesystem>
#include <map>
#include <set>

namespace conformance {
using namespace unroll;

/// float32 or float64.
DType dtype_named(const std::string& name);

/// One file of PyTorch's answers: the kind of computation, its options, the tensors that go in, and those that shall
/// come out. It remembers what has been asked of it: what a replay did not look at, it cannot have obeyed.
class Case {
 public:
  explicit Case(const std::filesystem::path& file);

  /// The file's name without its ending.
  const std::string& name() const { return name_; }
  /// An option as text, int64_t, double, bool or DType. Raises ValueError when there is none, or when it does not read
  /// as a T.
  template <class T = std::string>
  T option(const std::string& key);
  /// Overwrites `value`, its default, if the option is there.
  template <class T>
  void option(const std::string& key, T& value) {
    if (options_.contains(key)) value = option<T>(key);
  }
  /// Gives the case an option that its kind leaves out because it is always the same.
  void imply(const std::string& key, const std::string& text);

  bool has(const std::string& tensor) const { return given_.contains(tensor); }
  /// A tensor that goes in.
  Tensor given(const std::string& tensor);
  /// A tensor that goes in and whose gradient comes out.
  Tensor leaf(const std::string& tensor) { return given(tensor).requires_grad_(); }

  /// The tensors expect.NAME, by NAME. Nothing that replays looks at them.
  const std::map<std::string, Tensor>& expected() const { return expected_; }
  /// The options and given tensors that nobody has asked for.
  const std::set<std::string>& unread() const { return unread_; }

 private:
  std::string name_;
  std::map<std::string, std::string> options_;
  std::map<std::string, Tensor> given_, expected_;
  std::set<std::string> unread_;  // "option NAME" or "tensor NAME"
};

}  // namespace conformance
