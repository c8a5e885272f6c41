"""Pages from Python: what was got, what holds them, rights, and what is refused."""

from __future__ import annotations

import _thread
import ctypes
import doctest
import gc
import mmap
import os
import platform
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import vm_mem.pages
from vm_core import Access, AccessViolation, ClosedError, InvalidConfig, OutOfRange, ResourceExhausted, VmError
from vm_mem.pages import Advice, DualMapping, PageBlock, allocate, measure

PAGE = mmap.PAGESIZE
MIB = 1 << 20
RW = Access.READ | Access.WRITE
RX = Access.READ | Access.EXECUTE
CODE = {
    "x86_64": bytes([0xB8, 42, 0, 0, 0, 0xC3]),  # mov eax, 42; ret
    "aarch64": bytes([0x40, 0x05, 0x80, 0x52, 0xC0, 0x03, 0x5F, 0xD6]),  # mov w0, #42; ret
}


def smaps(address: int) -> dict[str, int]:
    """Bytes by name of the mapping that holds an address, as the kernel writes them; start and end too."""
    found: dict[str, int] = {}
    for line in Path("/proc/self/smaps").read_text().splitlines():
        word, *rest = line.split()
        start, dash, end = word.partition("-")
        if dash and len(rest) >= 4:
            if found:
                break
            if int(start, 16) <= address < int(end, 16):
                found = {"start": int(start, 16), "end": int(end, 16)}
        elif found and rest[1:] == ["kB"]:
            found[word.rstrip(":")] = int(rest[0]) * 1024
    return found


def mapped(address: int) -> bool:
    return bool(smaps(address))


def transparent_huge_pages() -> bool:
    try:
        return "[never]" not in Path("/sys/kernel/mm/transparent_hugepage/enabled").read_text()
    except OSError:
        return False


def test_the_examples_of_the_module() -> None:
    assert doctest.testmod(vm_mem.pages).failed == 0


def test_a_block_tells_what_it_is() -> None:
    block = allocate(3 * PAGE + 5, alignment=1 << 16, huge_pages=None, guard=1)
    assert (block.size, len(block), block.capacity) == (3 * PAGE + 5, 3 * PAGE + 5, 4 * PAGE)
    assert (block.alignment, block.address % (1 << 16), block.guard) == (max(1 << 16, PAGE), 0, PAGE)
    assert (block.page_size, block.huge_pages, block.refused, block.wx_policy) == (PAGE, None, None, "exclusive")
    assert block.rights == [(0, 4 * PAGE, RW)]
    assert repr(block) == (
        f"<PageBlock {3 * PAGE + 5} bytes at {hex(block.address)}, aligned to {block.alignment}, guards of {PAGE}>"
    )
    facts = smaps(block.address)
    assert (facts["start"], facts["end"]) == (block.address, block.address + 4 * PAGE)
    block.close()
    assert repr(block) == "<PageBlock closed>"


def test_what_was_got_is_what_the_kernel_says() -> None:
    with allocate(16 * MIB, huge_pages="auto", guard=PAGE) as block:
        empty = block.measure()
        assert (empty.mapped, empty.resident, empty.huge, empty.locked) == (16 * MIB, 0, 0, 0)
        block.prefault(threads=2)
        census = block.measure()
        facts = smaps(block.address)
        assert census.resident == facts["Rss"] == block.resident == 16 * MIB
        assert census.huge in (facts["AnonHugePages"], None)
        assert census.page_size == facts["KernelPageSize"] == PAGE
        assert repr(census) == (
            f"PageCensus(mapped={16 * MIB}, resident={16 * MIB}, huge={census.huge}, locked=0, page_size={PAGE})"
        )
        if transparent_huge_pages():
            assert block.huge_pages == "transparent"
        assert "aligned to" in repr(block)


def test_huge_pages_that_cannot_be_had() -> None:
    reserved = Path("/sys/kernel/mm/hugepages/hugepages-1048576kB/free_hugepages")
    if reserved.exists() and int(reserved.read_text()):
        pytest.skip("this machine has free huge pages of 1 GiB")
    with pytest.raises(VmError, match="huge pages of 1 GiB") as refused:
        allocate(MIB, huge_pages="1G")
    block = allocate(4 * MIB, huge_pages="1G", fallback=True)
    assert block.huge_pages in ("transparent", None)
    assert block.refused == str(refused.value)
    with pytest.raises(InvalidConfig, match="unknown huge_pages"):
        allocate(MIB, huge_pages="4K")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "options",
    [
        {"size": 0},
        {"size": -1},
        {"alignment": 3},
        {"alignment": 0},
        {"guard": 1 << 60},
        {"huge_pages": "2M", "guard": 1},
        {"wx_policy": "lax"},
        {"prefault": True, "threads": 0},
    ],
)
def test_options_that_make_no_sense(options: dict[str, Any]) -> None:
    with pytest.raises(InvalidConfig):
        allocate(**{"size": PAGE, **options})


