// Every engine and every thread count gives what the scalar walker gives, address by address, and leaves the same
// memory behind when it sets A and D flags. The tables are random: valid ones, reserved bits, blocks at every level,
// tables outside memory, loops.

#include <gtest/gtest.h>

#include <cstdint>
#include <cstring>
#include <map>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "vm/core/error.hpp"
#include "vm/mem/guest/memory.hpp"
#include "vm/mem/paging/address_space.hpp"

namespace vm::mem::paging {
namespace {

constexpr std::uint64_t memory_size = std::uint64_t{1} << 20;

struct Format {
  std::string name;
  PagingConfig config;
  unsigned page_shift;
  unsigned index_bits;
  unsigned virtual_bits;
  bool wide;
  std::uint64_t top_flags = 1;
};

X86Config x86(int levels) {
  X86Config c;
  c.levels = levels;
  c.root = 0;
  c.smep = true;
  return c;
}
X86Config x86_with_keys() {
  X86Config c = x86(4);
  c.protection_keys = true;
  c.pkru = 0xAAAAAAA4;  // key 0 free, key 1 access disabled, the others write disabled
  c.smap = true;
  return c;
}
RiscVConfig riscv(RiscVMode mode, bool svadu) {
  RiscVConfig c;
  c.mode = mode;
  c.sum = true;
  c.svadu = svadu;
  return c;
}
AArch64Config aarch64(std::uint64_t granule, bool hardware_flags) {
  AArch64Config c;
  c.granule = granule;
  c.tcr = AArch64Config::default_tcr(granule);
  if (hardware_flags) c.tcr |= std::uint64_t{3} << 39;  // HA, HD
  return c;
}

std::vector<Format> formats() {
  return {{"x86_2", x86(2), 12, 10, 32, false, 0x27},
          {"x86_pae", x86(3), 12, 9, 32, true},
          {"x86_4", x86(4), 12, 9, 48, true, 0x27},
          {"x86_5", x86(5), 12, 9, 57, true, 0x27},
          {"x86_keys", x86_with_keys(), 12, 9, 48, true, 0x27},
          {"sv32", riscv(RiscVMode::sv32, false), 12, 10, 32, false},
          {"sv39", riscv(RiscVMode::sv39, false), 12, 9, 39, true},
          {"sv48_svadu", riscv(RiscVMode::sv48, true), 12, 9, 48, true},
          {"sv57", riscv(RiscVMode::sv57, false), 12, 9, 57, true},
          {"aarch64_4k", aarch64(4096, false), 12, 9, 48, true},
          {"aarch64_16k_hardware", aarch64(16384, true), 14, 11, 48, true},
          {"aarch64_64k", aarch64(65536, false), 16, 13, 48, true}};
}

// Flags of an entry that works: a table above the last level and a page in it; RISC-V has to choose.
std::uint64_t sound_flags(const Format& f, std::uint64_t r) {
  if (std::holds_alternative<AArch64Config>(f.config)) return 0x403 | (r & 0xC0);
  if (std::holds_alternative<RiscVConfig>(f.config)) return r % 5 < 4 ? 1 : 0xC7 | (r & 0x18);
  return 0x21 | (r & 0x46);
}

// Three in five entries are sound; the others are absent, or random in the flags and sometimes in the high bits. One
// address in nine is outside memory.
std::uint64_t random_entry(const Format& f, std::mt19937_64& random) {
  const std::uint64_t r = random();
  const std::uint64_t page_mask = ~((std::uint64_t{1} << f.page_shift) - 1);
  std::uint64_t address = random() % (memory_size + memory_size / 8) & page_mask;
  if (std::holds_alternative<RiscVConfig>(f.config)) address >>= 2;
  if (r % 5 < 3) return address | sound_flags(f, r >> 8);
  if (r % 5 == 3) return 0;
  std::uint64_t entry = address | (random() & 0xFFF) | 1;
  if (f.wide && r % 3 == 0) entry |= random() & 0xFFF0'0000'0000'0000;
  if (f.wide && r % 7 == 0) entry |= std::uint64_t{1} << (random() % 64);
  return entry;
}

std::vector<std::byte> random_bytes(const Format& f) {
  std::mt19937_64 random(1);
  const std::size_t entry_size = f.wide ? 8 : 4;
  std::vector<std::byte> bytes(memory_size);
  for (std::size_t at = 0; at < memory_size; at += entry_size) {
    const std::uint64_t entry = random_entry(f, random);
    std::memcpy(bytes.data() + at, &entry, entry_size);
  }
  // Sound pointers in the top table's first and last entries, so that the walks get past it.
  const std::uint64_t top = std::holds_alternative<AArch64Config>(f.config) ? 3 : f.top_flags;
  for (const std::size_t at : {std::size_t{0}, entry_size, 2 * entry_size, 3 * entry_size, 4096 - entry_size}) {
    std::uint64_t page = (random() % (memory_size >> f.page_shift)) << f.page_shift;
    if (std::holds_alternative<RiscVConfig>(f.config)) page >>= 2;
    page |= top;
    std::memcpy(bytes.data() + at, &page, entry_size);
  }
  return bytes;
}

// The same contents each time for one format.
std::shared_ptr<GuestMemory> random_memory(const Format& f) {
  static std::map<std::string, std::vector<std::byte>> contents;
  std::vector<std::byte>& bytes = contents[f.name];
  if (bytes.empty()) bytes = random_bytes(f);
  auto memory = GuestMemory::anonymous(memory_size);
  memory->write(0, bytes.data(), bytes.size());
  return memory;
}

// Addresses with few distinct upper indices, so that caches hit, blocks are met and both halves appear.
std::vector<std::uint64_t> random_addresses(const Format& f, std::uint64_t seed, std::size_t count) {
  std::mt19937_64 random(seed);
  std::vector<std::uint64_t> addresses(count);
  for (std::uint64_t& address : addresses) {
    address = random() & ((std::uint64_t{1} << (f.page_shift + f.index_bits)) - 1);
    for (unsigned shift = f.page_shift + f.index_bits; shift < f.virtual_bits; shift += f.index_bits)
      address |= (random() % 6) << shift;
    if (random() % 3 == 0 && f.virtual_bits > 32) address |= ~((std::uint64_t{1} << (f.virtual_bits - 1)) - 1);
    if (random() % 50 == 0) address = random();
  }
  return addresses;
}

struct Answers {
  std::vector<std::uint64_t> paddr;
  std::vector<PackedInfo> info;
  std::vector<std::byte> memory;
};

Answers finish(Answers answers, const GuestMemory& memory) {
  answers.memory.resize(memory_size);
  memory.read(0, answers.memory.data(), memory_size);
  return answers;
}

Answers scalar_answers(const Format& f, const std::vector<std::uint64_t>& addresses, const BatchRequest& request,
                       bool update) {
  const auto memory = random_memory(f);
  const AddressSpace space(memory, f.config, {std::nullopt, update});
  Answers answers;
  for (const std::uint64_t address : addresses) {
    const Translation t = space.try_translate(GuestVirtual{address}, request.access, request.privilege);
    answers.paddr.push_back(t.ok() ? t.paddr : no_address);
    answers.info.push_back(pack(t));
  }
  return finish(std::move(answers), *memory);
}

Answers batch_answers(const Format& f, const std::vector<std::uint64_t>& addresses, const BatchRequest& request,
                      bool update) {
  const auto memory = random_memory(f);
  const AddressSpace space(memory, f.config, {std::nullopt, update});
  Answers answers;
  answers.paddr.resize(addresses.size());
  answers.info.resize(addresses.size());
  space.translate(addresses.data(), addresses.size(), answers.paddr.data(), answers.info.data(), request);
  return finish(std::move(answers), *memory);
}

class BatchTest : public testing::TestWithParam<Format> {};

TEST_P(BatchTest, EveryEngineEqualsTheWalker) {
  const Format& f = GetParam();
  const std::vector<std::uint64_t> addresses = random_addresses(f, 2, 8'011);
  const std::vector<Engine> engines = AddressSpace(random_memory(f), f.config).engines();
  std::size_t translated = 0;
  for (const Access access : {Access::none, Access::read, Access::read | Access::write, Access::execute}) {
    for (const Privilege privilege : {Privilege::supervisor, Privilege::user}) {
      for (const bool update : {false, true}) {
        BatchRequest request;
        request.access = access;
        request.privilege = privilege;
        const Answers expected = scalar_answers(f, addresses, request, update);
        for (const PackedInfo info : expected.info) translated += is_fault(info) ? 0 : 1;
        for (const Engine engine : engines) {
          request.engine = engine;
          const Answers got = batch_answers(f, addresses, request, update);
          for (std::size_t i = 0; i < addresses.size(); ++i) {
            ASSERT_EQ(got.paddr[i], expected.paddr[i]) << to_string(engine) << " at " << hex(addresses[i]);
            ASSERT_EQ(got.info[i], expected.info[i]) << to_string(engine) << " at " << hex(addresses[i]);
          }
          EXPECT_EQ(got.memory == expected.memory, true) << to_string(engine) << ": A and D flags differ";
        }
      }
    }
  }
  EXPECT_GT(translated, addresses.size() / 8) << "the random tables are too hostile to test anything";
}

TEST_P(BatchTest, ThreadsDoNotChangeTheAnswers) {
  const Format& f = GetParam();
  const std::vector<std::uint64_t> addresses = random_addresses(f, 3, 70'003);
  BatchRequest request;
  const Answers expected = batch_answers(f, addresses, request, false);
  for (const unsigned threads : {0U, 2U, 5U}) {
    request.threads = threads;
    const Answers got = batch_answers(f, addresses, request, false);
    EXPECT_EQ(got.paddr == expected.paddr, true) << threads << " threads";
    EXPECT_EQ(got.info == expected.info, true) << threads << " threads";
  }
}

TEST_P(BatchTest, ThreadsMayRaceToSetFlags) {
  const Format& f = GetParam();
  const std::vector<std::uint64_t> addresses = random_addresses(f, 4, 60'000);
  BatchRequest request;
  request.access = Access::read | Access::write;
  const Answers expected = batch_answers(f, addresses, request, true);
  request.threads = 4;
  const Answers got = batch_answers(f, addresses, request, true);
  EXPECT_EQ(got.memory == expected.memory, true);
}

INSTANTIATE_TEST_SUITE_P(Formats, BatchTest, testing::ValuesIn(formats()),
                         [](const auto& tested) { return tested.param.name; });

TEST(BatchEngineTest, EmptyAndTinyBatches) {
  const Format f = formats()[2];
  const AddressSpace space(random_memory(f), f.config);
  BatchRequest request;
  for (const Engine engine : space.engines()) {
    request.engine = engine;
    space.translate(nullptr, 0, nullptr, nullptr, request);
    std::uint64_t address = 0x1234;
    std::uint64_t paddr = 0;
    PackedInfo info = 0;
    space.translate(&address, 1, &paddr, &info, request);
    EXPECT_EQ(info, pack(space.try_translate(GuestVirtual{address})));
  }
}

TEST(BatchEngineTest, AnEngineThatTheFormatLacksIsNotSupported) {
  const Format f = formats()[0];
  const AddressSpace space(random_memory(f), f.config);
  std::uint64_t address = 0;
  std::uint64_t paddr = 0;
  PackedInfo info = 0;
  BatchRequest request;
  request.engine = Engine::avx2;
  EXPECT_THROW(space.translate(&address, 1, &paddr, &info, request), NotSupported);
}

TEST(BatchEngineTest, KeepGoingEndsTheCallEarly) {
  const Format f = formats()[2];
  const AddressSpace space(random_memory(f), f.config);
  const std::vector<std::uint64_t> addresses(std::size_t{3} << 18, 0x1000);
  std::vector<std::uint64_t> paddr(addresses.size(), 7);
  std::vector<PackedInfo> info(addresses.size());
  BatchRequest request;
  int asked = 0;
  request.keep_going = [&] { return ++asked < 2; };
  space.translate(addresses.data(), addresses.size(), paddr.data(), info.data(), request);
  EXPECT_EQ(asked, 2);
  EXPECT_EQ(paddr.back(), 7U);
}

TEST(BatchEngineTest, AutomaticChoiceFollowsSizeAndFootprint) {
  const Format f = formats()[2];
  const AddressSpace space(random_memory(f), f.config);
  const std::vector<std::uint64_t> one_table(100'000, 0x1000);
  EXPECT_EQ(space.choose_engine(one_table.data(), 10), Engine::walk);
  EXPECT_NE(space.choose_engine(one_table.data(), one_table.size()), Engine::walk);
  std::vector<std::uint64_t> scattered(4096);
  for (std::size_t i = 0; i < scattered.size(); ++i) scattered[i] = i << 21;  // each in a table of its own
  EXPECT_EQ(space.choose_engine(scattered.data(), scattered.size()), Engine::group_prefetch);
}

}  // namespace
}  // namespace vm::mem::paging
