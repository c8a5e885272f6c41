"""Mmu: the TLB and the devices in front of page tables, from Python."""

from __future__ import annotations

import gc
import threading
import weakref
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from vm_core import (
    Access,
    AccessViolation,
    ClosedError,
    InvalidConfig,
    NotSupported,
    OutOfRange,
    PageFault,
    ResourceExhausted,
    VmError,
)
from vm_mem import GuestMemory, LazyMemory, Mmu
from vm_mem.paging import X86, AArch64, AddressSpace, RiscV
from vm_mem.prefetch import Profile, Sequential
from vm_mem.tlb import TlbConfig

MIB = 1 << 20
RW = Access.READ | Access.WRITE
STRATEGIES = ["multi_level", "concurrent", "hybrid"]


@pytest.fixture(params=STRATEGIES)
def mmu(request: pytest.FixtureRequest) -> Mmu:
    return Mmu(GuestMemory.anonymous(64 * MIB), X86(levels=4, root=0x1000), tlb=TlbConfig(strategy=request.param))


def test_the_first_minute(mmu: Mmu) -> None:
    mmu.map_page(0x7000, 0x5000, RW)
    assert mmu.translate(0x7010).paddr == 0x5010
    mmu.write(0x7010, b"hello")
    assert mmu.read(0x7010, 5) == b"hello"
    assert mmu.memory.read(0x5010, 5) == b"hello"
    mmu.unmap_page(0x7000)
    with pytest.raises(PageFault) as caught:
        mmu.translate(0x7010)
    assert caught.value.vaddr == 0x7010
    stats = mmu.stats
    assert stats.walks >= 1
    assert stats.faults == 1
    assert 0 < stats.l1.hit_rate < 1 or stats.tlb.levels[-1].hits > 0
    assert "walks=" in repr(stats)
    assert "x86 4-level" in repr(mmu)


def test_the_default_strategy() -> None:
    assert Mmu(GuestMemory.anonymous(MIB), X86(root=0x1000)).tlb.config == TlbConfig(strategy="concurrent")


def test_hits_and_walks_are_counted() -> None:
    mmu = Mmu(GuestMemory.anonymous(MIB), X86(root=0x1000), tlb=TlbConfig())
    mmu.map(0x10000, 0x8000, 0x4000)
    for _ in range(3):
        for page in range(4):
            mmu.translate(0x10000 + page * 4096)
    stats = mmu.stats
    assert (stats.l1.hits, stats.l1.misses, stats.walks) == (8, 4, 4)
    assert stats.l2 is not None
    assert stats.walk_cache.misses == 1
    assert stats.walk_cache.levels[0].hits == 3
    assert stats.walk_cache.levels[0].fills >= 1
    assert stats.bypassed == 0


@pytest.mark.parametrize("count", [1, 300, 200_000])
def test_arrays_give_what_the_tables_say(mmu: Mmu, count: int) -> None:
    mmu.map(0x40000000, 0x100000, 0x80000)
    rng = np.random.default_rng(1)
    vaddrs = rng.integers(0x40000000 - 0x4000, 0x40000000 + 0x84000, count, np.uint64)
    plain = AddressSpace(mmu.memory, mmu.config).translate(vaddrs, access=Access.WRITE)
    for _ in range(4):
        many = mmu.translate(vaddrs, access=Access.WRITE)
        np.testing.assert_array_equal(many.paddr, plain.paddr)
        np.testing.assert_array_equal(many.fault, plain.fault)
        np.testing.assert_array_equal(many.access, plain.access)
        np.testing.assert_array_equal(many.page_size, plain.page_size)
    stats = mmu.stats
    assert stats.bypassed + stats.arrays.lookups == (0 if count < 4096 else 4 * count)
    assert mmu.translate(vaddrs.reshape(1, -1, 1), threads=2).ok.shape == (1, count, 1)


OPERATIONS = st.lists(
    st.tuples(
        st.sampled_from(["map", "unmap", "protect", "flush", "read", "read", "read"]),
        st.integers(0, 23),
        st.integers(1, 4),
        st.sampled_from([Access.READ, RW, Access.READ | Access.EXECUTE, RW | Access.EXECUTE]),
        st.booleans(),
    ),
    max_size=60,
)


