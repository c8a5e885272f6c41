#include "vm/mem/tlb/config.hpp"
#include "vm/mem/tlb/flush.hpp"

namespace vm::mem::tlb {

const char* to_string(FlushScope scope) noexcept {
  switch (scope) {
    case FlushScope::page: return "page";
    case FlushScope::range: return "range";
    case FlushScope::asid: return "asid";
    case FlushScope::non_global: return "non_global";
    case FlushScope::all: return "all";
  }
  return "unknown";
}

const char* to_string(Strategy strategy) noexcept {
  switch (strategy) {
    case Strategy::multi_level: return "multi_level";
    case Strategy::concurrent: return "concurrent";
    case Strategy::hybrid: return "hybrid";
  }
  return "unknown";
}

const char* to_string(Replacement replacement) noexcept {
  switch (replacement) {
    case Replacement::lru: return "lru";
    case Replacement::tree_plru: return "tree_plru";
    case Replacement::fifo: return "fifo";
    case Replacement::random: return "random";
  }
  return "unknown";
}

const char* to_string(Inclusion inclusion) noexcept {
  switch (inclusion) {
    case Inclusion::inclusive: return "inclusive";
    case Inclusion::exclusive: return "exclusive";
  }
  return "unknown";
}

const char* to_string(FlushPolicy policy) noexcept {
  switch (policy) {
    case FlushPolicy::immediate: return "immediate";
    case FlushPolicy::delayed: return "delayed";
    case FlushPolicy::batched: return "batched";
    case FlushPolicy::intelligent: return "intelligent";
    case FlushPolicy::adaptive: return "adaptive";
  }
  return "unknown";
}

}  // namespace vm::mem::tlb
