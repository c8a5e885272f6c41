"""The Python face of page tables: shapes, types, errors, threads, signals. Answers are compared with QEMU elsewhere."""

from __future__ import annotations

import gc
import pickle
import signal
import threading

import numpy as np
import pytest
import vm_core
from vm_core import Access, InvalidConfig, NotSupported, PageFault, ResourceExhausted
from vm_mem import GuestMemory
from vm_mem.paging import (
    MAPPING_DTYPE,
    X86,
    AArch64,
    AddressSpace,
    FaultReason,
    Mapping,
    RiscV,
    Translation,
    TranslationArray,
)

CONFIGS = [
    X86(levels=2, root=0x1000),
    X86(levels=3, root=0x1000),
    X86(levels=4, root=0x1000),
    X86(levels=5, root=0x1000),
    RiscV("sv32", root=0x1000),
    RiscV("sv39", root=0x1000),
    RiscV("sv48", root=0x1000),
    RiscV("sv57", root=0x1000),
    AArch64(granule=4096, ttbr0=0x10000),
    AArch64(granule=16384, ttbr0=0x10000),
    AArch64(granule=65536, ttbr0=0x10000),
]


@pytest.fixture
def space() -> AddressSpace:
    space = AddressSpace(GuestMemory.anonymous(1 << 22), X86(levels=4, root=0x1000))
    space.map(0x400000, 0x10000, 0x4000, Access.READ | Access.WRITE, user=True)
    space.map(0x800000, 0x20000, 0x1000, Access.READ)
    space.map(0x40000000, 0x200000, 0x200000, Access.READ | Access.EXECUTE)
    return space


@pytest.mark.parametrize("config", CONFIGS, ids=str)
def test_every_format_maps_and_translates(config: X86 | RiscV | AArch64) -> None:
    space = AddressSpace(GuestMemory.anonymous(1 << 22), config)
    assert list(space.mappings()) == []
    space.map(0x40000000, 0x3000000, 0x20000, Access.READ | Access.WRITE)
    hit = space.translate(0x40012345)
    assert hit.paddr == 0x3012345
    assert hit.access & (Access.READ | Access.WRITE) == Access.READ | Access.WRITE
    assert not hit.user
    assert space.unmap(0x40000000, 0x20000) == 0x20000
    with pytest.raises(PageFault) as caught:
        space.translate(0x40012345)
    assert caught.value.reason is FaultReason.NOT_PRESENT


def test_one_translation_and_its_fields(space: AddressSpace) -> None:
    hit = space.translate(0x400123)
    assert (hit.vaddr, hit.paddr, hit.page_size, hit.level) == (0x400123, 0x10123, 4096, 0)
    assert hit.access == Access.READ | Access.WRITE
    assert isinstance(hit.access, Access)
    assert hit.user
    match hit:
        case Translation(_, paddr, page_size=4096):
            assert paddr == 0x10123
        case _:
            pytest.fail("a translation does not match by position")


def test_a_translation_is_a_value(space: AddressSpace) -> None:
    one, two, other = space.translate(0x400123), space.translate(0x400123), space.translate(0x400124)
    assert one == two
    assert hash(one) == hash(two)
    assert one != other
    assert one != "something else"
    assert "paddr=0x10123" in repr(one)
    with pytest.raises(TypeError):
        type(one)()  # made by translate only
    with pytest.raises(AttributeError):
        one.paddr = 7  # type: ignore[misc]


def test_many_translations_alive_at_once(space: AddressSpace) -> None:
    # More than the free list holds, released in another order than made.
    hits = [space.translate(0x400000 + i % 0x4000) for i in range(1000)]
    assert [h.paddr for h in hits] == [0x10000 + i % 0x4000 for i in range(1000)]
    del hits[::2]
    gc.collect()
    assert space.translate(0x400005).paddr == 0x10005


@pytest.mark.parametrize("shape", [(), (0,), (5,), (2, 3), (2, 0, 4), (1, 1, 1, 2)])
def test_arrays_of_any_shape(space: AddressSpace, shape: tuple[int, ...]) -> None:
    vaddrs = np.full(shape, 0x400010, dtype=np.uint64)
    many = space.translate(vaddrs)
    for name, dtype in [
        ("vaddr", "u8"),
        ("paddr", "u8"),
        ("ok", "?"),
        ("fault", "u1"),
        ("page_size", "u8"),
        ("access", "u1"),
        ("user", "?"),
        ("level", "i1"),
        ("error_code", "u4"),
    ]:
        array = getattr(many, name)
        assert array.shape == shape, name
        assert array.dtype == np.dtype(dtype), name
    assert many.shape == shape
    assert many.size == vaddrs.size
    assert many.ok.all()
    assert (many.paddr == 0x10010).all()


