#include "vm/mem/paging/address_space.hpp"

#include "mem/paging/frames.hpp"
#include "mem/paging/operations.hpp"
#include "vm/core/error.hpp"

namespace vm::mem::paging {
namespace {

std::unique_ptr<const Operations> operations_for(const PagingConfig& config) {
  return std::visit([](const auto& c) { return make_operations(c); }, config);
}

}  // namespace

void validate(const PagingConfig& config) { operations_for(config); }

AddressSpace::AddressSpace(std::shared_ptr<GuestMemory> memory, const PagingConfig& config, AddressSpaceOptions options)
    : memory_(std::move(memory)),
      config_(config),
      options_(options),
      operations_(operations_for(config)),
      frames_(std::make_unique<TableFrames>(options.tables)),
      change_(std::make_unique<std::mutex>()) {
  if (memory_ == nullptr) throw InvalidConfig("an address space needs a guest memory; got null");
}

AddressSpace::~AddressSpace() = default;
AddressSpace::AddressSpace(AddressSpace&&) noexcept = default;
AddressSpace& AddressSpace::operator=(AddressSpace&&) noexcept = default;

Translation AddressSpace::try_translate(GuestVirtual vaddr, Access access, Privilege privilege) const {
  return operations_->translate(*memory_->table(), vaddr.value, access, privilege, options_.update_accessed_dirty);
}

Translation AddressSpace::walk(const RegionTable& regions, GuestVirtual vaddr, Access access, Privilege privilege,
                               const WalkTable* from, int from_level, WalkRecord& record) const noexcept {
  return operations_->walk(regions, vaddr.value, access, privilege, options_.update_accessed_dirty, from, from_level,
                           record);
}

std::uint64_t AddressSpace::smallest_page() const noexcept { return std::uint64_t{1} << operations_->page_shift(); }

std::array<unsigned, 5> AddressSpace::table_spans() const noexcept {
  std::array<unsigned, 5> spans{};
  for (std::size_t level = 0; level < spans.size(); ++level)
    spans[level] = operations_->table_span_log2(static_cast<int>(level));
  return spans;
}

Translation AddressSpace::translate(GuestVirtual vaddr, Access access, Privilege privilege) const {
  const Translation t = try_translate(vaddr, access, privilege);
  if (!t.ok()) throw PageFault(fault_info(t, access, privilege));
  return t;
}

void AddressSpace::translate(const std::uint64_t* vaddr, std::size_t count, std::uint64_t* paddr, PackedInfo* info,
                             const BatchRequest& request) const {
  const std::shared_ptr<const RegionTable> table = memory_->table();
  operations_->batch(*table, vaddr, count, paddr, info, request, options_.update_accessed_dirty);
}

Engine AddressSpace::choose_engine(const std::uint64_t* vaddr, std::size_t count, const BatchRequest& request) const {
  return operations_->choose(vaddr, count, request, options_.update_accessed_dirty);
}

std::vector<Engine> AddressSpace::engines() const {
  std::vector<Engine> available;
  for (const Engine engine : {Engine::walk, Engine::leaf_cache, Engine::group_prefetch, Engine::avx2, Engine::avx512})
    if (operations_->supports(engine)) available.push_back(engine);
  return available;
}

FaultInfo AddressSpace::fault_info(const Translation& translation, Access access, Privilege privilege) const noexcept {
  FaultInfo fault{translation.vaddr, access, privilege, translation.level, translation.reason, 0};
  fault.error_code = operations_->error_code(fault);
  return fault;
}

std::vector<Mapping> AddressSpace::mappings(const EnumerateOptions& options,
                                            const std::function<bool()>& keep_going) const {
  return operations_->mappings(*memory_->table(), options, keep_going);
}

void AddressSpace::map(const MapRequest& request) {
  const std::lock_guard<std::mutex> lock(*change_);
  operations_->map(*memory_->table(), *frames_, request);
}

std::uint64_t AddressSpace::unmap(std::uint64_t vaddr, std::uint64_t size) {
  const std::lock_guard<std::mutex> lock(*change_);
  return operations_->unmap(*memory_->table(), *frames_, vaddr, size);
}

void AddressSpace::protect(std::uint64_t vaddr, std::uint64_t size, Access access, std::optional<bool> user) {
  const std::lock_guard<std::mutex> lock(*change_);
  operations_->protect(*memory_->table(), *frames_, vaddr, size, access, user);
}

}  // namespace vm::mem::paging
