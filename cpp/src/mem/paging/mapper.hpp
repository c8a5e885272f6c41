#pragma once
/// \file
/// Changes to page tables: each call does all that was asked or, when it throws, nothing. Entries are written in the
/// order that lets another thread walk meanwhile; telling TLBs about the change is the caller's business, and so is
/// break-before-make where an architecture asks for it. A table that other roots share changes for them too.

#include <cstdint>
#include <optional>

#include "frames.hpp"
#include "table_editor.hpp"
#include "vm/core/error.hpp"
#include "vm/mem/guest/region.hpp"
#include "vm/mem/paging/mapping.hpp"

namespace vm::mem::paging {

template <class F>
class MapOperation {
 public:
  using Entry = typename F::Entry;

  MapOperation(const F& format, const RegionTable& memory, TableFrames& frames, const MapRequest& request)
      : format_(format),
        request_(request),
        access_(format.expressible(request.access)),
        editor_(format, memory, frames, "map") {}

  void run() {
    check();
    const std::uint64_t last = request_.vaddr + (request_.size - 1);
    if (!editor_.open_root(request_.vaddr))
      refuse_table(request_.vaddr, format_.start(request_.vaddr).table, "lies outside guest memory");
    fill(editor_.top(), request_.vaddr, last);
    editor_.commit();
  }

 private:
  static constexpr std::uint64_t page(int level) noexcept { return std::uint64_t{1} << level_shift<F>(level); }

  void check() {
    check_access("map", request_.access);
    VirtualRange ranges[2];
    const int count = format_.ranges(ranges);
    check_virtual_range("map", request_.vaddr, request_.size, page(0), ranges, count);
    if (!is_aligned(request_.paddr, page(0)) || !range_fits(request_.paddr, request_.size))
      throw InvalidConfig("cannot map to paddr " + hex(request_.paddr) + ", size " + hex(request_.size) +
                          ": paddr must be a multiple of " + std::to_string(page(0)) + " and must not wrap");
    if (request_.page_size) check_page_size(*request_.page_size);
  }

  void check_page_size(std::uint64_t size) {
    std::uint64_t possible = 0;
    for (int level = 0; level <= format_.top_level(request_.vaddr); ++level) {
      if (!format_.can_map(level)) continue;
      possible |= page(level);
      if (page(level) == size) exact_level_ = level;
    }
    if (!exact_level_)
      throw InvalidConfig("page_size is " + std::to_string(size) + "; this address space has pages of " +
                          page_sizes(possible));
    if (((request_.vaddr | request_.paddr | request_.size) & (size - 1)) != 0)
      throw InvalidConfig("vaddr " + hex(request_.vaddr) + ", paddr " + hex(request_.paddr) + " and size " +
                          hex(request_.size) + " must be multiples of page_size " + hex(size));
    const std::uint64_t last = request_.paddr + (request_.size - 1);
    if (last > low_bits(format_.physical_bits(*exact_level_)))
      refuse_paddr(last, size, format_.physical_bits(*exact_level_));
  }

  void fill(int level, std::uint64_t first, std::uint64_t last) {
    editor_.for_each_entry(level, first, last, [&](std::uint64_t index, std::uint64_t from, std::uint64_t to) {
      const Entry entry = editor_.load(level, index);
      const Step step = format_.decode(entry, level);
      if (step.reason == FaultReason::not_present)
        fill_absent(level, index, entry, from, to);
      else if (step.reason != FaultReason::none)
        refuse_malformed(from, editor_.entry_at(level, index), step.reason);
      else if (step.leaf)
        refuse_mapped(from, std::uint64_t{1} << step.size_log2, step.address | (from & low_bits(step.size_log2)));
      else
        fill_table(level, index, entry, step.address, from, to);
    });
  }

  void fill_absent(int level, std::uint64_t index, Entry entry, std::uint64_t first, std::uint64_t last) {
    const std::uint64_t paddr = paddr_of(first);
    if (takes_page(level, first, last)) {
      const Entry leaf = format_.make_leaf(paddr, level, access_, request_.user);
      editor_.grant(level, leaf, access_, request_.user);
      editor_.store(level, index, entry, leaf);
    } else if (level == 0) {
      refuse_paddr(paddr, page(0), format_.physical_bits(0));
    } else {
      const std::uint64_t frame = editor_.enter_new(level, index, first);
      fill(level - 1, first, last);
      editor_.store(level, index, entry, format_.make_table(frame, level));
    }
  }

