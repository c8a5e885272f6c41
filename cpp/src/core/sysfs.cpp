#include "core/sysfs.hpp"

#include <algorithm>
#include <charconv>
#include <filesystem>
#include <fstream>
#include <set>
#include <system_error>
#include <tuple>

#include "vm/core/error.hpp"

namespace vm::sysfs {

namespace {

constexpr std::size_t text_limit = std::size_t{1} << 20;
// Linux's largest NR_CPUS is 8192; the rest is room to grow. It bounds what "0-999999999999" can make us allocate.
constexpr std::uint64_t cpu_limit = 1 << 20;

constexpr const char* cpu_list = "a list of CPUs like 0-3,8";

[[noreturn]] void refuse(std::string_view text, const char* wanted, const std::string& where) {
  throw InvalidConfig(where + " holds '" + std::string(text.substr(0, 80)) + "', not " + wanted);
}

int parse_cpu(std::string_view text, std::string_view whole, const std::string& where) {
  std::uint64_t cpu = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), cpu);
  if (error != std::errc() || end != text.data() + text.size() || cpu >= cpu_limit) refuse(whole, cpu_list, where);
  return static_cast<int>(cpu);
}

CacheType parse_cache_type(const std::string& text, const std::string& where) {
  if (text == "Data") return CacheType::data;
  if (text == "Instruction") return CacheType::instruction;
  if (text == "Unified") return CacheType::unified;
  refuse(text, "a cache type", where);
}

/// 0 when the file is not there.
std::uint32_t read_number(const std::string& path, std::uint32_t maximum) {
  const std::optional<std::string> text = read_text(path);
  if (!text) return 0;
  const std::uint64_t number = parse_number(*text, path);
  if (number > maximum) refuse(*text, "a number of sensible size", path);
  return static_cast<std::uint32_t>(number);
}

std::optional<Cache> read_cache(const std::string& directory) {
  const std::optional<std::string> type = read_text(directory + "/type");
  if (!type) return std::nullopt;
  Cache cache;
  cache.level = static_cast<int>(read_number(directory + "/level", 255));
  cache.type = parse_cache_type(*type, directory + "/type");
  // AArch64 firmware without a PPTT table leaves the size out.
  if (const std::optional<std::string> size = read_text(directory + "/size")) {
    cache.size = parse_size(*size, directory + "/size");
  }
  cache.line_size = read_number(directory + "/coherency_line_size", UINT32_MAX);
  cache.ways = read_number(directory + "/ways_of_associativity", UINT32_MAX);
  const std::string shared = directory + "/shared_cpu_list";
  cache.cpus = parse_cpu_list(read_text(shared).value_or(""), shared);
  return cache;
}

}  // namespace

std::optional<std::string> read_text(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) return std::nullopt;
  std::string text;
  char chunk[4096];
  while (text.size() < text_limit && (file.read(chunk, sizeof chunk), file.gcount() > 0)) {
    text.append(chunk, static_cast<std::size_t>(file.gcount()));
  }
  if (file.bad()) return std::nullopt;
  const std::size_t last = text.find_last_not_of(" \t\r\n");
  text.resize(last == std::string::npos ? 0 : last + 1);
  return text;
}

std::optional<std::vector<std::string>> list_directory(const std::string& path) {
  std::error_code error;
  std::filesystem::directory_iterator entry(path, error);
  if (error) return std::nullopt;
  std::vector<std::string> names;
  for (; entry != std::filesystem::directory_iterator(); entry.increment(error)) {
    if (error) return std::nullopt;
    names.push_back(entry->path().filename().string());
  }
  std::sort(names.begin(), names.end());
  return names;
}

std::uint64_t parse_number(std::string_view text, const std::string& where) {
  std::uint64_t number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc() || end != text.data() + text.size()) refuse(text, "a number", where);
  return number;
}

std::uint64_t parse_hexadecimal(std::string_view text, const std::string& where) {
  std::string_view digits = text;
  if (digits.substr(0, 2) == "0x") digits.remove_prefix(2);
  std::uint64_t number = 0;
  const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), number, 16);
  if (error != std::errc() || end != digits.data() + digits.size()) refuse(text, "a hexadecimal number", where);
  return number;
}

std::uint64_t parse_size(std::string_view text, const std::string& where) {
  unsigned shift = 0;
  std::string_view digits = text;
  if (!text.empty()) {
    const char unit = text.back();
    shift = unit == 'K' ? 10 : unit == 'M' ? 20 : unit == 'G' ? 30 : 0;
    if (shift != 0) digits.remove_suffix(1);
  }
  std::uint64_t number = 0;
  const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), number);
  if (error != std::errc() || end != digits.data() + digits.size() || number > (UINT64_MAX >> shift)) {
    refuse(text, "a size like 48K", where);
  }
  return number << shift;
}

std::vector<int> parse_cpu_list(std::string_view text, const std::string& where) {
  std::set<int> cpus;
  std::uint64_t listed = 0;
  for (std::string_view rest = text; !rest.empty();) {
    const std::string_view part = rest.substr(0, rest.find(','));
    rest.remove_prefix(std::min(rest.size(), part.size() + 1));
    const std::size_t dash = part.find('-');
    const int first = parse_cpu(part.substr(0, dash), text, where);
    const int last = dash == std::string_view::npos ? first : parse_cpu(part.substr(dash + 1), text, where);
    if (last < first || (listed += static_cast<std::uint64_t>(last - first) + 1) > cpu_limit) {
      refuse(text, cpu_list, where);
    }
    for (int cpu = first; cpu <= last; ++cpu) cpus.insert(cpu);
  }
  return {cpus.begin(), cpus.end()};
}

std::vector<Cache> read_caches(const std::string& root, int cpu) {
  const std::string directory = root + "/sys/devices/system/cpu/cpu" + std::to_string(cpu) + "/cache";
  std::vector<Cache> caches;
  for (const std::string& name : list_directory(directory).value_or(std::vector<std::string>{})) {
    if (name.rfind("index", 0) != 0) continue;
    if (std::optional<Cache> cache = read_cache(directory + "/" + name)) caches.push_back(std::move(*cache));
  }
  std::sort(caches.begin(), caches.end(), [](const Cache& a, const Cache& b) {
    return std::tie(a.level, a.type, a.cpus) < std::tie(b.level, b.type, b.cpus);
  });
  return caches;
}

}  // namespace vm::sysfs
