#pragma once
#include <string_view>
#include <vector>

/// Bugs that recurrent layers, engines and optimizers have had, as switches in the copies of this folder.
namespace planted {

/// The bug that is switched on, 0 for none.
inline thread_local int switched_on = 0;
inline bool bug(int number) { return switched_on == number; }

/// Switches a bug on for the time of a scope.
class Switch {
 public:
  explicit Switch(int number) { switched_on = number; }
  ~Switch() { switched_on = 0; }
  Switch(const Switch&) = delete;
  Switch& operator=(const Switch&) = delete;
};

/// A fault that can be switched on.
struct Bug {
  int number;
  std::string_view where;  // of "RLG", the layers RNN, LSTM and GRU that can have it; "" for what is not a layer
  std::string_view what;
};

/// 1 … 52: the gradient of a layer is wrong. 74 of a bug and a layer.
extern const std::vector<Bug> kGradientBugs;
/// 62 … 69: what shows only in a corner.
extern const std::vector<Bug> kCornerBugs;
/// 81 … 90: forward and backward are wrong alike, so that no check of gradients can tell.
extern const std::vector<Bug> kAgreedBugs;
/// 91 … 96: the definition, which is what is differentiated under create_graph, is not what the kernel computes.
extern const std::vector<Bug> kDefinitionBugs;
/// 60 … 75 again, of what is not a layer: the engine, clipping, the optimizers.
extern const std::vector<Bug> kStepBugs;

}  // namespace planted
