#include "mem/guest/save.hpp"

#include <algorithm>
#include <string>
#include <utility>

#include "mem/guest/data_extents.hpp"
#include "mem/guest/image.hpp"
#include "mem/guest/lime.hpp"
#include "mem/guest/sparse_file.hpp"
#include "vm/core/error.hpp"

namespace vm::mem {

namespace {

/// Bytes between two calls of the progress function: some milliseconds of work.
constexpr std::uint64_t progress_step = std::uint64_t{1} << 24;

SavePlan make_plan(const RegionTable& table, const ImageFacts& facts, ImageFormat format) {
  switch (format) {
    case ImageFormat::lime: return plan_lime(table);
    case ImageFormat::elf: return plan_elf(table, facts);
    case ImageFormat::raw:
    case ImageFormat::automatic: break;
  }
  return plan_raw(table);
}

/// Copies regions into the file and reports how far it is.
class Copier {
 public:
  Copier(const RegionTable& table, SparseFile& file, const Progress& progress, std::uint64_t total)
      : table_(table), file_(file), progress_(progress), total_(total) {}

  void copy(const Region& region, std::uint64_t file_offset) {
    // The kernel takes a page that was never filled for one without data.
    const bool lazy = region.mapping != nullptr && region.mapping->filler() != nullptr;
    if (region.mapping == nullptr || lazy) return copy_bytes(region, file_offset, 0, region.size);
    const DataExtents extents(*region.mapping);
    const auto start = static_cast<std::uint64_t>(region.host - region.mapping->data());
    std::uint64_t at = 0;
    while (at < region.size) {
      const Extent data = extents.next(start + at, start + region.size);
      const std::uint64_t begin = data.begin - start;
      if (begin > at) report(begin - at);
      copy_bytes(region, file_offset, begin, data.end - start);
      at = data.end - start;
    }
  }

 private:
  void copy_bytes(const Region& region, std::uint64_t file_offset, std::uint64_t begin, std::uint64_t end) {
    while (begin < end) {
      const std::uint64_t step = std::min(end - begin, progress_step);
      table_.require_present(region.base + begin, step);
      file_.write(file_offset + begin, region.host + begin, step);
      begin += step;
      report(step);
    }
  }

  void report(std::uint64_t count) {
    done_ += count;
    unreported_ += count;
    if (!progress_ || (unreported_ < progress_step && done_ < total_)) return;
    unreported_ = 0;
    progress_(done_, total_);
  }

  const RegionTable& table_;
  SparseFile& file_;
  const Progress& progress_;
  std::uint64_t total_;
  std::uint64_t done_ = 0;
  std::uint64_t unreported_ = 0;
};

}  // namespace

SavePlan plan_raw(const RegionTable& table) {
  SavePlan plan;
  for (const Region& region : table.regions()) {
    plan.region_offsets.push_back(region.base);
    plan.file_size = region.last() + 1;
  }
  return plan;
}

SavePlan plan_lime(const RegionTable& table) {
  SavePlan plan;
  for (const Region& region : table.regions()) {
    std::vector<std::byte> header(lime::header_size);
    store_little_endian(&header[lime::magic_at], lime::magic);
    store_little_endian(&header[lime::version_at], lime::version);
    store_little_endian(&header[lime::first_at], region.base);
    store_little_endian(&header[lime::last_at], region.last());
    plan.headers.push_back({plan.file_size, std::move(header)});
    plan.region_offsets.push_back(plan.file_size + lime::header_size);
    plan.file_size += lime::header_size + region.size;
  }
  return plan;
}

void GuestMemory::save(const std::string& path, ImageFormat format, const Progress& progress) const {
  const auto regions = table();
  if (regions->regions().empty()) throw InvalidConfig("cannot save guest memory without regions to " + path);
  const SavePlan plan = make_plan(*regions, facts_, format);
  // Negative as a file offset, and 0 where the last region ends with the address space.
  if (plan.file_size == 0 || plan.file_size > static_cast<std::uint64_t>(INT64_MAX)) {
    throw InvalidConfig("a raw image with the address " + hex(regions->regions().back().last()) +
                        " would be too large for any file; save as lime or elf");
  }
  SparseFile file(path);
  file.resize(plan.file_size);
  for (const HeaderBytes& header : plan.headers)
    file.write(header.file_offset, header.bytes.data(), header.bytes.size());
  std::uint64_t total = 0;
  for (const Region& region : regions->regions()) total += region.size;
  Copier copier(*regions, file, progress, total);
  for (std::size_t i = 0; i < plan.region_offsets.size(); ++i) {
    copier.copy(regions->regions()[i], plan.region_offsets[i]);
  }
  file.commit();
}

}  // namespace vm::mem
