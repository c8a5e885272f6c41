// The walker, the enumeration and the mapper against any tables. What the bytes say becomes a configuration, a small
// guest memory full of entries, addresses to translate and changes to make.

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <optional>
#include <vector>

#include "vm/core/error.hpp"
#include "vm/mem/guest/memory.hpp"
#include "vm/mem/paging/address_space.hpp"

namespace {

using namespace vm;
using namespace vm::mem;
using namespace vm::mem::paging;

void require(bool truth, const char* what) {
  if (truth) return;
  std::fprintf(stderr, "violated: %s\n", what);
  std::abort();
}

/// Bytes of the input in order; zeros after its end.
class Input {
 public:
  Input(const std::uint8_t* data, std::size_t size) : data_(data), size_(size) {}

  bool empty() const { return size_ == 0; }
  template <class T>
  T take() {
    T value = 0;
    const std::size_t n = std::min(size_, sizeof value);
    std::memcpy(&value, data_, n);
    data_ += n;
    size_ -= n;
    return value;
  }
  bool flag() { return (take<std::uint8_t>() & 1) != 0; }

 private:
  const std::uint8_t* data_;
  std::size_t size_;
};

struct Shape {
  PagingConfig config;
  unsigned page_shift = 12;
  unsigned index_bits = 9;
  unsigned virtual_bits = 48;
  bool wide = true;
  bool ppn = false;  ///< RISC-V: addresses stand two bits lower in entries
};

constexpr std::uint64_t frames = 16;

Shape x86(int levels, Input& in) {
  const auto flags = in.take<std::uint16_t>();
  const auto bit = [&](int n) { return (flags >> n & 1) != 0; };
  X86Config c;
  c.levels = levels;
  c.write_protect = bit(0);
  c.no_execute = bit(1);
  c.smep = bit(2);
  c.smap = bit(3);
  c.ac = bit(4);
  c.pse = bit(5);
  c.gigabyte_pages = bit(6);
  c.protection_keys = bit(7) && levels > 3;
  c.supervisor_keys = bit(8) && levels > 3;
  if (bit(9)) c.pkru = in.take<std::uint32_t>();
  if (bit(10)) c.pkrs = in.take<std::uint32_t>();
  c.physical_bits = 52 - (flags >> 11 & 31) % 21;
  return {c, 12, levels == 2 ? 10U : 9U, levels == 5 ? 57U : levels == 4 ? 48U : 32U, levels > 2, false};
}

Shape riscv(RiscVMode mode, Input& in) {
  const auto flags = in.take<std::uint8_t>();
  RiscVConfig c;
  c.mode = mode;
  c.sum = (flags & 1) != 0;
  c.mxr = (flags & 2) != 0;
  c.svnapot = (flags & 4) == 0;
  c.svpbmt = (flags & 8) == 0;
  c.svadu = (flags & 16) != 0;
  const unsigned bits = mode == RiscVMode::sv32 ? 32 : mode == RiscVMode::sv39 ? 39 : mode == RiscVMode::sv48 ? 48 : 57;
  const bool narrow = mode == RiscVMode::sv32;
  return {c, 12, narrow ? 10U : 9U, bits, !narrow, true};
}

Shape aarch64(std::uint64_t granule, Input& in) {
  const auto flags = in.take<std::uint16_t>();
  AArch64Config c;
  c.granule = granule;
  c.ttbr1 = granule;
  c.tcr = AArch64Config::default_tcr(granule);
  c.tcr |= static_cast<std::uint64_t>(flags & 3) << 39;       // HA, HD
  c.tcr |= (flags & 4) != 0 ? std::uint64_t{3} << 41 : 0;     // HPD0, HPD1
  c.tcr |= static_cast<std::uint64_t>(flags >> 3 & 3) << 37;  // TBI0, TBI1
  if ((flags & 32) != 0) c.tcr |= std::uint64_t{1} << 59;     // DS
  c.tcr = (c.tcr & ~(std::uint64_t{7} << 32)) | static_cast<std::uint64_t>(flags >> 6 & 7) << 32;
  c.wxn = (flags & 512) != 0;
  c.pan = (flags & 1024) != 0;
  if ((flags & 2048) != 0) c.physical_bits = 48;
  unsigned size_offset = 16;
  if ((flags & 4096) != 0) {
    size_offset = in.take<std::uint8_t>() & 63;
    c.tcr = (c.tcr & ~std::uint64_t{0x3F'003F}) | size_offset | std::uint64_t{size_offset} << 16;
  }
  const unsigned shift = granule == 4096 ? 12 : granule == 16384 ? 14 : 16;
  return {c, shift, shift - 3, 64 - size_offset, true, false};
}

Shape take_shape(Input& in) {
  switch (in.take<std::uint8_t>() % 11) {
    case 0: return x86(2, in);
    case 1: return x86(3, in);
    case 2: return x86(4, in);
    case 3: return x86(5, in);
    case 4: return riscv(RiscVMode::sv32, in);
    case 5: return riscv(RiscVMode::sv39, in);
    case 6: return riscv(RiscVMode::sv48, in);
    case 7: return riscv(RiscVMode::sv57, in);
    case 8: return aarch64(4096, in);
    case 9: return aarch64(16384, in);
    default: return aarch64(65536, in);
  }
}

/// Sixteen frames, in one region or in two with a hole, on odd host addresses when the input says so.
class Guest {
 public:
  Guest(const Shape& shape, Input& in)
      : shape_(shape), size_(frames << shape.page_shift), bytes_(size_ + 1), odd_(in.flag() ? 1 : 0) {
    const bool hole = in.flag();
    writable_ = !in.flag();
    const std::uint64_t half = size_ / 2;
    std::vector<Region> regions;
    regions.push_back({0, hole ? half : size_, bytes(), writable_, "low", nullptr});
    if (hole) regions.push_back({size_, half, bytes() + half, true, "high", nullptr});
    memory_ = std::make_shared<GuestMemory>(RegionTable(regions), ImageFacts{});
  }

  /// Runs of entries: where, how many, and what the first says; the others point one page further each.
  void fill(Input& in) {
    for (unsigned records = in.take<std::uint8_t>(); records > 0 && !in.empty(); --records) {
      const std::uint64_t frame = in.take<std::uint8_t>() % frames;
      std::uint64_t index = in.take<std::uint16_t>();
      const auto count = in.take<std::uint8_t>();
      const std::uint64_t low = in.take<std::uint16_t>() & 0xFFF;
      const std::uint64_t target = in.take<std::uint8_t>();
      const std::uint64_t high = in.take<std::uint16_t>();
      for (unsigned i = 0; i <= count % 32U; ++i, ++index) {
        // Bits 7..5 of `target` put the address far above memory, or make its low bits odd.
        std::uint64_t address = ((target & 31) + i) << shape_.page_shift;
        if ((target & 0x80) != 0) address <<= shape_.index_bits;
        if ((target & 0x60) == 0x60) address |= std::uint64_t{1} << (32 + (high & 15));
        if (shape_.ppn) address >>= 2;
        put(frame, index, address | (shape_.ppn ? low & 0x3FF : low) | (high >> 4) << 52);
      }
      filled_ = true;
    }
  }

  std::byte* bytes() { return bytes_.data() + odd_; }
  std::vector<std::byte> copy() const { return {bytes_.begin() + odd_, bytes_.end()}; }
  bool equals(const std::vector<std::byte>& saved) { return std::memcmp(saved.data(), bytes(), size_) == 0; }
  const std::shared_ptr<GuestMemory>& memory() const { return memory_; }
  /// Do all tables come from the mapper itself?
  bool blank() const { return !filled_ && writable_; }

 private:
  void put(std::uint64_t frame, std::uint64_t index, std::uint64_t entry) {
    const std::size_t entry_size = shape_.wide ? 8 : 4;
    const std::uint64_t offset =
        (frame << shape_.page_shift) + (index * entry_size & ((std::uint64_t{1} << shape_.page_shift) - 1));
    std::memcpy(bytes() + offset, &entry, entry_size);
  }

  const Shape& shape_;
  std::uint64_t size_;
  std::vector<std::byte> bytes_;
  std::ptrdiff_t odd_;
  bool writable_ = true;
  bool filled_ = false;
  std::shared_ptr<GuestMemory> memory_;
};

/// Addresses with small indices at every level, in either half, or anything at all.
std::uint64_t take_address(const Shape& shape, Input& in) {
  const auto kind = in.take<std::uint8_t>();
  if (kind % 16 == 15) return in.take<std::uint64_t>();
  std::uint64_t address = in.take<std::uint16_t>() & ((1U << shape.page_shift) - 1);
  for (unsigned shift = shape.page_shift; shift < shape.virtual_bits; shift += shape.index_bits)
    address |= static_cast<std::uint64_t>(in.take<std::uint8_t>() & (kind & 31)) << shift;
  address &= (std::uint64_t{1} << (shape.virtual_bits - 1)) - 1;
  if (kind >= 128 && shape.virtual_bits > 32) address |= ~((std::uint64_t{1} << (shape.virtual_bits - 1)) - 1);
  return address;
}

void check_answer(const AddressSpace& space, const Translation& t, Access access, Privilege privilege) {
  require(t.level >= 0 && t.level < 5, "levels are 0 to 4");
  if (!t.ok()) {
    require(space.fault_info(t, access, privilege).error_code < 64, "error codes have six bits");
    return;
  }
  require(t.size_log2 >= 12 && t.size_log2 <= 48, "page sizes are 4 KiB to 256 TiB");
  require(((t.paddr ^ t.vaddr) & (t.page_size() - 1)) == 0, "a page keeps the offset");
  require(t.paddr >> 56 == 0, "no format has more than 56 physical bits");
  require(t.rights < 64, "there are six rights");
}

/// Every engine answers as the walker does, for one kind of access.
void check_engines(Guest& guest, const Shape& shape, const std::vector<std::uint64_t>& addresses, Input& in) {
  constexpr Access wanted[] = {Access::none, Access::read, Access::read | Access::write, Access::execute};
  const auto kind = in.take<std::uint8_t>();
  const Access access = wanted[kind & 3];
  const Privilege privilege = (kind & 4) != 0 ? Privilege::user : Privilege::supervisor;
  const AddressSpace space(guest.memory(), shape.config);
  const std::vector<std::byte> before = guest.copy();
  std::vector<std::uint64_t> expected_paddr;
  std::vector<PackedInfo> expected_info;
  for (const std::uint64_t address : addresses) {
    const Translation t = space.try_translate(GuestVirtual{address}, access, privilege);
    check_answer(space, t, access, privilege);
    expected_paddr.push_back(t.ok() ? t.paddr : no_address);
    expected_info.push_back(pack(t));
  }
  std::vector<std::uint64_t> paddr(addresses.size());
  std::vector<PackedInfo> info(addresses.size());
  for (const Engine engine : space.engines()) {
    space.translate(addresses.data(), addresses.size(), paddr.data(), info.data(), {access, privilege, engine, 1, {}});
    require(paddr == expected_paddr && info == expected_info, "engines agree with the walker");
  }
  require(guest.equals(before), "asking changes nothing");
}

/// Setting A and D flags changes neither this answer nor what it answers next.
void check_marking(Guest& guest, const Shape& shape, const std::vector<std::uint64_t>& addresses) {
  const AddressSpace marking(guest.memory(), shape.config, {std::nullopt, true});
  for (const std::uint64_t address : addresses) {
    const Translation asked = marking.try_translate(GuestVirtual{address}, Access::none);
    const Translation marked = marking.try_translate(GuestVirtual{address}, Access::write);
    if (marked.ok()) require(asked.ok() && asked.paddr == marked.paddr, "an access meets what is mapped");
  }
}

/// What enumeration lists is in order and translates as listed, at both ends of every run.
void check_mappings(const AddressSpace& space, Input& in, const Shape& shape) {
  EnumerateOptions options;
  options.limit = 2000;
  options.merge = in.flag();
  if (in.flag()) {
    options.first = take_address(shape, in);
    options.last = take_address(shape, in);
  }
  std::vector<Mapping> found;
  try {
    found = space.mappings(options);
  } catch (const ResourceExhausted&) {
    return;
  }
  std::uint64_t next = 0;
  for (const Mapping& m : found) {
    require(m.size != 0 && m.page_size >= 4096 && m.size % m.page_size == 0, "runs are whole pages");
    require(m.vaddr % m.page_size == 0 && m.paddr % m.page_size == 0, "pages are aligned");
    require(m.vaddr >= next, "runs are in ascending order");
    require(m.vaddr <= options.last && m.vaddr + (m.size - 1) >= options.first, "runs overlap the window");
    next = m.vaddr + (m.size - 1);
    for (const std::uint64_t offset : {std::uint64_t{0}, m.size - 1}) {
      const Translation t = space.try_translate(GuestVirtual{m.vaddr + offset}, Access::none);
      require(t.ok() && t.paddr == m.paddr + offset, "what is listed translates");
      require(supervisor_access(t.rights) == m.access && user_access(t.rights) == m.user_access, "rights agree");
      require(t.page_size() >= m.page_size, "page sizes agree, but for irregular Svnapot runs");
    }
  }
}

struct Change {
  std::uint8_t kind;
  MapRequest request;
  std::optional<bool> user;
};

Change take_change(const Shape& shape, Input& in) {
  Change c;
  c.kind = in.take<std::uint8_t>();
  const std::uint64_t page = std::uint64_t{1} << shape.page_shift;
  c.request.vaddr = take_address(shape, in) & ~(c.kind >= 250 ? 0 : page - 1);
  c.request.size = static_cast<std::uint64_t>(in.take<std::uint16_t>()) * page;
  if (c.kind % 8 == 7) c.request.size <<= shape.index_bits - 6;
  if (c.kind % 16 == 15) c.request.size = in.take<std::uint64_t>() >> 32;
  c.request.paddr = static_cast<std::uint64_t>(in.take<std::uint16_t>()) << shape.page_shift;
  if (in.flag()) c.request.paddr <<= shape.index_bits - 4;
  c.request.access = static_cast<Access>(in.take<std::uint8_t>() & 7);
  c.request.user = in.flag();
  if (in.flag()) c.request.page_size = page << (in.flag() ? shape.index_bits : 0);
  if (in.flag()) c.user = c.request.user;
  return c;
}

/// The pages of a range that the mapper alone has made are as it was told.
void check_range(const AddressSpace& space, const Change& c, unsigned page_shift) {
  const std::uint64_t pages = c.request.size >> page_shift;
  for (std::uint64_t i = 0; i < pages; i += 1 + pages / 64) {
    const std::uint64_t offset = i << page_shift;
    const Translation t = space.try_translate(GuestVirtual{c.request.vaddr + offset}, Access::none);
    if (c.kind % 4 == 2) {
      require(!t.ok(), "what was unmapped is gone");
      continue;
    }
    require(t.ok(), "what was mapped is there");
    if (c.kind % 4 != 3) require(t.paddr == c.request.paddr + offset, "what was mapped is where it belongs");
    const bool keeps_privilege = c.kind % 4 == 3 && !c.user;
    const bool user = c.kind % 4 == 3 ? c.user.value_or(false) : c.request.user;
    if (!keeps_privilege)
      require(has(user ? user_access(t.rights) : supervisor_access(t.rights), c.request.access), "rights are granted");
  }
}

void apply(AddressSpace& space, const Change& c) {
  switch (c.kind % 4) {
    case 2: space.unmap(c.request.vaddr, c.request.size); break;
    case 3: space.protect(c.request.vaddr, c.request.size, c.request.access, c.user); break;
    default: space.map(c.request);
  }
}

void check_changes(Guest& guest, const Shape& shape, Input& in) {
  std::optional<TableRange> tables;
  const std::uint64_t page = std::uint64_t{1} << shape.page_shift;
  if (in.flag()) tables = TableRange{4 * page, (5 + in.take<std::uint8_t>() % (frames - 5)) * page - 1};
  AddressSpace space(guest.memory(), shape.config, {tables, false});
  for (int i = 0; i < 8 && !in.empty(); ++i) {
    const Change c = take_change(shape, in);
    const std::vector<std::byte> before = guest.copy();
    try {
      apply(space, c);
    } catch (const VmError&) {
      require(guest.equals(before), "a refused change changes nothing");
      continue;
    }
    // Tables that somebody else linked twice can make a page appear where none was asked for.
    if (guest.blank()) check_range(space, c, shape.page_shift);
    check_mappings(space, in, shape);
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  Input in(data, size);
  const Shape shape = take_shape(in);
  Guest guest(shape, in);
  try {
    validate(shape.config);
  } catch (const VmError&) {
    return 0;
  }
  guest.fill(in);
  std::vector<std::uint64_t> addresses;
  for (unsigned n = in.take<std::uint8_t>() % 32; n > 0; --n) addresses.push_back(take_address(shape, in));
  check_engines(guest, shape, addresses, in);
  if (in.flag()) check_marking(guest, shape, addresses);
  check_mappings(AddressSpace(guest.memory(), shape.config), in, shape);
  check_changes(guest, shape, in);
  return 0;
}
