#include "mem/guest/image.hpp"

#include <string>
#include <utility>

#include "mem/guest/segments.hpp"
#include "vm/core/error.hpp"

namespace vm::mem {

Image load_raw(InputFile file, bool writable) {
  Image image;
  image.facts.format = "raw";
  Segment segment;
  segment.file_size = segment.memory_size = file.size();
  image.regions = map_segments(std::move(file), {segment}, writable, Overlaps::refuse);
  return image;
}

std::shared_ptr<GuestMemory> GuestMemory::open(const std::string& path, ImageFormat format, bool writable) {
  InputFile file(path, writable);
  if (file.size() == 0) throw InvalidConfig(path + " is empty; there is no memory in it");
  if (format == ImageFormat::automatic) format = detect_image_format(file);
  Image image;
  switch (format) {
    case ImageFormat::lime: image = load_lime(std::move(file), writable); break;
    case ImageFormat::elf: image = load_elf(std::move(file), writable); break;
    case ImageFormat::raw:
    case ImageFormat::automatic: image = load_raw(std::move(file), writable); break;
  }
  return std::make_shared<GuestMemory>(RegionTable(std::move(image.regions)), std::move(image.facts));
}

}  // namespace vm::mem
