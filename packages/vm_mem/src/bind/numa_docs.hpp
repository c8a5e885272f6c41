#pragma once
/// \file
/// Docstrings of vm_mem.numa.

namespace docs {

inline constexpr const char* numa_policy =
    R"(Where memory shall lie. A value: made by its functions, comparable, hashable.

>>> NumaPolicy.bind(1, 0) == NumaPolicy.bind(0, 1)
True
)";
inline constexpr const char* numa_policy_local = R"(``preferred_node``, or the node of the thread that allocates.

With ``fallback`` other nodes serve when it is full, and the nearest one when it has no memory or this process may not
use it; without, both are errors.
)";
inline constexpr const char* numa_policy_bind = R"(These nodes and no others; blocks are populated and verified.

``home_node``: of them those nearest to it first (Linux 5.17).
)";
inline constexpr const char* numa_policy_interleave =
    R"(Page after page round these nodes; without nodes, round all that have memory and that this process may use.)";
inline constexpr const char* numa_policy_preferred_many =
    R"(These nodes, and others when they are full (Linux 5.15). ``home_node`` as for ``bind``.)";
inline constexpr const char* numa_policy_decide = R"(What the kernel would be asked on the machine of ``topology``.

Asks nobody, so descriptions of other machines can be decided for. ``cpu``: where the allocating thread runs.
``allowed_nodes``: whose memory its cgroup lets it use; None means all. Raises OutOfRange for a node or CPU that is not
there, NotSupported for one without memory that can be used where the policy leaves no other, InvalidConfig for a
policy that needs nodes and has none.
)";
inline constexpr const char* numa_decision = R"(What the kernel is asked for, made of a policy and a machine.)";
inline constexpr const char* numa_placement = R"(The nodes of the pages of a range, when they were asked for.

A page is absent when nothing was written to it yet. The kernel may move pages whenever it likes.
)";
inline constexpr const char* numa_verification = R"(Whether pages are where they were wanted; true when all are.

"elsewhere": some page is on another node, or an interleaving is uneven. "unverified": none is known to be elsewhere,
but some are absent, or the kernel does not tell.
)";
inline constexpr const char* numa_migration =
    R"(What a migration did, in bytes, counted by asking where the pages are before and after.)";
inline constexpr const char* numa_node_statistics = R"(What the live blocks of one allocator have on one node.)";
inline constexpr const char* numa_node_memory = R"(What the kernel says about the memory of one node.

Bytes, and pages counted since the system started (numastat.rst of the kernel's documentation).
)";
inline constexpr const char* numa_node_memory_of = R"(Read a node's numbers from sysfs.

Raises NotSupported when there is no such node, or no sysfs; InvalidConfig when a file holds what the kernel would not
write.
)";
inline constexpr const char* numa_placement_of = R"(Ask the kernel on which nodes the pages of ``target`` are.

``target``: GuestMemory, of which ``paddr`` and ``size`` choose a range without holes, or anything with a contiguous
buffer: a NumPy array, a memoryview, an mmap. Pages that the buffer shares with others count whole. Raises NotSupported
where the kernel does not tell (``placement_unavailable`` says why), OutOfRange, InvalidConfig, PlatformError. Releases
the GIL.
)";
inline constexpr const char* numa_placement_unavailable =
    R"(None where the kernel tells where pages are, else a sentence that says why not and what to do.)";
inline constexpr const char* numa_migrate_process = R"(Move all pages of this process on one node to another.

Policies stay as they are. Returns how many pages stayed, for instance because other processes map them too. Raises
OutOfRange, NotSupported when the kernel has no such node, PlatformError. Releases the GIL.
)";

inline constexpr const char* numa_block = R"(Zero-filled memory that knows where it was wanted, and says where it is.