  void fill_table(int level, std::uint64_t index, Entry entry, std::uint64_t child, std::uint64_t first,
                  std::uint64_t last) {
    enter(level, index, entry, child, first);
    if (takes_page(level, first, last)) {
      // A table that maps nothing makes room for the page; one that does is in the way only when smaller pages are.
      if (exact_level_) require_unmapped(level - 1, first, last);
      if (exact_level_ || editor_.empty(level - 1)) {
        editor_.unlink(level, index, entry, child);
        fill_absent(level, index, 0, first, last);
        return;
      }
    }
    fill(level - 1, first, last);
  }

  void require_unmapped(int level, std::uint64_t first, std::uint64_t last) {
    editor_.for_each_entry(level, first, last, [&](std::uint64_t index, std::uint64_t from, std::uint64_t to) {
      const Entry entry = editor_.load(level, index);
      const Step step = format_.decode(entry, level);
      if (step.reason == FaultReason::not_present) return;
      if (step.reason != FaultReason::none) refuse_malformed(from, editor_.entry_at(level, index), step.reason);
      if (step.leaf)
        refuse_mapped(from, std::uint64_t{1} << step.size_log2, step.address | (from & low_bits(step.size_log2)));
      enter(level, index, entry, step.address, from);
      require_unmapped(level - 1, from, to);
    });
  }

  void enter(int level, std::uint64_t index, Entry entry, std::uint64_t child, std::uint64_t vaddr) {
    if (!editor_.enter(level, index, entry, child, vaddr)) refuse_table(vaddr, child, "lies outside guest memory");
  }

  std::uint64_t paddr_of(std::uint64_t vaddr) const noexcept { return request_.paddr + (vaddr - request_.vaddr); }

  /// May and should [first, last], translated by one entry at `level`, be one page?
  bool takes_page(int level, std::uint64_t first, std::uint64_t last) const noexcept {
    if (exact_level_ ? *exact_level_ != level : !format_.can_map(level)) return false;
    const std::uint64_t paddr = paddr_of(first);
    return editor_.covers_entry(level, first, last) && is_aligned(paddr, page(level)) &&
           paddr + (page(level) - 1) <= low_bits(format_.physical_bits(level));
  }

  const F& format_;
  const MapRequest& request_;
  const Access access_;
  std::optional<int> exact_level_;
  TableEditor<F> editor_;
};

template <class F>
class UnmapOperation {
 public:
  using Entry = typename F::Entry;

  UnmapOperation(const F& format, const RegionTable& memory, TableFrames& frames, std::uint64_t vaddr,
                 std::uint64_t size)
      : format_(format), first_(vaddr), size_(size), editor_(format, memory, frames, "unmap") {}

  std::uint64_t run() {
    VirtualRange ranges[2];
    const int count = format_.ranges(ranges);
    check_virtual_range("unmap", first_, size_, TableEditor<F>::frame_size, ranges, count);
    if (!editor_.open_root(first_)) return 0;
    const std::uint64_t removed = clear(editor_.top(), first_, last());
    editor_.commit();
    return removed;
  }

 private:
  std::uint64_t last() const noexcept { return first_ + (size_ - 1); }

  std::uint64_t clear(int level, std::uint64_t first, std::uint64_t last) {
    std::uint64_t removed = 0;
    editor_.for_each_entry(level, first, last, [&](std::uint64_t index, std::uint64_t from, std::uint64_t to) {
      const Entry entry = editor_.load(level, index);
      if (entry == 0) return;
      const Step step = format_.decode(entry, level);
      if (step.reason != FaultReason::none) return;  // translates nothing
      removed += step.leaf ? clear_leaf(level, index, entry, from, to)
                           : clear_table(level, index, entry, step.address, from, to);
    });
    return removed;
  }

  std::uint64_t clear_leaf(int level, std::uint64_t index, Entry entry, std::uint64_t first, std::uint64_t last) {
    if (editor_.leaves_run(level, entry, first, first_, this->last())) entry = editor_.detach_run(level, index, entry);
    if (!editor_.covers_entry(level, first, last)) {
      const std::uint64_t frame = editor_.enter_split(level, index, entry, first);
      const std::uint64_t removed = clear(level - 1, first, last);
      editor_.store(level, index, entry, format_.make_table(frame, level));
      return removed;
    }
    editor_.store(level, index, entry, 0);
    return last - first + 1;
  }

  std::uint64_t clear_table(int level, std::uint64_t index, Entry entry, std::uint64_t child, std::uint64_t first,
                            std::uint64_t last) {
    if (!editor_.enter(level, index, entry, child, first)) return 0;
    const std::uint64_t removed = clear(level - 1, first, last);
    // A table that was empty before goes too when nothing outside the range could use it: tables that are linked many
    // times over would otherwise be visited many times over.
    const bool ours = removed > 0 || editor_.covers_entry(level, first, last);
    if (ours && editor_.empty(level - 1)) editor_.unlink(level, index, entry, child);
    return removed;
  }

