#include <unroll/core/kernels/panels.h>
#include <unroll/core/tensor.h>

#include <array>
#include <new>

namespace unroll {
namespace detail {

/// What stays with a storage, for each pass: the panels asked for last.
struct KeptPanels {
  struct Last {
    kernels::PanelKey key{};
    std::uint32_t version = 0;           // of the storage
    kernels::Scratch<std::byte> panels;  // if they were asked for twice
    bool is_packed = false;
  };
  std::array<Last, 2> last;
  bool is_empty() const noexcept { return last[0].panels.data() == nullptr && last[1].panels.data() == nullptr; }
};

namespace {
// Puts them there and takes what was; locked only where there is a second thread.
KeptPanels* put(std::atomic<KeptPanels*>& place, KeptPanels* panels) noexcept {
  if (!single_threaded()) return place.exchange(panels, std::memory_order_acq_rel);
  KeptPanels* before = place.load(std::memory_order_relaxed);
  place.store(panels, std::memory_order_relaxed);
  return before;
}

void destroy(KeptPanels* panels) noexcept {
  if (panels == nullptr) return;
  panels->~KeptPanels();
  alloc::deallocate(panels, sizeof(KeptPanels));
}
}  // namespace

void drop_panels(Storage& storage) noexcept { destroy(put(storage.panels, nullptr)); }

}  // namespace detail

namespace kernels {

void PanelMemory::take(detail::Storage* home, const PanelKey& key, std::size_t bytes) {
  const auto elements = static_cast<std::int64_t>(bytes);
  if (home != nullptr && home->is_given_out.load(std::memory_order_relaxed)) [[unlikely]] {
    detail::drop_panels(*home);
    home = nullptr;
  }
  if (home == nullptr) {
    own_ = Scratch<std::byte>(elements);
    data_ = own_.data();
    return;
  }
  const std::uint32_t version = home->version;
  kept_ = detail::put(home->panels, nullptr);
  if (kept_ == nullptr) kept_ = new (alloc::allocate(sizeof(detail::KeptPanels))) detail::KeptPanels;
  home_ = home, pass_ = key.pass;  // from here on the destructor puts back what was taken
  auto& last = kept_->last[pass_];
  if (last.key == key && last.version == version) {
    is_packed_ = last.is_packed;
    if (last.panels.data() == nullptr) last.panels = Scratch<std::byte>(elements);
  } else {  // stale ones go, of both passes: a weight in training may not be asked for again before it changes
    last = {key, version, {}, false};
    if (auto& other = kept_->last[1 - pass_]; other.version != version) other = {};
    own_ = Scratch<std::byte>(elements);
  }
  data_ = own_.data() != nullptr ? own_.data() : last.panels.data();
}

PanelMemory::~PanelMemory() {
  if (home_ == nullptr) return;
  const bool is_empty = kept_->is_empty();                        // not to be asked once others can take it
  detail::KeptPanels* other = detail::put(home_->panels, kept_);  // another thread's, if any: the better ones stay
  if (other != nullptr && is_empty) other = detail::put(home_->panels, other);
  detail::destroy(other);
}

void PanelMemory::set_packed() noexcept {
  if (kept_ != nullptr) kept_->last[pass_].is_packed = own_.data() == nullptr;
}

}  // namespace kernels
}  // namespace unroll
