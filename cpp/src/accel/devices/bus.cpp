#include "vm/accel/devices/bus.hpp"

#include <algorithm>
#include <cstring>
#include <utility>

#include "vm/core/error.hpp"

namespace vm::accel {
namespace {

constexpr std::uint64_t port_count = 0x10000;

constexpr std::size_t index_of(BusSpace space) noexcept { return static_cast<std::size_t>(space); }

constexpr bool whole_width(unsigned width) noexcept { return width == 1 || width == 2 || width == 4 || width == 8; }

std::string range_text(const BusRange& range) {
  return (range.space == BusSpace::port ? "ports " : "addresses ") + hex(range.base) + "-" + hex(range.last()) +
         (range.name.empty() ? "" : " (" + range.name + ")");
}

void check(const BusRange& range) {
  if (!range.device) throw InvalidConfig("a range of the bus needs a device that answers");
  const std::string at = " at " + hex(range.base);
  if (range.size == 0) throw InvalidConfig("a range of 0 bytes" + at + " holds nothing");
  if (range.last() < range.base) throw InvalidConfig("a range of " + hex(range.size) + " bytes" + at + " wraps");
  if (range.space == BusSpace::port && range.last() >= port_count)
    throw InvalidConfig(range_text(range) + ": the last port is 0xffff");
}

}  // namespace

struct DeviceBus::Counters {
  std::atomic<std::uint64_t> reads{0}, writes{0}, read_bytes{0}, written_bytes{0};

  // Relaxed: the numbers order nothing.
  void count_read(unsigned bytes) noexcept {
    reads.fetch_add(1, std::memory_order_relaxed);
    read_bytes.fetch_add(bytes, std::memory_order_relaxed);
  }
  void count_write(unsigned bytes) noexcept {
    writes.fetch_add(1, std::memory_order_relaxed);
    written_bytes.fetch_add(bytes, std::memory_order_relaxed);
  }
  BusTraffic values() const noexcept {
    return {reads.load(std::memory_order_relaxed), writes.load(std::memory_order_relaxed),
            read_bytes.load(std::memory_order_relaxed), written_bytes.load(std::memory_order_relaxed)};
  }
};

struct DeviceBus::Entry {
  BusRange range;
  std::shared_ptr<Counters> counters;

