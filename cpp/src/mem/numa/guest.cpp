// Guest memory on the nodes of the host.
#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include "mem/numa/machine.hpp"
#include "mem/numa/relocate.hpp"
#include "mem/pages/page_map.hpp"
#include "vm/core/error.hpp"
#include "vm/mem/guest/memory.hpp"
#include "vm/mem/numa/allocator.hpp"
#include "vm/mem/pages/host_page.hpp"

namespace vm::mem::numa {

namespace {

struct Piece {
  std::byte* host = nullptr;
  std::uint64_t size = 0;
  std::uint64_t unit = 0;     // bytes of a page; 0 where the kernel places nothing
  std::uint64_t granule = 0;  // bytes that an interleaving deals out at a time
};

std::string name_of(const Region& region) {
  return "region " + hex(region.base) + "-" + hex(region.last()) + " (" + region.name + ")";
}

/// Anonymous memory and memfds use transparent huge pages where they can; dealing out less would split those.
std::uint64_t granule_of(std::uint64_t size, std::uint64_t unit) {
  const std::uint64_t transparent = std::uint64_t{1} << 21;
  return unit < transparent && size >= 2 * transparent ? transparent : unit;
}

std::vector<Piece> pieces_of(const RegionTable& table, std::uint64_t paddr, std::uint64_t size, const char* what) {
  table.require(paddr, size, what);
  std::vector<Piece> pieces;
  for (std::uint64_t done = 0; done < size;) {
    const Region& region = *table.find(paddr + done);
    const std::uint64_t offset = paddr + done - region.base;
    const std::uint64_t count = std::min(size - done, region.size - offset);
    const std::uint64_t unit = region.mapping == nullptr ? 0 : region.mapping->discard_unit();
    pieces.push_back({region.host + offset, count, unit, granule_of(count, unit)});
    done += count;
  }
  return pieces;
}

void require_placeable(const RegionTable& table, std::uint64_t paddr, const Piece& piece) {
  const std::string name = name_of(*table.find(paddr));
  if (piece.unit == 0) {
    throw NotSupported("the kernel ignores memory policies for " + name +
                       ": its bytes live in a file; use anonymous memory or a memfd");
  }
  if (reinterpret_cast<std::uintptr_t>(piece.host) % piece.unit != 0 || piece.size % piece.unit != 0) {
    throw InvalidConfig("memory is placed in whole pages of " + hex(piece.unit) + " bytes in " + name + ", got " +
                        hex(piece.size) + " bytes at " + hex(paddr));
  }
}

/// Bytes that have no page yet, but for reserved ones, which were claimed when they were mapped.
std::uint64_t missing(const std::vector<Piece>& pieces) {
  std::uint64_t bytes = 0;
  for (const Piece& piece : pieces) {
    if (piece.unit != host_page_size()) continue;
    const auto start = reinterpret_cast<std::uintptr_t>(piece.host);
    bytes += piece.size - resident_bytes(start, start + piece.size);
  }
  return bytes;
}

void add(Migration& sum, Migration&& part) {
  sum.binding = std::move(part.binding);
  sum.moved_bytes += part.moved_bytes;
  for (const auto& [node, bytes] : part.moved_to) sum.moved_to[node] += bytes;
  sum.already_bytes += part.already_bytes;
  sum.failed_bytes += part.failed_bytes;
  sum.absent_bytes += part.absent_bytes;
  if (sum.reason.empty()) sum.reason = std::move(part.reason);
  Placement& all = sum.verification.placement;
  const Placement& more = part.verification.placement;
  all.page_size = more.page_size;
  all.pages.insert(all.pages.end(), more.pages.begin(), more.pages.end());
}

}  // namespace

Migration NumaAllocator::place(GuestMemory& memory, std::uint64_t paddr, std::uint64_t size, const NumaPolicy& policy,
                               const PlaceOptions& options) {
  machine_->require_this_system();
  const auto table = memory.table();
  const std::vector<Piece> pieces = pieces_of(*table, paddr, size, "place");
  std::uint64_t granules = 0;  // every piece begins an interleaving anew
  std::uint64_t at = paddr;
  for (const Piece& piece : pieces) {
    require_placeable(*table, at, piece);
    at += piece.size;
    granules += piece.granule;
  }
  if (const auto reason = placement_unavailable()) throw NotSupported("nothing was placed: " + *reason);
  Migration sum;
  sum.decision = machine_->decide(policy);
  if (options.populate && sum.decision.strict) require_room(missing(pieces), sum.decision, HugePages::none);
  // Before anything is populated, so that new pages are right at once.
  std::vector<Binding> bindings;
  for (const Piece& piece : pieces) bindings.push_back(machine_->bind(piece.host, piece.size, sum.decision));
  if (options.populate) memory.populate(paddr, size);
  for (std::size_t i = 0; i < pieces.size(); ++i) {
    Migration part = relocate(pieces[i].host, pieces[i].size, sum.decision, pieces[i].granule);
    part.binding = std::move(bindings[i]);
    add(sum, std::move(part));
  }
  sum.verification = judge(sum.decision, std::move(sum.verification.placement), granules);
  machine_->count_migration(sum);
  return sum;
}

Placement placement_of(const GuestMemory& memory, std::uint64_t paddr, std::uint64_t size) {
  const auto table = memory.table();
  Placement all = placement_of(static_cast<const void*>(nullptr), 0);
  for (const Piece& piece : pieces_of(*table, paddr, size, "placement")) {
    const Placement part = placement_of(piece.host, piece.size);
    all.pages.insert(all.pages.end(), part.pages.begin(), part.pages.end());
  }
  return all;
}

}  // namespace vm::mem::numa
