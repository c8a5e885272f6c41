#include "vm/mem/paging/roots.hpp"

#include <algorithm>
#include <cmath>
#include <tuple>
#include <variant>

#include "root_search.hpp"
#include "vm/core/error.hpp"
#include "vm/mem/paging/aarch64.hpp"
#include "vm/mem/paging/riscv.hpp"
#include "vm/mem/paging/x86.hpp"

namespace vm::mem::paging {
namespace {

/// All formats look at one piece before the next is read: it stays in the processor's cache, and this often progress is
/// reported. A multiple of every table's size.
constexpr std::uint64_t piece = std::uint64_t{1} << 20;

std::unique_ptr<RootSearch> make(const RegionTable& memory, const X86Config& config) {
  switch (config.levels) {
    case 2: return std::make_unique<FormatRootSearch<X86Format<2>>>(memory, config);
    case 3: return std::make_unique<FormatRootSearch<X86Format<3>>>(memory, config);
    case 4: return std::make_unique<FormatRootSearch<X86Format<4>>>(memory, config);
    default: return std::make_unique<FormatRootSearch<X86Format<5>>>(memory, config);
  }
}

std::unique_ptr<RootSearch> make(const RegionTable& memory, const RiscVConfig& config) {
  switch (config.mode) {
    case RiscVMode::sv32: return std::make_unique<FormatRootSearch<RiscVFormat<2>>>(memory, config);
    case RiscVMode::sv39: return std::make_unique<FormatRootSearch<RiscVFormat<3>>>(memory, config);
    case RiscVMode::sv48: return std::make_unique<FormatRootSearch<RiscVFormat<4>>>(memory, config);
    default: return std::make_unique<FormatRootSearch<RiscVFormat<5>>>(memory, config);
  }
}

std::unique_ptr<RootSearch> make(const RegionTable& memory, const AArch64Config& config) {
  switch (config.granule) {
    case 16384: return std::make_unique<FormatRootSearch<AArch64Format<14>>>(memory, config);
    case 65536: return std::make_unique<FormatRootSearch<AArch64Format<16>>>(memory, config);
    default: return std::make_unique<FormatRootSearch<AArch64Format<12>>>(memory, config);
  }
}

double share(std::uint64_t part, std::uint64_t whole) {
  return whole == 0 ? 0 : static_cast<double>(part) / static_cast<double>(whole);
}

/// `value` relative to what is enough, so that real roots of different sizes are equals.
double saturate(double value, double enough) { return value >= enough ? 1 : value / enough; }

/// Factor for a candidate that another one explains.
constexpr double explained = 0.25;

/// The same top table makes some sense in several formats; it belongs to the one where it makes most.
void explain_misread_roots(std::vector<FoundRoot>& found) {
  std::unordered_map<std::uint64_t, double> best;
  for (const FoundRoot& f : found) best[f.candidate.root] = std::max(best[f.candidate.root], f.candidate.score);
  for (FoundRoot& f : found) {
    if (f.candidate.score == best[f.candidate.root]) continue;
    f.candidate.table_of = f.candidate.root;
    f.candidate.score *= explained;
  }
}

/// The candidates that point at a table.
struct Parents {
  std::size_t best = 0;  ///< the one with the highest score
  std::uint32_t count = 0;
};

/// A table of one root can be a well-formed root by itself, with one level less: RISC-V's Sv39 roots are exactly the
/// second level of Sv48. The one above explains both. Where two explain each other, as a page directory and a table
/// that maps the directory's own page do in 32-bit paging, the one that more candidates point at is the table.
void explain_inner_tables(std::vector<FoundRoot>& found) {
  constexpr double as_credible = 0.75;
  const auto key = [](std::uint64_t table, const RootCandidate& c) { return table | c.config.index(); };
  std::unordered_map<std::uint64_t, Parents> parents;
  for (std::size_t i = 0; i < found.size(); ++i) {
    const RootCandidate& parent = found[i].candidate;
    for (const std::uint64_t child : found[i].children) {
      if (child == parent.root) continue;
      Parents& p = parents.try_emplace(key(child, parent), Parents{i, 0}).first->second;
      if (found[p.best].candidate.score < parent.score) p.best = i;
      ++p.count;
    }
  }
  std::vector<double> scores;
  for (const FoundRoot& f : found) scores.push_back(f.candidate.score);
  for (std::size_t i = 0; i < found.size(); ++i) {
    RootCandidate& c = found[i].candidate;
    const auto above = parents.find(key(c.root, c));
    if (above == parents.end() || scores[above->second.best] < scores[i] * as_credible) continue;
    const RootCandidate& parent = found[above->second.best].candidate;
    const auto& own = found[i].children;
    const auto back = parents.find(key(parent.root, parent));
    const bool mutual = std::find(own.begin(), own.end(), parent.root) != own.end();
    if (mutual && back->second.count > above->second.count) continue;
    c.table_of = parent.root;
    c.score *= explained;
  }
}

std::vector<FoundRoot> search(const RegionTable& memory, const std::vector<std::unique_ptr<RootSearch>>& searches,
                              const RootScanOptions& options) {
  std::uint64_t total = 0;
  std::uint64_t done = 0;
  for (const Region& region : memory.regions()) total += region.size;
  const auto keep_going = [&] { return !options.progress || options.progress(done, total); };
  for (const Region& region : memory.regions()) {
    for (std::uint64_t first = region.base;;) {
      const std::uint64_t last = std::min(first | (piece - 1), region.last());
      for (const auto& search : searches) search->collect(first, last);
      done += last - first + 1;
      if (!keep_going()) return {};
      if (last == region.last()) break;
      first = last + 1;
    }
  }
  std::vector<FoundRoot> found;
  for (const auto& search : searches) {
    auto ranked = search->rank(keep_going);
    if (!keep_going()) return {};
    found.insert(found.end(), std::make_move_iterator(ranked.begin()), std::make_move_iterator(ranked.end()));
  }
  return found;
}

}  // namespace

double score_root(const RootCandidate& c) noexcept {
  constexpr double enough_pages = 64;
  constexpr double enough_accessed = 0.75;
  constexpr double enough_shared = 2;
  const auto amount = [](std::uint64_t pages) {
    return saturate(std::log2(1.0 + static_cast<double>(pages)), std::log2(1 + enough_pages));
  };
  // What is broken or never used speaks against the whole; the rest adds up.
  const double integrity = 1 - share(c.broken_tables, c.tables);
  const double use = 0.25 + 0.75 * saturate(share(c.accessed_pages, c.pages), enough_accessed);
  const double evidence = 0.15 + 0.20 * amount(c.pages) + 0.20 * amount(c.kernel_pages) +
                          0.25 * (c.maps_itself ? 1 : 0) + 0.05 * (c.tables > 1 ? 1 : 0) +
                          0.15 * saturate(c.shared_entries, enough_shared);
  return 100 * integrity * integrity * use * evidence;
}

bool ranks_before(const FoundRoot& a, const FoundRoot& b) noexcept {
  const auto key = [](const RootCandidate& c) { return std::tuple(-c.score, ~c.user_pages, c.root); };
  return key(a.candidate) < key(b.candidate);
}

std::unique_ptr<RootSearch> make_root_search(const RegionTable& memory, const PagingConfig& config) {
  validate(config);
  return std::visit([&memory](const auto& c) { return make(memory, c); }, config);
}

std::vector<PagingConfig> default_root_formats() {
  std::vector<PagingConfig> formats;
  for (const int levels : {4, 5, 3}) {
    X86Config config;
    config.levels = levels;
    formats.emplace_back(config);
  }
  for (const RiscVMode mode : {RiscVMode::sv39, RiscVMode::sv48, RiscVMode::sv57}) {
    RiscVConfig config;
    config.mode = mode;
    formats.emplace_back(config);
  }
  for (const std::uint64_t size_offset : {16, 25}) {  // 48-bit and 39-bit halves
    AArch64Config config;
    config.tcr = (AArch64Config::default_tcr(4096) & ~std::uint64_t{0x3F003F}) | size_offset | size_offset << 16;
    formats.emplace_back(config);
  }
  return formats;
}

std::vector<RootCandidate> find_roots(const GuestMemory& memory, const RootScanOptions& options) {
  const std::shared_ptr<const RegionTable> table = memory.table();
  std::vector<std::unique_ptr<RootSearch>> searches;
  for (const PagingConfig& config : options.formats.empty() ? default_root_formats() : options.formats)
    searches.push_back(make_root_search(*table, config));
  std::vector<FoundRoot> found = search(*table, searches, options);
  explain_inner_tables(found);
  explain_misread_roots(found);
  std::stable_sort(found.begin(), found.end(), ranks_before);
  std::vector<RootCandidate> best;
  for (const FoundRoot& f : found)
    if (best.size() < options.limit) best.push_back(f.candidate);
  return best;
}

}  // namespace vm::mem::paging
