#pragma once
/// \file
/// `Operations` over one format. Each architecture instantiates it in a file of its own.

#include <algorithm>

#include "mem/paging/batch.hpp"
#include "mem/paging/enumerate.hpp"
#include "mem/paging/mapper.hpp"
#include "mem/paging/operations.hpp"
#include "vm/mem/paging/walker.hpp"

namespace vm::mem::paging {

template <class Format>
class FormatOperations final : public Operations {
 public:
  explicit FormatOperations(const typename Format::Config& config) : format_(config) {
    for (Rights rights = 0; rights < 64; ++rights)
      usable_[rights] = static_cast<std::uint8_t>(usable_where([&](Access access, Privilege privilege) {
        return format_.check_rights(rights, access, privilege) == FaultReason::none;
      }));
  }

  Translation translate(const RegionTable& memory, std::uint64_t vaddr, Access access, Privilege privilege,
                        bool update) const noexcept override {
    TableReader reader(memory);
    WalkPath path;
    return update ? walk_and_mark(format_, reader, vaddr, access, privilege, path)
                  : paging::walk(format_, reader, vaddr, access, privilege);
  }
  Translation walk(const RegionTable& memory, std::uint64_t vaddr, Access access, Privilege privilege, bool update,
                   const WalkTable* from, int from_level, WalkRecord& record) const noexcept override {
    TableReader reader(memory);
    WalkPath path;
    const Translation t = update ? walk_and_mark(format_, reader, vaddr, access, privilege, path, from, from_level)
                                 : paging::walk(format_, reader, vaddr, access, privilege, &path, from, from_level);
    record.top = static_cast<std::int8_t>(path.top);
    for (int level = path.top; level >= t.level; --level)
      record.tables[level] = {path.table[level], path.allowances[level]};
    if (!t.ok()) return t;
    auto leaf = static_cast<Entry>(path.entry[t.level]);
    if (update && access != Access::none) leaf = format_.accessed_leaf(leaf, access);
    record.leaf_at = path.entry_at[t.level];
    record.leaf_bytes = sizeof(Entry);
    record.global = format_.global(leaf, path.allowances[t.level]);
    record.usable = usable(leaf, t.rights, update);
    return t;
  }
  unsigned page_shift() const noexcept override { return Format::page_shift; }
  unsigned table_span_log2(int level) const noexcept override { return std::min(63U, level_shift<Format>(level + 1)); }
  std::uint32_t error_code(const FaultInfo& fault) const noexcept override { return format_.error_code(fault); }

  bool supports(Engine engine) const noexcept override { return engine_available(engine, batch_geometry<Format>()); }
  Engine choose(const std::uint64_t* vaddr, std::size_t count, const BatchRequest& request,
                bool update) const override {
    const bool usable = format_.leaf_filter(request.access, request.privilege, update).usable;
    return plan_batch(batch_geometry<Format>(), usable, vaddr, count, request.engine).engine;
  }
  void batch(const RegionTable& memory, const std::uint64_t* vaddr, std::size_t count, std::uint64_t* paddr,
             PackedInfo* info, const BatchRequest& request, bool update) const override {
    translate_batch(format_, memory, vaddr, count, paddr, info, request, update);
  }

  std::vector<Mapping> mappings(const RegionTable& memory, const EnumerateOptions& options,
                                const std::function<bool()>& keep_going) const override {
    return enumerate(format_, memory, options, keep_going);
  }
  void map(const RegionTable& memory, TableFrames& frames, const MapRequest& request) const override {
    map_range(format_, memory, frames, request);
  }
  std::uint64_t unmap(const RegionTable& memory, TableFrames& frames, std::uint64_t vaddr,
                      std::uint64_t size) const override {
    return unmap_range(format_, memory, frames, vaddr, size);
  }
  void protect(const RegionTable& memory, TableFrames& frames, std::uint64_t vaddr, std::uint64_t size, Access access,
               std::optional<bool> user) const override {
    protect_range(format_, memory, frames, vaddr, size, access, user);
  }

 private:
  using Entry = typename Format::Entry;

  template <class Allowed>
  static Rights usable_where(Allowed&& allowed) {
    Rights usable = 0;
    for (const Privilege privilege : {Privilege::supervisor, Privilege::user})
      for (const Access access : {Access::read, Access::write, Access::execute})
        if (allowed(access, privilege)) usable |= static_cast<Rights>(access) << (privilege == Privilege::user ? 3 : 0);
    return usable;
  }

  Rights usable(Entry leaf, Rights rights, bool update) const noexcept {
    Rights usable = usable_[rights & 63];
    if (!format_.rights_decide(leaf))
      usable = usable_where([&](Access access, Privilege privilege) {
        return format_.authorize(leaf, rights, access, privilege) == FaultReason::none;
      });
    if (!update) return usable;
    constexpr Rights writing = 0b010'010;
    if (format_.accessed_leaf(leaf, Access::write) != leaf) usable &= ~writing;
    if (format_.accessed_leaf(leaf, Access::read) != leaf) usable = 0;
    return usable;
  }

  Format format_;
  std::uint8_t usable_[64];  ///< by rights, for leaves of which the rights say everything
};

}  // namespace vm::mem::paging