def test_a_fault_per_element(space: AddressSpace) -> None:
    vaddrs = np.array([0x400000, 0x800000, 0x900000, 0x0001_0000_0000_0000, 0x40000000], dtype=np.uint64)
    many = space.translate(vaddrs, access=Access.WRITE, user=True)
    assert many.fault.tolist() == [
        FaultReason.NONE,
        FaultReason.USER_DENIED,
        FaultReason.NOT_PRESENT,
        FaultReason.NOT_CANONICAL,
        FaultReason.USER_DENIED,
    ]
    assert many.error_code.tolist() == [0, 7, 6, 0, 7]
    assert many.ok.tolist() == [True, False, False, False, False]
    assert many.paddr.tolist() == [0x10000, *[2**64 - 1] * 4]
    assert many.page_size.tolist() == [4096, 0, 0, 0, 0]
    assert many.fault_count == 4
    assert "ok=1, faults=4" in repr(many)
    with pytest.raises(PageFault) as caught:
        many.raise_for_fault()
    assert (caught.value.vaddr, caught.value.reason) == (0x800000, FaultReason.USER_DENIED)
    space.translate(vaddrs[:1]).raise_for_fault()


def test_indexing_an_answer(space: AddressSpace) -> None:
    many = space.translate(np.array([[0x400000, 0x800001], [0x900000, 0x40000000]], dtype=np.uint64))
    assert len(many) == 2
    assert many[0, 1] == space.translate(0x800001)
    assert isinstance(many[0], TranslationArray)
    assert many[many.ok].paddr.tolist() == [0x10000, 0x20001, 0x200000]
    assert many[:, 0].shape == (2,)
    with pytest.raises(PageFault, match="0x900000"):
        many[1, 0]
    with pytest.raises(IndexError):
        many[5]


def test_permissions_and_lookups_without_them(space: AddressSpace) -> None:
    with pytest.raises(PageFault) as caught:
        space.translate(0x800000, access=Access.READ | Access.WRITE)
    fault = caught.value
    assert (fault.reason, fault.access, fault.level) == (FaultReason.WRITE_DENIED, Access.READ | Access.WRITE, 0)
    assert fault.error_code == 3
    assert space.translate(0x800000, access=Access.NONE, user=True).paddr == 0x20000


def test_numbers_of_every_kind(space: AddressSpace) -> None:
    for number in (0x400000, np.uint64(0x400000), np.int32(0x400000), True + 0x3FFFFF):
        assert space.translate(number).paddr == 0x10000
    for array in (
        [0x400000],
        (0x400000,),
        [0x400000, 2**64 - 1],
        [[0x400000], [0xFFFFFFFF81000000]],
        np.array([0x400000], dtype=np.int32),
        np.array([0x400000], dtype=">u8"),
        np.arange(0x400000, 0x400020, dtype=np.uint64)[::16],
        np.array([[0x400000]], dtype=np.uint64, order="F"),
    ):
        assert space.translate(array).paddr.flat[0] == 0x10000


@pytest.mark.parametrize(
    ("vaddr", "error"),
    [
        (-1, InvalidConfig),
        (2**64, InvalidConfig),
        (1.5, TypeError),
        ("0x1000", (TypeError, ValueError)),
        (None, TypeError),
        ([1.5], TypeError),
        ([-1], InvalidConfig),
        (np.array([1.5]), TypeError),
        (np.array([-1]), InvalidConfig),
    ],
)
def test_what_is_no_address(space: AddressSpace, vaddr: object, error: type[Exception]) -> None:
    with pytest.raises(error):
        space.translate(vaddr)  # type: ignore[call-overload]


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"access": 8}, InvalidConfig),
        ({"access": "r"}, TypeError),
        ({"engine": "gpu"}, InvalidConfig),
        ({"engine": 3}, Exception),
        ({"threads": -1}, InvalidConfig),
        ({"colour": 1}, TypeError),
    ],
)
def test_wrong_arguments_are_named(space: AddressSpace, arguments: dict[str, object], error: type[Exception]) -> None:
    with pytest.raises(error):
        space.translate(0x400000, **arguments)  # type: ignore[call-overload]
    with pytest.raises(TypeError, match="positional"):
        space.translate(0x400000, Access.READ)  # type: ignore[call-overload]


