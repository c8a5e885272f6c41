#pragma once
/// \file
/// The one virtual call between `AddressSpace` and the code that is compiled once per format.

#include <functional>
#include <memory>
#include <vector>

#include "vm/mem/guest/region.hpp"
#include "vm/mem/paging/address_space.hpp"

namespace vm::mem::paging {

class Operations {
 public:
  virtual ~Operations() = default;

  virtual Translation translate(const RegionTable& memory, std::uint64_t vaddr, Access access, Privilege privilege,
                                bool update) const noexcept = 0;
  /// As `translate`; begins at `from`, a table at `from_level`, unless that is null. `record` is complete after a
  /// success; after a fault only `top` and the tables down to the level of the fault are.
  virtual Translation walk(const RegionTable& memory, std::uint64_t vaddr, Access access, Privilege privilege,
                           bool update, const WalkTable* from, int from_level, WalkRecord& record) const noexcept = 0;
  /// log2 of the bytes of the smallest page.
  virtual unsigned page_shift() const noexcept = 0;
  /// log2 of the bytes that a table at `level` translates; 63 stands for more.
  virtual unsigned table_span_log2(int level) const noexcept = 0;
  virtual std::uint32_t error_code(const FaultInfo& fault) const noexcept = 0;

  virtual bool supports(Engine engine) const noexcept = 0;
  virtual Engine choose(const std::uint64_t* vaddr, std::size_t count, const BatchRequest& request,
                        bool update) const = 0;
  virtual void batch(const RegionTable& memory, const std::uint64_t* vaddr, std::size_t count, std::uint64_t* paddr,
                     PackedInfo* info, const BatchRequest& request, bool update) const = 0;

  virtual std::vector<Mapping> mappings(const RegionTable& memory, const EnumerateOptions& options,
                                        const std::function<bool()>& keep_going) const = 0;
  virtual void map(const RegionTable& memory, TableFrames& frames, const MapRequest& request) const = 0;
  virtual std::uint64_t unmap(const RegionTable& memory, TableFrames& frames, std::uint64_t vaddr,
                              std::uint64_t size) const = 0;
  virtual void protect(const RegionTable& memory, TableFrames& frames, std::uint64_t vaddr, std::uint64_t size,
                       Access access, std::optional<bool> user) const = 0;
};

/// Throw InvalidConfig.
std::unique_ptr<const Operations> make_operations(const X86Config& config);
std::unique_ptr<const Operations> make_operations(const RiscVConfig& config);
std::unique_ptr<const Operations> make_operations(const AArch64Config& config);

}  // namespace vm::mem::paging
