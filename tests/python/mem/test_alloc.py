"""vm_mem.alloc: what blocks and arrays promise, damage that is found, pools with a clock that the test turns."""

from __future__ import annotations

import gc
import itertools
import pickle
import re
import threading
import weakref
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from vm_core.error import AccessViolation, DoubleFree, InvalidConfig, ResourceExhausted
from vm_mem.alloc import BumpAllocator, Hardening, ObjectPool, PoolAllocator, SlabAllocator


def small(**options: Any) -> SlabAllocator:
    return SlabAllocator(8 << 20, **options)


# --- Blocks and arrays -----------------------------------------------------------------------------------------------


def test_a_block_is_a_buffer() -> None:
    slabs = small()
    block = slabs.allocate(100, 64)
    assert (len(block), block.size, block.address % 64) == (100, 100, 0)
    with memoryview(block) as view:
        assert (view.nbytes, view.readonly, view.format) == (100, False, "B")
        view[:5] = b"hello"
        with pytest.raises(BufferError, match="1 views"):
            block.free()
    assert bytes(memoryview(block)[:5]) == b"hello"
    numbers = block.array("<u4")
    assert numbers.shape == (25,) and numbers.flags.writeable
    with pytest.raises(ValueError, match="multiple"):
        block.array("complex128")
    with pytest.raises(BufferError):
        block.free()
    del numbers
    assert repr(block).startswith("<Block of 100 bytes at 0x")
    block.free()
    assert block.freed and repr(block) == "<Block of 100 bytes, freed>"
    with pytest.raises(DoubleFree):
        block.free()
    with pytest.raises(BufferError, match="was freed"):
        memoryview(block)
    assert slabs.stats.live_blocks == 0


def test_a_block_goes_back_in_every_way() -> None:
    slabs = small()
    with slabs.allocate(64):
        assert slabs.stats.live_blocks == 1
    with slabs.allocate(64) as block:
        block.free()
    slabs.allocate(64)  # forgotten
    gc.collect()
    assert slabs.stats.live_blocks == 0


def test_arrays_keep_their_memory() -> None:
    slabs = small()
    arena = BumpAllocator(1 << 20)
    pool = PoolAllocator(8000)
    arrays = [slabs.empty((10, 10)), arena.empty((10, 10)), pool.empty((10, 10))]
    for array in arrays:
        assert array.shape == (10, 10) and array.dtype == np.float64 and array.flags.writeable
        array[:] = 7.0
    views = [array[5:, 5:] for array in arrays]
    arrays.clear()
    del array
    assert slabs.stats.live_blocks == 1 and arena.live == 1 and pool.stats.in_use == 1
    with pytest.raises(BufferError):
        views[0].base.base.free()
    again = slabs, arena, pool
    del slabs, arena, pool
    assert all((view == 7.0).all() for view in views)
    views.clear()
    gc.collect()
    assert again[0].stats.live_blocks == 0 and again[1].live == 0 and again[2].stats.in_use == 0


@pytest.mark.parametrize("shape", [0, 7, (3, 0, 2), (2, 3), [4, 4], ()])
@pytest.mark.parametrize("dtype", ["u1", "f8", [("a", "i4"), ("b", "f8")]])
def test_shapes_are_numpys(shape: Any, dtype: Any) -> None:
    expected = np.empty(shape, dtype)
    for array in (small().empty(shape, dtype), BumpAllocator(1 << 16).empty(shape, dtype)):
        assert (array.shape, array.dtype) == (expected.shape, expected.dtype)
        assert array.size == 0 or array.strides == expected.strides
    assert BumpAllocator(1 << 16).empty(3, alignment=4096).ctypes.data % 4096 == 0


@pytest.mark.parametrize("allocator", [small(), BumpAllocator(1 << 16), PoolAllocator(1000)], ids=repr)
def test_arrays_that_cannot_be(allocator: Any) -> None:
    for shape in (-1, (2, -1), (1 << 62, 1 << 62), 1 << 62):
        with pytest.raises((InvalidConfig, ResourceExhausted)):
            allocator.empty(shape)
    with pytest.raises(InvalidConfig, match="no Python objects"):
        allocator.empty(3, object)


