"""GuestMemory from Python: arguments, copies, views and what keeps them alive, sharing, closing, threads."""

from __future__ import annotations

import _thread
import doctest
import gc
import mmap
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from vm_core import (
    AccessViolation,
    ClosedError,
    InvalidConfig,
    NotSupported,
    OutOfRange,
    PlatformError,
    ResourceExhausted,
    VmError,
)
from vm_mem import GuestMemory, Region

MIB = 1 << 20
GIB = 1 << 30


def mappings_of(path: Path) -> int:
    """How often this process has `path` mapped, by the kernel's word."""
    return Path("/proc/self/maps").read_text().count(str(path))


def test_anonymous_is_zeros_and_keeps_what_is_written() -> None:
    memory = GuestMemory.anonymous(MIB, base=0x1000)
    assert memory.read(0x1000, 16) == bytes(16)
    memory.write(0x1FF8, b"across a page")
    assert memory.read(0x1FF8, 13) == b"across a page"
    assert (memory.size, memory.base, memory.format, memory.cpu_states) == (MIB, 0x1000, "anonymous", [])


def test_regions_describe_themselves() -> None:
    memory = GuestMemory.anonymous(0x1000)
    memory.add(GuestMemory.memfd(0x2000, base=0x10000, name="ram"))
    low, high = memory.regions
    assert (low.base, low.size, low.last, low.writable, low.name) == (0, 0x1000, 0xFFF, True, "anonymous")
    assert (high.base, high.last, high.name) == (0x10000, 0x11FFF, "memfd:ram")
    assert repr(high) == "Region(base=0x10000, size=0x2000, writable=True, name='memfd:ram')"
    assert low == memory.regions[0]
    assert low != high
    assert len({low, memory.regions[0], high}) == 2
    assert memory.size == 0x3000
    assert repr(memory) == "<GuestMemory anonymous: 12 KiB in 2 regions, 0x0-0x11fff>"


def test_there_is_no_memory_without_a_backing() -> None:
    with pytest.raises(TypeError):
        GuestMemory()
    with pytest.raises(TypeError):
        Region()


@pytest.mark.parametrize("paddr", [-1, 1 << 64, -(1 << 70)])
def test_addresses_that_do_not_fit_are_told(paddr: int) -> None:
    memory = GuestMemory.anonymous(0x1000)
    with pytest.raises(InvalidConfig, match=str(paddr)):
        memory.read(paddr, 1)
    with pytest.raises(InvalidConfig, match=str(paddr)):
        memory.view(0, paddr)
    assert paddr not in memory


def test_addresses_may_be_numpy_integers_but_not_floats() -> None:
    memory = GuestMemory.anonymous(0x1000)
    memory.write(np.uint64(0x10), b"x")
    assert memory.read(np.int32(0x10), np.uint8(1)) == b"x"
    for wrong in (1.0, "1", None):
        with pytest.raises(TypeError):
            memory.read(wrong, 1)  # type: ignore[arg-type]


def test_membership() -> None:
    memory = GuestMemory.anonymous(0x1000, base=0x1000)
    assert 0x1000 in memory
    assert 0x1FFF in memory
    assert 0xFFF not in memory
    assert 0x2000 not in memory


def test_holes_are_named() -> None:
    memory = GuestMemory.anonymous(0x1000)
    memory.add(GuestMemory.anonymous(0x1000, base=0x5000))
    with pytest.raises(OutOfRange, match="0x1000-0x4fff") as caught:
        memory.read(0x800, 0x5000)
    assert (caught.value.address, caught.value.size) == (0x800, 0x5000)
    assert isinstance(caught.value, IndexError)
    with pytest.raises(OutOfRange, match="0x6000-0xffffffffffffffff"):
        memory.write(0x5FFF, b"ab")
    assert memory.read(0x5FFF, 1) == b"\0"
    # Refused before memory for the answer is asked for.
    with pytest.raises(OutOfRange):
        memory.read(0, 1 << 60)


@pytest.mark.parametrize("size", [0, 1, 4096, 4097, 200_000])
def test_reads_and_writes_of_all_sizes(size: int) -> None:
    memory = GuestMemory.anonymous(100_000)
    memory.add(GuestMemory.anonymous(MIB, base=100_000))
    data = np.random.default_rng(size).bytes(size)
    memory.write(50_001, data)
    assert memory.read(50_001, size) == data


