#pragma once
/// \file
/// The kernel's structures that end in an array of any length.

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <vector>

namespace vm::accel::kvm {

/// `Header` with room for `count` elements of `Element` behind it, all zero.
template <class Header, class Element>
class WithArray {
 public:
  explicit WithArray(std::size_t count)
      : words_((sizeof(Header) + count * sizeof(Element) + sizeof(std::uint64_t) - 1) / sizeof(std::uint64_t)) {}

  Header* get() noexcept { return reinterpret_cast<Header*>(words_.data()); }
  Header* operator->() noexcept { return get(); }
  Element read(std::size_t i) const noexcept {
    Element element;
    std::memcpy(&element, at(i), sizeof element);
    return element;
  }
  void write(std::size_t i, const Element& element) noexcept {
    std::memcpy(const_cast<std::byte*>(at(i)), &element, sizeof element);
  }

 private:
  const std::byte* at(std::size_t i) const noexcept {
    return reinterpret_cast<const std::byte*>(words_.data()) + sizeof(Header) + i * sizeof(Element);
  }

  std::vector<std::uint64_t> words_;
};

}  // namespace vm::accel::kvm
