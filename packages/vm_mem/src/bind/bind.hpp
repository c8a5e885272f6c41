#pragma once
/// \file
/// The parts of the `vm_mem._mem` module; each adds its names to the module that it is given.

#include <pybind11/pybind11.h>

/// Block, which all allocators give out.
void bind_alloc_block(pybind11::module_& module);
/// BumpAllocator; Block must be bound before.
void bind_alloc_bump(pybind11::module_& module);
/// ObjectPool and PoolAllocator; Block must be bound before.
void bind_alloc_pool(pybind11::module_& module);
/// SlabAllocator; Block must be bound before.
void bind_alloc_slab(pybind11::module_& module);
/// GuestMemory, Region and CpuState.
void bind_guest(pybind11::module_& module);
/// LazyMemory and LazyStats; GuestMemory must be bound before.
void bind_lazy(pybind11::module_& module);
/// Everything of vm_mem.numa; GuestMemory must be bound before.
void bind_numa(pybind11::module_& module);
/// Everything of vm_mem.paging; GuestMemory must be bound before.
void bind_paging(pybind11::module_& module);
/// AddressSpace; the page-table configurations and results must be bound before.
void bind_address_space(pybind11::module_& module);
/// The scan for roots; GuestMemory and the configurations must be bound before.
void bind_roots(pybind11::module_& module);
/// The prefetchers of vm_mem.prefetch.
void bind_prefetch(pybind11::module_& module);
/// Adaptive; the other prefetchers must be bound before.
void bind_prefetch_adaptive(pybind11::module_& module);
/// Profile.
void bind_prefetch_profile(pybind11::module_& module);
/// Everything of vm_mem.tlb; the prefetchers must be bound before.
void bind_tlb(pybind11::module_& module);
/// Mmu, its statistics and its devices; paging, prefetchers and TLBs must be bound before.
void bind_mmu(pybind11::module_& module);
/// The copies of vm_mem.simd.
void bind_simd(pybind11::module_& module);
/// CopyPlan, MemcpyStrategy and what this machine can do; bind_simd calls it.
void bind_simd_plan(pybind11::module_& module);
/// PageBlock and everything else of vm_mem.pages but what follows.
void bind_pages(pybind11::module_& module);
/// DualMapping.
void bind_dual_mapping(pybind11::module_& module);
/// NumpyAllocator, for vm_mem.numpy_allocator.
void bind_numpy_allocator(pybind11::module_& module);