def test_writes_take_any_contiguous_buffer() -> None:
    memory = GuestMemory.anonymous(0x1000)
    array = np.arange(12, dtype="<u2").reshape(3, 4)
    for buffer in (array, array.tobytes(), bytearray(array.tobytes()), array.data):
        memory.write(0, bytes(32))
        memory.write(0, buffer)
        assert memory.read(0, 24) == array.tobytes()
    for buffer in (array[:, ::2], array.T, memoryview(bytes(8))[::2]):
        with pytest.raises(InvalidConfig, match="ascontiguousarray"):
            memory.write(0, buffer)
    for wrong in ("text", 5, None):
        with pytest.raises(TypeError, match="buffer"):
            memory.write(0, wrong)  # type: ignore[arg-type]


def test_views_share_memory() -> None:
    memory = GuestMemory.anonymous(0x1000, base=0x1000)
    words = memory.view(0x1010, 16, "<u4")
    assert words.dtype == np.dtype("<u4")
    assert words.shape == (4,)
    words[1] = 0x01020304
    assert memory.read(0x1014, 4) == b"\x04\x03\x02\x01"
    memory.write(0x1010, b"\xff\0\0\0")
    assert words[0] == 255
    entry = memory.view(0x1010, 16, np.dtype([("low", "<u4"), ("rest", "u1", 4)]))
    assert entry["low"][1] == 0
    assert memory.view(0x1001, 8, np.uint64).shape == (1,)  # unaligned is fine


def test_views_keep_their_memory_alive(tmp_path: Path) -> None:
    path = tmp_path / "image"
    path.write_bytes(b"kept alive" * 1000)
    memory = GuestMemory.open(path)
    view = memory.view(0, 10)
    part = view[5:]
    memory.close()
    del memory, view
    gc.collect()
    assert bytes(part) == b"alive"
    assert mappings_of(path) == 1
    del part
    assert mappings_of(path) == 0


def test_regions_do_not_keep_memory_mapped(tmp_path: Path) -> None:
    path = tmp_path / "image"
    path.write_bytes(bytes(100))
    memory = GuestMemory.open(path)
    regions = memory.regions
    memory.close()
    assert mappings_of(path) == 0
    assert regions[0].size == 100


def test_read_only_views_stay_read_only(tmp_path: Path) -> None:
    path = tmp_path / "image"
    path.write_bytes(b"image")
    memory = GuestMemory.open(path)
    view = memory.view(0, 5)
    assert not view.flags.writeable
    with pytest.raises(ValueError, match="read-only"):
        view[0] = 1
    with pytest.raises(ValueError, match="WRITEABLE"):
        view.flags.writeable = True
    with pytest.raises(AccessViolation, match="read-only") as caught:
        memory.write(0, b"x")
    assert isinstance(caught.value, PermissionError)
    assert path.read_bytes() == b"image"


@pytest.mark.parametrize("dtype", ["O", [("p", "O")], "V0", "S0"])
def test_views_refuse_dtypes_that_make_no_sense(dtype: object) -> None:
    with pytest.raises(InvalidConfig):
        GuestMemory.anonymous(0x1000).view(0, 8, dtype)  # type: ignore[arg-type]


def test_views_have_whole_items_of_one_region() -> None:
    memory = GuestMemory.anonymous(0x1000)
    memory.add(GuestMemory.anonymous(0x1000, base=0x1000))
    with pytest.raises(InvalidConfig, match="9 bytes"):
        memory.view(0, 9, "<u4")
    with pytest.raises(OutOfRange, match="crosses"):
        memory.view(0xFFF, 2)
    assert memory.view(0, 0, "<u4").shape == (0,)
    assert memory.view(1 << 40, 0).shape == (0,)


def test_add_shares_and_refuses_overlaps() -> None:
    one = GuestMemory.anonymous(0x1000)
    two = GuestMemory.anonymous(0x1000, base=0x1000)
    one.add(two)
    two.write(0x1000, b"shared")
    two.close()
    assert one.read(0x1000, 6) == b"shared"
    with pytest.raises(InvalidConfig, match="overlap"):
        one.add(GuestMemory.anonymous(0x10, base=0x1FFF))
    assert len(one.regions) == 2