@settings(deadline=None, max_examples=60)
@given(
    OPERATIONS,
    st.sampled_from(STRATEGIES),
    st.booleans(),
    st.sampled_from(["immediate", "intelligent", "adaptive"]),
    st.sampled_from([X86(root=0x1000), X86(2, 0x1000), RiscV("sv39", root=0x1000), AArch64(4096, ttbr0=0x10000)]),
)
def test_a_model_of_live_mappings(
    operations: list[tuple[str, int, int, Access, bool]], strategy: Any, prefetch: bool, policy: Any, config: Any
) -> None:
    """The model is a dict of pages; the MMU may cache what it likes, and must say the same."""
    tlb = TlbConfig(strategy=strategy, l1_size=8, l2_size=16, l3_size=32, enable_prefetch=prefetch, flush_policy=policy)
    mmu = Mmu(GuestMemory.anonymous(4 * MIB), config, tlb=tlb)
    live: dict[int, tuple[int, Access, bool]] = {}
    for name, page, count, access, user in operations:
        vaddr, size = 0x400000 + page * 4096, count * 4096
        pages = range(page, page + count)
        if name == "map" and not live.keys() & set(pages):
            mmu.map(vaddr, 0x200000 + vaddr % 0x100000, size, access, user)
            live.update({p: (0x200000 + (0x400000 + p * 4096) % 0x100000, access, user) for p in pages})
        elif name == "unmap":
            mmu.unmap(vaddr, size)
            for p in pages:
                live.pop(p, None)
        elif name == "protect" and all(p in live for p in pages):
            mmu.protect(vaddr, size, access, user)
            live.update({p: (live[p][0], access, user) for p in pages})
        elif name == "flush":
            mmu.flush_range(vaddr, size)
        for p in pages:
            at = 0x400000 + p * 4096 + 0x123
            if p not in live:
                with pytest.raises(PageFault):
                    mmu.translate(at)
                continue
            paddr, rights, is_user = live[p]
            hit = mmu.translate(at, access=Access.NONE)
            assert hit.paddr == paddr + 0x123
            assert hit.access & rights == rights or is_user
            if not is_user:
                with pytest.raises(PageFault):
                    mmu.translate(at, user=True)


def test_devices_are_python_functions(mmu: Mmu) -> None:
    seen: list[tuple[object, ...]] = []

    def read(offset: int, width: int) -> int:
        seen.append(("read", offset, width))
        return 0x1122334455667788 >> (8 * offset) & 0xFF if width == 1 else 0x11223344

    def write(offset: int, width: int, value: int) -> None:
        seen.append(("write", offset, width, value))

    mmu.mmio.add(0x8000_0000, 0x1000, read=read, write=write, widths=[1, 4], name="uart")
    mmu.map_page(0x9000, 0x8000_0000, RW)
    assert mmu.load(0x9002, 1) == 0x66
    assert mmu.load(0x9004, 4) == 0x11223344
    mmu.store(0x9008, 0xCAFE, 4)
    assert seen == [("read", 2, 1), ("read", 4, 4), ("write", 8, 4, 0xCAFE)]
    assert mmu.read(0x9000, 2) == b"\x88\x77"
    with pytest.raises(AccessViolation, match="aligned accesses of 1, 4"):
        mmu.load(0x9000, 8)
    with pytest.raises(NotSupported, match="device"):
        mmu.compare_exchange(0x9000, 0, 1)
    (device,) = mmu.mmio.ranges
    assert (device.base, device.size, device.name, device.widths) == (0x8000_0000, 0x1000, "uart", (1, 4))
    assert "uart" in repr(device)
    assert len(mmu.mmio) == 1
    with pytest.raises(InvalidConfig, match="overlaps"):
        mmu.mmio.add(0x8000_0FFF, 1, read=read)
    with pytest.raises(InvalidConfig, match="guest memory"):
        mmu.mmio.add(0x1000, 1, read=read)
    assert mmu.mmio.remove(0x8000_0000)
    assert not mmu.mmio.remove(0x8000_0000)
    with pytest.raises(OutOfRange, match="neither guest memory nor a device"):
        mmu.load(0x9004, 4)
    assert mmu.stats.mmio_reads >= 3


