// The file: 8 bytes "VMPAGES1", u32 page_shift, u32 0, u64 number of pages, then for each page u64 page number and u64
// sightings, page numbers ascending; little-endian.
#include "vm/mem/prefetch/profile.hpp"

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <memory>
#include <utility>

#include "mem/guest/file.hpp"
#include "vm/core/address.hpp"
#include "vm/core/error.hpp"

namespace vm::mem::prefetch {

namespace {

constexpr char magic[] = "VMPAGES1";
constexpr std::size_t magic_size = 8;
constexpr std::size_t header_size = 24;
constexpr std::size_t record_size = 16;
/// Records read or written at a time.
constexpr std::size_t batch = 4096;

std::uint64_t load(const unsigned char* from, std::size_t size) noexcept {
  std::uint64_t value = 0;
  for (std::size_t i = 0; i < size; ++i) value |= std::uint64_t{from[i]} << (8 * i);
  return value;
}

void append(std::vector<unsigned char>& to, std::uint64_t value, std::size_t size) {
  for (std::size_t i = 0; i < size; ++i) to.push_back(static_cast<unsigned char>(value >> (8 * i)));
}

struct Header {
  std::uint32_t page_shift;
  std::uint64_t pages;
};

/// Throws unless the header makes sense and the file is as long as it says.
Header read_header(const InputFile& file) {
  std::array<unsigned char, header_size> bytes;
  if (!file.holds(0, bytes.size())) {
    throw InvalidConfig(file.path() + ": a page profile begins with 24 bytes, this file has " +
                        std::to_string(file.size()));
  }
  file.read(0, bytes.data(), bytes.size());
  if (std::memcmp(bytes.data(), magic, magic_size) != 0) {
    throw InvalidConfig(file.path() + ": no page profile: it does not begin with " + magic);
  }
  const std::uint64_t shift = load(&bytes[8], 4);
  if (shift < 12 || shift > 30 || load(&bytes[12], 4) != 0) {
    throw InvalidConfig(file.path() + ": damaged page profile: page_shift " + std::to_string(shift) + ", reserved " +
                        hex(load(&bytes[12], 4)));
  }
  const Header header{static_cast<std::uint32_t>(shift), load(&bytes[16], 8)};
  if (header.pages > Profile::most_pages || file.size() != header_size + header.pages * record_size) {
    throw InvalidConfig(file.path() + ": damaged page profile: it claims " + std::to_string(header.pages) +
                        " pages (at most " + std::to_string(Profile::most_pages) + " are allowed) in " +
                        std::to_string(file.size()) + " bytes");
  }
  return header;
}

struct CloseFile {
  void operator()(std::FILE* file) const noexcept { std::fclose(file); }
};

[[noreturn]] void throw_write_error(const std::string& path) {
  const int code = errno;
  throw PlatformError("cannot write the page profile " + path + ": " + std::strerror(code), code);
}

}  // namespace

Profile::Profile(std::uint32_t page_shift) : page_shift_(page_shift) {
  require_between("Profile: page_shift", page_shift, 12, 30);
}

Profile Profile::from_range(std::uint64_t vaddr, std::uint64_t size, std::uint32_t page_shift) {
  Profile profile(page_shift);
  if (size == 0) return profile;
  if (!range_fits(vaddr, size)) {
    throw InvalidConfig("Profile: the range of " + hex(size) + " bytes at " + hex(vaddr) +
                        " ends beyond the last 64-bit address");
  }
  const std::uint64_t first = vaddr >> page_shift;
  const std::uint64_t last = (vaddr + (size - 1)) >> page_shift;
  if (last - first >= most_pages) {
    throw InvalidConfig("Profile: the range of " + hex(size) + " bytes at " + hex(vaddr) + " has more than " +
                        std::to_string(most_pages) + " pages");
  }
  for (std::uint64_t page = first; page <= last; ++page) profile.counts_.emplace_hint(profile.counts_.end(), page, 1);
  return profile;
}

std::uint64_t Profile::count(std::uint64_t page) const {
  const auto found = counts_.find(page);
  return found == counts_.end() ? 0 : found->second;
}

void Profile::record(std::uint64_t page, std::uint64_t times) {
  if (times == 0) return;
  const auto found = counts_.find(page);
  if (found != counts_.end()) {
    found->second = times > UINT64_MAX - found->second ? UINT64_MAX : found->second + times;
  } else if (page > max_page >> (page_shift_ - 12) || counts_.size() >= most_pages) {
    dropped_ = times > UINT64_MAX - dropped_ ? UINT64_MAX : dropped_ + times;
  } else {
    counts_.emplace(page, times);
  }
}

std::vector<std::uint64_t> Profile::pages(std::size_t limit) const {
  std::vector<std::pair<std::uint64_t, std::uint64_t>> all(counts_.begin(), counts_.end());
  const auto hotter = [](const auto& a, const auto& b) {
    return a.second != b.second ? a.second > b.second : a.first < b.first;
  };
  const std::size_t wanted = std::min(limit, all.size());
  std::partial_sort(all.begin(), all.begin() + static_cast<std::ptrdiff_t>(wanted), all.end(), hotter);
  std::vector<std::uint64_t> pages;
  pages.reserve(wanted);
  for (std::size_t i = 0; i < wanted; ++i) pages.push_back(all[i].first);
  return pages;
}

void Profile::save(const std::string& path) const {
  std::unique_ptr<std::FILE, CloseFile> file(std::fopen(path.c_str(), "wb"));
  if (file == nullptr) throw_write_error(path);
  std::vector<unsigned char> bytes(magic, magic + magic_size);
  append(bytes, page_shift_, 4);
  append(bytes, 0, 4);
  append(bytes, counts_.size(), 8);
  const auto flush = [&] {
    if (std::fwrite(bytes.data(), 1, bytes.size(), file.get()) != bytes.size()) throw_write_error(path);
    bytes.clear();
  };
  for (const auto& [page, times] : counts_) {
    append(bytes, page, 8);
    append(bytes, times, 8);
    if (bytes.size() >= batch * record_size) flush();
  }
  flush();
  if (std::fclose(file.release()) != 0) throw_write_error(path);
}

Profile Profile::load(const std::string& path) {
  const InputFile file(path, false);
  const Header header = read_header(file);
  Profile profile(header.page_shift);
  std::vector<unsigned char> bytes;
  for (std::uint64_t done = 0; done < header.pages;) {
    const auto count = static_cast<std::size_t>(std::min<std::uint64_t>(batch, header.pages - done));
    bytes.resize(count * record_size);
    file.read(header_size + done * record_size, bytes.data(), bytes.size());
    for (std::size_t i = 0; i < count; ++i) {
      const std::uint64_t page = prefetch::load(&bytes[i * record_size], 8);
      const std::uint64_t times = prefetch::load(&bytes[i * record_size + 8], 8);
      const bool ascending = profile.counts_.empty() || page > profile.counts_.rbegin()->first;
      if (!ascending || times == 0 || page > max_page >> (header.page_shift - 12)) {
        throw InvalidConfig(file.path() + ": damaged page profile: record " + std::to_string(done + i) + " is page " +
                            hex(page) + ", seen " + std::to_string(times) + " times");
      }
      profile.counts_.emplace_hint(profile.counts_.end(), page, times);
    }
    done += count;
  }
  return profile;
}

}  // namespace vm::mem::prefetch
