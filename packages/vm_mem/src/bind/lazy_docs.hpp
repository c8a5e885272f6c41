#pragma once
/// \file
/// Docstrings of lazy memory. The class's own text is that of its Python face, vm_mem.lazy.

namespace docs {

inline constexpr const char* lazy_populate = R"(Fill what is missing of ``size`` bytes at ``offset``, in this thread.

The source is asked for up to 1 MiB at a time. Raises OutOfRange, and what the source raises; then some of the pages may
be there. Releases the GIL.
)";

inline constexpr const char* lazy_populate_all = R"(Fill all missing pages, beside whoever touches them.

``progress(done, total)`` is called with bytes every 4 MiB; what it raises stops the work, as does Ctrl-C. To complete
in the background call it in a thread: ``asyncio.to_thread(lazy.populate_all)``.
)";

inline constexpr const char* lazy_discard =
    R"(Forget pages, with what was written to them; touches ask the source again.

``offset`` and ``size`` (bytes) are multiples of ``page_size``, or end with the memory. Raises OutOfRange, InvalidConfig;
AccessViolation for pages of a NumPy view when the source is Python.
)";

inline constexpr const char* lazy_retry = R"(Let touches that wait for failed pages ask the source once more.

Poisoned pages are filled here, and raise what the source raises.
)";

inline constexpr const char* lazy_track = R"(From here on ``dirty()`` tells the pages written; again: begin anew.

Raises NotSupported when the kernel lacks it.
)";

inline constexpr const char* lazy_dirty = R"(Indices (offset // 4096) of the 4 KiB pages written, as ascending uint64.

Since ``track_writes`` or ``reset_dirty``. What the source filled was not written. Raises InvalidConfig when writes are
not tracked.
)";

inline constexpr const char* lazy_reset_dirty =
    R"(As ``dirty()``, and begin anew: a write is in this answer or the next.

Read the pages after this returned.
)";

inline constexpr const char* lazy_close = R"(Give up this object's share, and close ``memory``. Twice is fine.

Pages and threads live until the last view and table is gone, so what others still see stays right.
)";

inline constexpr const char* lazy_stats =
    R"(Counts since construction; pages are of ``page_size``, times ns. Immutable.)";

}  // namespace docs
