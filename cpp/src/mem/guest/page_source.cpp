#include "vm/mem/guest/page_source.hpp"

#include <utility>

#include "mem/guest/file.hpp"
#include "vm/core/error.hpp"
#include "vm/mem/guest/memory.hpp"
#include "vm/mem/pages/mapping.hpp"
#include "vm/mem/pages/page_filler.hpp"

namespace vm::mem {

namespace {

class FileSource : public PageSource {
 public:
  FileSource(const std::string& path, std::uint64_t offset) : file_(path, false), offset_(offset) {}

  void fill(std::uint64_t offset, std::byte* out, std::size_t size) override {
    if (offset > UINT64_MAX - offset_) {
      throw InvalidConfig("page at offset " + hex(offset) + " lies beyond the end of " + file_.path());
    }
    file_.read(offset_ + offset, out, size);
  }

 private:
  const InputFile file_;
  const std::uint64_t offset_;
};

class MemorySource : public PageSource {
 public:
  MemorySource(std::shared_ptr<const GuestMemory> memory, std::uint64_t base)
      : memory_(std::move(memory)), base_(base) {
    if (memory_ == nullptr) throw InvalidConfig("a page source needs guest memory to read from");
    for (const Region& region : memory_->table()->regions()) {
      const PageFiller* filler = region.mapping == nullptr ? nullptr : region.mapping->filler();
      needs_lock_ = needs_lock_ || (filler != nullptr && filler->needs_caller_lock());
    }
  }

  void fill(std::uint64_t offset, std::byte* out, std::size_t size) override {
    if (offset > UINT64_MAX - base_) {
      throw OutOfRange("page at offset " + hex(offset) + " lies beyond the last 64-bit address", offset, size);
    }
    memory_->read(base_ + offset, out, size);
  }

  bool needs_caller_lock() const noexcept override { return needs_lock_; }

  std::shared_ptr<void> before_wait() const override {
    if (memory_->closed() || !memory_->lazy()) return nullptr;
    return std::make_shared<std::vector<std::shared_ptr<void>>>(memory_->table()->before_wait());
  }

 private:
  const std::shared_ptr<const GuestMemory> memory_;
  const std::uint64_t base_;
  bool needs_lock_ = false;
};

class FunctionSource : public PageSource {
 public:
  explicit FunctionSource(std::function<void(std::uint64_t, std::byte*, std::size_t)> fill) : fill_(std::move(fill)) {
    if (!fill_) throw InvalidConfig("a page source needs a function to call");
  }

  void fill(std::uint64_t offset, std::byte* out, std::size_t size) override { fill_(offset, out, size); }

 private:
  const std::function<void(std::uint64_t, std::byte*, std::size_t)> fill_;
};

}  // namespace

std::shared_ptr<PageSource> file_source(const std::string& path, std::uint64_t offset) {
  return std::make_shared<FileSource>(path, offset);
}

std::shared_ptr<PageSource> memory_source(std::shared_ptr<const GuestMemory> memory, std::uint64_t base) {
  return std::make_shared<MemorySource>(std::move(memory), base);
}

std::shared_ptr<PageSource> function_source(
    std::function<void(std::uint64_t offset, std::byte* out, std::size_t size)> fill) {
  return std::make_shared<FunctionSource>(std::move(fill));
}

}  // namespace vm::mem