def test_closing() -> None:
    memory = GuestMemory.anonymous(0x1000)
    with memory as same:
        assert same is memory
        assert not same.closed
    assert memory.closed
    memory.close()
    for use in (
        lambda: memory.read(0, 1),
        lambda: memory.write(0, b"x"),
        lambda: memory.view(0, 1),
        lambda: memory.regions,
        lambda: memory.size,
        lambda: memory.base,
        lambda: 0 in memory,
        lambda: memory.add(GuestMemory.anonymous(1)),
        lambda: memory.save("/nonexistent"),
        lambda: memory.fileno(),
    ):
        with pytest.raises(ClosedError, match="closed"):
            use()
    assert repr(memory) == "<GuestMemory anonymous: closed>"
    assert memory.format == "anonymous"


def test_a_with_block_closes_after_an_exception() -> None:
    memory = GuestMemory.anonymous(0x1000)
    with pytest.raises(OutOfRange), memory:
        memory.read(0x1000, 1)
    assert memory.closed


def test_sizes_that_cannot_be() -> None:
    with pytest.raises(InvalidConfig):
        GuestMemory.anonymous(0)
    with pytest.raises(InvalidConfig, match="beyond"):
        GuestMemory.anonymous(2, base=(1 << 64) - 1)
    with pytest.raises(ResourceExhausted) as caught:
        GuestMemory.anonymous(1 << 62)
    assert isinstance(caught.value, MemoryError)
    assert GuestMemory.anonymous(1, base=(1 << 64) - 1).regions[0].last == (1 << 64) - 1


@pytest.mark.parametrize(("kind", "size"), [("transparent", 8 * MIB), ("2M", 4 * MIB), ("1G", GIB)])
@pytest.mark.parametrize("make", [GuestMemory.anonymous, GuestMemory.memfd])
def test_huge_pages_work_or_say_why_not(make: Callable[..., GuestMemory], kind: str, size: int) -> None:
    try:
        memory = make(size, huge_pages=kind)
    except (ResourceExhausted, NotSupported) as error:
        pytest.skip(str(error))
    memory.write(size - 4, b"huge")
    assert memory.read(size - 4, 4) == b"huge"


@pytest.mark.parametrize("kind", ["auto", None])
@pytest.mark.parametrize("make", [GuestMemory.anonymous, GuestMemory.memfd])
@pytest.mark.parametrize("size", [1, 2 * MIB - 1, 2 * MIB + 1, 8 * MIB])
def test_page_kinds_that_always_work(make: Callable[..., GuestMemory], kind: str | None, size: int) -> None:
    memory = make(size, huge_pages=kind)
    memory.write(size - 1, b"!")
    assert memory.read(size - 1, 1) == b"!"


@pytest.mark.parametrize("make", [GuestMemory.anonymous, GuestMemory.memfd])
def test_huge_pages_that_cannot_be(make: Callable[..., GuestMemory]) -> None:
    with pytest.raises(InvalidConfig, match="transparent"):
        make(2 * MIB, huge_pages="3M")
    with pytest.raises(InvalidConfig, match="multiple"):
        make(MIB, huge_pages="2M")
    with pytest.raises(
        (ResourceExhausted, NotSupported), match=r"4096 huge pages of 1 GiB wanted, \d+ free|no huge pages"
    ):
        make(4096 * GIB, huge_pages="1G")


def test_a_memfd_is_mapped_by_its_descriptor() -> None:
    memory = GuestMemory.memfd(0x2000, base=0x1000)
    with mmap.mmap(memory.fileno(), 0x2000) as other:
        memory.write(0x1004, b"here")
        assert other[4:8] == b"here"
        other[0:2] = b"hi"
    assert memory.read(0x1000, 2) == b"hi"
    with pytest.raises(PermissionError):
        os.ftruncate(memory.fileno(), 0)
    resizable = GuestMemory.memfd(0x1000, sealed=False)
    os.ftruncate(resizable.fileno(), 0x2000)
    with pytest.raises(NotSupported):
        GuestMemory.anonymous(0x1000).fileno()


