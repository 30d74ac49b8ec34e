#pragma once
#include <unroll/core/kernels/recurrent.h>
#include <unroll/core/kernels/scratch.h>

#include <cstddef>

namespace unroll::detail {
struct KeptPanels;
}

namespace unroll::kernels {

/// All that says how the elements of a weight are ordered in its panels.
struct PanelKey {
  enum Pass : std::uint8_t { Forward, Backward } pass;
  enum Weight : std::uint8_t { Input, Hidden, Projection } weight;
  RecurrentKind kind;
  std::int32_t lanes;
  std::int64_t columns;
  bool operator==(const PanelKey&) const = default;
};

/// Memory for panels. Those that are asked for a second time, the weight being what it was, stay with its storage: a
/// cell's in a loop, a layer's that nobody trains. Of others only the key stays. Who uses a storage's panels has them
/// alone; another thread that comes meanwhile packs its own.
class PanelMemory {
 public:
  PanelMemory() = default;
  PanelMemory(const PanelMemory&) = delete;
  PanelMemory& operator=(const PanelMemory&) = delete;
  ~PanelMemory();

  /// Once. `home` is the weight's storage, null where none is the weight's alone.
  void take(detail::Storage* home, const PanelKey& key, std::size_t bytes);
  bool is_packed() const noexcept { return is_packed_; }
  void set_packed() noexcept;
  void* data() const noexcept { return data_; }

 private:
  void* data_ = nullptr;
  detail::Storage* home_ = nullptr;
  detail::KeptPanels* kept_ = nullptr;  // what is the storage's, while this has it
  Scratch<std::byte> own_;
  PanelKey::Pass pass_{};
  bool is_packed_ = false;
};

/// A weight's panels.
template <class T>
class Panels {
 public:
  /// Once. They are packed by pack(T* panels), unless they are there already.
  template <class Pack>
  void take(detail::Storage* home, const PanelKey& key, std::int64_t elements, Pack pack) {
    memory_.take(home, key, static_cast<std::size_t>(elements) * sizeof(T));
    if (memory_.is_packed()) return;
    pack(data());
    memory_.set_packed();
  }
  T* data() const noexcept { return static_cast<T*>(memory_.data()); }

 private:
  PanelMemory memory_;
};

}  // namespace unroll::kernels
