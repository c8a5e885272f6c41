#pragma once
/// \file
/// An Mmu is rebuilt by switch_to and reconfigure. To be included wherever a template may make InUse<Mmu>.

#include "in_use.hpp"
#include "vm/mem/mmu/mmu.hpp"

template <>
class InUse<vm::mem::Mmu> {
 public:
  explicit InUse(vm::mem::Mmu& mmu) : use_(mmu) {}

 private:
  vm::mem::Mmu::Use use_;
};
