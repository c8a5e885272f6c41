#pragma once
/// \file
/// CPU registers from the notes of an ELF core.

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "vm/mem/guest/cpu_state.hpp"

namespace vm::mem {

/// Collects the CPU states of all note segments of one file.
class CpuNotes {
 public:
  /// `word`: bytes of a word of the ELF class.
  CpuNotes(std::uint16_t machine, std::size_t word) : machine_(machine), word_(word) {}

  /// Gives back how many of the bytes are notes; what is left is too short for one. Throws InvalidConfig naming the
  /// note by its offset in the file `path`; `bytes` begin there at `file_offset`.
  std::size_t parse(const std::vector<std::byte>& bytes, const std::string& path, std::uint64_t file_offset);

  /// In the order of the file. QEMU's own notes where there are any: they repeat what the others say, and more.
  std::vector<CpuState> take_states();

 private:
  std::uint16_t machine_;
  std::size_t word_;
  std::vector<CpuState> qemu_;
  std::vector<CpuState> prstatus_;
};

}  // namespace vm::mem