  bool holds(std::uint64_t address) const noexcept { return address - range.base < range.size; }
};

struct DeviceBus::Table {
  std::array<std::vector<Entry>, 2> spaces;  // sorted by base
};

DeviceBus::DeviceBus() : table_(std::make_shared<Table>()) {
  for (auto& counters : unclaimed_) counters = std::make_unique<Counters>();
}

DeviceBus::~DeviceBus() = default;

std::shared_ptr<const DeviceBus::Table> DeviceBus::table() const {
  const std::lock_guard<std::mutex> lock(mutex_);
  return table_;
}

void DeviceBus::replace(std::shared_ptr<const Table> table) {
  table_ = std::move(table);
  generation_.fetch_add(1, std::memory_order_release);  // pairs with the acquire in Cursor::find
}

void DeviceBus::add(BusRange range) {
  check(range);
  const std::lock_guard<std::mutex> lock(mutex_);
  auto changed = std::make_shared<Table>(*table_);
  std::vector<Entry>& entries = changed->spaces[index_of(range.space)];
  const auto at = std::lower_bound(entries.begin(), entries.end(), range.base,
                                   [](const Entry& entry, std::uint64_t base) { return entry.range.last() < base; });
  if (at != entries.end() && at->range.base <= range.last())
    throw InvalidConfig(range_text(range) + " overlap the " + range_text(at->range) + "; remove those first");
  entries.insert(at, Entry{std::move(range), std::make_shared<Counters>()});
  replace(std::move(changed));
}

void DeviceBus::add_ports(std::uint16_t first, std::uint64_t count, std::shared_ptr<Device> device, std::string name) {
  add({BusSpace::port, first, count, std::move(name), std::move(device)});
}

void DeviceBus::add_memory(std::uint64_t base, std::uint64_t size, std::shared_ptr<Device> device, std::string name) {
  add({BusSpace::memory, base, size, std::move(name), std::move(device)});
}

bool DeviceBus::remove(BusSpace space, std::uint64_t base) {
  std::shared_ptr<const Table> before;  // a device may end with it: not under the lock
  const std::lock_guard<std::mutex> lock(mutex_);
  before = table_;
  auto changed = std::make_shared<Table>(*table_);
  std::vector<Entry>& entries = changed->spaces[index_of(space)];
  const auto at =
      std::find_if(entries.begin(), entries.end(), [base](const Entry& entry) { return entry.range.base == base; });
  if (at == entries.end()) return false;
  entries.erase(at);
  replace(std::move(changed));
  return true;
}

std::vector<BusUsage> DeviceBus::usage() const {
  std::vector<BusUsage> result;
  for (const auto& entries : table()->spaces)
    for (const Entry& entry : entries) result.push_back({entry.range, entry.counters->values()});
  return result;
}

BusTraffic DeviceBus::unclaimed(BusSpace space) const { return unclaimed_[index_of(space)]->values(); }

DeviceBus::Cursor::Cursor(const DeviceBus& bus)
    : bus_(bus), generation_(bus.generation_.load(std::memory_order_acquire)), table_(bus.table()) {}

DeviceBus::Cursor::~Cursor() = default;

const DeviceBus::Entry* DeviceBus::Cursor::find(BusSpace space, std::uint64_t address) {
  const std::uint64_t generation = bus_.generation_.load(std::memory_order_acquire);
  if (generation != generation_) {
    last_ = {};
    table_ = bus_.table();
    generation_ = generation;  // a table that is newer still is fetched again, which does no harm
  }
  const Entry*& last = last_[index_of(space)];
  if (last != nullptr && last->holds(address)) return last;
  const std::vector<Entry>& entries = table_->spaces[index_of(space)];
  const auto at = std::upper_bound(entries.begin(), entries.end(), address,
                                   [](std::uint64_t a, const Entry& entry) { return a < entry.range.base; });
  if (at == entries.begin() || !std::prev(at)->holds(address)) return nullptr;
  return last = &*std::prev(at);
}

const DeviceBus::Entry* DeviceBus::Cursor::whole(BusSpace space, std::uint64_t address, unsigned width) {
  if (!whole_width(width)) return nullptr;
  const Entry* entry = find(space, address);
  return entry != nullptr && width - 1 <= entry->range.last() - address ? entry : nullptr;
}

bool DeviceBus::Cursor::claims(BusSpace space, std::uint64_t address, unsigned width) {
  for (unsigned i = 0; i < width; ++i)
    if (find(space, address + i) != nullptr) return true;
  return false;
}

bool DeviceBus::Cursor::read(BusSpace space, std::uint64_t address, unsigned width, std::byte* to) {
  if (const Entry* entry = whole(space, address, width)) {
    entry->counters->count_read(width);
    const std::uint64_t value = entry->range.device->read(address - entry->range.base, width);
    for (unsigned i = 0; i < width; ++i) to[i] = static_cast<std::byte>(value >> (8 * i));
    return true;
  }
  bool claimed = false;
  for (unsigned i = 0; i < width; ++i) {
    to[i] = std::byte{0xFF};
    if (const Entry* entry = find(space, address + i)) {
      entry->counters->count_read(1);
      to[i] = static_cast<std::byte>(entry->range.device->read(address + i - entry->range.base, 1));
      claimed = true;
    }
  }
  if (!claimed) bus_.unclaimed_[index_of(space)]->count_read(width);
  return claimed;
}

bool DeviceBus::Cursor::write(BusSpace space, std::uint64_t address, unsigned width, const std::byte* from) {
  if (const Entry* entry = whole(space, address, width)) {
    entry->counters->count_write(width);
    std::uint64_t value = 0;
    for (unsigned i = 0; i < width; ++i) value |= std::to_integer<std::uint64_t>(from[i]) << (8 * i);
    entry->range.device->write(address - entry->range.base, width, value);
    return true;
  }
  bool claimed = false;
  for (unsigned i = 0; i < width; ++i) {
    if (const Entry* entry = find(space, address + i)) {
      entry->counters->count_write(1);
      entry->range.device->write(address + i - entry->range.base, 1, std::to_integer<std::uint64_t>(from[i]));
      claimed = true;
    }
  }
  if (!claimed) bus_.unclaimed_[index_of(space)]->count_write(width);
  return claimed;
}

}  // namespace vm::accel