# --- Slabs -----------------------------------------------------------------------------------------------------------


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(st.booleans(), st.integers(0, 8000), st.sampled_from([1, 16, 64, 512])), max_size=150))
def test_blocks_are_apart_and_keep_their_bytes(steps: list[tuple[bool, int, int]]) -> None:
    slabs = SlabAllocator(4 << 20, hardening=Hardening(checks=True, canaries=True, quarantine=4))
    blocks: list[tuple[Any, int]] = []
    for number, (frees, size, alignment) in enumerate(steps):
        if frees and blocks:
            block, pattern = blocks.pop(size % len(blocks))
            assert set(bytes(memoryview(block))) <= {pattern}
            block.free()
        else:
            block = slabs.allocate(size, alignment)
            memoryview(block)[:] = bytes([number % 251]) * size
            blocks.append((block, number % 251))
    ranges = sorted((block.address, block.address + block.size) for block, _ in blocks)
    assert all(end <= start for (_, end), (start, _) in itertools.pairwise(ranges))
    stats = slabs.stats
    assert stats.live_blocks - stats.quarantined == len(blocks)
    slabs.verify()


def test_limits_say_what_to_do() -> None:
    slabs = SlabAllocator(1 << 16)
    with pytest.raises(InvalidConfig, match="at most 8192 bytes"):
        slabs.allocate(8193)
    with pytest.raises(InvalidConfig, match="power of two"):
        slabs.allocate(8, 3)
    blocks = [slabs.allocate(8192) for _ in range(8)]
    with pytest.raises(ResourceExhausted, match="larger capacity"):
        slabs.allocate(1)
    assert len({block.address for block in blocks}) == 8
    with pytest.raises(InvalidConfig):
        SlabAllocator(0)
    with pytest.raises(InvalidConfig):
        small(hardening=Hardening(canaries=True))
    with pytest.raises(InvalidConfig):
        small(spare_slabs=1 << 32)


def test_statistics_and_trim() -> None:
    slabs = small(spare_slabs=50)
    slabs.reserve(1000, 100)
    blocks = [slabs.allocate(1000) for _ in range(100)]
    stats = slabs.stats
    assert (stats.live_blocks, stats.live_bytes, stats.repeated_frees) == (100, 102400, 0)
    (only,) = stats.classes
    assert (only.block_size, only.live, only.slabs) == (1024, 100, stats.slab_bytes >> 16)
    assert "live=100" in repr(only) and "live_blocks=100" in repr(stats)
    blocks.clear()
    assert slabs.trim() >= 100 * 1024
    assert slabs.stats.slab_bytes == slabs.stats.spare_slabs == slabs.stats.cached_bytes == 0
    assert slabs.capacity == 8 << 20 and slabs.largest_size == 8192 and slabs.hardening == Hardening()
    assert repr(slabs) == "<SlabAllocator: 0 blocks in 0 bytes of slabs>"


def test_damage_is_found() -> None:
    slabs = small(hardening=Hardening.all())
    assert slabs.largest_size == 8184
    block = slabs.allocate(24)
    beyond = np.ctypeslib.as_array((np.ctypeslib.ctypes.c_ubyte * 25).from_address(block.address))
    beyond[24] ^= 1
    with pytest.raises(AccessViolation, match="beyond its end, at byte 24"):
        slabs.verify()
    with pytest.raises(AccessViolation, match="beyond its end, at byte 24"):
        block.free()
    other = slabs.allocate(24)
    stale = (np.ctypeslib.ctypes.c_ubyte * 24).from_address(other.address)
    other.free()
    stale[3] = 1
    with pytest.raises(AccessViolation, match="written after it had been freed, at byte 3"):
        slabs.verify()


