#include "vm/mem/numa/arrays.hpp"

#include "vm/core/error.hpp"
#include "vm/mem/numa/allocator.hpp"
#include "vm/mem/pages/host_page.hpp"

namespace vm::mem::numa {

ArrayAllocatorOptions place_arrays(ArrayAllocatorOptions options, const NumaPolicy& policy) {
  if (!policy.fallback()) {
    throw InvalidConfig("arrays cannot be placed by " + policy.text() +
                        ": a touch that a full node cannot serve ends the process; use a policy with fallback");
  }
  NumaAllocator allocator(policy);
  const Binding tried = allocator.allocate(host_page_size(), {HugePages::none, false})->binding();
  if (!tried.bound())
    throw NotSupported("this kernel does not place memory by " + policy.text() + ": " + tried.refusal);
  options.place = [decision = allocator.decide(policy)](void* start, std::uint64_t size) noexcept {
    return bind_range(start, size, decision);
  };
  return options;
}

}  // namespace vm::mem::numa
