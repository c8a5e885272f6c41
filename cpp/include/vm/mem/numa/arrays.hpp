#pragma once
/// \file
/// Arrays of an ArrayAllocator, placed on nodes.

#include "vm/mem/numa/policy.hpp"
#include "vm/mem/pages/array_allocator.hpp"

namespace vm::mem::numa {

/// `options` with a `place` that has the kernel place arrays from 1 MiB on by `policy`; smaller ones lie where malloc
/// has them. Whether this kernel takes the policy is tried at once. A policy without fallback is refused: the pages of
/// an array come when they are touched, and a touch that a full node cannot serve ends the process.
/// Throws InvalidConfig for such a policy, NotSupported when the kernel does not take it, and what `decide` does.
ArrayAllocatorOptions place_arrays(ArrayAllocatorOptions options, const NumaPolicy& policy);

}  // namespace vm::mem::numa
