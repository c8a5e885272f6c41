"""Translate the same addresses of the same raw image with other tools and with this library.

Peers: volatility3 (its layers used as a library), MemProcFS (Python, and its C function in a C loop), Unicorn (its C
function through ctypes, and in a C loop). A peer that is not installed is left out, and the report says so.
"""

from __future__ import annotations

import ctypes
import mmap
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt
from vm_mem import GuestMemory
from vm_mem.paging import X86, AddressSpace

from bench.python import native, results
from bench.python.harness import Contestant, Timing, race
from bench.python.mem.images import CASES, ROOT_TABLE, Case, fill_tables

INTRO = """\
All rows of a table translate the same random addresses through the same raw image file (sparse, all of the physical
memory); every answer was compared with what the tables were built to say before anything was timed. The peers take
one address per call and are called as Python people call them; where a C function exists, a second row calls it in a
loop compiled with -O2. volatility3, the slowest, takes the first addresses of the batch only. The ratio is the row's
time divided by that of one `translate(array)` call of this library. None of the peers checks rights, except Unicorn."""

BATCH = "vm_mem translate(array)"
VOLATILITY, MEMPROCFS = "volatility3 layer.translate(int)", "memprocfs virt2phys(int)"
PROMISES = {VOLATILITY: 1000, MEMPROCFS: 150}

Words = npt.NDArray[np.uint64]
Translate = Callable[[], Words]
Rows = Iterator[tuple[str, str, Translate]]


