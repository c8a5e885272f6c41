#include "vm/accel/devices/fw_cfg.hpp"

#include <algorithm>
#include <utility>

#include "vm/core/error.hpp"

namespace vm::accel {
namespace {

constexpr std::size_t name_size = 56;

void append(std::vector<std::byte>& bytes, const std::string& text) {
  for (const char c : text) bytes.push_back(static_cast<std::byte>(c));
}

/// The directory, alone of all items, is big-endian.
void append_big_endian(std::vector<std::byte>& bytes, std::uint64_t value, unsigned size) {
  for (unsigned i = size; i-- > 0;) bytes.push_back(static_cast<std::byte>(value >> (8 * i)));
}

}  // namespace

FwCfg::FwCfg() {
  std::vector<std::byte> name;
  append(name, "QEMU");
  items_[signature] = std::move(name);
  set_number(interface_version, 1, 4);  // bit 0: the interface of ports; bit 1 would be DMA
  write_directory();
}

FwCfg::FwCfg(std::uint64_t ram_bytes, std::uint16_t processors) : FwCfg() {
  set_number(ram_size, ram_bytes, 8);
  set_number(cpus, processors, 2);
  set_number(max_cpus, processors, 2);
}

void FwCfg::set(std::uint16_t item, std::vector<std::byte> bytes) {
  const std::lock_guard<std::mutex> lock(mutex_);
  items_[item] = std::move(bytes);
}

void FwCfg::set_number(std::uint16_t item, std::uint64_t value, unsigned bytes) {
  std::vector<std::byte> number;
  for (unsigned i = 0; i < bytes; ++i) number.push_back(static_cast<std::byte>(value >> (8 * i)));
  set(item, std::move(number));
}

std::uint16_t FwCfg::add_file(const std::string& name, std::vector<std::byte> bytes) {
  if (name.empty() || name.size() >= name_size)
    throw InvalidConfig("a file of fw_cfg has a name of 1 to 55 bytes, got " + std::to_string(name.size()));
  const std::lock_guard<std::mutex> lock(mutex_);
  const auto same = [&name](const File& file) { return file.name == name; };
  if (std::any_of(files_.begin(), files_.end(), same))
    throw InvalidConfig("fw_cfg has a file \"" + name + "\" already");
  const auto item = static_cast<std::uint16_t>(first_file + files_.size());
  files_.push_back({name, item});
  items_[item] = std::move(bytes);
  write_directory();
  return item;
}

void FwCfg::write_directory() {
  std::vector<std::byte> bytes;
  append_big_endian(bytes, files_.size(), 4);
  for (const File& file : files_) {
    append_big_endian(bytes, items_[file.item].size(), 4);
    append_big_endian(bytes, file.item, 2);
    append_big_endian(bytes, 0, 2);
    append(bytes, file.name);
    bytes.resize(bytes.size() + (name_size - file.name.size()));
  }
  items_[directory] = std::move(bytes);
}

std::uint64_t FwCfg::read(std::uint64_t offset, unsigned width) {
  const std::lock_guard<std::mutex> lock(mutex_);
  if (offset != 1 || width != 1) return 0;
  const auto item = items_.find(selected_);
  if (item == items_.end() || position_ >= item->second.size()) return 0;
  return std::to_integer<std::uint64_t>(item->second[position_++]);
}

void FwCfg::write(std::uint64_t offset, unsigned width, std::uint64_t value) {
  if (offset != 0 || width != 2) return;  // the data cannot be written (QEMU removed that in 2.4)
  const std::lock_guard<std::mutex> lock(mutex_);
  selected_ = static_cast<std::uint16_t>(value);
  position_ = 0;
}

}  // namespace vm::accel
