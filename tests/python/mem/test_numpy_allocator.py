"""NumPy with vm_mem's allocator: which arrays it makes, where they lie, and that they outlive everything."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import gc
import mmap
import os
import threading
import warnings

import numpy as np
import numpy.typing as npt
import pytest
import vm_mem
from hypothesis import given, settings
from hypothesis import strategies as st
from vm_core import InvalidConfig, NotSupported, OutOfRange, Topology
from vm_mem import numa
from vm_mem.pages import NumpyAllocator, measure, numpy_allocator

MIB = 1 << 20

try:
    from numpy._core.multiarray import get_handler_name
except ImportError:  # NumPy 1
    from numpy.core.multiarray import get_handler_name  # type: ignore[no-redef]


def made_here(array: npt.NDArray[np.generic]) -> bool:
    """By NumPy's own word."""
    return bool(get_handler_name(array) == "vm_mem")


def test_arrays_of_the_block_and_no_others() -> None:
    before = np.ones(10)
    with vm_mem.numpy_allocator() as statistics:
        assert isinstance(statistics, NumpyAllocator)
        inside = np.empty(10)  # np.ones would count for more: it makes an array of the 1 first
        assert made_here(inside)
        assert not made_here(before)
        assert (statistics.allocations, statistics.bytes_in_use) == (1, 80)
    after = np.ones(10)
    assert not made_here(after)
    del inside
    gc.collect()
    assert (statistics.frees, statistics.bytes_in_use, statistics.peak_bytes) == (1, 0, 80)
    assert "allocations=1 frees=1" in repr(statistics)


def test_large_arrays_lie_on_the_node() -> None:
    topology = Topology.detect()
    for node in (node.id for node in topology.nodes if node.memory_bytes):
        with numpy_allocator(node=node) as statistics:
            array = np.ones(3 * MIB, "u1")
        assert statistics.node == node
        try:
            found = numa.placement(array)
        except NotSupported as error:
            pytest.skip(str(error))
        assert set(found.bytes) == {node}
    with pytest.raises(OutOfRange, match="4000"), numpy_allocator(node=4000):
        pass
    with numpy_allocator() as statistics:
        assert statistics.node is None


@pytest.mark.parametrize("alignment", [16, 64, 4096, 2 * MIB])
@pytest.mark.parametrize("huge_pages", [True, False])
def test_every_array_is_aligned(alignment: int, huge_pages: bool) -> None:
    with numpy_allocator(alignment=alignment, huge_pages=huge_pages) as statistics:
        assert (statistics.alignment, statistics.huge_pages, statistics.retain) == (alignment, huge_pages, 256 * MIB)
        arrays = [np.empty(size, "u1") for size in (0, 1, 63, 4096, 100_000, MIB, 3 * MIB + 1)]
        arrays += [np.zeros(size, "u1") for size in (1, 1000, 2 * MIB)]
        arrays += [arrays[3].copy(), arrays[3] + 1, np.concatenate(arrays[:5])]
        assert [array.ctypes.data % alignment for array in arrays] == [0] * len(arrays)
        for array in arrays[7:10]:
            assert not array.any()