def test_what_a_device_raises_reaches_the_caller(mmu: Mmu) -> None:
    def broken(offset: int, width: int) -> int:
        raise ZeroDivisionError(offset)

    mmu.mmio.add(0x8000_0000, 0x1000, read=broken)
    mmu.mmio.add(0x9000_0000, 0x1000, write=lambda *_: None)
    mmu.map_page(0x9000, 0x8000_0000, RW)
    mmu.map_page(0xA000, 0x9000_0000, RW)
    with pytest.raises(ZeroDivisionError):
        mmu.load(0x9000)
    with pytest.raises(AccessViolation, match="cannot be written"):
        mmu.store(0x9000, 1)
    with pytest.raises(AccessViolation, match="cannot be read"):
        mmu.load(0xA000)
    with pytest.raises(InvalidConfig, match="read="):
        mmu.mmio.add(0xB000_0000, 1)
    with pytest.raises(InvalidConfig, match="widths"):
        mmu.mmio.add(0xB000_0000, 1, read=broken, widths=[3])
    with pytest.raises(TypeError):
        mmu.mmio.add(0xB000_0000, 1, read=5)  # type: ignore[arg-type]


def test_words(mmu: Mmu) -> None:
    mmu.map(0x10000, 0x8000, 0x2000)
    for width in (1, 2, 4, 8):
        value = 0x1122334455667788 & ((1 << 8 * width) - 1)
        mmu.store(0x10FF8 + 8 - width, value, width)
        assert mmu.load(0x10FF8 + 8 - width, width) == value
        with pytest.raises(InvalidConfig, match=r"does not fit|2\*\*64"):
            mmu.store(0x10000, value << 8, width if width < 8 else 4)
    assert mmu.compare_exchange(0x10000, 0, 7, 4) == (True, 0)
    assert mmu.compare_exchange(0x10000, 0, 9, 4) == (False, 7)
    with pytest.raises(InvalidConfig, match="width"):
        mmu.load(0x10000, 3)
    with pytest.raises(InvalidConfig, match="multiple"):
        mmu.compare_exchange(0x10001, 0, 1, 8)


def test_a_write_is_all_or_nothing(mmu: Mmu) -> None:
    mmu.map(0x10000, 0x8000, 0x1000)
    with pytest.raises(PageFault) as caught:
        mmu.write(0x10FFE, b"abcd")
    assert caught.value.vaddr == 0x11000
    assert mmu.read(0x10FFE, 2) == b"\0\0"
    with pytest.raises(InvalidConfig, match="contiguous"):
        mmu.write(0x10000, np.arange(10, dtype=np.uint8)[::2])
    mmu.write(0x10000, np.arange(4, dtype=np.uint32))
    assert mmu.read(0x10004, 4) == b"\x01\0\0\0"
    assert mmu.read(0x10000, 0) == b""


def test_large_copies_release_the_interpreter(mmu: Mmu) -> None:
    mmu.map(0x40000000, 0x100000, 8 * MIB)
    data = np.random.default_rng(2).bytes(8 * MIB)
    mmu.write(0x40000000, data)
    assert mmu.read(0x40000000, 8 * MIB) == data


def test_address_spaces(mmu: Mmu) -> None:
    mmu.map_page(0x7000, 0x5000)
    mmu.switch_to(X86(root=0x2000), asid=1)
    assert (mmu.asid, mmu.vmid, mmu.config.root) == (1, 0, 0x2000)
    with pytest.raises(PageFault):
        mmu.translate(0x7000)
    mmu.switch_to(X86(root=0x1000), keep=True)
    assert mmu.translate(0x7000).paddr == 0x5000
    with pytest.raises(InvalidConfig, match="asid"):
        mmu.switch_to(X86(root=0x1000), asid=1 << 16)


def test_delayed_flushes_name_their_barrier() -> None:
    mmu = Mmu(GuestMemory.anonymous(MIB), X86(root=0x1000), tlb=TlbConfig(flush_policy="batched", flush_batch=8))
    mmu.map_page(0x7000, 0x5000)
    mmu.translate(0x7000)
    mmu.unmap_page(0x7000)
    assert mmu.tlb.pending_flushes == 1
    assert mmu.translate(0x7000).paddr == 0x5000
    mmu.flush_barrier()
    assert mmu.tlb.pending_flushes == 0
    with pytest.raises(PageFault):
        mmu.translate(0x7000)
    assert mmu.tlb.flush_stats.requests == 1