  const F& format_;
  const std::uint64_t first_;
  const std::uint64_t size_;
  TableEditor<F> editor_;
};

template <class F>
class ProtectOperation {
 public:
  using Entry = typename F::Entry;

  ProtectOperation(const F& format, const RegionTable& memory, TableFrames& frames, std::uint64_t vaddr,
                   std::uint64_t size, Access access, std::optional<bool> user)
      : format_(format),
        first_(vaddr),
        size_(size),
        wanted_(access),
        access_(format.expressible(access)),
        user_(user),
        editor_(format, memory, frames, "protect") {}

  void run() {
    check_access("protect", wanted_);
    VirtualRange ranges[2];
    const int count = format_.ranges(ranges);
    check_virtual_range("protect", first_, size_, TableEditor<F>::frame_size, ranges, count);
    if (!editor_.open_root(first_)) fault(editor_.top(), first_, FaultReason::table_unreachable);
    change(editor_.top(), first_, last());
    editor_.commit();
  }

 private:
  std::uint64_t last() const noexcept { return first_ + (size_ - 1); }

  void change(int level, std::uint64_t first, std::uint64_t last) {
    editor_.for_each_entry(level, first, last, [&](std::uint64_t index, std::uint64_t from, std::uint64_t to) {
      const Entry entry = editor_.load(level, index);
      const Step step = format_.decode(entry, level);
      if (step.reason != FaultReason::none) fault(level, from, step.reason);
      if (step.leaf) {
        change_leaf(level, index, entry, from, to);
      } else {
        if (!editor_.enter(level, index, entry, step.address, from))
          fault(level - 1, from, FaultReason::table_unreachable);
        change(level - 1, from, to);
      }
    });
  }

  void change_leaf(int level, std::uint64_t index, Entry entry, std::uint64_t first, std::uint64_t last) {
    const bool user =
        user_ ? *user_ : format_.user_leaf(format_.restrict_entry(entry, true, editor_.allowances(level)));
    if (editor_.grant(level, format_.with_access(entry, level, access_, user), access_, user))
      entry = editor_.load(level, index);  // it may have been given restrictions from above
    if (format_.with_access(entry, level, access_, user) == entry) return;
    if (editor_.leaves_run(level, entry, first, first_, this->last())) entry = editor_.detach_run(level, index, entry);
    if (!editor_.covers_entry(level, first, last)) {
      const std::uint64_t frame = editor_.enter_split(level, index, entry, first);
      change(level - 1, first, last);
      editor_.store(level, index, entry, format_.make_table(frame, level));
      return;
    }
    editor_.store(level, index, entry, format_.with_access(entry, level, access_, user));
  }

  [[noreturn]] void fault(int level, std::uint64_t vaddr, FaultReason reason) const {
    const Privilege privilege = user_.value_or(false) ? Privilege::user : Privilege::supervisor;
    FaultInfo info{vaddr, wanted_, privilege, level, reason, 0};
    info.error_code = format_.error_code(info);
    throw PageFault(info);
  }

  const F& format_;
  const std::uint64_t first_;
  const std::uint64_t size_;
  const Access wanted_;
  const Access access_;
  const std::optional<bool> user_;
  TableEditor<F> editor_;
};

/// Maps `request.size` bytes at `request.vaddr` with the largest pages that fit, or with pages of `request.page_size`.
/// Rights that the format cannot withhold come along (`F::expressible`). Throws InvalidConfig (alignment, range,
/// already mapped), ResourceExhausted (no frame left for a table), AccessViolation (tables in read-only memory).
template <class F>
void map_range(const F& format, const RegionTable& memory, TableFrames& frames, const MapRequest& request) {
  MapOperation<F>(format, memory, frames, request).run();
}

/// Removes what is mapped in the range, splitting larger pages at its ends, and frees tables that become empty, but
/// never the top one. Returns the bytes unmapped. Throws as `map_range`.
template <class F>
std::uint64_t unmap_range(const F& format, const RegionTable& memory, TableFrames& frames, std::uint64_t vaddr,
                          std::uint64_t size) {
  return UnmapOperation<F>(format, memory, frames, vaddr, size).run();
}

/// Gives the range other rights, splitting larger pages at its ends; other attributes stay. Without `user` each page
/// stays the user's or the supervisor's. Throws PageFault for the first address that is not mapped, else as
/// `map_range`.
template <class F>
void protect_range(const F& format, const RegionTable& memory, TableFrames& frames, std::uint64_t vaddr,
                   std::uint64_t size, Access access, std::optional<bool> user) {
  ProtectOperation<F>(format, memory, frames, vaddr, size, access, user).run();
}

}  // namespace vm::mem::paging
