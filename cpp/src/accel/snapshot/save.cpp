#include <algorithm>
#include <cstring>
#include <utility>
#include <vector>

#include "accel/snapshot/crc32c.hpp"
#include "accel/snapshot/file.hpp"
#include "accel/snapshot/file_layout.hpp"
#include "mem/guest/sparse_file.hpp"

namespace vm::accel {
namespace {

using namespace snapshot_file;

using Bytes = std::vector<std::byte>;

void append(Bytes& to, const void* data, std::size_t size) {
  const auto* from = static_cast<const std::byte*>(data);
  to.insert(to.end(), from, from + size);
}

Bytes machine_bytes(const SnapshotParts& parts) {
  Bytes bytes;
  append(bytes, parts.backend.c_str(), parts.backend.size() + 1);
  append(bytes, parts.architecture.c_str(), parts.architecture.size() + 1);
  return bytes;
}

Bytes slot_bytes(const SnapshotParts& parts) {
  Bytes bytes;
  for (const SnapshotSlot& slot : parts.slots) {
    const Slot head{slot.base, slot.size, slot.image_page, slot.read_only ? 1U : 0U,
                    static_cast<std::uint32_t>(slot.name.size())};
    append(bytes, &head, sizeof head);
    append(bytes, slot.name.data(), slot.name.size());
  }
  return bytes;
}

/// Calls visit(page) for every page that is stored.
template <class Visit>
void each_present(const MemoryImage& image, Visit&& visit) {
  for (std::size_t w = 0; w < image.present().size(); ++w) {
    for (std::uint64_t word = image.present()[w]; word != 0; word &= word - 1)
      visit(w * 64 + static_cast<std::uint64_t>(__builtin_ctzll(word)));
  }
}

std::vector<std::uint32_t> block_checksums(const MemoryImage& image) {
  std::vector<std::uint32_t> crcs;
  std::uint64_t done = 0;
  each_present(image, [&](std::uint64_t page) {
    if (done % block_pages == 0) crcs.push_back(0);
    crcs.back() = crc32c(image.page(page), MemoryImage::page_size, crcs.back());
    ++done;
  });
  return crcs;
}

/// The sections but memory, and where everything goes.
class Plan {
 public:
  explicit Plan(const SnapshotParts& parts) {
    add(Kind::machine, 0, machine_bytes(parts));
    add(Kind::slots, 0, slot_bytes(parts));
    add(Kind::vm_state, 0, parts.vm_state);
    for (const SnapshotVcpu& vcpu : parts.vcpus) add(Kind::vcpu_state, vcpu.id, vcpu.state);
    if (parts.memory == nullptr) return;
    Bytes present;
    append(present, parts.memory->present().data(), parts.memory->present().size() * 8);
    add(Kind::present, 0, std::move(present));
    const std::vector<std::uint32_t> crcs = block_checksums(*parts.memory);
    Bytes checksums;
    append(checksums, crcs.data(), crcs.size() * sizeof crcs[0]);
    add(Kind::block_crcs, 0, std::move(checksums));
    memory_size_ = parts.memory->present_pages() * MemoryImage::page_size;
    table_.push_back({static_cast<std::uint32_t>(Kind::memory), 0, 0, memory_size_, 0, 0});
  }

  /// Writes all but memory; returns where that begins.
  std::uint64_t write(mem::SparseFile& file) {
    std::uint64_t offset = sizeof(Header) + table_.size() * sizeof(Section);
    for (Section& section : table_) {
      section.offset = offset;
      offset += section.size;
    }
    Header header{};
    header.magic = magic;
    header.version = version;
    header.byte_order = byte_order;
    header.file_size = offset;
    header.sections = static_cast<std::uint32_t>(table_.size());
    header.table_crc = crc32c(table_.data(), table_.size() * sizeof(Section));
    header.crc = crc32c(&header, offsetof(Header, crc));
    file.resize(offset);
    Bytes head;
    append(head, &header, sizeof header);
    append(head, table_.data(), table_.size() * sizeof(Section));
    file.write(0, head.data(), head.size());
    for (std::size_t i = 0; i < contents_.size(); ++i) {
      if (!contents_[i].empty()) file.write(table_[i].offset, contents_[i].data(), contents_[i].size());
    }
    return offset - memory_size_;
  }

 private:
  void add(Kind kind, std::uint32_t index, Bytes content) {
    const std::uint32_t crc = crc32c(content.data(), content.size());
    table_.push_back({static_cast<std::uint32_t>(kind), index, 0, content.size(), crc, 0});
    contents_.push_back(std::move(content));
  }

  std::vector<Section> table_;
  std::vector<Bytes> contents_;
  std::uint64_t memory_size_ = 0;
};

}  // namespace

void save_snapshot_file(const SnapshotParts& parts, const std::string& path) {
  mem::SparseFile file(path);
  Plan plan(parts);
  std::uint64_t offset = plan.write(file);
  if (parts.memory != nullptr) {
    each_present(*parts.memory, [&](std::uint64_t page) {
      file.write(offset, parts.memory->page(page), MemoryImage::page_size);
      offset += MemoryImage::page_size;
    });
  }
  file.commit();
}

}  // namespace vm::accel