def make_image(case: Case, path: Path, count: int) -> tuple[Words, Words]:
    """Write the raw image; return `count` addresses and their translations."""
    with path.open("wb") as file:
        file.truncate(case.memory)
    words = np.memmap(path, np.uint64, "r+", shape=(-(-case.tables // 8),))
    addresses = fill_tables(case, words)
    words.flush()
    return addresses.virtual[:count].copy(), addresses.physical[:count].copy()


def one_by_one(translate: Callable[[int], int], virtual: Words) -> Translate:
    """A Python loop around a function that takes one address."""
    addresses = virtual.tolist()
    return lambda: np.array([translate(address) for address in addresses], np.uint64)


def ours(image: Path, virtual: Words) -> Rows:
    """This library: every permission check, page sizes, rights and fault reasons included."""
    space = AddressSpace(GuestMemory.open(image, format="raw"), X86(levels=4, root=ROOT_TABLE))
    yield BATCH, "full checks, all results", lambda: space.translate(virtual).paddr
    scalar = one_by_one(lambda address: space.translate(address).paddr, virtual)
    yield "vm_mem translate(int)", "full checks, a Python loop", scalar


def volatility3(image: Path, virtual: Words) -> Rows:
    """Intel32e on a FileLayer, as its plugins use them. It refuses tables whose entries are all identical."""
    from volatility3.framework import contexts
    from volatility3.framework.layers import intel, physical

    context = contexts.Context()
    context.config["file.location"] = image.as_uri()
    context.add_layer(physical.FileLayer(context, "file", "memory"))
    context.config["paging.memory_layer"] = "memory"
    context.config["paging.page_map_offset"] = ROOT_TABLE
    layer = intel.Intel32e(context, "paging", "virtual")
    translate, inner = layer.translate, layer._translate
    first = virtual[: virtual.size // 8]
    public = one_by_one(lambda address: translate(address)[0], first)
    yield VOLATILITY, "present bits; that the image has the frame; caches of 1,024 pages and tables", public
    private = one_by_one(lambda address: inner(address)[0], first)
    yield "volatility3 layer._translate(int)", "private: present bits; the same caches", private


MEMPROCFS_OPTIONS = ("-norefresh", "-disable-python", "-disable-symbolserver", "-disable-symbols", "-disable-infodb")


def memprocfs(image: Path, virtual: Words) -> Rows:
    """Its Python module, and VMMDLL_MemVirt2Phys of the library inside."""
    import memprocfs

    arguments = ["", "-device", str(image), "-cr3", hex(ROOT_TABLE), *MEMPROCFS_OPTIONS]
    vmm = memprocfs.Vmm(arguments[1:])
    process = vmm.process_list()[0]
    python_loop = one_by_one(process.memory.virt2phys, virtual)
    yield MEMPROCFS, "present bits; its cache of tables", holding(vmm, python_loop)

    library = ctypes.CDLL(str(Path(memprocfs.__file__).with_name("vmm.so")))
    library.VMMDLL_Initialize.restype = ctypes.c_void_p
    encoded = (ctypes.c_char_p * len(arguments))(*map(str.encode, arguments))
    handle = ctypes.c_void_p(library.VMMDLL_Initialize(len(arguments), encoded))
    if not handle.value:
        raise RuntimeError("VMMDLL_Initialize failed")
    loop = native.library("call_loop").loop_memprocfs
    c_loop = looped(loop, (library.VMMDLL_MemVirt2Phys, handle, ctypes.c_uint32(process.pid)), virtual)
    yield "memprocfs VMMDLL_MemVirt2Phys, loop in C", "the same without Python", c_loop


def unicorn(image: Path, virtual: Words) -> Rows:
    """uc_vmem_translate on an engine whose memory is the image and whose registers turn paging on."""
    from unicorn import UC_ARCH_X86, UC_MODE_64, UC_PROT_ALL, UC_PROT_READ, Uc, x86_const
    from unicorn.unicorn_py3 import unicorn as wrapper

    with image.open("r+b") as file:
        memory = mmap.mmap(file.fileno(), 0)
    start = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    engine = Uc(UC_ARCH_X86, UC_MODE_64)
    engine.mem_map_ptr(0, len(memory), UC_PROT_ALL, start)
    engine.reg_write(x86_const.UC_X86_REG_CR4, 1 << 5)  # PAE
    engine.reg_write(x86_const.UC_X86_REG_CR3, ROOT_TABLE)
    engine.msr_write(0xC000_0080, 1 << 8 | 1 << 10 | 1 << 11)  # EFER: LME, LMA, NXE
    engine.reg_write(x86_const.UC_X86_REG_CR0, 1 << 31 | 1 << 16 | 1)  # PG, WP, PE
    function, handle = wrapper.uclib.uc_vmem_translate, engine._uch
    function.restype = ctypes.c_int
    function.argtypes = [ctypes.c_void_p, ctypes.c_uint64, ctypes.c_uint32, ctypes.POINTER(ctypes.c_uint64)]
    found = ctypes.c_uint64()
    reference = ctypes.byref(found)

    def scalar(address: int) -> int:
        if function(handle, address, UC_PROT_READ, reference):
            raise LookupError(hex(address))
        return found.value

    owners = engine, memory
    yield "unicorn uc_vmem_translate, ctypes", "rights; its software TLB", holding(owners, one_by_one(scalar, virtual))
    loop = native.library("call_loop").loop_unicorn
    c_loop = looped(loop, (function, handle, ctypes.c_int(UC_PROT_READ)), virtual)
    yield "unicorn uc_vmem_translate, loop in C", "the same without Python", holding(owners, c_loop)


def holding(owners: object, translate: Translate) -> Translate:
    """Keep alive what `translate` only has the address of."""
    return partial(_without_owners, owners, translate)


def _without_owners(_: object, translate: Translate) -> Words:
    return translate()


def looped(loop: Callable[..., int], leading: tuple[object, ...], virtual: Words) -> Translate:
    """A C loop around a peer's C function; `leading` are its arguments before the addresses."""
    out = np.zeros_like(virtual)
    count = ctypes.c_size_t(virtual.size)
    pointers = ctypes.c_void_p(virtual.ctypes.data), count, ctypes.c_void_p(out.ctypes.data)

    def run() -> Words:
        if loop(*leading, *pointers) != virtual.size:
            raise LookupError("an address did not translate")
        return out

    return run


def contestants(image: Path, virtual: Words, physical: Words) -> Iterator[Contestant]:
    """Everybody who is installed and answers correctly."""
    for peer in (ours, volatility3, memprocfs, unicorn):
        try:
            for name, note, translate in peer(image, virtual):
                answer = translate()
                np.testing.assert_array_equal(answer, physical[: answer.size], err_msg=name)
                yield Contestant.of_call(name, translate, answer.size, note)
        except ModuleNotFoundError as error:
            print(f"{peer.__name__} left out: {error}; pip install -r bench/requirements.txt", flush=True)


def promises(letter: str, timings: list[Timing]) -> Iterator[results.Target]:
    """How many times faster than the peers that have Python calls."""
    for timing in timings:
        if timing.name in PROMISES:
            claim = f"case {letter}, times as fast as {timing.name}"
            yield results.Target(claim, timing.ratio, PROMISES[timing.name], at_least=True)


def main() -> None:
    """Measure all cases against all peers."""
    options = results.options(__doc__ or "")
    packages = ("numpy", "vm_mem", "volatility3", "memprocfs", "unicorn")
    section = results.Section("peers-translate", "Translation by other tools", options.quick, packages, INTRO)
    count, rounds, sample = (1 << 14, 3, 0.01) if options.quick else (1 << 20, 7, 0.1)
    for letter, case in CASES.items():
        with tempfile.TemporaryDirectory() as folder:
            image = Path(folder) / f"{letter}.raw"
            virtual, physical = make_image(case, image, count)
            timings = race(list(contestants(image, virtual, physical)), rounds=rounds, sample_seconds=sample)
        section.add(f"{letter}: {case.name}; {count:,} addresses", results.timing_table(timings), timings)
        section.targets += promises(letter, timings)
    section.write(options.output)


if __name__ == "__main__":
    main()
