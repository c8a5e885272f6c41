#include "vm/mem/tlb/flush_log.hpp"

namespace vm::mem::tlb {

void FlushLog::begin(const FlushRequest& request) noexcept {
  const std::lock_guard<std::mutex> lock(mutex_);
  const std::uint64_t number = begun_.load(std::memory_order_relaxed) + 1;
  Record& record = ring_[number % capacity];
  record.number.store(0, std::memory_order_relaxed);
  // Release: whoever reads one of these words also sees that the record was taken away, or is whole again.
  record.what.store(static_cast<std::uint64_t>(request.scope) | std::uint64_t{request.context.asid} << 16 |
                        std::uint64_t{request.context.vmid} << 32,
                    std::memory_order_release);
  record.vaddr.store(request.vaddr, std::memory_order_release);
  record.size.store(request.size, std::memory_order_release);
  record.number.store(number, std::memory_order_release);
  begun_.store(number, std::memory_order_seq_cst);  // see generation()
}

bool FlushLog::read(std::uint64_t generation, FlushRequest& request) const noexcept {
  const Record& record = ring_[generation % capacity];
  if (record.number.load(std::memory_order_acquire) != generation) return false;
  // Acquire pairs with the stores in begin(): after a word of a younger record the number is a younger one too.
  const std::uint64_t what = record.what.load(std::memory_order_acquire);
  request.vaddr = record.vaddr.load(std::memory_order_acquire);
  request.size = record.size.load(std::memory_order_acquire);
  if (record.number.load(std::memory_order_relaxed) != generation) return false;
  request.scope = static_cast<FlushScope>(what & 0xFFFF);
  request.context = {static_cast<std::uint16_t>(what >> 16), static_cast<std::uint16_t>(what >> 32)};
  return true;
}

bool FlushLog::search(std::uint64_t after, std::uint64_t upto, std::uint64_t tag, std::uint64_t meta) const noexcept {
  if (upto - after > capacity) return true;
  for (std::uint64_t number = after + 1; number <= upto; ++number) {
    FlushRequest request;
    if (!read(number, request) || covers(request, tag, meta)) return true;
  }
  return false;
}

}  // namespace vm::mem::tlb
