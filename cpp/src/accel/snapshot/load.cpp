#include <algorithm>
#include <cstring>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "accel/snapshot/crc32c.hpp"
#include "accel/snapshot/file.hpp"
#include "accel/snapshot/file_layout.hpp"
#include "mem/guest/file.hpp"
#include "vm/core/error.hpp"

namespace vm::accel {
namespace {

using namespace snapshot_file;

using Bytes = std::vector<std::byte>;

constexpr std::uint64_t page_size = MemoryImage::page_size;

const char* name_of(std::uint32_t kind) noexcept {
  switch (static_cast<Kind>(kind)) {
    case Kind::machine: return "machine";
    case Kind::slots: return "memory slots";
    case Kind::vm_state: return "VM state";
    case Kind::vcpu_state: return "vCPU state";
    case Kind::present: return "page bitmap";
    case Kind::block_crcs: return "block checksums";
    case Kind::memory: return "memory";
  }
  return "unknown section";
}

/// A snapshot file while it is read.
class Loader {
 public:
  explicit Loader(const std::string& path) : file_(path, false) {}

  SnapshotParts load() {
    read_header();
    SnapshotParts parts;
    read_machine(parts);
    read_slots(parts);
    parts.vm_state = content(only(Kind::vm_state));
    for (const Section& section : table_) {
      if (section.kind == static_cast<std::uint32_t>(Kind::vcpu_state))
        parts.vcpus.push_back({section.index, content(section)});
    }
    if (!parts.slots.empty()) read_memory(parts);
    return parts;
  }

 private:
  [[noreturn]] void refuse(std::uint64_t offset, const std::string& why) const {
    throw InvalidConfig(file_.path() + " cannot be restored: at offset " + hex(offset) + ", " + why);
  }

  void read_header() {
    Header header{};
    if (file_.size() < sizeof header) refuse(0, "a header of 64 bytes is missing; it is not a snapshot, or cut off");
    file_.read(0, &header, sizeof header);
    if (header.magic != magic) refuse(0, "the signature is not that of a snapshot");
    if (header.byte_order != byte_order)
      refuse(offsetof(Header, byte_order), "the byte order is not this machine's, or damaged");
    if (header.version != version)
      refuse(offsetof(Header, version), "the version is " + std::to_string(header.version) +
                                            "; this library reads version " + std::to_string(version));
    if (header.crc != crc32c(&header, offsetof(Header, crc)))
      refuse(offsetof(Header, crc), "the header's checksum is wrong: it is damaged");
    if (header.file_size != file_.size())
      refuse(offsetof(Header, file_size), "the header tells of " + std::to_string(header.file_size) +
                                              " bytes, but the file has " + std::to_string(file_.size()));
    if (header.sections > most_sections)
      refuse(offsetof(Header, sections), std::to_string(header.sections) + " sections are too many");
    if (!file_.holds(sizeof header, header.sections * sizeof(Section))) refuse(sizeof header, "the table is cut off");
    table_.resize(header.sections);
    file_.read(sizeof header, table_.data(), table_.size() * sizeof(Section));
    if (header.table_crc != crc32c(table_.data(), table_.size() * sizeof(Section)))
      refuse(sizeof header, "the checksum of the table of sections is wrong: it is damaged");
    std::uint64_t end = sizeof header + table_.size() * sizeof(Section);
    for (const Section& section : table_) {
      if (section.offset != end || !file_.holds(section.offset, section.size))
        refuse(section.offset, std::string("the section \"") + name_of(section.kind) + "\" is not where it belongs");
      end += section.size;
    }
    if (end != file_.size()) refuse(end, "there are bytes that belong to no section");
  }

  const Section& only(Kind kind) const {
    const auto is = [kind](const Section& section) { return section.kind == static_cast<std::uint32_t>(kind); };
    if (std::count_if(table_.begin(), table_.end(), is) != 1)
      refuse(sizeof(Header), std::string("the table does not have exactly one section \"") +
                                 name_of(static_cast<std::uint32_t>(kind)) + "\"");
    return *std::find_if(table_.begin(), table_.end(), is);
  }

  Bytes content(const Section& section) const {
    Bytes bytes(section.size);
    file_.read(section.offset, bytes.data(), bytes.size());
    if (crc32c(bytes.data(), bytes.size()) != section.crc)
      refuse(section.offset,
             std::string("the checksum of the section \"") + name_of(section.kind) + "\" is wrong: it is damaged");
    return bytes;
  }

  void read_machine(SnapshotParts& parts) const {
    const Section& section = only(Kind::machine);
    const Bytes bytes = content(section);
    const auto* text = reinterpret_cast<const char*>(bytes.data());
    const std::string all(text, bytes.size());
    const std::size_t first = all.find('\0');
    const std::size_t second = first == std::string::npos ? first : all.find('\0', first + 1);
    if (second == std::string::npos || second + 1 != all.size())
      refuse(section.offset, "the names of hypervisor and architecture are missing");
    parts.backend = all.substr(0, first);
    parts.architecture = all.substr(first + 1, second - first - 1);
  }