Made by a NumaAllocator, which it may outlive. ``array`` gives the bytes; an array keeps them mapped, also after
``close``. Everything but ``close``, ``closed`` and ``size`` raises ClosedError after ``close`` or the end of a ``with``
block. Any thread may call anything at any time.
)";
inline constexpr const char* numa_block_array = R"(The memory as a 1-D NumPy array of ``dtype``, without a copy.

Its itemsize must divide ``size``. Raises InvalidConfig for one that does not, or for a dtype of Python objects.
)";
inline constexpr const char* numa_block_migrate = R"(Wants the memory elsewhere from now on, and moves what is there.

``policy``: a NumaPolicy, or the id of a node to bind to. Pages that cannot be moved are counted, not raised. Raises what
``NumaPolicy.decide`` raises, NotSupported when the kernel does not take a policy without fallback or moves no pages
(then the block is as it was), PlatformError. Releases the GIL.
)";
inline constexpr const char* numa_replicated = R"(The same bytes on several nodes, so that every reader has them near.

One NumaBlock for each node. The copies are equal when they are made and after ``synchronize``; who writes to one through
its array makes them differ. Writing while others read is as racy as for any memory.
)";
inline constexpr const char* numa_allocator = R"(Memory on the nodes that are asked for.

``policy`` is what ``allocate`` uses; ``NumaPolicy.local()`` when left out. ``topology``: this machine's by default; of
another machine only ``decide`` works. ``through``: "hwloc" (NotSupported where it may not bind), "mbind", or None:
hwloc where it says that it describes this machine and can bind, else mbind.

A block of a policy without fallback is populated, and its pages are looked up, before it is given out: it is where it
was asked to be, or the kernel tells nobody where pages are and ``NumaBlock.verify`` says so. All methods that allocate
take ``huge_pages`` as ``GuestMemory.anonymous`` does, and ``populate=True`` to have pages at once. They raise
OutOfRange for nodes and CPUs that are not there, NotSupported for memory that cannot be used or bound, ResourceExhausted
when nodes without fallback have not that much, InvalidConfig, PlatformError; and they release the GIL. For large,
long-lived memory: each makes a handful of system calls. Any thread may call anything at any time.

>>> allocator = NumaAllocator()
>>> with allocator.allocate_local(1 << 16, populate=True) as block:
...     block.array("u4").sum()
np.uint64(0)
)";
inline constexpr const char* numa_allocate = R"(``size`` bytes by ``policy``, or by the allocator's own.)";
inline constexpr const char* numa_allocate_local = R"(On the calling thread's node; on others when that is full.)";
inline constexpr const char* numa_allocate_on_node = R"(On this node and no other, verified.)";
inline constexpr const char* numa_allocate_interleaved =
    R"(Page after page round ``nodes``; None: all with usable memory.

Transparent huge pages deal out 2 MiB at a time; ``huge_pages=None`` the smallest pages.
)";
inline constexpr const char* numa_allocate_cpu_local =
    R"(On the node of ``cpu`` and no other, verified; where that has no memory, on the nearest that has.)";
inline constexpr const char* numa_allocate_replicated =
    R"(A copy on each of ``nodes``, bound and verified; None: all with usable memory.)";
inline constexpr const char* numa_place = R"(Place guest memory by ``policy``, and move the pages that are there.

``paddr`` and ``size`` choose a range, without them it is all; it has no holes, and begins and ends at pages of its
memory. ``populate=True`` puts pages under it. The result says whether every page came to where it was asked to: nothing
is raised for those that could not be moved. For a memfd the policy holds for everybody who maps it. Raises OutOfRange
naming the hole, InvalidConfig for a part of a page, NotSupported naming a region whose bytes live in a file, where the
kernel ignores policies, and what ``allocate`` raises; then nothing changed. Releases the GIL.
)";
inline constexpr const char* numa_statistics = R"(One NodeStatistics for each node of the topology, measured now.

Takes time in proportion to the bytes alive. Releases the GIL.
)";

}  // namespace docs
