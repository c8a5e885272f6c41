#pragma once
/// \file
/// Docstrings of vm_mem's guest memory.

namespace docs {

inline constexpr const char* memory = R"(Guest-physical memory: regions of addresses over memory of this process.

Made by ``open`` (a dump), ``file``, ``anonymous`` or ``memfd``; ``add`` puts several together. Addresses are
guest-physical, sizes are bytes. Closed by ``close`` or at the end of a ``with`` block; afterwards everything but
``close``, ``closed``, ``format`` and ``cpu_states`` raises ClosedError.

Threads: every method may be called at any time from any thread. Bytes that one thread writes while another reads them
are as racy as any shared memory.

A mapped file that somebody truncates meanwhile ends the process with SIGBUS when the missing pages are touched, as any
mapping does. Sizes are checked when a file is opened; keep images unchanged in length while they are open.

>>> with GuestMemory.anonymous(1 << 20, base=0x1000) as memory:
...     memory.write(0x2000, b"hello")
...     memory.read(0x2000, 5)
b'hello'
)";

inline constexpr const char* open = R"(Open a memory image; its format is told by its content.

Formats: ``"raw"`` (byte N of the file is address N), ``"lime"`` (LiME version 1, uncompressed AVML) and ``"elf"`` (ELF
core of either class: QEMU's dump-guest-memory, kdump's vmcore). What no format claims is raw; ``format`` overrides.
The file is mapped, not read: size costs neither time nor memory. With ``writable=True`` writes change the file itself;
what an ELF core does not hold in the file (p_memsz beyond p_filesz) reads as zeros and stays read-only.

Raises InvalidConfig naming what is wrong at which file offset (truncated, overlapping or lying headers); NotSupported
naming a format that has to be converted first (compressed kdump, Windows crash dumps and hibernation files, compressed
AVML, VMware snapshots) and how; PlatformError when the system cannot open or map the file.
)";

inline constexpr const char* anonymous = R"(Make ``size`` bytes of zeros at guest-physical address ``base``.

Memory is spent when it is touched, a page at a time. ``huge_pages``: ``"auto"`` (transparent huge pages where kernel
and size allow: fastest, and a first write spends 2 MiB), None (the kernel's default, mostly 4 KiB), ``"transparent"``
(as ``"auto"``, but NotSupported when they are switched off), ``"2M"`` or ``"1G"`` (reserved pages; ``size`` must be a
multiple; ResourceExhausted says how many are free).
)";

inline constexpr const char* memfd = R"(Make memory that other processes can map through ``fileno()``.

As ``anonymous``, in a memfd called ``name`` (shown in /proc/PID/maps). ``sealed=True`` lets nobody change its size, so
that no holder of the descriptor can take pages away. Another process opens what it was sent with
``GuestMemory.file("/proc/self/fd/N", writable=True)``.
)";

inline constexpr const char* file = R"(Map part of a file as one region at ``base``.

``offset`` needs no alignment; ``size=None`` means up to the end. With ``writable=True`` writes go to the file, visible
to everybody who has it open; else they raise AccessViolation. Raises InvalidConfig when the file is too short,
PlatformError when it cannot be opened or mapped.
)";

inline constexpr const char* read =
    R"(Copy ``size`` bytes from guest-physical address ``paddr``, over any region borders.

Raises OutOfRange naming the hole when some of them do not exist. Long reads release the GIL and can be interrupted.
)";

inline constexpr const char* write = R"(Copy a contiguous buffer (bytes, bytearray, memoryview, array) to ``paddr``.

Raises OutOfRange naming the hole, AccessViolation naming the read-only region; then nothing was written. Releases the
GIL for more than a page.
)";

inline constexpr const char* view = R"(Give ``size`` bytes at ``paddr`` as a NumPy array without a copy.

1-D of ``dtype``, whose size must divide ``size`` (in bytes); not necessarily aligned. Read-only where the region is.
The array keeps its memory mapped, also after ``close`` and ``del``. Of LazyMemory with a Python source the pages are
filled first, and stay while the array lives: nobody could fill them while its user holds the GIL. Raises OutOfRange when the range is not wholly in
one region, InvalidConfig for a dtype that does not fit or holds Python objects.

>>> memory = GuestMemory.anonymous(4096)
>>> memory.view(0, 16, "<u4")[1] = 7
>>> memory.read(4, 4)
b'\x07\x00\x00\x00'
)";

inline constexpr const char* discard = R"(Give the pages of a range back to the host: they read as zeros afterwards.

For everybody who shares them, also while a guest runs; they cost nothing until they are touched again. Raises
OutOfRange, AccessViolation for read-only memory, NotSupported for memory whose bytes live in a file or come from a page
source, InvalidConfig for parts of pages; then nothing changed.

>>> memory = GuestMemory.anonymous(8192)
>>> memory.write(0, b"secret")
>>> memory.discard(0, 4096)
>>> memory.read(0, 6) == bytes(6)
True
)";

inline constexpr const char* populate = R"(Have the host put pages under a range, so that no touch has to wait for them.

Changes no bytes. Raises OutOfRange, AccessViolation, NotSupported (before Linux 5.14), ResourceExhausted.
)";

inline constexpr const char* resident = R"(Bytes of a range, or of all of the memory, that are in the host's memory now.

Whole pages, as mincore(2) sees them: of a memfd whoever touched them, of anonymous memory also those that were only
read. Raises OutOfRange.
)";

inline constexpr const char* add = R"(Add the regions of ``other``, sharing its memory.

Raises InvalidConfig when regions overlap; then nothing changed. ``other`` may be closed afterwards.
)";

inline constexpr const char* save = R"(Write all regions to a new image file; zeros become holes.

``format`` is ``"raw"`` (begins at address 0; forgets which addresses had no memory), ``"lime"`` or ``"elf"`` (keeps the
CPU notes). ``progress(done, total)`` is called with bytes now and then; what it raises stops the work, as does Ctrl-C.
The file appears under ``path`` only when it is complete; what was there is replaced. Not a snapshot: what others write
meanwhile may or may not be in it. Releases the GIL.
)";

inline constexpr const char* fileno = R"(Give the file descriptor of a memfd or mapped file, for others to map.

Valid until ``close`` and the end of all views; do not close it. Raises NotSupported when the regions are not all of one
file.
)";

inline constexpr const char* close = R"(Give the regions up; twice is fine. Views stay valid.)";

inline constexpr const char* regions = R"(The regions by rising address, as a list of Region.)";

inline constexpr const char* format =
    R"(What the memory was made from: ``"anonymous"``, ``"memfd"``, ``"file"``, ``"raw"``, ``"lime"``, ``"elf"``
or ``"lazy"``.)";

inline constexpr const char* cpu_states = R"(What an ELF core's notes say about each CPU, as a list of CpuState.

Empty for everything else, and for cores without notes that are understood.
)";

inline constexpr const char* region = R"(One run of guest-physical addresses. Immutable; holds no memory.)";

inline constexpr const char* cpu_state = R"(The registers of one CPU in an ELF core.

From QEMU's own notes on x86 (general registers, segments, cr0, cr2, cr3, cr4), else from the NT_PRSTATUS notes (general
registers only). What the notes do not carry is None: QEMU's carry no EFER, and no page-table registers of AArch64 and
RISC-V.
)";

inline constexpr const char* registers = R"(All registers by name in lower case, as a dict of int.

Segments have three entries each: ``cs`` (selector), ``cs_limit`` and ``cs_base``.
)";

}  // namespace docs