  void read_slots(SnapshotParts& parts) const {
    const Section& section = only(Kind::slots);
    const Bytes bytes = content(section);
    for (std::size_t at = 0; at < bytes.size();) {
      Slot head{};
      if (bytes.size() - at < sizeof head) refuse(section.offset + at, "a memory slot is cut off");
      std::memcpy(&head, bytes.data() + at, sizeof head);
      at += sizeof head;
      if (bytes.size() - at < head.name_size) refuse(section.offset + at, "the name of a memory slot is cut off");
      const auto* name = reinterpret_cast<const char*>(bytes.data() + at);
      parts.slots.push_back(
          {head.base, head.size, head.read_only != 0, std::string(name, head.name_size), head.image_page});
      at += head.name_size;
    }
  }

  void read_memory(SnapshotParts& parts) const {
    std::uint64_t pages = 0;
    for (const SnapshotSlot& slot : parts.slots) {
      const std::uint64_t count = slot.size / page_size;
      if (slot.image_page > UINT64_MAX - count) refuse(only(Kind::slots).offset, "a memory slot is too large");
      pages = std::max(pages, slot.image_page + count);
    }
    if (pages == 0) refuse(only(Kind::slots).offset, "the memory slots have not even one page");
    const Section& section = only(Kind::present);
    const Bytes bytes = content(section);
    if (bytes.size() % 8 != 0 || bytes.size() / 8 != pages / 64 + (pages % 64 != 0 ? 1 : 0))
      refuse(section.offset, "the bitmap of pages does not fit the memory slots");
    std::vector<std::uint64_t> present(bytes.size() / 8);
    std::memcpy(present.data(), bytes.data(), bytes.size());
    if (pages % 64 != 0 && (present.back() >> (pages % 64)) != 0)
      refuse(section.offset, "the bitmap has pages beyond the memory slots");
    MemoryImage::Builder builder(pages);
    read_pages(parts, present, builder);
    parts.memory = builder.finish();
  }

  void read_pages(const SnapshotParts& parts, const std::vector<std::uint64_t>& present,
                  MemoryImage::Builder& builder) const {
    std::vector<std::uint64_t> numbers;
    for (std::size_t w = 0; w < present.size(); ++w) {
      for (std::uint64_t word = present[w]; word != 0; word &= word - 1)
        numbers.push_back(w * 64 + static_cast<std::uint64_t>(__builtin_ctzll(word)));
    }
    const Section& section = only(Kind::memory);
    const Bytes checksums = content(only(Kind::block_crcs));
    const std::uint64_t blocks = (numbers.size() + block_pages - 1) / block_pages;
    if (section.size != numbers.size() * page_size || checksums.size() != blocks * sizeof(std::uint32_t))
      refuse(section.offset, "the memory does not have as many pages as the bitmap");
    Bytes block(block_pages * page_size);
    for (std::uint64_t b = 0; b < blocks; ++b) {
      const std::uint64_t first = b * block_pages;
      const std::uint64_t count = std::min<std::uint64_t>(block_pages, numbers.size() - first);
      const std::uint64_t offset = section.offset + first * page_size;
      file_.read(offset, block.data(), count * page_size);
      std::uint32_t wanted = 0;
      std::memcpy(&wanted, checksums.data() + b * sizeof wanted, sizeof wanted);
      if (crc32c(block.data(), count * page_size) != wanted)
        refuse(offset, "the checksum of " + std::to_string(count) + " pages of memory from guest-physical address " +
                           address_of(parts, numbers[first]) + " is wrong: they are damaged");
      write_runs(builder, numbers.data() + first, count, block.data());
    }
  }

  static void write_runs(MemoryImage::Builder& builder, const std::uint64_t* numbers, std::uint64_t count,
                         const std::byte* bytes) {
    for (std::uint64_t i = 0; i < count;) {
      std::uint64_t run = 1;
      while (i + run < count && numbers[i + run] == numbers[i] + run) ++run;
      builder.write(numbers[i], run, bytes + i * page_size);
      i += run;
    }
  }

  static std::string address_of(const SnapshotParts& parts, std::uint64_t page) {
    for (const SnapshotSlot& slot : parts.slots) {
      if (page >= slot.image_page && page - slot.image_page < slot.size / page_size)
        return hex(slot.base + (page - slot.image_page) * page_size);
    }
    return "nowhere";
  }

  mem::InputFile file_;
  std::vector<Section> table_;
};

}  // namespace

SnapshotParts load_snapshot_file(const std::string& path) { return Loader(path).load(); }

}  // namespace vm::accel
