// hwloc's XML, format 2 (hwloc/hwloc2.dtd, topology-xml.c writes it). Read here and not by hwloc, which trusts the
// file: a wrong cpuset crashes it. It also works in a build without hwloc.

#include <algorithm>
#include <charconv>
#include <map>
#include <optional>
#include <string>
#include <system_error>
#include <utility>

#include "core/topology_sources.hpp"
#include "core/xml.hpp"
#include "vm/core/error.hpp"

namespace vm::detail {

namespace {

// Bounds on what a file may make us do; the largest machines have a few thousand CPUs.
constexpr std::uint64_t id_limit = 1 << 20;
constexpr std::size_t membership_limit = std::size_t{1} << 24;

template <class Number>
Number parse_number(std::string_view text, const std::string& what, int base = 10) {
  Number number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number, base);
  if (error != std::errc() || end != text.data() + text.size()) {
    throw InvalidConfig("hwloc XML: " + what + " is '" + std::string(text.substr(0, 80)) + "', not a number");
  }
  return number;
}

/// hwloc's bitmaps: 32-bit words in hexadecimal, the highest first, "0xf...f" for ones without end; an empty word is 0.
class Bitmap {
 public:
  explicit Bitmap(std::string_view text) {
    constexpr std::string_view endless = "0xf...f";
    for (std::string_view rest = text; !rest.empty();) {
      std::string_view word = rest.substr(0, rest.find(','));
      rest.remove_prefix(std::min(rest.size(), word.size() + 1));
      if (words_.empty() && word == endless) {
        endless_ = true;
        continue;
      }
      if (word.substr(0, 2) == "0x") word.remove_prefix(2);
      words_.push_back(word.empty() ? 0 : parse_number<std::uint32_t>(word, "a word of a bitmap", 16));
    }
    std::reverse(words_.begin(), words_.end());
  }

  bool holds(int bit) const {
    const auto index = static_cast<std::size_t>(bit) / 32;
    if (index >= words_.size()) return endless_;
    return ((words_[index] >> (static_cast<unsigned>(bit) % 32)) & 1) != 0;
  }

 private:
  std::vector<std::uint32_t> words_;  // the lowest first
  bool endless_ = false;
};

/// An <object> of a type that matters here. Its CPUs are filled in at the end, when all are known.
struct Object {
  int id = 0;
  int package = -1;
  std::string_view cpuset;
  Cache cache;
  std::uint64_t memory = 0;
};

/// A <distances2> element.
struct Matrix {
  std::string_view type, indexing;
  std::uint64_t kind = 0;
  std::vector<std::uint64_t> ids, values;
};

class Reader : public xml::Visitor {
 public:
  void open(const xml::Element& element) override {
    if (element.name == "topology") check_version(element);
    if (element.name == "object") open_object(element);
    if (element.name == "distances2") open_matrix(element);
    text_of_ = element.name;
  }

  void text(std::string_view text) override {
    if (text_of_ == "indexes" && !matrices_.empty()) read_numbers(text, matrices_.back().ids);
    if (text_of_ == "u64values" && !matrices_.empty()) read_numbers(text, matrices_.back().values);
  }

  void close(std::string_view name) override {
    if (name == "object") packages_.pop_back();
    text_of_ = {};
  }

  Topology result() {
    if (!seen_topology_) throw InvalidConfig("hwloc XML: there is no <topology> element");
    topology_.source = "hwloc XML";
    for (const Object& object : objects_["PU"]) topology_.cpus.push_back(object.id);
    std::sort(topology_.cpus.begin(), topology_.cpus.end());
    if (topology_.cpus.empty()) throw InvalidConfig("hwloc XML: the topology has no PU object, so no CPU");
    if (std::adjacent_find(topology_.cpus.begin(), topology_.cpus.end()) != topology_.cpus.end()) {
      throw InvalidConfig("hwloc XML: two PU objects have the same os_index");
    }
    topology_.allowed_cpus = allowed_.empty() ? topology_.cpus : members(allowed_);
    for (const Object& o : objects_["NUMANode"]) topology_.nodes.push_back({o.id, members(o.cpuset), o.memory});
    for (const Object& o : objects_["Package"]) topology_.packages.push_back({o.id, members(o.cpuset)});
    for (const Object& o : objects_["Core"]) topology_.cores.push_back({o.id, o.package, members(o.cpuset)});
    for (Object& o : objects_["cache"]) {
      o.cache.cpus = members(o.cpuset);
      topology_.caches.push_back(std::move(o.cache));
    }
    sort_topology(topology_);
    set_distances();
    return std::move(topology_);
  }

 private:
  static std::uint64_t number(const xml::Element& element, const char* name, std::uint64_t maximum) {
    const std::string_view text = element.attribute(name);
    if (text.empty()) return 0;
    const auto value = parse_number<std::uint64_t>(text, std::string("attribute ") + name);
    if (value > maximum) {
      throw InvalidConfig("hwloc XML: attribute " + std::string(name) + " is " + std::string(text) + "; at most " +
                          std::to_string(maximum) + " makes sense");
    }
    return value;
  }

  static bool is_cache(std::string_view type) {
    return type.size() >= 7 && type.front() == 'L' && type.substr(type.size() - 5) == "Cache";
  }

  void check_version(const xml::Element& element) {
    const std::string_view version = element.attribute("version");
    if (version.substr(0, 2) != "2.") {
      throw InvalidConfig("hwloc XML: format version '" + std::string(version.substr(0, 20)) +
                          "'; 2.0 is needed, which 'lstopo -i old.xml --of xml' of hwloc 2 writes");
    }
    seen_topology_ = true;
  }

