#include "mem/numa/machine.hpp"

#include <sys/mman.h>

#include <algorithm>
#include <cerrno>
#include <string>
#include <utility>

#include "mem/numa/calls.hpp"
#include "mem/pages/huge_pages.hpp"
#include "mem/pages/system_error.hpp"
#include "vm/core/error.hpp"
#include "vm/mem/numa/node_memory.hpp"

namespace vm::mem::numa {

namespace {

// Below this a look into the files of sysfs would cost more than the pages, and a node without so little is no rarity.
constexpr std::uint64_t worth_checking = std::uint64_t{1} << 21;

[[noreturn]] void throw_refused(const std::string& refusal, int code) {
  if (code == EPERM || code == ENOSYS || code == EINVAL) {
    throw NotSupported(refusal + ". A policy with a fallback takes memory elsewhere");
  }
  throw_system_error(refusal, code);
}

}  // namespace

void require_room(std::uint64_t size, const Decision& decision, HugePages huge_pages) {
  const std::uint64_t reserved = reserved_page_size(huge_pages);
  if (reserved == 0 && size < worth_checking) return;
  std::uint64_t room = 0;
  for (const int node : decision.nodes) {
    try {
      room += reserved != 0 ? free_huge_pages(node, huge_pages) * reserved : node_memory(node).available;
    } catch (const NotSupported&) {
      return;  // no sysfs: nobody can say
    }
  }
  if (size <= room) return;
  throw ResourceExhausted(hex(size) + " bytes wanted, and the policy is to " + decision.text() + ", where " +
                          hex(room) + " bytes are free" + (reserved != 0 ? " in reserved pages of that size" : "") +
                          "; allow a fallback, take more nodes, or free some there");
}

Machine::Machine(Topology topology, Through through) : topology_(std::move(topology)), through_("mbind") {
  if (through == Through::system_calls || !topology_.is_this_system) return;
  std::string reason;
  binder_ = make_hwloc_binder(reason);
  if (binder_ != nullptr) {
    through_ = binder_->name();
  } else if (through == Through::hwloc) {
    throw NotSupported("memory cannot be bound through hwloc: " + reason);
  } else {
    through_ += " (" + reason + ")";
  }
}

Decision Machine::decide(const NumaPolicy& policy) const { return decide(policy, current_cpu()); }

Decision Machine::decide(const NumaPolicy& policy, int cpu) const {
  Caller caller;
  caller.cpu = cpu;
  if (topology_.is_this_system) {
    NodeMask allowed;
    if (get_allowed(allowed) == 0) caller.allowed_nodes = allowed.nodes();
  }
  return numa::decide(policy, topology_, caller);
}

void Machine::require_this_system() const {
  if (topology_.is_this_system) return;
  throw NotSupported("the topology (" + topology_.source +
                     ") describes another machine, so nothing can be placed on "
                     "its nodes; take Topology::detect(TopologySource::sysfs) for this one");
}

Binding Machine::bind(void* start, std::uint64_t size, const Decision& decision) const {
  require_this_system();
  int code = 0;
  Binding binding = numa::bind(binder_.get(), start, size, decision, code);
  // Where there is no other memory, a refused policy changes nothing.
  const bool harmless = decision.everywhere && (code == EPERM || code == ENOSYS);
  if (!binding.bound() && decision.strict && !harmless) throw_refused(binding.refusal, code);
  return binding;
}

std::shared_ptr<NumaBlock> Machine::allocate(std::uint64_t size, const Decision& decision,
                                             const BlockOptions& options) {
  require_this_system();
  if (decision.strict) require_room(size, decision, options.huge_pages);
  auto mapping = HostMapping::anonymous(size, options.huge_pages);
  // An interleaving of small pages must not become one of huge pages. Refused where there are none: as well.
  if (options.huge_pages == HugePages::none) ::madvise(mapping->data(), size, MADV_NOHUGEPAGE);
  Binding binding = bind(mapping->data(), size, decision);
  auto block = std::make_shared<NumaBlock>(shared_from_this(), std::move(mapping), options.huge_pages, decision,
                                           std::move(binding));
  if (options.populate || decision.strict) block->populate();
  if (decision.strict) {
    const Verification found = block->verify();
    if (found.verdict == Verdict::elsewhere) {
      throw NotSupported("the kernel took the policy and did not keep it; " + found.reason);
    }
  }
  const std::lock_guard lock(mutex_);
  for (const int node : decision.nodes) ++allocations_[node];
  return block;
}

void Machine::enter(NumaBlock* block) {
  const std::lock_guard lock(mutex_);
  blocks_.insert(block);
}

void Machine::leave(NumaBlock* block) noexcept {
  const std::lock_guard lock(mutex_);
  blocks_.erase(block);
}

void Machine::count_migration(const Migration& migration) {
  if (migration.moved_bytes == 0) return;
  const std::lock_guard lock(mutex_);
  for (const auto& [node, bytes] : migration.moved_to) migrated_bytes_[node] += bytes;
}

std::vector<NodeStatistics> Machine::statistics() const {
  struct Live {
    std::shared_ptr<HostMapping> mapping;
    std::vector<int> nodes;
  };
  std::vector<Live> live;
  std::map<int, NodeStatistics> by_node;
  for (const NumaNode& node : topology_.nodes) by_node[node.id].node = node.id;
  {
    const std::lock_guard lock(mutex_);
    for (const NumaBlock* block : blocks_) {
      const std::lock_guard of_block(block->mutex_);
      if (block->mapping_ != nullptr) live.push_back({block->mapping_, block->decision_.nodes});
    }
    for (auto& [node, found] : by_node) {
      const auto count = [node = node](const auto& counts) {
        const auto at = counts.find(node);
        return at == counts.end() ? std::uint64_t{0} : at->second;
      };
      found.allocations = count(allocations_);
      found.migrated_bytes = count(migrated_bytes_);
    }
  }
  const bool visible = topology_.is_this_system && !placement_unavailable();
  for (auto& [node, found] : by_node) {
    if (visible) found.resident_bytes = found.stray_bytes = 0;
  }
  // Asking takes long: without the lock.
  for (const Live& block : live) {
    for (const int node : block.nodes) ++by_node[node].blocks;
    if (!visible) continue;
    for (const auto& [node, bytes] : placement_of(block.mapping->data(), block.mapping->size()).bytes()) {
      NodeStatistics& found = by_node[node];
      found.node = node;
      found.resident_bytes = found.resident_bytes.value_or(0) + bytes;
      const bool stray = std::find(block.nodes.begin(), block.nodes.end(), node) == block.nodes.end();
      found.stray_bytes = found.stray_bytes.value_or(0) + (stray ? bytes : 0);
    }
  }
  std::vector<NodeStatistics> all;
  for (const auto& entry : by_node) all.push_back(entry.second);
  return all;
}

}  // namespace vm::mem::numa
