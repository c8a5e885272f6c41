#pragma once
/// \file
/// A PageBlock as Python has it: closed while arrays still hold it, and never protected under an array.

#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>

#include "vm/mem/pages/page_block.hpp"

/// The pages with the number of buffers that Python has of them. Any thread.
class SharedBlock {
 public:
  SharedBlock(std::uint64_t size, const vm::mem::PageOptions& options) : pages_(size, options) {}

  vm::mem::PageBlock& pages() noexcept { return pages_; }

  /// As PageBlock::protect; AccessViolation while buffers would lose a right.
  void protect(std::uint64_t offset, std::uint64_t size, vm::Access access);

 private:
  friend class BlockView;

  vm::mem::PageBlock pages_;
  std::mutex mutex_;
  std::uint64_t views_ = 0;
};

/// One buffer of a block; it keeps the pages, and the rights that it found.
class BlockView {
 public:
  /// Throws AccessViolation when some page is not readable.
  explicit BlockView(std::shared_ptr<SharedBlock> block);
  BlockView(const BlockView&) = delete;
  BlockView& operator=(const BlockView&) = delete;
  ~BlockView();

  std::byte* data() const noexcept { return block_->pages().data(); }
  std::uint64_t size() const noexcept { return block_->pages().size(); }
  bool writable() const noexcept { return writable_; }

 private:
  std::shared_ptr<SharedBlock> block_;
  bool writable_;
};

/// The Python object.
class BlockHandle {
 public:
  BlockHandle(std::uint64_t size, const vm::mem::PageOptions& options)
      : block_(std::make_shared<SharedBlock>(size, options)) {}

  /// Throws ClosedError.
  std::shared_ptr<SharedBlock> get() const;
  bool closed() const noexcept { return std::atomic_load(&block_) == nullptr; }
  void close() noexcept { std::atomic_store(&block_, std::shared_ptr<SharedBlock>()); }

 private:
  std::shared_ptr<SharedBlock> block_;  // by std::atomic_load and its like: close() may meet other calls
};