def test_a_prefetcher_of_ones_own() -> None:
    mmu = Mmu(GuestMemory.anonymous(16 * MIB), X86(root=0x1000), prefetcher=Sequential(degree=4))
    assert mmu.tlb.prefetcher == "Sequential(degree=4)"
    mmu.map(0x40000000, 0x100000, 400 * 4096, page_size=4096)
    for page in range(400):
        assert mmu.translate(0x40000000 + page * 4096).paddr == 0x100000 + page * 4096
    stats = mmu.stats
    assert stats.walks < 100
    assert stats.prefetch_walks > 300
    assert stats.prefetch.useful > 300
    assert stats.tlb.prefetch.useful > 300
    assert stats.faults == 0


def test_preheat(mmu: Mmu) -> None:
    mmu.map(0x40000000, 0x100000, 32 * 4096, page_size=4096)
    profile = Profile.from_range(0x40000000, 40 * 4096)
    assert mmu.preheat(profile.pages() * np.uint64(4096)) == 32
    assert mmu.preheat(range(0x40000000, 0x40020000, 4096)) == 0
    assert mmu.translate(0x40001234).paddr == 0x101234
    assert (mmu.stats.walks, mmu.stats.faults) == (0, 0)


def test_reconfigure(mmu: Mmu) -> None:
    mmu.map_page(0x7000, 0x5000)
    before = mmu.tlb
    mmu.reconfigure(tlb=TlbConfig(strategy="hybrid", l3_size=512), walk_cache=(0, 0, 0, 0))
    assert mmu.tlb is not before
    assert before.size == 0
    assert mmu.translate(0x7000).paddr == 0x5000
    assert mmu.stats.walk_cache.misses == 1
    with pytest.raises(InvalidConfig):
        mmu.reconfigure(tlb=TlbConfig(l1_ways=3))


@pytest.mark.parametrize("rebuild", ["reconfigure", "switch_to"])
def test_nothing_is_rebuilt_under_a_call_of_another_thread(mmu: Mmu, rebuild: str) -> None:
    inside, go_on = threading.Event(), threading.Event()

    def wait(_: int, __: int) -> int:
        inside.set()
        assert go_on.wait(60)
        return 0

    mmu.mmio.add(1 << 32, MIB, read=wait)
    mmu.map(0x40000000, 1 << 32, MIB)
    mmu.map_page(0x7000, 0x5000)

    def change() -> None:
        if rebuild == "reconfigure":
            mmu.reconfigure(tlb=TlbConfig(l1_size=32, l2_size=0, l3_size=0))
        else:
            mmu.switch_to(X86(levels=4, root=0x1000), asid=1)

    reader = threading.Thread(target=mmu.read, args=(0x40000000, 1 << 16))  # long enough to release the GIL
    reader.start()
    try:
        assert inside.wait(60)
        tlb = mmu.tlb
        with pytest.raises(VmError, match="under way"):
            change()
        assert (mmu.tlb is tlb, mmu.asid) == (True, 0)
        assert mmu.translate(0x7000 + np.arange(5000) % 4096).fault_count == 0
    finally:
        go_on.set()
        reader.join()
    change()
    assert mmu.translate(0x7000).paddr == 0x5000


@pytest.mark.parametrize("shift", [1, 4, 4093])
def test_bytes_move_within_the_memory(mmu: Mmu, shift: int) -> None:
    mmu.map(0x40000000, 0x100000, 8 * 4096, page_size=4096)
    was = bytes(np.random.default_rng(7).integers(0, 256, 6 * 4096, dtype=np.uint8))
    for move in (mmu.write, lambda vaddr, data: mmu.memory.write(vaddr - 0x40000000 + 0x100000, data)):
        mmu.write(0x40000000, was)
        move(0x40000000 + shift, mmu.memory.view(0x100000, len(was)))
        assert mmu.read(0x40000000 + shift, len(was)) == was
        mmu.write(0x40000000 + shift, was)
        move(0x40000000, mmu.memory.view(0x100000 + shift, len(was)))
        assert mmu.read(0x40000000, len(was)) == was


@pytest.mark.parametrize("size", [1 << 63, (1 << 64) - 1, (1 << 63) - 1])
def test_reads_that_no_bytes_object_can_hold(mmu: Mmu, size: int) -> None:
    with pytest.raises(ResourceExhausted):
        mmu.read(0, size)


