#pragma once
/// \file
/// `Operations` over one format. Each architecture instantiates it in a file of its own.

#include "mem/paging/batch.hpp"
#include "mem/paging/enumerate.hpp"
#include "mem/paging/mapper.hpp"
#include "mem/paging/operations.hpp"
#include "vm/mem/paging/walker.hpp"

namespace vm::mem::paging {

template <class Format>
class FormatOperations final : public Operations {
 public:
  explicit FormatOperations(const typename Format::Config& config) : format_(config) {}

  Translation translate(const RegionTable& memory, std::uint64_t vaddr, Access access, Privilege privilege,
                        bool update) const noexcept override {
    TableReader reader(memory);
    return update ? walk_and_mark(format_, reader, vaddr, access, privilege)
                  : walk(format_, reader, vaddr, access, privilege);
  }
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
  Format format_;
};

}  // namespace vm::mem::paging