@settings(max_examples=30, deadline=None)
@given(st.lists(st.sampled_from([0, 1, 100, 5000, 100_000, MIB // 8 - 1, MIB // 8, 3 * MIB // 8]), max_size=8))
def test_resized_arrays_keep_their_items_and_their_alignment(sizes: list[int]) -> None:
    with numpy_allocator(alignment=256) as statistics:
        array = np.arange(50)
        for size in sizes:
            kept = array[: min(size, array.size)].tolist()
            array.resize(size, refcheck=False)
            assert array.ctypes.data % 256 == 0
            assert array[: len(kept)].tolist() == kept
            assert not array[len(kept) :].any()
            array[:] = np.arange(size)
        changes = [size for before, size in zip([50, *sizes], sizes, strict=False) if size != before]
        assert statistics.reallocations == len(changes)
        del array
    assert statistics.bytes_in_use == 0


def test_large_arrays_lie_on_huge_pages_where_there_are_any() -> None:
    with numpy_allocator() as statistics:
        array = np.ones(8 * MIB, "u1")
        assert array.ctypes.data % (2 * MIB) == 0
        census = measure(array)
        assert census.resident == 8 * MIB
        assert statistics.mapped_bytes == 8 * MIB + mmap.PAGESIZE
        if "[never]" in _policy():
            pytest.skip("transparent huge pages are switched off")
        if census.huge != 8 * MIB:
            pytest.skip(f"the kernel gave {census.huge} of {8 * MIB} bytes in huge pages")
    with numpy_allocator(huge_pages=False):
        assert measure(np.ones(8 * MIB, "u1")).resident == 8 * MIB


def _policy() -> str:
    try:
        with open("/sys/kernel/mm/transparent_hugepage/enabled") as file:
            return file.read()
    except OSError:
        return "[never]"


def test_freed_pages_serve_the_next_array_until_the_block_ends() -> None:
    with numpy_allocator(retain=64 * MIB) as statistics:
        for _ in range(5):
            np.empty(4 * MIB, "u1")[:] = 1
        assert statistics.allocations >= 5
        assert statistics.reused == 4
        assert statistics.retained_bytes == 4 * MIB
        assert not np.zeros(4 * MIB, "u1").any()
        kept = np.ones(4 * MIB, "u1")
    assert statistics.retained_bytes == 0
    assert statistics.mapped_bytes == 4 * MIB + mmap.PAGESIZE
    assert kept.all()
    del kept
    assert statistics.mapped_bytes == 0
    with numpy_allocator(retain=0) as nothing:
        np.ones(4 * MIB, "u1")
        assert (nothing.retained_bytes, nothing.mapped_bytes) == (0, 0)


def test_arrays_outlive_the_block_the_statistics_and_the_thread() -> None:
    result: list[npt.NDArray[np.float64]] = []

    def work() -> None:
        with numpy_allocator():
            result.extend(np.full(n, n, "f8") for n in (3, 3000, 300_000))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    gc.collect()
    for array in result:
        assert made_here(array)
        assert (array == array.size).all()
        array.resize(2 * array.size, refcheck=False)
        assert array.ctypes.data % 64 == 0
    del array
    result.clear()


def test_blocks_nest_and_an_error_ends_one() -> None:
    with numpy_allocator(alignment=4096) as outer:
        with contextlib.suppress(RuntimeError), numpy_allocator() as inner:
            first = np.empty(3)
            raise RuntimeError
        second = np.empty(3)
    assert (inner.allocations, outer.allocations) == (1, 1)
    assert second.ctypes.data % 4096 == 0
    assert not made_here(np.ones(3))
    assert made_here(first)


def test_contexts_are_their_own() -> None:
    seen = []
    with numpy_allocator():
        thread = threading.Thread(target=lambda: seen.append(made_here(np.ones(3))))
        thread.start()
        thread.join()
        seen.append(contextvars.copy_context().run(lambda: made_here(np.ones(3))))
    assert seen == [False, True]

    async def inside() -> bool:
        with numpy_allocator():
            await asyncio.sleep(0)
            return made_here(np.ones(3))

    async def outside() -> bool:
        await asyncio.sleep(0)
        return made_here(np.ones(3))

    async def both() -> list[bool]:
        return await asyncio.gather(inside(), outside(), inside())

    assert asyncio.run(both()) == [True, False, True]


def test_threads_each_with_a_block_and_arrays_freed_elsewhere() -> None:
    failures: list[str] = []
    handed: list[npt.NDArray[np.int64]] = []

    def work(number: int) -> None:
        with numpy_allocator(retain=8 * MIB) as statistics:
            for size in (10, 10_000, 200_000):
                for _ in range(20):
                    array = np.full(size, number)
                    handed.append(array)
                    other = handed.pop(0)
                    if other.min() != other.max():
                        failures.append("torn")
            if statistics.allocations < 60:
                failures.append("not counted")

    threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures


def test_a_child_goes_on() -> None:
    with numpy_allocator(), warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # Python's own about fork and threads
        array = np.ones(2 * MIB, "u1")
        child = os.fork()
        if child == 0:
            other = np.full(2 * MIB, 2, "u1")
            right = int(array.sum()) + int(other.sum()) == 6 * MIB
            del array, other
            os._exit(0 if right else 1)
        assert os.waitpid(child, 0)[1] == 0
        assert array.all()


def test_options_that_make_no_sense() -> None:
    for alignment in (0, 8, 48, 4 * MIB, -1):
        with pytest.raises(InvalidConfig), numpy_allocator(alignment=alignment):
            pass
    with numpy_allocator() as statistics, pytest.raises(MemoryError):
        np.empty(1 << 50, "u1")
    assert statistics.failures == 1
    assert not made_here(np.ones(3))
