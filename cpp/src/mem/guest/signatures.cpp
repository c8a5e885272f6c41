// Which format a file is in, by its first bytes. The formats that are only named here hold memory in a compressed or
// scattered form that cannot be mapped; each comes with what to do about it.
#include <array>
#include <cstring>
#include <string>
#include <string_view>

#include "mem/guest/image.hpp"
#include "mem/guest/lime.hpp"
#include "vm/core/error.hpp"

namespace vm::mem {

namespace {

using std::string_view_literals::operator""sv;

struct Signature {
  std::size_t offset;
  std::string_view bytes;
  std::string_view name;
  std::string_view advice;
};

constexpr std::string_view take_uncompressed =
    "take the dump uncompressed (QEMU: dump-guest-memory without -z, -l, -s and -w; kdump: makedumpfile -E)";
constexpr std::string_view convert_windows = "convert it to a raw image first, for instance with Volatility";
constexpr std::string_view open_vmem = "open the .vmem file beside it, which is a raw image";
constexpr std::string_view decompress = "decompress it first";

constexpr std::array signatures{
    Signature{0, "KDUMP   "sv, "a compressed kdump", take_uncompressed},
    Signature{0, "DISKDUMP"sv, "a compressed diskdump", take_uncompressed},
    Signature{0, "makedumpfile\0"sv, "a flattened kdump (makedumpfile -F, or QEMU's kdump formats)", take_uncompressed},
    Signature{0, "PAGEDU64"sv, "a 64-bit Windows crash dump", convert_windows},
    Signature{0, "PAGEDUMP"sv, "a 32-bit Windows crash dump", convert_windows},
    Signature{0, "hibr"sv, "a Windows hibernation file", convert_windows},
    Signature{0, "HIBR"sv, "a Windows hibernation file", convert_windows},
    Signature{0, "RSTR"sv, "a Windows hibernation file", convert_windows},
    Signature{4086, "S1SUSPEND"sv, "a Linux hibernation image", "resume it in a virtual machine and dump that"},
    Signature{0, "AVML"sv, "a compressed AVML image", "convert it with avml-convert, or acquire without --compress"},
    Signature{0, "\xD0\xBE\xD2\xBE"sv, "a VMware snapshot (.vmsn, .vmss)", open_vmem},
    Signature{0, "\xD1\xBA\xD1\xBA"sv, "a VMware snapshot (.vmsn, .vmss)", open_vmem},
    Signature{0, "\xD2\xBE\xD2\xBE"sv, "a VMware snapshot (.vmsn, .vmss)", open_vmem},
    Signature{0, "\xD3\xBE\xD3\xBE"sv, "a VMware snapshot (.vmsn, .vmss)", open_vmem},
    Signature{0, "\x7FVirtualBox SavedState"sv, "a VirtualBox saved state",
              "take a core with VBoxManage debugvm ... dumpvmcore"},
    Signature{0, "QEVM"sv, "a QEMU migration stream", "load it into QEMU and use dump-guest-memory"},
    Signature{0, "QFI\xFB"sv, "a qcow2 disk image", "its memory snapshot can be loaded into QEMU and dumped"},
    Signature{0, "EVF\x09\x0D\x0A\xFF\x00"sv, "an Expert Witness (EWF, E01) container", "export it as raw first"},
    Signature{0, "\x1F\x8B\x08"sv, "a gzip file", decompress},
    Signature{0, "\xFD\x37zXZ\0"sv, "an xz file", decompress},
    Signature{0, "\x28\xB5\x2F\xFD"sv, "a zstd file", decompress},
    Signature{0, "\x04\x22\x4D\x18"sv, "an lz4 file", decompress},
    Signature{0, "BZh"sv, "a bzip2 file", decompress},
    Signature{0, "PK\x03\x04"sv, "a zip archive", decompress},
    Signature{0, "7z\xBC\xAF\x27\x1C"sv, "a 7-Zip archive", decompress},
    Signature{0, "\xFF\x06\0\0sNaPpY"sv, "a Snappy stream", decompress},
};

constexpr std::size_t head_size = 4096;

bool has(const std::vector<std::byte>& head, std::size_t offset, std::string_view bytes) {
  return head.size() >= offset + bytes.size() && std::memcmp(head.data() + offset, bytes.data(), bytes.size()) == 0;
}

}  // namespace

ImageFormat detect_image_format(const InputFile& file) {
  const std::vector<std::byte> head = file.head(head_size);
  if (has(head, 0,
          "\x7F"
          "ELF"sv))
    return ImageFormat::elf;
  if (head.size() >= lime::header_size && load_little_endian<std::uint32_t>(head.data()) == lime::magic) {
    return ImageFormat::lime;
  }
  for (const Signature& signature : signatures) {
    if (has(head, signature.offset, signature.bytes)) {
      throw NotSupported(file.path() + " is " + std::string(signature.name) + ", which cannot be mapped; " +
                         std::string(signature.advice) + ". If it really is a raw image, say format=\"raw\"");
    }
  }
  return ImageFormat::raw;
}

}  // namespace vm::mem
