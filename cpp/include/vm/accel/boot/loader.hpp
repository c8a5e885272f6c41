#pragma once
/// \file
/// Puts a guest's program into its memory the way a boot loader does.

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "vm/accel/hypervisor/vcpu.hpp"
#include "vm/accel/hypervisor/x86_registers.hpp"
#include "vm/mem/guest/memory.hpp"

namespace vm::accel::boot {

enum class ImageKind : std::uint8_t {
  automatic,  ///< what the image looks like: bzimage, multiboot, pvh, elf, else flat
  flat,       ///< bytes, entered at the first one in real mode
  elf,        ///< ELF32: entered in protected mode; ELF64: in 64-bit mode with 4 GiB mapped to themselves
  multiboot,  ///< Multiboot Specification 0.6.96: protected mode, EBX -> information
  bzimage,    ///< Linux/x86 Boot Protocol (Documentation/arch/x86/boot.rst), 64-bit entry where the kernel has one
  pvh,        ///< Xen's x86/HVM direct boot ABI: protected mode, EBX -> hvm_start_info
};

/// "automatic", "flat", "elf", "multiboot", "bzimage", "pvh".
const char* image_kind_name(ImageKind kind) noexcept;
/// Throws InvalidConfig.
ImageKind parse_image_kind(const std::string& name);

/// The state in which the guest begins.
enum class EntryMode : std::uint8_t { real16, protected32, long64 };
/// "real16", "protected32", "long64".
const char* entry_mode_name(EntryMode mode) noexcept;

/// A file's bytes with a name for messages.
struct Image {
  std::string name;
  std::vector<std::byte> bytes;

  /// Throws PlatformError; InvalidConfig for what is not a regular file, or is empty.
  static Image read(const std::string& path);
};

struct LoadOptions {
  ImageKind kind = ImageKind::automatic;
  std::string command_line;             ///< multiboot, bzimage, pvh
  std::vector<Image> modules;           ///< multiboot: any number; bzimage, pvh: at most one, the initrd
  std::uint64_t flat_address = 0x7C00;  ///< of a flat image's first byte, below 1 MiB
};

/// Where the loaders put what they tell the guest; all of it below the memory that a kernel is loaded to.
namespace place {
inline constexpr std::uint64_t gdt = 0x500;
inline constexpr std::uint64_t tss = 0x580;
inline constexpr std::uint64_t start_info = 0x6000;   ///< PVH: start info, memory map, modules
inline constexpr std::uint64_t zero_page = 0x7000;    ///< Linux
inline constexpr std::uint64_t stack = 0x8FF0;        ///< grows down to the zero page
inline constexpr std::uint64_t page_tables = 0x9000;  ///< of an entry in 64-bit mode: up to 0xEFFF
inline constexpr std::uint64_t multiboot_info = 0xF000;
inline constexpr std::uint64_t command_line = 0x20000;
inline constexpr std::uint64_t command_line_end = 0x30000;
}  // namespace place

struct LoadedImage {
  ImageKind kind = ImageKind::flat;
  EntryMode mode = EntryMode::real16;
  X86Regs regs;             ///< with which the guest begins, RIP among them
  std::uint64_t first = 0;  ///< the program's bytes in guest memory, .bss included; not the modules
  std::uint64_t last = 0;
};

/// Loads `image`. What it claims about itself is checked against its size and the memory before anything is written:
/// InvalidConfig saying what is wrong at which offset, or what does not fit where; NotSupported for a kernel that wants
/// something that is not there. Memory must hold the addresses in `place`.
LoadedImage load(const std::shared_ptr<mem::GuestMemory>& memory, const Image& image, const LoadOptions& options = {});

/// Makes the vCPU begin where `loaded` does, its segment and page tables written to `memory`. Called on the vCPU's
/// thread.
void enter(const std::shared_ptr<mem::GuestMemory>& memory, Vcpu& vcpu, const LoadedImage& loaded);

}  // namespace vm::accel::boot