def test_an_array_keeps_its_pages() -> None:
    block = allocate(PAGE, huge_pages=None, guard=PAGE)
    address = block.address
    array = block.array("u4")
    assert (array.dtype, array.size, array.ctypes.data) == (np.dtype("u4"), PAGE // 4, address)
    array[0] = 0x01020304
    part = array[1:3]
    block.close()
    del array, block
    gc.collect()
    part[:] = 7
    assert mapped(address)
    del part
    gc.collect()
    assert not mapped(address)


def test_a_memoryview_keeps_its_pages() -> None:
    block = allocate(100, huge_pages=None, guard=PAGE)
    address = block.address
    view = memoryview(block)
    assert (view.nbytes, view.format, view.readonly, view.obj is block) == (100, "B", False, True)
    view[3:6] = b"abc"
    assert bytes(block)[:8] == b"\0\0\0abc\0\0"
    assert np.frombuffer(block, "u1")[4] == ord("b")
    block.close()
    with pytest.raises(ClosedError):
        memoryview(block)
    assert mapped(address)
    view.release()
    gc.collect()
    assert not mapped(address)


def test_arrays_that_cannot_be() -> None:
    block = allocate(12)
    with pytest.raises(InvalidConfig, match="whole number"):
        block.array("u8")
    with pytest.raises(InvalidConfig, match="Python objects"):
        block.array(object)


@pytest.mark.parametrize(
    "use",
    [
        lambda block: block.array(),
        lambda block: block.size,
        lambda block: len(block),
        lambda block: block.lock(),
        lambda block: block.prefault(),
        lambda block: block.purge(),
        lambda block: block.advise(Advice.COLD),
        lambda block: block.protect(0, PAGE, RW),
        lambda block: block.rights,
        lambda block: block.measure(),
    ],
)
def test_a_closed_block(use: Callable[[PageBlock], object]) -> None:
    block = allocate(PAGE)
    assert not block.closed
    block.close()
    block.close()
    assert block.closed
    with pytest.raises(ClosedError):
        use(block)


def test_pages_are_handled() -> None:
    with allocate(8 * PAGE, huge_pages=None, guard=PAGE, prefault=True, lock=True) as block:
        assert block.measure().locked == 8 * PAGE
        with pytest.raises(AccessViolation, match="unlock"):
            block.purge()
        block.unlock()
        block.array()[:] = 1
        block.purge(PAGE, PAGE)
        assert block.resident == 7 * PAGE
        assert block.array().sum() == 7 * PAGE
        block.purge(2 * PAGE, lazily=True)
        assert set(block.array()[2 * PAGE :]) <= {0, 1}
        block.lock(on_fault=True)
        block.prefault(PAGE, PAGE)
        block.unlock()
        block.advise(Advice.DONT_DUMP)
        block.advise(Advice.RANDOM, PAGE, PAGE)
        with pytest.raises(InvalidConfig, match="whole pages"):
            block.advise(Advice.RANDOM, 1, PAGE)
        with pytest.raises(OutOfRange):
            block.prefault(0, 9 * PAGE)
        with pytest.raises(OutOfRange):
            block.purge(9 * PAGE)


def test_a_prefault_that_is_refused_has_done_nothing() -> None:
    size = 512 << 20
    with allocate(size, huge_pages=None) as block:
        with pytest.raises(OutOfRange):
            block.prefault(0, 2**63)
        with pytest.raises(InvalidConfig):
            block.prefault(0, size - 1 - PAGE)
        block.protect(size - PAGE, PAGE, Access.READ)
        with pytest.raises(AccessViolation):
            block.prefault()
        assert block.resident == 0


def test_ctrl_c_stops_a_long_prefault() -> None:
    block = allocate(512 * MIB)
    actions = [partial(_thread.interrupt_main), partial(block.prefault)]
    with pytest.raises(KeyboardInterrupt):
        list(map(partial.__call__, actions))  # no bytecode between them, where the interpreter would look for signals
    assert block.resident == 256 * MIB


def test_rights_and_policies() -> None:
    block = allocate(4 * PAGE, huge_pages=None)
    block.protect(PAGE, PAGE, RX)
    assert block.rights == [(0, PAGE, RW), (PAGE, PAGE, RX), (2 * PAGE, 2 * PAGE, RW)]
    with pytest.raises(AccessViolation, match=r"has r-x, wanted rwx.*exclusive"):
        block.protect(PAGE, PAGE, RW | Access.EXECUTE)
    block.protect(PAGE, PAGE, RW)
    strict = allocate(PAGE, wx_policy="strict")
    strict.protect(0, PAGE, RX)
    with pytest.raises(AccessViolation, match=r"has r-x, wanted rw-.*strict"):
        strict.protect(0, PAGE, RW)
    loose = allocate(PAGE, wx_policy="unrestricted")
    loose.protect(0, PAGE, RW | Access.EXECUTE)


def test_no_array_loses_its_rights() -> None:
    block = allocate(2 * PAGE, huge_pages=None)
    array = block.array()
    with pytest.raises(AccessViolation, match="1 arrays or memoryviews"):
        block.protect(PAGE, PAGE, Access.READ)
    array[PAGE] = 1
    block.protect(PAGE, PAGE, RW)  # takes nothing away
    del array
    block.protect(PAGE, PAGE, Access.READ)
    array = block.array()
    assert not array.flags.writeable
    with pytest.raises(ValueError, match="WRITEABLE"):
        array.flags.writeable = True
    with pytest.raises(TypeError, match="not writable"):
        ctypes.c_char.from_buffer(block)
    assert memoryview(block).readonly
    del array
    block.protect(0, PAGE, Access.NONE)
    with pytest.raises(AccessViolation, match="r--"):
        block.array()
    with pytest.raises(AccessViolation):
        memoryview(block)


def test_a_touch_of_a_guard_kills() -> None:
    program = (
        "import ctypes, sys; from vm_mem.pages import allocate; block = allocate(4096, guard=4096);"
        "ctypes.string_at(block.address + int(sys.argv[1]), 1)"
    )
    # A sanitizer would make a report out of the signal.
    environment = {**os.environ, "ASAN_OPTIONS": "handle_segv=0:detect_leaks=0"}
    for offset, expected in [(0, 0), (-1, -signal.SIGSEGV), (PAGE, -signal.SIGSEGV)]:
        done = subprocess.run([sys.executable, "-c", program, str(offset)], check=False, env=environment)
        assert done.returncode == expected


@pytest.mark.skipif(platform.machine() not in CODE, reason="machine code is known for x86-64 and AArch64")
def test_code_that_was_written_runs() -> None:
    code = CODE.get(platform.machine(), b"")
    function = ctypes.CFUNCTYPE(ctypes.c_int)
    with DualMapping(PAGE) as mapping:
        mapping.write(64, code)
        assert function(mapping.executable_address + 64)() == 42
        assert mapping.writable_address != mapping.executable_address
        assert repr(mapping) == f"<DualMapping {PAGE} bytes, executable at {hex(mapping.executable_address)}>"
        mapping.seal()
        assert (mapping.sealed, mapping.writable_address) == (True, None)
        assert function(mapping.executable_address + 64)() == 42
        with pytest.raises(AccessViolation, match="sealed"):
            mapping.write(0, b"x")
        with pytest.raises(OutOfRange):
            mapping.write(PAGE, b"x")
        with pytest.raises(TypeError):
            mapping.write(0, "text")  # type: ignore[arg-type]
    assert (mapping.closed, mapping.size, repr(mapping)) == (True, PAGE, "<DualMapping closed>")
    with pytest.raises(ClosedError):
        mapping.write(0, b"x")
    with pytest.raises(InvalidConfig):
        DualMapping(0)

    block = allocate(PAGE, wx_policy="strict")
    memoryview(block)[: len(code)] = code
    block.protect(0, PAGE, RX)
    assert function(block.address)() == 42


def test_any_buffer_can_be_measured() -> None:
    array = np.ones(4 * MIB, "u1")
    census = measure(array)
    assert census.mapped >= 4 * MIB
    assert census.resident == census.mapped
    with mmap.mmap(-1, 8 * PAGE) as mapping:
        mapping[PAGE] = 1
        assert measure(mapping).resident == PAGE
    assert measure(np.asfortranarray(np.ones((100, 100)))).resident > 0
    with pytest.raises(InvalidConfig, match="contiguous"):
        measure(array[::2])
    with pytest.raises(TypeError):
        measure(5)  # type: ignore[arg-type]


def test_memory_that_cannot_be() -> None:
    with pytest.raises(ResourceExhausted):
        allocate(1 << 60)
    with pytest.raises(MemoryError):
        allocate(1 << 63)


def test_threads_share_a_block() -> None:
    block = allocate(64 * PAGE, huge_pages=None)
    failures: list[BaseException] = []

    def work(first: int) -> None:
        try:
            for _ in range(50):
                block.protect(first * PAGE, PAGE, Access.READ)
                block.protect(first * PAGE, PAGE, RW)
                block.prefault(first * PAGE, PAGE)
                block.purge(first * PAGE, PAGE)
                block.measure()
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(n,)) for n in (0, 1, 40)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    assert block.rights == [(0, 64 * PAGE, RW)]
