#include "page_block_state.hpp"

#include <algorithm>
#include <utility>

#include "vm/core/error.hpp"

using vm::Access;

void SharedBlock::protect(std::uint64_t offset, std::uint64_t size, Access access) {
  const std::lock_guard lock(mutex_);
  for (const vm::mem::RightsRange& run : pages_.protection().ranges()) {
    const bool inside = views_ != 0 && run.offset < offset + size && offset < run.offset + run.size;
    if (!inside || has(access, run.access & (Access::read | Access::write))) continue;
    throw vm::AccessViolation(std::to_string(views_) +
                              " arrays or memoryviews of this block may use the page at offset " +
                              vm::hex(std::max(offset, run.offset)) + ", which has " + to_string(run.access) +
                              ", wanted " + to_string(access) + "; delete or release them first");
  }
  pages_.protect(offset, size, access);
}

BlockView::BlockView(std::shared_ptr<SharedBlock> block) : block_(std::move(block)), writable_(true) {
  const std::lock_guard lock(block_->mutex_);
  const vm::mem::Protection& protection = block_->pages_.protection();
  protection.require(0, size(), Access::read, "a buffer of the block");
  for (const vm::mem::RightsRange& run : protection.ranges()) {
    writable_ = writable_ && (run.offset >= size() || has(run.access, Access::write));
  }
  ++block_->views_;
}

BlockView::~BlockView() {
  const std::lock_guard lock(block_->mutex_);
  --block_->views_;
}

std::shared_ptr<SharedBlock> BlockHandle::get() const {
  auto block = std::atomic_load(&block_);
  if (block == nullptr) throw vm::ClosedError("this page block was closed; allocate another one");
  return block;
}