CHILD = """
import sys
from vm_mem import GuestMemory
memory = GuestMemory.file(f"/proc/self/fd/{sys.argv[1]}", base=0x40000000, writable=True)
assert memory.read(0x40000000, 6) == b"parent"
memory.write(0x40000000 + 0x1000, b"child")
"""


def test_another_process_maps_the_same_memory() -> None:
    memory = GuestMemory.memfd(0x2000)
    memory.write(0, b"parent")
    fd = memory.fileno()
    subprocess.run([sys.executable, "-c", CHILD, str(fd)], pass_fds=(fd,), check=True)
    assert memory.read(0x1000, 5) == b"child"


def test_files_are_mapped_in_part(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(bytes(range(256)) * 40)
    memory = GuestMemory.file(path, base=0x80000000, offset=4099, size=10)
    assert memory.read(0x80000000, 10) == bytes(range(3, 13))
    assert memory.format == "file"
    assert memory.regions[0].name == str(path)
    with pytest.raises(InvalidConfig, match="beyond"):
        GuestMemory.file(path, offset=4099, size=1 << 63)
    with pytest.raises(InvalidConfig, match="nothing to map"):
        GuestMemory.file(path, offset=256 * 40)
    with GuestMemory.file(str(path), offset=1, writable=True) as writable:
        writable.view(0, 4)[:] = 7
    assert path.read_bytes()[:6] == b"\0\7\7\7\7\5"


def test_files_that_cannot_be_opened(tmp_path: Path) -> None:
    with pytest.raises(PlatformError, match="No such file") as caught:
        GuestMemory.open(tmp_path / "missing")
    assert caught.value.errno == 2
    assert isinstance(caught.value, OSError)
    for special in (tmp_path, "/dev/null"):
        with pytest.raises(NotSupported, match="regular file"):
            GuestMemory.file(special)


def call(*actions: partial[Any]) -> None:
    """Call one after the other without a bytecode between them, where the interpreter would look for signals."""
    list(map(partial.__call__, actions))


def test_ctrl_c_stops_a_save_and_leaves_nothing(tmp_path: Path) -> None:
    memory = GuestMemory.anonymous(100 * MIB)
    memory.view(0, memory.size)[:] = 1
    with pytest.raises(KeyboardInterrupt):
        call(partial(_thread.interrupt_main), partial(memory.save, str(tmp_path / "saved")))
    assert list(tmp_path.iterdir()) == []


def test_ctrl_c_stops_a_long_read() -> None:
    memory = GuestMemory.anonymous(100 * MIB)
    with pytest.raises(KeyboardInterrupt):
        call(partial(_thread.interrupt_main), partial(memory.read, 0, memory.size))


def test_the_examples_in_the_docstrings() -> None:
    runner = doctest.DocTestRunner()
    members = [getattr(GuestMemory, name) for name in dir(GuestMemory)]
    for described in (GuestMemory, *members):
        text = described.__doc__ or ""
        example = doctest.DocTestParser().get_doctest(text, {"GuestMemory": GuestMemory}, repr(described), None, 0)
        runner.run(example)
    assert runner.tries >= 4
    assert runner.failures == 0


def test_threads_read_while_others_add_and_close() -> None:
    memory = GuestMemory.anonymous(0x1000)
    failures: list[BaseException] = []
    started = threading.Barrier(4)

    def read() -> None:
        started.wait()
        try:
            while True:
                for region in memory.regions:
                    assert memory.read(region.base, 8) == bytes(8)
                    memory.view(region.base, 8)
        except ClosedError:
            pass
        except (VmError, AssertionError) as error:
            failures.append(error)

    readers = [threading.Thread(target=read) for _ in range(3)]
    for reader in readers:
        reader.start()
    started.wait()
    for index in range(1, 100):
        memory.add(GuestMemory.anonymous(0x1000, base=index * 0x2000))
    memory.close()
    for reader in readers:
        reader.join()
    assert failures == []


def test_a_64_gigabyte_anonymous_memory_costs_nothing() -> None:
    def resident_pages() -> int:
        return int(Path("/proc/self/statm").read_text().split()[1])

    before = resident_pages()
    memory = GuestMemory.anonymous(64 * GIB)
    memory.write(40 * GIB, b"x")
    assert memory.read(40 * GIB, 1) == b"x"
    assert (resident_pages() - before) * mmap.PAGESIZE < 16 * MIB
