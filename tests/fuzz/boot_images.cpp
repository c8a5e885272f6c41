// The boot loaders against any bytes: an image is loaded or refused with an error of the family, and what was loaded
// lies inside the guest's memory.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <memory>

#include "vm/accel/boot/loader.hpp"
#include "vm/accel/boot/memory_map.hpp"
#include "vm/core/error.hpp"

namespace {

using namespace vm::accel::boot;

/// The first byte chooses the loader; the rest is the image.
void load_bytes(const std::shared_ptr<vm::mem::GuestMemory>& memory, const std::uint8_t* data, std::size_t size) {
  LoadOptions options;
  options.kind = static_cast<ImageKind>(data[0] % 6);
  const auto* first = reinterpret_cast<const std::byte*>(data + 1);
  const LoadedImage loaded = load(memory, {"input", {first, first + (size - 1)}}, options);
  if (loaded.last < loaded.first || memory->table()->at(loaded.first, loaded.last - loaded.first + 1) == nullptr)
    std::abort();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static const auto memory = pc_memory(4 << 20);
  if (size < 2) return 0;
  try {
    load_bytes(memory, data, size);
  } catch (const vm::VmError&) {  // refused
  }
  return 0;
}