@pytest.mark.parametrize("threads", [0, 1, 3])
def test_engines_and_threads_agree(space: AddressSpace, threads: int) -> None:
    random = np.random.default_rng(7)
    bases = np.array([0x400000, 0x800000, 0x40000000, 0x50000000], dtype=np.uint64)
    vaddrs = bases[random.integers(0, 4, 100_000)] + random.integers(0, 0x6000, 100_000, dtype=np.uint64)
    expected = space.translate(vaddrs, engine="walk")
    assert 0 < expected.fault_count < expected.size
    for engine in space.engines:
        got = space.translate(vaddrs, engine=engine, threads=threads)
        assert np.array_equal(got.paddr, expected.paddr), engine
        assert np.array_equal(got.fault, expected.fault), engine
        assert np.array_equal(got.page_size, expected.page_size), engine
    assert space.choose_engine(vaddrs) in space.engines
    assert space.choose_engine(vaddrs[:3]) == "walk"


def test_a_format_without_vector_kernels_says_so() -> None:
    space = AddressSpace(GuestMemory.anonymous(1 << 20), X86(levels=2, root=0x1000))
    assert "avx2" not in space.engines
    with pytest.raises(NotSupported, match="4-byte"):
        space.translate([0x1000], engine="avx2")


class AlarmError(Exception):
    pass