def test_threads_share_one(mmu: Mmu) -> None:
    mmu.map(0x40000000, 0x100000, 64 * 4096, page_size=4096)
    failures: list[BaseException] = []

    def work(seed: int) -> None:
        rng = np.random.default_rng(seed)
        try:
            for page in rng.integers(0, 64, 3000).tolist():
                assert mmu.translate(0x40000000 + page * 4096).paddr == 0x100000 + page * 4096
                if page == 0:
                    mmu.flush_all()
        except BaseException as error:  # a failed assertion in a thread would be lost
            failures.append(error)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures


def test_closed_memory(mmu: Mmu) -> None:
    mmu.memory.close()
    with pytest.raises(ClosedError):
        mmu.translate(0x7000)
    with pytest.raises(VmError):
        mmu.read(0x7000, 1)


def test_arguments_that_cannot_be() -> None:
    memory = GuestMemory.anonymous(MIB)
    with pytest.raises(TypeError):
        Mmu(memory, 5)  # type: ignore[arg-type]
    with pytest.raises(InvalidConfig):
        Mmu(memory, X86(root=0x1000), walk_cache=(1 << 21, 0, 0, 0))
    with pytest.raises(InvalidConfig, match=r"2\*\*64"):
        Mmu(memory, X86(root=0x1000)).read(-1, 1)


def test_the_end_of_a_device_may_use_the_devices(mmu: Mmu) -> None:
    counted: list[int] = []

    class Device:
        def read(self, offset: int, width: int) -> int:
            return 0

        def __del__(self) -> None:
            counted.append(len(mmu.mmio))

    mmu.mmio.add(0x8000_0000, 0x1000, read=Device().read)
    assert mmu.mmio.remove(0x8000_0000)
    assert counted == [0]


def test_devices_that_know_their_mmu_are_collected() -> None:
    class Device:
        def __init__(self, mmu: Mmu) -> None:
            self.mmu = mmu
            mmu.mmio.add(0x8000_0000, 0x1000, read=self.read, write=self.write)

        def read(self, offset: int, width: int) -> int:
            return self.mmu.load(0x7000 + offset, 1)

        def write(self, offset: int, width: int, value: int) -> None:
            self.mmu.store(0x7000 + offset, value, 1)

    mmu = Mmu(GuestMemory.anonymous(MIB), X86(root=0x1000))
    device = weakref.ref(Device(mmu))
    mmu.map_page(0x7000, 0x5000)
    mmu.map_page(0x9000, 0x8000_0000)
    gc.collect()
    mmu.store(0x9001, 7, 1)
    assert mmu.load(0x9001, 1) == 7
    (held,) = mmu.mmio.ranges
    del mmu
    gc.collect()
    assert device() is not None, "a range keeps its device"
    del held
    gc.collect()
    assert device() is None


@pytest.mark.parametrize("value", [None, 1.5, "x"])
def test_a_device_reads_numbers(mmu: Mmu, value: Any) -> None:
    mmu.mmio.add(0x8000_0000, 0x1000, read=lambda offset, width: value)
    mmu.map_page(0x9000, 0x8000_0000)
    with pytest.raises(TypeError, match="must return an int"):
        mmu.load(0x9000)


@pytest.mark.skipif(LazyMemory.available() is not None, reason="no userfaultfd here")
def test_what_a_page_source_raises_reaches_the_caller() -> None:
    def source(offset: int, size: int) -> bytes:
        if offset == 0x5000:
            raise ConnectionError("the page server is gone")
        return bytes(size)

    with LazyMemory(MIB, source, retry_delay_ns=0) as lazy:
        mmu = Mmu(lazy.memory, X86(root=0x1000))
        mmu.map(0x7000, 0x4000, 0x2000)
        for access in (
            lambda: mmu.load(0x8000),
            lambda: mmu.store(0x8000, 1),
            lambda: mmu.compare_exchange(0x8000, 0, 1),
            lambda: mmu.read(0x7FF0, 32),
            lambda: mmu.write(0x7FF0, bytes([1] * 32)),
        ):
            with pytest.raises(ConnectionError):
                access()
        assert mmu.read(0x7FF0, 16) == bytes(16)
