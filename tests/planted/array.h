#pragma once
#include <concepts>
#include <iterator>
#include <vector>

namespace planted {

/// A std::vector that takes signed sizes and indices, as tensors have them.
template <class T>
class Array : public std::vector<T> {
  using Base = std::vector<T>;
  static std::size_t unsign(std::integral auto i) { return static_cast<std::size_t>(i); }

 public:
  Array() = default;
  Array(std::initializer_list<T> list) : Base(list) {}
  Array(Base values) : Base(std::move(values)) {}
  explicit Array(std::integral auto n, const T& value = T()) : Base(unsign(n), value) {}
  template <std::input_iterator It>
  Array(It first, It last) : Base(first, last) {}

  T& operator[](std::integral auto i) { return Base::operator[](unsign(i)); }
  const T& operator[](std::integral auto i) const { return Base::operator[](unsign(i)); }
  void assign(std::integral auto n, const T& value) { Base::assign(unsign(n), value); }
  void assign(const T* first, const T* last) { Base::assign(first, last); }
};

}  // namespace planted