def test_a_signal_ends_a_long_batch(space: AddressSpace) -> None:
    def handler(signum: int, frame: object) -> None:
        raise AlarmError

    def translate_for_long() -> None:
        vaddrs = np.full(1 << 23, 0x400000, dtype=np.uint64)
        signal.setitimer(signal.ITIMER_REAL, 0.01)
        for _ in range(1000):
            space.translate(vaddrs, engine="walk")

    before = signal.signal(signal.SIGALRM, handler)
    try:
        with pytest.raises(AlarmError):
            translate_for_long()
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def test_threads_translate_at_once(space: AddressSpace) -> None:
    vaddrs = np.arange(0x400000, 0x404000, dtype=np.uint64)
    right = []

    def work() -> None:
        right.extend(np.array_equal(space.translate(vaddrs).paddr, vaddrs - 0x3F0000) for _ in range(20))

    workers = [threading.Thread(target=work) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert right == [True] * 80


def test_mappings_as_objects_and_as_an_array(space: AddressSpace) -> None:
    mappings = space.mappings()
    rights = Access.READ | Access.WRITE | Access.EXECUTE
    assert list(mappings) == [
        Mapping(0x400000, 0x10000, 0x4000, 0x1000, Access.READ | Access.WRITE, Access.READ | Access.WRITE),
        Mapping(0x800000, 0x20000, 0x1000, 0x1000, Access.READ, Access.NONE),
        Mapping(0x40000000, 0x200000, 0x200000, 0x200000, Access.READ | Access.EXECUTE, Access.NONE),
    ]
    assert mappings.array.dtype == MAPPING_DTYPE
    assert mappings.array["vaddr"].tolist() == [0x400000, 0x800000, 0x40000000]
    assert mappings.size == 0x205000
    assert len(mappings[1:]) == 2
    assert mappings[-1].page_size == 0x200000
    assert "rw-" in str(mappings[0])
    assert (mappings[0].access | Access.EXECUTE) == rights
    assert len(space.mappings(merge=False)) == 6
    assert [m.vaddr for m in space.mappings(0x402000, 0x801000)] == [0x402000, 0x800000]
    assert list(space.mappings(0x500000, 0x500000)) == []
    assert list(space.mappings(0, 1 << 64)) == list(mappings)
    for start, stop in ((-1, None), (1 << 64, None), (0, (1 << 64) + 1)):
        with pytest.raises(InvalidConfig):
            space.mappings(start, stop)
    with pytest.raises(ResourceExhausted):
        space.mappings(merge=False, limit=2)


def test_a_failed_change_changes_nothing(space: AddressSpace) -> None:
    before = space.memory.read(0, 1 << 22)
    with pytest.raises(InvalidConfig, match="0x403000"):
        space.map(0x403000, 0x90000, 0x2000)
    with pytest.raises(InvalidConfig):
        space.map(0x123, 0x1000, 0x1000)
    with pytest.raises(PageFault):
        space.protect(0x400000, 0x8000, Access.READ)
    assert space.memory.read(0, 1 << 22) == before


def test_tables_come_from_the_range_given() -> None:
    memory = GuestMemory.anonymous(1 << 20)
    space = AddressSpace(memory, X86(root=0x1000), tables=range(0x8000, 0xB000))
    assert space.tables == range(0x8000, 0xB000)
    space.map(0x400000, 0x0, 0x1000)
    assert any(memory.read(0x8000, 0x3000))
    assert not any(memory.read(0xB000, (1 << 20) - 0xB000))
    with pytest.raises(ResourceExhausted):
        space.map(0x8000000000, 0x0, 0x1000)
    with pytest.raises(InvalidConfig):
        AddressSpace(memory, X86(root=0x1000), tables=range(0x8000, 0xB000, 2))


def test_accessed_and_dirty_flags_only_when_asked() -> None:
    memory = GuestMemory.anonymous(1 << 20)
    plain = AddressSpace(memory, X86(root=0x1000), tables=range(0x8000, 0x10000))
    plain.map(0x400000, 0x0, 0x1000)
    entry = next(a for a in range(0x8000, 0x10000, 8) if memory.read(a, 8)[0] & 0x61 == 0x61)
    memory.write(entry, bytes([memory.read(entry, 1)[0] & ~0x60]))
    plain.translate(0x400000, access=Access.WRITE)
    assert memory.read(entry, 1)[0] & 0x60 == 0
    marking = AddressSpace(memory, X86(root=0x1000), update_accessed_dirty=True)
    marking.translate([0x400000] * 100)
    assert memory.read(entry, 1)[0] & 0x60 == 0x20
    marking.translate([0x400000] * 100, access=Access.WRITE)
    assert memory.read(entry, 1)[0] & 0x60 == 0x60


@pytest.mark.parametrize("config", CONFIGS, ids=str)
def test_configurations_are_values(config: X86 | RiscV | AArch64) -> None:
    copy = pickle.loads(pickle.dumps(config))
    assert copy == config
    assert hash(copy) == hash(config)
    assert eval(repr(config)) == config
    assert AddressSpace(GuestMemory.anonymous(1 << 20), config).config == config
    assert config != object()


def test_configurations_from_registers() -> None:
    registers = {"cr0": 0x80050033, "cr3": 0x1234005, "cr4": 0x3706F0, "efer": 0xD01}
    config = X86.from_registers(**registers)
    assert (config.levels, config.root, config.smep, config.smap, config.no_execute) == (4, 0x1234000, True, True, True)
    assert X86.from_registers(**{**registers, "cr4": 0x3716F0}).levels == 5
    assert X86.from_registers(cr0=0x80000011, cr3=0x1020, cr4=0x20, efer=0).levels == 3
    assert X86.from_registers(cr0=0x80000011, cr3=0x1FFF, cr4=0, efer=0).root == 0x1000
    with pytest.raises(InvalidConfig, match="paging"):
        X86.from_registers(cr0=0x11, cr3=0, cr4=0, efer=0)
    assert RiscV.from_satp(0x8000000000080000) == RiscV("sv39", root=0x80000000)
    assert RiscV.from_satp(0x80080000, xlen=32) == RiscV("sv32", root=0x80000000)
    with pytest.raises(InvalidConfig, match="Bare"):
        RiscV.from_satp(0)


@pytest.mark.parametrize(
    "make",
    [
        lambda: X86(levels=6, root=0),
        lambda: X86(root=0x123),
        lambda: X86(root=1 << 52),
        lambda: X86(physical_bits=60),
        lambda: X86(levels=3, protection_keys=True),
        lambda: RiscV("sv64"),  # type: ignore[arg-type]
        lambda: RiscV(root=0x10),
        lambda: AArch64(granule=8192),
        lambda: AArch64(granule=16384, tcr=AArch64(granule=4096).tcr),
        lambda: AArch64(tcr=0),
    ],
)
def test_impossible_configurations_are_refused(make: object) -> None:
    with pytest.raises(InvalidConfig):
        make()  # type: ignore[operator]


def test_aarch64_takes_the_granule_from_tcr() -> None:
    assert AArch64(tcr=AArch64(granule=65536).tcr).granule == 65536
    mixed = AArch64(granule=4096).tcr & ~(3 << 30) | (3 << 30)
    with pytest.raises(NotSupported, match="EPD"):
        AArch64(tcr=mixed)


def test_wrong_objects_are_type_errors() -> None:
    with pytest.raises(TypeError):
        AddressSpace(GuestMemory.anonymous(1 << 20), "x86")  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        AddressSpace(b"memory", X86())  # type: ignore[arg-type]
    blank = AddressSpace.__new__(AddressSpace)
    with pytest.raises(TypeError, match="__init__"):
        blank.translate(0)


def test_memory_lives_as_long_as_its_address_space() -> None:
    space = AddressSpace(GuestMemory.anonymous(1 << 20), X86(root=0x1000))
    gc.collect()
    space.map(0x1000, 0x2000, 0x1000)
    assert space.translate(0x1000).paddr == 0x2000
    space.memory.close()
    with pytest.raises(vm_core.ClosedError):
        space.translate(0x1000)
    with pytest.raises(vm_core.ClosedError):
        space.translate([0x1000])


def test_a_subclass_translates_too() -> None:
    class Named(AddressSpace):
        name = "kernel"

    space = Named(GuestMemory.anonymous(1 << 20), X86(root=0x1000))
    space.map(0x1000, 0x2000, 0x1000)
    assert space.translate(0x1000).paddr == 0x2000
    assert space.translate([0x1000]).paddr.tolist() == [0x2000]
