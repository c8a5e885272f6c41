#include "vm/mem/paging/roots.hpp"

#include <algorithm>
#include <cmath>
#include <tuple>
#include <variant>

#include "format_root_search.hpp"
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

/// A table of one root can be a well-formed root by itself, with fewer levels: RISC-V's Sv39 roots are exactly the
/// second level of Sv48. Nothing real is a table of a real root, so the one above explains the other.
///
/// Each can be a table of the other: a last-level table that maps the page of a root, read as a root itself, leads
/// there. Then the better one is a root. In 32-bit paging, which has no reserved bits, both can be flawless; there the
/// one that more candidates have as a table is one.
void explain_inner_tables(std::vector<FoundRoot>& found, const std::vector<std::size_t>& positions) {
  constexpr double as_credible = 0.75;
  std::vector<std::uint32_t> parents(max_ranked);
  std::vector<double> scores;
  for (const FoundRoot& f : found) {
    scores.push_back(f.candidate.score);
    for (std::size_t root = 0; root < max_ranked; ++root) parents[root] += f.tables.test(root) ? 1U : 0U;
  }
  const auto is_table_of = [&](std::size_t table, std::size_t root) {
    if (!found[root].tables.test(positions[table])) return false;
    if (!found[table].tables.test(positions[root])) return scores[root] >= scores[table] * as_credible;
    if (scores[table] != scores[root]) return scores[table] < scores[root];
    return parents[positions[table]] > parents[positions[root]];
  };
  for (std::size_t i = 0; i < found.size(); ++i) {
    RootCandidate& c = found[i].candidate;
    std::size_t best = i;
    for (std::size_t j = 0; j < found.size(); ++j) {
      const RootCandidate& above = found[j].candidate;
      const bool better = best == i || scores[j] > scores[best];
      if (better && above.root != c.root && above.config.index() == c.config.index() && is_table_of(i, j)) best = j;
    }
    if (best == i) continue;
    c.table_of = found[best].candidate.root;
    c.score *= explained;
  }
}

using Searches = std::vector<std::unique_ptr<RootSearch>>;
using KeepGoing = std::function<bool()>;

/// Lets every search see all memory. `done` counts the bytes.
bool read_everything(const RegionTable& memory, const Searches& searches, const KeepGoing& keep_going,
                     std::uint64_t& done) {
  for (const Region& region : memory.regions()) {
    for (std::uint64_t first = region.base;;) {
      const std::uint64_t last = std::min(first | (piece - 1), region.last());
      for (const auto& search : searches) search->collect(first, last);
      done += last - first + 1;
      if (!keep_going()) return false;
      if (last == region.last()) break;
      first = last + 1;
    }
  }
  return true;
}

/// The best candidates of all searches, and which search found each.
struct Ranking {
  std::vector<FoundRoot> found;
  std::vector<std::size_t> search;
};

Ranking rank_all(const Searches& searches, const KeepGoing& keep_going) {
  std::vector<std::pair<FoundRoot, std::size_t>> all;
  for (std::size_t i = 0; i < searches.size(); ++i)
    for (FoundRoot& f : searches[i]->rank(keep_going)) all.emplace_back(std::move(f), i);
  std::stable_sort(all.begin(), all.end(), [](const auto& a, const auto& b) { return ranks_before(a.first, b.first); });
  all.resize(std::min(all.size(), max_ranked));
  Ranking ranking;
  for (auto& [found, search] : all) {
    ranking.found.push_back(std::move(found));
    ranking.search.push_back(search);
  }
  return ranking;
}

/// Lets the candidates speak about each other, and moves those down that others explain.
void relate_all(const Searches& searches, Ranking& ranking, const KeepGoing& keep_going) {
  std::vector<std::uint64_t> roots;
  for (const FoundRoot& f : ranking.found) roots.push_back(f.candidate.root);
  std::sort(roots.begin(), roots.end());
  roots.erase(std::unique(roots.begin(), roots.end()), roots.end());
  for (std::size_t i = 0; i < searches.size(); ++i) {
    std::vector<FoundRoot*> own;
    for (std::size_t j = 0; j < ranking.found.size(); ++j)
      if (ranking.search[j] == i) own.push_back(&ranking.found[j]);
    searches[i]->relate(roots, own, keep_going);
  }
  std::vector<std::size_t> positions;
  for (const FoundRoot& f : ranking.found)
    positions.push_back(
        static_cast<std::size_t>(std::lower_bound(roots.begin(), roots.end(), f.candidate.root) - roots.begin()));
  explain_inner_tables(ranking.found, positions);
  explain_misread_roots(ranking.found);
}

}  // namespace

double score_root(const RootCandidate& c) noexcept {
  constexpr double enough_pages = 64;
  constexpr double enough_accessed = 0.75;
  constexpr double enough_shared = 2;
  constexpr double enough_filled = 0.25;  // Linux keeps some 60 empty tables beside 30 to 50 others in a small guest
  const auto amount = [](std::uint64_t pages) {
    return saturate(std::log2(1.0 + static_cast<double>(pages)), std::log2(1 + enough_pages));
  };
  // What is broken, empty or never used speaks against the whole; the rest adds up. Free memory is full of zeros, and a
  // table that is read one level too high leads there.
  const double integrity = 1 - share(c.broken_tables, c.tables);
  const double filled = saturate(share(c.tables, c.tables + c.empty_tables), enough_filled);
  const double use = 0.25 + 0.75 * saturate(share(c.accessed_pages, c.pages), enough_accessed);
  const double evidence = 0.15 + 0.20 * amount(c.pages) + 0.20 * amount(c.kernel_pages) +
                          0.25 * (c.maps_itself ? 1 : 0) + 0.05 * (c.tables > 1 ? 1 : 0) +
                          0.15 * saturate(c.shared_entries, enough_shared);
  return 100 * integrity * integrity * filled * use * evidence;
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
  for (const std::uint64_t size_offset : {16U, 25U}) {  // 48-bit and 39-bit halves
    AArch64Config config;
    config.tcr = (AArch64Config::default_tcr(4096) & ~std::uint64_t{0x3F003F}) | size_offset | size_offset << 16;
    formats.emplace_back(config);
  }
  return formats;
}

std::vector<RootCandidate> find_roots(const GuestMemory& memory, const RootScanOptions& options) {
  const std::shared_ptr<const RegionTable> table = memory.table();
  Searches searches;
  for (const PagingConfig& config : options.formats.empty() ? default_root_formats() : options.formats)
    searches.push_back(make_root_search(*table, config));
  std::uint64_t total = 0;
  std::uint64_t done = 0;
  for (const Region& region : table->regions()) total += region.size;
  const KeepGoing keep_going = [&] { return !options.progress || options.progress(done, total); };
  if (!read_everything(*table, searches, keep_going, done)) return {};
  Ranking ranking = rank_all(searches, keep_going);
  relate_all(searches, ranking, keep_going);
  if (!keep_going()) return {};
  std::stable_sort(ranking.found.begin(), ranking.found.end(), ranks_before);
  std::vector<RootCandidate> best;
  for (const FoundRoot& f : ranking.found)
    if (best.size() < options.limit) best.push_back(f.candidate);
  return best;
}

}  // namespace vm::mem::paging
