#pragma once
/// \file
/// Docstrings of pages.cpp.

namespace docs {

inline constexpr const char* census =
    "What the kernel really put behind some memory, in bytes of whole pages. Made by measure() and "
    "PageBlock.measure().";

inline constexpr const char* measure =
    "Ask the kernel about the pages behind a contiguous buffer: an array, a mmap, a PageBlock.\n\n"
    "Reads /proc/self/smaps, which takes time in a process with many mappings. Raises InvalidConfig when the bytes are "
    "not one contiguous run, TypeError without the buffer protocol, PlatformError.";

inline constexpr const char* advice =
    "What PageBlock.advise tells the kernel, see madvise(2).\n\n"
    "COLLAPSE (Linux 6.1) gathers what is resident into huge pages now. COLD and PAGE_OUT (5.4) have pages evicted "
    "first, or now. WIPE_ON_FORK (4.14) gives a child of fork zeros, DONT_FORK nothing.";

inline constexpr const char* block =
    "Whole pages of private memory: aligned, on huge pages where there are any, between guard pages, zeros at "
    "first.\n\n"
    "vm_mem.pages.allocate makes one and explains the options. It is a buffer of `size` bytes (memoryview(block), "
    "np.frombuffer), and array() gives a NumPy array; both keep the pages, also after close(). Ranges are bytes from "
    "the start; what works on pages wants whole ones (page_size), or a range that ends where the block does. Methods "
    "may be called from any thread. A child of fork has a copy, without locks; after Advice.DONT_FORK it has not, and "
    "there a touch of the block ends the process. Fork while no other thread is in protect(): the child would wait for "
    "it.";

inline constexpr const char* array =
    "The bytes as a one-dimensional array of dtype, shared, not copied; size has to be a multiple of its itemsize.\n\n"
    "Read-only when some page is not writable. Raises InvalidConfig, AccessViolation when some page is not readable, "
    "ClosedError.";

inline constexpr const char* prefault =
    "Put a page under every byte now, so that the first use costs no page fault.\n\n"
    "threads: how many do it at once; None is one for each CPU that the process may use, but at least 16 MiB for each. "
    "Nothing changes in the bytes. Releases the GIL; Ctrl-C ends it between pieces of 256 MiB. Raises AccessViolation "
    "where pages are not writable, ResourceExhausted, OutOfRange, InvalidConfig, PlatformError.";

inline constexpr const char* lock =
    "Keep the pages in memory (mlock2): all of them now, or with on_fault each when it is first touched.\n\n"
    "Pages without rights are locked once they have some and are touched. "
    "Raises ResourceExhausted with the limit that is in force (RLIMIT_MEMLOCK), PlatformError.";

inline constexpr const char* advise =
    "Tell the kernel how pages are used: an Advice.\n\n"
    "Raises NotSupported when this kernel does not know it, ResourceExhausted when it cannot follow it just now, "
    "InvalidConfig, OutOfRange.";

inline constexpr const char* purge =
    "Give pages back to the system; they read as zeros afterwards.\n\n"
    "With lazily the system takes them when it needs memory: until it is written again, a byte has its old value or is "
    "0. Raises AccessViolation where pages are not writable, or locked; NotSupported, InvalidConfig, OutOfRange.";

inline constexpr const char* protect =
    "Give pages exactly these rights; Access.NONE makes them guards: all of the range, or nothing changes.\n\n"
    "The block's wx_policy is kept: \"exclusive\" (no page is writable and executable at once), \"strict\" (and what "
    "was executable once is never writable again) or \"unrestricted\". Raises AccessViolation with the page, its "
    "rights "
    "and those wanted; also when arrays or memoryviews of the block are alive that would lose a right, because a "
    "touch would kill the process. ResourceExhausted when the process has no room for another mapping, InvalidConfig, "
    "OutOfRange.";

inline constexpr const char* rights = "The rights of the pages: (offset, size, Access) for each run, ascending.";

inline constexpr const char* measure_block =
    "What the kernel put behind the block: a PageCensus. Asked now, never concluded from what was wanted.";

inline constexpr const char* resident =
    "Bytes in memory now. Before Linux 6.7 pages of zeros that were only read count too.";

inline constexpr const char* block_huge_pages =
    "What the memory was mapped as: None, \"transparent\", \"2M\" or \"1G\". \"transparent\" means that the kernel was "
    "asked to use huge pages where it can; measure() tells where it does.";

inline constexpr const char* refused =
    "With fallback=True: why the kind of pages that was asked for was not to be had, or None.";

inline constexpr const char* close_block =
    "Give the memory back when no array or memoryview holds it any more; more than once is once.";

inline constexpr const char* dual =
    "Memory for code made at run time: written through one address, run at another, no page with both rights.\n\n"
    "A memfd that nobody else can open, sealed so that the executable view can never be made writable. size: bytes, "
    "zeros at first. Who runs the code keeps this object alive; close() takes the code away under it. A child of "
    "fork has the executable view only: to it the code is sealed, and it sees what the parent writes. Any thread may "
    "call anything. Raises InvalidConfig, ResourceExhausted, NotSupported where shared memory may not be executable, "
    "PlatformError.";

inline constexpr const char* dual_write =
    "Copy bytes-like code to an offset and make it visible to instruction fetch.\n\n"
    "Raises OutOfRange, AccessViolation after seal(), ClosedError.";

inline constexpr const char* dual_seal =
    "Unmap the writable view for good: nobody can change the code from now on; more than once is once.";

inline constexpr const char* numpy_allocator = "Compiled part of vm_mem.numpy_allocator, and its statistics.";

}  // namespace docs
