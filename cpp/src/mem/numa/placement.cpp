#include "vm/mem/numa/placement.hpp"

#include <algorithm>
#include <array>
#include <cerrno>

#include "mem/numa/calls.hpp"
#include "mem/pages/system_error.hpp"
#include "vm/core/address.hpp"
#include "vm/core/error.hpp"
#include "vm/mem/pages/host_page.hpp"

namespace vm::mem::numa {

namespace {

constexpr std::size_t batch = 4096;  // pages for each call: the arrays stay in the second-level cache

std::string refusal(int code) {
  if (code == ENOSYS) return "this kernel has no move_pages (built without NUMA), so nobody can say where pages are";
  return "the system forbids move_pages, so nobody can say where pages are; containers need CAP_SYS_NICE, or a "
         "seccomp profile that allows it";
}

bool refused(int code) { return code == ENOSYS || code == EPERM; }

std::string share_text(const std::map<int, std::uint64_t>& bytes) {
  std::string text;
  for (const auto& [node, count] : bytes) {
    text += (text.empty() ? "" : ", ") + hex(count) + " bytes on node " + std::to_string(node);
  }
  return text;
}

bool even(const Decision& decision, const std::map<int, std::uint64_t>& bytes, std::uint64_t tolerance) {
  std::uint64_t least = UINT64_MAX;
  std::uint64_t most = 0;
  for (const int node : decision.nodes) {
    const auto found = bytes.find(node);
    const std::uint64_t share = found == bytes.end() ? 0 : found->second;
    least = std::min(least, share);
    most = std::max(most, share);
  }
  return most - least <= tolerance;
}

}  // namespace

std::map<int, std::uint64_t> Placement::bytes() const {
  std::map<int, std::uint64_t> sums;
  for (std::size_t at = 0; at < pages.size();) {
    const int node = pages[at];
    std::size_t end = at + 1;  // neighbours mostly share their node
    while (end < pages.size() && pages[end] == node) ++end;
    if (node != absent) sums[node] += (end - at) * page_size;
    at = end;
  }
  return sums;
}

std::uint64_t Placement::absent_bytes() const {
  return static_cast<std::uint64_t>(std::count(pages.begin(), pages.end(), absent)) * page_size;
}

std::optional<std::string> placement_unavailable() {
  int here = 0;
  void* page = &here;
  int status = 0;
  const int code = move_pages(1, &page, nullptr, &status);
  if (refused(code)) return refusal(code);
  return std::nullopt;
}

Placement placement_of(const void* address, std::uint64_t size) {
  Placement result;
  result.page_size = host_page_size();
  if (size == 0) return result;
  const auto first = reinterpret_cast<std::uintptr_t>(address);
  if (!range_fits(first, size)) throw InvalidConfig(hex(size) + " bytes do not fit behind address " + hex(first));
  const std::uintptr_t start = align_down(first, result.page_size);
  const std::size_t count = (first + (size - 1) - start) / result.page_size + 1;
  result.pages.resize(count);
  std::array<void*, batch> pages;
  for (std::size_t done = 0; done < count; done += batch) {
    const std::size_t some = std::min(batch, count - done);
    for (std::size_t i = 0; i < some; ++i) {
      pages[i] = reinterpret_cast<void*>(start + (done + i) * result.page_size);
    }
    const int code = move_pages(some, pages.data(), nullptr, result.pages.data() + done);
    if (refused(code)) throw NotSupported(refusal(code));
    if (code != 0) throw_system_error("asking where " + std::to_string(some) + " pages are (move_pages)", code);
  }
  // A negative errno says that there is no page (ENOENT), or the page of zeros (EFAULT).
  for (int& node : result.pages) node = std::max(node, Placement::absent);
  return result;
}

const char* to_string(Verdict verdict) noexcept {
  switch (verdict) {
    case Verdict::verified: return "verified";
    case Verdict::elsewhere: return "elsewhere";
    case Verdict::unverified: break;
  }
  return "unverified";
}

Verification judge(const Decision& decision, Placement placement, std::uint64_t granule) {
  Verification result;
  result.placement = std::move(placement);
  const auto bytes = result.placement.bytes();
  const std::uint64_t absent = result.placement.absent_bytes();
  const bool outside = std::any_of(bytes.begin(), bytes.end(), [&decision](const auto& entry) {
    return !std::binary_search(decision.nodes.begin(), decision.nodes.end(), entry.first);
  });
  const std::string asked = "asked: " + decision.text() + "; found: ";
  if (outside) {
    result.verdict = Verdict::elsewhere;
    result.reason = asked + share_text(bytes);
  } else if (absent != 0) {
    result.reason = hex(absent) + " of " + hex(result.placement.pages.size() * result.placement.page_size) +
                    " bytes have no page yet; populate or write them first";
  } else if (decision.mode == Mode::interleave && !even(decision, bytes, granule + result.placement.page_size)) {
    result.verdict = Verdict::elsewhere;
    result.reason = asked + share_text(bytes) + ", which is uneven";
  } else {
    result.verdict = Verdict::verified;
  }
  return result;
}

}  // namespace vm::mem::numa
