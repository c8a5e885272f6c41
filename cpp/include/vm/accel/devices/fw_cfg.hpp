#pragma once
/// \file
/// QEMU's way to hand facts about the machine to firmware and test guests (QEMU, docs/specs/fw_cfg.rst).

#include <cstddef>
#include <cstdint>
#include <map>
#include <mutex>
#include <string>
#include <vector>

#include "vm/accel/devices/bus.hpp"

namespace vm::accel {

/// The selector at port 0x510 and the data at 0x511, without DMA. Items are bytes under a number; files have a name
/// beside it and are listed in the directory. What no item has reads as 0. Any thread.
class FwCfg final : public Device {
 public:
  static constexpr std::uint16_t port = 0x510;
  static constexpr std::uint64_t ports = 2;

  /// Numbers of items.
  static constexpr std::uint16_t signature = 0x00;
  static constexpr std::uint16_t interface_version = 0x01;
  static constexpr std::uint16_t ram_size = 0x03;
  static constexpr std::uint16_t cpus = 0x05;
  static constexpr std::uint16_t max_cpus = 0x0F;
  static constexpr std::uint16_t directory = 0x19;
  static constexpr std::uint16_t first_file = 0x20;

  /// Has the signature, the interface version and an empty directory.
  FwCfg();
  /// And what a machine of this size says.
  FwCfg(std::uint64_t ram_bytes, std::uint16_t processors);

  void set(std::uint16_t item, std::vector<std::byte> bytes);
  /// As `bytes` little-endian bytes.
  void set_number(std::uint16_t item, std::uint64_t value, unsigned bytes);
  /// Returns the file's number. Throws InvalidConfig for a name of more than 55 bytes, or one that is there already.
  std::uint16_t add_file(const std::string& name, std::vector<std::byte> bytes);

  std::uint64_t read(std::uint64_t offset, unsigned width) override;
  void write(std::uint64_t offset, unsigned width, std::uint64_t value) override;

 private:
  struct File {
    std::string name;
    std::uint16_t item;
  };

  void write_directory();

  std::mutex mutex_;  // guards everything below
  std::map<std::uint16_t, std::vector<std::byte>> items_;
  std::vector<File> files_;
  std::uint16_t selected_ = 0;
  std::size_t position_ = 0;
};

}  // namespace vm::accel