  void open_object(const xml::Element& element) {
    const std::string_view type = element.attribute("type");
    if (packages_.empty()) allowed_ = element.attribute("allowed_cpuset");
    const std::string_view kind = is_cache(type) ? std::string_view("cache") : type;
    int package = packages_.empty() ? -1 : packages_.back();
    if (kind == "cache" || kind == "PU" || kind == "Core" || kind == "Package" || kind == "NUMANode") {
      objects_[kind].push_back(read_object(element, kind, package));
      if (kind == "Package") package = objects_[kind].back().id;
    }
    packages_.push_back(package);
  }

  Object read_object(const xml::Element& element, std::string_view kind, int package) {
    const std::vector<Object>& list = objects_[kind];
    Object object;
    // hwloc leaves out the number that the system does not give, and counts for itself.
    object.id = element.attribute("os_index").empty() ? static_cast<int>(list.size())
                                                      : static_cast<int>(number(element, "os_index", id_limit - 1));
    object.package = package;
    object.cpuset = element.attribute("cpuset");
    object.memory = number(element, "local_memory", UINT64_MAX);
    if (kind == "cache") object.cache = read_cache(element);
    return object;
  }

  static Cache read_cache(const xml::Element& element) {
    Cache cache;
    cache.level = static_cast<int>(number(element, "depth", 255));
    switch (number(element, "cache_type", 2)) {
      case 1: cache.type = CacheType::data; break;
      case 2: cache.type = CacheType::instruction; break;
      default: cache.type = CacheType::unified;
    }
    cache.size = number(element, "cache_size", UINT64_MAX);
    cache.line_size = static_cast<std::uint32_t>(number(element, "cache_linesize", UINT32_MAX));
    const std::string_view ways = element.attribute("cache_associativity");
    if (ways == "-1") {  // fully associative
      if (cache.line_size != 0) {
        cache.ways = static_cast<std::uint32_t>(std::min<std::uint64_t>(cache.size / cache.line_size, UINT32_MAX));
      }
    } else {
      cache.ways = static_cast<std::uint32_t>(number(element, "cache_associativity", UINT32_MAX));
    }
    return cache;
  }

  void open_matrix(const xml::Element& element) {
    Matrix matrix;
    matrix.type = element.attribute("type");
    matrix.indexing = element.attribute("indexing");
    matrix.kind = number(element, "kind", UINT64_MAX);
    matrices_.push_back(std::move(matrix));
  }

  static void read_numbers(std::string_view text, std::vector<std::uint64_t>& numbers) {
    constexpr std::string_view spaces = " \t\r\n";
    for (std::size_t at = text.find_first_not_of(spaces); at != std::string_view::npos;) {
      const std::size_t end = std::min(text.find_first_of(spaces, at), text.size());
      numbers.push_back(parse_number<std::uint64_t>(text.substr(at, end - at), "a distance"));
      at = text.find_first_not_of(spaces, end);
    }
  }

  std::vector<int> members(std::string_view cpuset) {
    const Bitmap bitmap(cpuset);
    std::vector<int> cpus;
    std::copy_if(topology_.cpus.begin(), topology_.cpus.end(), std::back_inserter(cpus),
                 [&bitmap](int cpu) { return bitmap.holds(cpu); });
    visited_ += topology_.cpus.size();
    if (visited_ > membership_limit) throw InvalidConfig("hwloc XML: too many objects for so many CPUs");
    return cpus;
  }

  void set_distances() {
    constexpr std::uint64_t means_latency = 4;  // HWLOC_DISTANCES_KIND_MEANS_LATENCY
    for (const Matrix& matrix : matrices_) {
      if (matrix.type != "NUMANode" || matrix.indexing != "os" || (matrix.kind & means_latency) == 0) continue;
      if (matrix.values.size() != matrix.ids.size() * matrix.ids.size()) {
        throw InvalidConfig("hwloc XML: " + std::to_string(matrix.values.size()) + " distances between " +
                            std::to_string(matrix.ids.size()) + " nodes");
      }
      if (use_matrix(matrix)) return;
    }
  }

  /// False when the matrix is not about exactly our nodes: only then it says what `distances` promises.
  bool use_matrix(const Matrix& matrix) {
    const std::size_t count = topology_.nodes.size();
    if (matrix.ids.size() != count) return false;
    std::map<std::uint64_t, std::size_t> row_of;
    for (std::size_t row = 0; row < count; ++row) row_of[matrix.ids[row]] = row;
    Distances distances(count, std::vector<std::uint64_t>(count));
    for (std::size_t from = 0; from < count; ++from) {
      for (std::size_t to = 0; to < count; ++to) {
        const auto from_row = row_of.find(static_cast<std::uint64_t>(topology_.nodes[from].id));
        const auto to_row = row_of.find(static_cast<std::uint64_t>(topology_.nodes[to].id));
        if (from_row == row_of.end() || to_row == row_of.end()) return false;
        distances[from][to] = matrix.values[from_row->second * count + to_row->second];
      }
    }
    topology_.distances = std::move(distances);
    return true;
  }

  bool seen_topology_ = false;
  std::string_view allowed_, text_of_;
  std::vector<int> packages_;  // for each open <object>, the package that it is or lies in; -1 for none
  std::map<std::string_view, std::vector<Object>> objects_;
  std::vector<Matrix> matrices_;
  Topology topology_;
  std::size_t visited_ = 0;
};

}  // namespace

Topology read_hwloc_xml(std::string_view text) {
  if (text.size() > xml_limit) {
    throw InvalidConfig("hwloc XML: more than " + std::to_string(xml_limit) + " bytes; no topology needs so many");
  }
  Reader reader;
  xml::parse(text, reader);
  return reader.result();
}

}  // namespace vm::detail
