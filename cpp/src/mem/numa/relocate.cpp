#include "mem/numa/relocate.hpp"

#include <algorithm>
#include <array>
#include <cerrno>
#include <system_error>
#include <utility>

#include "mem/numa/calls.hpp"
#include "mem/pages/system_error.hpp"
#include "vm/core/address.hpp"
#include "vm/core/error.hpp"

namespace vm::mem::numa {

namespace {

constexpr std::size_t batch = 1024;  // pages sent by one call

/// Where each page belongs.
class Targets {
 public:
  /// `first`: the number of the range's first page.
  Targets(const Decision& decision, std::uint64_t first, std::uint64_t pages_of_granule)
      : decision_(decision), first_(first), pages_of_granule_(std::max<std::uint64_t>(pages_of_granule, 1)) {}

  /// The node for page `index`, which is on `now`. Counted from address 0, so that no huge page has two.
  int of(std::size_t index, int now) const {
    const auto& nodes = decision_.nodes;
    if (decision_.mode == Mode::interleave) return nodes[(first_ + index) / pages_of_granule_ % nodes.size()];
    if (wanted(now)) return now;
    return decision_.home_node && wanted(*decision_.home_node) ? *decision_.home_node : nodes.front();
  }

 private:
  bool wanted(int node) const { return std::binary_search(decision_.nodes.begin(), decision_.nodes.end(), node); }

  const Decision& decision_;
  std::uint64_t first_;
  std::uint64_t pages_of_granule_;
};

std::string failure(int code) {
  if (code == EACCES) return "a page is mapped by another process too, so it may not be moved";
  if (code == EBUSY) return "a page is in use by the kernel or a device; try again later";
  if (code == ENOMEM) return "the node has no free page";
  return "a page could not be moved: " + std::system_category().message(code);
}

/// Pages and their targets, sent when there are enough of them.
class Sender {
 public:
  void add(void* page, int node) {
    pages_[count_] = page;
    nodes_[count_] = node;
    if (++count_ == batch) flush();
  }
  void flush() {
    if (count_ == 0) return;
    status_.fill(0);
    const int code = move_pages(count_, pages_.data(), nodes_.data(), status_.data());
    if (code == EPERM || code == ENOSYS) {
      throw NotSupported("pages cannot be moved here: " + std::system_category().message(code) + " (move_pages)");
    }
    // A single page's failure can fail the call of an old kernel; where the pages are afterwards counts.
    for (std::size_t i = 0; i < count_ && reason_.empty(); ++i) {
      if (status_[i] < 0) reason_ = failure(-status_[i]);
    }
    if (code != 0 && reason_.empty()) reason_ = failure(code);
    count_ = 0;
  }
  const std::string& reason() const { return reason_; }

 private:
  std::array<void*, batch> pages_;
  std::array<int, batch> nodes_;
  std::array<int, batch> status_;
  std::size_t count_ = 0;
  std::string reason_;
};

}  // namespace

Migration relocate(void* start, std::uint64_t size, const Decision& decision, std::uint64_t granule) {
  Migration result;
  result.decision = decision;
  const Placement before = placement_of(start, size);
  const std::uintptr_t first = align_down(reinterpret_cast<std::uintptr_t>(start), before.page_size);
  const Targets targets(decision, first / before.page_size, granule / before.page_size);
  Sender sender;
  for (std::size_t i = 0; i < before.pages.size(); ++i) {
    if (before.pages[i] == Placement::absent) continue;
    const int target = targets.of(i, before.pages[i]);
    if (target != before.pages[i]) sender.add(reinterpret_cast<void*>(first + i * before.page_size), target);
  }
  sender.flush();

  Placement after = placement_of(start, size);
  for (std::size_t i = 0; i < after.pages.size(); ++i) {
    const int was = before.pages[i];
    const int is = after.pages[i];
    if (is == Placement::absent) {
      result.absent_bytes += after.page_size;
    } else if (was != Placement::absent && is != targets.of(i, was)) {
      result.failed_bytes += after.page_size;
    } else if (was == is) {
      result.already_bytes += after.page_size;
    } else {
      result.moved_bytes += after.page_size;
      result.moved_to[is] += after.page_size;
    }
  }
  if (result.failed_bytes != 0) {
    result.reason = sender.reason().empty() ? "the kernel does not say why" : sender.reason();
  }
  result.verification = judge(decision, std::move(after), granule);
  return result;
}

std::uint64_t migrate_process(int from, int to) {
  const std::string asked =
      "moving this process's pages from node " + std::to_string(from) + " to node " + std::to_string(to);
  for (const int node : {from, to}) {
    if (node >= 0 && node < node_limit) continue;
    throw OutOfRange(asked + ": nodes are numbered from 0 to " + std::to_string(node_limit - 1),
                     static_cast<std::uint64_t>(node), 1);
  }
  std::uint64_t stayed = 0;
  const int code = migrate_process_pages(NodeMask({from}), NodeMask({to}), stayed);
  if (code == ENOSYS || code == EPERM || code == EINVAL) {
    throw NotSupported(asked + ": " + std::system_category().message(code) +
                       " (migrate_pages); the kernel has no such node, or does not let this process use it");
  }
  if (code != 0) throw_system_error(asked + " (migrate_pages)", code);
  return stayed;
}

}  // namespace vm::mem::numa