def test_damage_that_nobody_asked_about_is_still_told(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[str] = []
    monkeypatch.setattr("sys.unraisablehook", lambda report: told.append(str(report.exc_value)))
    slabs = small(hardening=Hardening(checks=True, canaries=True))
    block = slabs.allocate(24)
    (np.ctypeslib.ctypes.c_ubyte * 25).from_address(block.address)[24] ^= 1
    del block
    gc.collect()
    assert len(told) == 1 and "beyond its end" in told[0]


def test_hardening_is_a_value() -> None:
    everything = Hardening.all()
    assert everything == Hardening(checks=True, canaries=True, quarantine=1024, guard_pages=True)
    assert hash(everything) == hash(Hardening.all()) and everything != Hardening()
    assert pickle.loads(pickle.dumps(everything)) == everything
    assert eval(repr(everything)) == everything
    assert small(hardening=Hardening(guard_pages=True)).allocate(100).size == 100


def test_threads_share_slabs() -> None:
    slabs = small()
    crossing: list[Any] = []

    def produce() -> None:
        crossing.extend(slabs.empty(8, "u8") for _ in range(2000))

    for _ in range(3):
        worker = threading.Thread(target=produce)
        worker.start()
        worker.join()
        for number, array in enumerate(crossing):
            array[:] = number
        assert all((array == number).all() for number, array in enumerate(crossing))
        crossing.clear()
        del array
    assert slabs.stats.live_blocks == 0


# --- The arena -------------------------------------------------------------------------------------------------------


def test_an_arena_overwrites_nothing_that_is_in_use() -> None:
    arena = BumpAllocator(1 << 16, huge_pages=None)
    kept = arena.empty(10)
    marker = arena.mark()
    assert marker.used == arena.used and repr(marker) == f"<BumpMarker at {arena.used}>"
    block = arena.allocate(100)
    nothing = arena.empty(0)
    with pytest.raises(AccessViolation, match=r"^2 blocks or arrays"):
        arena.reset(marker)
    block.free()
    del nothing
    arena.reset(marker)
    assert arena.used == marker.used and arena.live == 1
    with pytest.raises(AccessViolation):
        arena.reset()
    del kept
    arena.reset()
    with pytest.raises(InvalidConfig, match="earlier reset"):
        arena.reset(marker)
    assert (arena.used, arena.resets, arena.capacity) == (0, 2, 1 << 16)
    assert repr(arena) == "<BumpAllocator: 0 of 65536 bytes used>"


def test_a_marker_from_before_a_reset_overwrites_nothing_either() -> None:
    arena = BumpAllocator(1 << 16, huge_pages=None)
    arena.allocate(500).free()
    stale = arena.mark()
    arena.reset()
    kept = arena.empty(1000, np.uint8)  # begins below the marker, and ends above it
    with pytest.raises(AccessViolation, match="1 blocks or arrays"):
        arena.reset(stale)
    del kept
    arena.reset(stale)
    assert arena.used == stale.used


def test_scopes_and_leases_are_entered_once_at_a_time() -> None:
    arena = BumpAllocator(1 << 16, huge_pages=None)
    pool = ObjectPool(dict)
    arena.allocate(500).free()
    with ExitStack() as stack:  # calls __exit__ alone
        stack.push(arena.scope())
        stack.push(pool.lease())
    assert arena.used == 512
    scope, lease = arena.scope(), pool.lease()
    for _ in range(2):
        with scope, lease:
            arena.allocate(500).free()
            with pytest.raises(InvalidConfig, match="in use already"):
                scope.__enter__()
            with pytest.raises(InvalidConfig, match="in use already"):
                lease.__enter__()
        assert arena.used == 512 and pool.stats.in_use == 0


@pytest.mark.parametrize("shape", [3.5, "ab", (1, 2.5), None, {1: 2}, (3, None)])
def test_a_shape_of_other_things_than_whole_numbers_is_a_type_error(shape: Any) -> None:
    with pytest.raises(TypeError):
        SlabAllocator().empty(shape)
    with pytest.raises(ValueError, match="index-sized"):
        SlabAllocator().empty(2**70)


def test_scopes_and_trim() -> None:
    arena = BumpAllocator(1 << 22, huge_pages=None)
    with arena.scope() as same:
        assert same is arena
        arena.empty(1 << 17)[:] = 1.0
    assert arena.used == 0 and arena.peak == 1 << 20
    assert arena.trim() == 1 << 20
    assert (arena.empty(1 << 17) == 0.0).all()  # from the kernel again
    with pytest.raises(AccessViolation), arena.scope():
        leaked = arena.empty(3)
    leaked[:] = 0.0
    with pytest.raises(ResourceExhausted, match="larger capacity"):
        arena.allocate(1 << 22)


# --- Pools -----------------------------------------------------------------------------------------------------------


class Thing:
    """Weakly referenced, with a state."""

    def __init__(self) -> None:
        self.dirty = self.broken = False


class Clock:
    now = 0

    def __call__(self) -> int:
        return self.now


def test_a_pool_lends_and_takes_back() -> None:
    def clean(thing: Thing) -> None:
        thing.dirty = False

    pool = ObjectPool(Thing, min=1, max=2, reset=clean, validate=lambda thing: not thing.broken)
    one = pool.acquire()
    one.dirty = True
    two = pool.acquire()
    assert one is not two
    with pytest.raises(ResourceExhausted, match="all 2 objects"):
        pool.acquire()
    with pytest.raises(ResourceExhausted):
        pool.acquire(timeout_ns=1000)
    pool.release(one)
    with pytest.raises(DoubleFree):
        pool.release(one)
    with pytest.raises(DoubleFree, match="never acquired here"):
        pool.release(Thing())
    with pool.lease() as again:
        assert again is one and not one.dirty
        again.broken = True
    with pool.lease() as fresh:
        assert fresh is not one
    stats = pool.stats
    assert (stats.created, stats.acquired, stats.reused, stats.invalid) == (3, 4, 2, 1)
    assert (stats.in_use, stats.idle, stats.peak_in_use) == (1, 1, 2)
    assert stats.refused >= 3  # who waits may try several times
    assert repr(pool) == "<ObjectPool: 1 on loan, 1 idle>"
    assert repr(stats) == "PoolStats(created=3, acquired=4, reused=2, idle=1, in_use=1)"
    pool.release(two)
    assert pool.clear() == 2


def test_eviction() -> None:
    clock = Clock()
    pool = ObjectPool(Thing, min=1, max_idle=2, max_idle_ns=100, now_ns=clock)
    things = [pool.acquire() for _ in range(4)]
    for thing in things:
        pool.release(thing)
        clock.now += 40
    assert (pool.stats.evicted_lru, pool.stats.idle) == (2, 2)
    gone = weakref.ref(things[0])
    things.clear()
    del thing
    gc.collect()
    assert gone() is None
    clock.now = 1000
    assert pool.evict() == 1 and pool.stats.evicted_age == 1  # min stays


def test_functions_that_raise() -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("no")

    with pytest.raises(RuntimeError, match="no"):
        ObjectPool(fail, min=1)
    pool: ObjectPool = ObjectPool(Thing, max=1, reset=fail)
    with pytest.raises(RuntimeError), pool.lease():
        pass
    assert (pool.stats.failed_resets, pool.stats.in_use) == (1, 0)
    pool = ObjectPool(Thing, max=1, validate=fail)
    with pool.lease():
        pass
    with pytest.raises(RuntimeError):
        pool.acquire()
    with pool.lease():
        pass
    single = Thing()
    pool = ObjectPool(lambda: single)
    pool.acquire()
    with pytest.raises(InvalidConfig, match="another object"):
        pool.acquire()
    with pytest.raises(InvalidConfig):
        ObjectPool(Thing, min=2, max=1)


def test_who_waits_gets_what_is_returned() -> None:
    pool = ObjectPool(Thing, max=1)
    thing = pool.acquire()
    got: list[Thing] = []
    waiting = threading.Thread(target=lambda: got.append(pool.acquire(timeout_ns=60_000_000_000)))
    waiting.start()
    while not pool.stats.refused:
        pass
    pool.release(thing)
    waiting.join(60)
    assert got == [thing]


def test_a_pool_in_a_cycle_is_collected() -> None:
    class Owner:
        def __init__(self) -> None:
            self.pool = ObjectPool(self.make, min=1)
            self.held = self.pool.acquire()

        def make(self) -> Thing:
            return Thing()

    gone = weakref.ref(Owner())
    gc.collect()
    assert gone() is None


def test_objects_on_loan_outlive_their_pool() -> None:
    resets: list[Thing] = []
    pool = ObjectPool(Thing, reset=resets.append)
    thing = pool.acquire()
    del pool
    gc.collect()
    assert not resets and not thing.dirty


def test_pool_allocator() -> None:
    pool = PoolAllocator(10000, min=1, max=2, alignment=4096)
    assert (pool.block_size, pool.stride, pool.stats.idle) == (10000, 12288, 1)
    one = pool.allocate()
    memoryview(one)[:3] = b"abc"
    address = one.address
    two = pool.empty(1250)
    assert two.ctypes.data % 4096 == 0
    with pytest.raises(ResourceExhausted):
        pool.allocate()
    with pytest.raises(InvalidConfig, match="does not fit"):
        pool.empty(1251)
    one.free()
    with pytest.raises(DoubleFree):
        one.free()
    with pool.allocate() as again:
        assert again.address == address and bytes(memoryview(again)[:3]) == b"abc"
    assert repr(pool) == "<PoolAllocator: 1 blocks of 10000 bytes in use, 1 idle>"
    assert pool.evict() == 0 and pool.clear() == 1
    with pytest.raises(InvalidConfig):
        PoolAllocator(0)
    with pytest.raises(InvalidConfig):
        PoolAllocator(8, alignment=3)


PAGE = Path(__file__).parents[3] / "docs" / "alloc.md"


def test_the_example_of_the_page_runs(capsys: pytest.CaptureFixture[str]) -> None:
    if not PAGE.exists():
        pytest.skip("docs/alloc.md is not here (tests run outside a checkout)")
    (example,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    exec(compile(example, str(PAGE), "exec"), {})
    assert capsys.readouterr().out == "this block of 24 bytes is free already\n"
