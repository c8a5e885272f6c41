#pragma once
/// \file
/// Reads the XML that hwloc writes: elements, attributes, text; prolog, DOCTYPE and comments are passed over. Character
/// references stay as they are, and a DOCTYPE with an internal subset is refused: nothing is ever expanded or fetched.

#include <cstddef>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace vm::xml {

/// Views into the text, valid as long as it is.
struct Element {
  std::string_view name;
  std::vector<std::pair<std::string_view, std::string_view>> attributes;

  /// Empty when there is no such attribute.
  std::string_view attribute(std::string_view wanted) const noexcept;
};

/// Calls are made in document order: `open` for each start tag, `text` for character data between tags (white space
/// alone is left out), `close` for each end tag; an empty element is opened and closed.
class Visitor {
 public:
  Visitor() = default;
  Visitor(const Visitor&) = delete;
  Visitor& operator=(const Visitor&) = delete;
  virtual ~Visitor() = default;
  virtual void open(const Element& element) = 0;
  virtual void text(std::string_view text) = 0;
  virtual void close(std::string_view name) = 0;
};

/// Walks the whole document. Time and memory are linear in its length. \throws InvalidConfig naming the line for text
/// that is not well-formed, for elements nested deeper than `depth_limit`, and when anything but one root is there.
void parse(std::string_view document, Visitor& visitor);

inline constexpr std::size_t depth_limit = 128;

}  // namespace vm::xml
