#include "core/xml.hpp"

#include <algorithm>

#include "vm/core/error.hpp"

namespace vm::xml {

namespace {

bool is_space(char c) { return c == ' ' || c == '\t' || c == '\r' || c == '\n'; }

bool is_name_character(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' || c == '-' ||
         c == '.' || c == ':';
}

class Parser {
 public:
  Parser(std::string_view document, Visitor& visitor) : document_(document), visitor_(visitor) {}

  void run() {
    while (at_ < document_.size()) {
      if (document_[at_] == '<') {
        read_markup();
      } else {
        read_text();
      }
    }
    if (!open_.empty()) fail("the text ends inside <" + std::string(open_.back()) + ">");
    if (!seen_root_) fail("there is no element");
  }

 private:
  [[noreturn]] void fail(const std::string& what) const {
    const auto lines = std::count(document_.begin(), document_.begin() + static_cast<std::ptrdiff_t>(at_), '\n');
    throw InvalidConfig("XML, line " + std::to_string(lines + 1) + ": " + what);
  }

  bool starts_with(std::string_view text) const { return document_.substr(at_, text.size()) == text; }

  void skip_spaces() {
    while (at_ < document_.size() && is_space(document_[at_])) ++at_;
  }

  /// Moves behind the next `end`.
  std::string_view take_until(std::string_view end, const char* what) {
    const std::size_t found = document_.find(end, at_);
    if (found == std::string_view::npos) fail(std::string("the text ends inside ") + what);
    const std::string_view taken = document_.substr(at_, found - at_);
    at_ = found + end.size();
    return taken;
  }

  std::string_view take_name() {
    const std::size_t start = at_;
    while (at_ < document_.size() && is_name_character(document_[at_])) ++at_;
    if (at_ == start) fail("a name is missing");
    return document_.substr(start, at_ - start);
  }

  void read_text() {
    const std::size_t end = std::min(document_.find('<', at_), document_.size());
    const std::string_view text = document_.substr(at_, end - at_);
    if (!std::all_of(text.begin(), text.end(), is_space)) {
      if (open_.empty()) fail("text outside of the root element");
      visitor_.text(text);
    }
    at_ = end;
  }

  void read_markup() {
    if (starts_with("<?")) {
      take_until("?>", "a processing instruction");
    } else if (starts_with("<!--")) {
      at_ += 4;
      take_until("-->", "a comment");
    } else if (starts_with("<!DOCTYPE")) {
      if (take_until(">", "DOCTYPE").find('[') != std::string_view::npos)
        fail("a DOCTYPE with declarations of its own");
    } else if (starts_with("</")) {
      at_ += 2;
      close(take_name());
      skip_spaces();
      expect(">");
    } else {
      read_start_tag();
    }
  }

  void expect(std::string_view text) {
    if (!starts_with(text)) fail("'" + std::string(text) + "' is missing");
    at_ += text.size();
  }

  void read_start_tag() {
    expect("<");
    Element element;
    element.name = take_name();
    for (skip_spaces(); !starts_with(">") && !starts_with("/>"); skip_spaces()) {
      element.attributes.push_back(take_attribute());
    }
    open(element);
    if (starts_with("/>")) {
      at_ += 2;
      close(element.name);
    } else {
      expect(">");
    }
  }

  std::pair<std::string_view, std::string_view> take_attribute() {
    const std::string_view name = take_name();
    skip_spaces();
    expect("=");
    skip_spaces();
    const std::string_view quote = document_.substr(at_, 1);
    if (quote != "\"" && quote != "'") fail("the value of " + std::string(name) + " is not in quotes");
    ++at_;
    return {name, take_until(quote, "an attribute's value")};
  }

  void open(const Element& element) {
    if (open_.empty() && seen_root_) fail("a second root element");
    if (open_.size() >= depth_limit) fail("elements are nested deeper than " + std::to_string(depth_limit));
    seen_root_ = true;
    open_.push_back(element.name);
    visitor_.open(element);
  }

  void close(std::string_view name) {
    if (open_.empty() || open_.back() != name) fail("</" + std::string(name) + "> closes what is not open");
    open_.pop_back();
    visitor_.close(name);
  }

  std::string_view document_;
  Visitor& visitor_;
  std::size_t at_ = 0;
  std::vector<std::string_view> open_;
  bool seen_root_ = false;
};

}  // namespace

std::string_view Element::attribute(std::string_view wanted) const noexcept {
  for (const auto& [key, value] : attributes) {
    if (key == wanted) return value;
  }
  return {};
}

void parse(std::string_view document, Visitor& visitor) { Parser(document, visitor).run(); }

}  // namespace vm::xml
