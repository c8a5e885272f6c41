"""Dumps from Python: formats, lies, sparse images, saving, and round trips over random layouts."""

from __future__ import annotations

import os
import re
import struct
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mem.guest_support import PT_NOTE, Segment, elf_core, lime_range, note, qemu_cpu_state
from vm_core import AccessViolation, InvalidConfig, NotSupported, OutOfRange, VmError
from vm_mem import GuestMemory

MIB = 1 << 20
GIB = 1 << 30


@pytest.fixture
def image(tmp_path: Path) -> Path:
    return tmp_path / "image"


def test_a_raw_image(image: Path) -> None:
    image.write_bytes(bytes(range(100)))
    with GuestMemory.open(image) as memory:
        assert memory.format == "raw"
        assert memory.read(10, 3) == b"\x0a\x0b\x0c"
        assert [region.name for region in memory.regions] == [str(image)]
    with pytest.raises(InvalidConfig, match="LiME header at file offset 0x0"):
        GuestMemory.open(image, format="lime")
    with pytest.raises(InvalidConfig, match="ELF header"):
        GuestMemory.open(image, format="elf")
    with pytest.raises(InvalidConfig, match="qcow2"):
        GuestMemory.open(image, format="qcow2")  # type: ignore[arg-type]


def test_a_lime_image(image: Path) -> None:
    image.write_bytes(lime_range(0x1000, b"low") + lime_range(0x100000000, b"high"))
    with GuestMemory.open(image) as memory:
        assert memory.format == "lime"
        assert memory.read(0x1000, 3) == b"low"
        assert memory.read(0x100000000, 4) == b"high"
        with pytest.raises(OutOfRange, match="0x1003-0xffffffff"):
            memory.read(0x1002, 2)
    assert GuestMemory.open(image, format="raw").size == 2 * 32 + 7


def test_an_elf_core_with_the_notes_of_qemu(image: Path) -> None:
    state = qemu_cpu_state([(8, 0xAA), (56, 0xFFFF8000), (136, 0xFFFFFFFF81000000), (392, 0x80050033), (408, 0xDEAD)])
    other = qemu_cpu_state([(416, 0x1234000), (424, 0x6F0), (432, 0xFFFF888000000000)])
    notes = note(b"CORE", 1, bytes(336)) + note(b"QEMU", 0, state) + note(b"QEMU", 0, other)
    image.write_bytes(elf_core([Segment(0, notes, 0, PT_NOTE), Segment(0x1000, b"memory", 0x2000)], padding=3))
    with GuestMemory.open(image) as memory:
        first, second = memory.cpu_states
        assert memory.read(0x1000, 8) == b"memory\0\0"
        with pytest.raises(AccessViolation):
            memory.write(0x1000, b"x")
    assert first.architecture == "x86_64"
    assert (first.rip, first.rsp, first.cr0, first.cr2) == (0xFFFFFFFF81000000, 0xFFFF8000, 0x80050033, 0xDEAD)
    assert (first.pc, first.sp, first.registers["rax"]) == (first.rip, first.rsp, 0xAA)
    assert (second.cr3, second.cr4, second.efer) == (0x1234000, 0x6F0, None)
    assert second.registers["kernel_gs_base"] == 0xFFFF888000000000
    assert repr(second) == "<CpuState x86_64 rip=0x0 cr3=0x1234000>"


@pytest.mark.parametrize(
    ("machine", "bits", "size", "offset", "width", "pc", "sp", "architecture"),
    [
        (183, 64, 392, 112, 8, 32, 31, "aarch64"),
        (243, 64, 376, 112, 8, 0, 2, "riscv64"),
        (243, 32, 204, 72, 4, 0, 2, "riscv32"),
    ],
)
def test_an_elf_core_of_another_machine(
    image: Path, machine: int, bits: int, size: int, offset: int, width: int, pc: int, sp: int, architecture: str
) -> None:
    status = bytearray(size)
    code = "<Q" if width == 8 else "<I"
    struct.pack_into(code, status, offset + width * pc, 0x80001234)
    struct.pack_into(code, status, offset + width * sp, 0x80005678)
    notes = note(b"CORE", 1, bytes(status))
    segments = [Segment(0, notes, 0, PT_NOTE), Segment(0x80000000, b"ram")]
    image.write_bytes(elf_core(segments, machine=machine, bits=bits))
    with GuestMemory.open(image) as memory:
        (state,) = memory.cpu_states
        assert (state.architecture, state.pc, state.sp) == (architecture, 0x80001234, 0x80005678)
        assert (state.rip, state.cr3) == (None, None)
        assert memory.read(0x80000000, 3) == b"ram"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "empty"),
        (lime_range(0x1000, b"abc", last=0x1003), "file offset 0x0 claims 0x4 bytes"),
        (lime_range(0x1000, b"abc", last=0xFFF), "0x1000 to 0xfff"),
        (lime_range(0, b"abc", last=(1 << 64) - 1), "0xffffffffffffffff"),
        (lime_range(0, b"abc", version=7), "version 7"),
        (lime_range(0, b"abc") + lime_range(2, b"d"), "file offset 0x23.*overlap"),
        (elf_core([Segment(0, b"x")])[:60], "ELF header is truncated"),
        (elf_core([Segment(0, b"x")])[:100], "1 program headers at file offset 0x40.*truncated"),
        (elf_core([Segment(0, b"x")])[:120], "file offset 0x40 claims 0x1 bytes at file offset 0x78.*truncated"),
        (elf_core([Segment(0, b"abc", 2)]), "only 0x2 bytes of memory"),
        (elf_core([Segment(2, b"abc", (1 << 64) - 1)]), "beyond the last 64-bit address"),
        (elf_core([Segment(1, b"abc"), Segment(2, b"xyz")]), "file offset 0x78.*overlap.*0x40.*differ"),
        (elf_core([]), "without a memory segment"),
        (elf_core([Segment(0, b"x"), Segment(0, b"y")]), "core of a process"),
        (elf_core([Segment(1, b"x"), Segment(0, b"\xff" * 12, 0, PT_NOTE)]), "note at file offset 0xb1"),
    ],
)
def test_lies_are_refused_with_their_place(image: Path, content: bytes, message: str) -> None:
    image.write_bytes(content)
    with pytest.raises(InvalidConfig, match=f"(?s){re.escape(str(image))}.*{message}"):
        GuestMemory.open(image)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"KDUMP   " + bytes(100), "compressed kdump.*-z"),
        (b"makedumpfile\0\0\0\0" + bytes(100), "flattened kdump"),
        (b"PAGEDU64" + bytes(100), "64-bit Windows crash dump.*raw"),
        (b"AVML\2\0\0\0" + bytes(100), "avml-convert"),
        (b"\xd2\xbe\xd2\xbe" + bytes(100), "VMware.*vmem"),
        (b"\x1f\x8b\x08\0" + bytes(100), "gzip.*decompress"),
    ],
)
def test_foreign_formats_are_refused_by_name(image: Path, content: bytes, message: str) -> None:
    image.write_bytes(content)
    with pytest.raises(NotSupported, match=message):
        GuestMemory.open(image)
    assert GuestMemory.open(image, format="raw").read(0, 4) == content[:4]


def bytes_read() -> int:
    """What this process has read(2) so far, by the kernel's word."""
    return int(Path("/proc/self/io").read_text().split()[1])


def resident_kib(path: Path) -> int:
    """Memory that this process's mappings of `path` occupy."""
    smaps = Path("/proc/self/smaps").read_text()
    sections = re.findall(rf"{re.escape(str(path))}\n(?:.*\n)*?Rss:\s+(\d+) kB", smaps)
    assert sections, "not mapped"
    return sum(map(int, sections))


@pytest.mark.parametrize("format", ["raw", "lime", "elf"])
def test_64_gigabyte_sparse_images_are_mapped_and_not_read(image: Path, format: str) -> None:
    header = {
        "raw": b"",
        "lime": lime_range(0, b"", last=64 * GIB - 1),
        "elf": elf_core([Segment(0, b"", 64 * GIB)]),
    }[format]
    if format == "elf":  # all of it in the file
        header = header[:96] + struct.pack("<Q", 64 * GIB) + header[104:]
    image.write_bytes(header)
    os.truncate(image, len(header) + 64 * GIB)
    before = bytes_read()
    memory = GuestMemory.open(image)
    assert bytes_read() - before < 64 * 1024
    assert memory.format == format
    assert memory.size == 64 * GIB
    assert resident_kib(image) == 0
    assert memory.read(40 * GIB, 4) == bytes(4)
    assert resident_kib(image) <= 2048


def test_a_64_gigabyte_tail_of_zeros_costs_nothing(image: Path) -> None:
    image.write_bytes(elf_core([Segment(0x1000, b"head", 64 * GIB)]))
    before = int(Path("/proc/self/statm").read_text().split()[1])
    memory = GuestMemory.open(image)
    assert memory.read(63 * GIB, 8) == bytes(8)
    assert int(Path("/proc/self/statm").read_text().split()[1]) - before < 1024


def test_saving_reports_and_replaces(image: Path) -> None:
    memory = GuestMemory.anonymous(40 * MIB)
    memory.view(0, 20 * MIB)[:] = 3
    calls: list[tuple[int, int]] = []
    image.write_bytes(b"old")
    memory.save(image, progress=lambda done, total: calls.append((done, total)))
    assert calls == sorted(calls)
    assert calls[-1] == (40 * MIB, 40 * MIB)
    assert image.stat().st_size == 40 * MIB
    assert image.stat().st_blocks * 512 < 21 * MIB


def test_what_progress_raises_stops_the_save(image: Path) -> None:
    image.write_bytes(b"old")

    def stop(done: int, total: int) -> None:
        raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        GuestMemory.anonymous(MIB).save(image, "lime", progress=stop)
    assert image.read_bytes() == b"old"
    assert [path.name for path in image.parent.iterdir()] == ["image"]


def test_saving_what_a_format_cannot_hold(image: Path) -> None:
    with pytest.raises(InvalidConfig, match="vmdk"):
        GuestMemory.anonymous(1).save(image, "vmdk")  # type: ignore[arg-type]
    with pytest.raises(InvalidConfig, match="too large"):
        GuestMemory.anonymous(1, base=(1 << 64) - 1).save(image, "raw")
    assert not image.exists()


def test_saving_an_elf_core_keeps_the_cpu_states(image: Path) -> None:
    notes = note(b"QEMU", 0, qemu_cpu_state([(416, 0xABC000)]))
    image.write_bytes(elf_core([Segment(0, notes, 0, PT_NOTE), Segment(0x1000, b"memory")]))
    GuestMemory.open(image).save(image, "elf")
    memory = GuestMemory.open(image)
    assert memory.cpu_states[0].cr3 == 0xABC000
    assert memory.read(0x1000, 6) == b"memory"


# Layouts: (gap before, content, bytes of zeros behind) of each segment, by rising address.
layouts = st.lists(
    st.tuples(st.integers(0, 0x3000), st.binary(min_size=1, max_size=6000), st.integers(0, 0x2000)),
    min_size=1,
    max_size=6,
)


def place(layout: list[tuple[int, bytes, int]], start: int) -> Iterator[tuple[int, bytes, int]]:
    """(address, content, zeros behind)."""
    address = start
    for gap, content, zeros in layout:
        address += gap
        yield address, content, zeros
        address += len(content) + zeros


def model(segments: list[tuple[int, bytes, int]]) -> dict[int, int]:
    """Every byte that exists, by address."""
    return {
        address + index: byte
        for address, content, zeros in segments
        for index, byte in enumerate(content + bytes(zeros))
    }


def check_against_model(memory: GuestMemory, expected: dict[int, int], probes: list[tuple[int, int]]) -> None:
    assert memory.size == len(expected)
    for region in memory.regions:
        got = memory.read(region.base, region.size)
        assert got == bytes(expected[region.base + index] for index in range(region.size))
    first = min(expected)
    for offset, size in probes:
        addresses = range(first + offset, first + offset + size)
        if all(address in expected for address in addresses):
            assert memory.read(first + offset, size) == bytes(expected[address] for address in addresses)
        else:
            with pytest.raises(OutOfRange):
                memory.read(first + offset, size)


probe_lists = st.lists(st.tuples(st.integers(0, 0x12000), st.integers(0, 0x4000)), max_size=10)


@settings(max_examples=60, deadline=None)
@given(layouts, st.sampled_from([0, 1, 0x1000, 0xFFFFFFFF, 1 << 52]), probe_lists, st.sampled_from(["lime", "elf"]))
def test_any_layout_reads_as_written_and_survives_conversion(
    layout: list[tuple[int, bytes, int]], start: int, probes: list[tuple[int, int]], format: str
) -> None:
    segments = list(place(layout, start))
    expected = model(segments)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "image")
        if format == "lime":
            path.write_bytes(b"".join(lime_range(base, content + bytes(zeros)) for base, content, zeros in segments))
        else:
            core = [Segment(base, content, len(content) + zeros) for base, content, zeros in segments]
            path.write_bytes(elf_core(core, padding=1))
        memory = GuestMemory.open(path)
        assert memory.format == format
        check_against_model(memory, expected, probes)
        for target in ("lime", "elf"):
            memory.save(path.with_name(target), target)
            again = GuestMemory.open(path.with_name(target))
            assert [(r.base, r.size) for r in again.regions] == [(r.base, r.size) for r in memory.regions]
            check_against_model(again, expected, probes)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_writes_agree_with_a_model(data: st.DataObject) -> None:
    memory = GuestMemory.anonymous(3000, base=100)
    memory.add(GuestMemory.anonymous(5000, base=3100))
    memory.add(GuestMemory.memfd(5000, base=9000))
    exists = [*range(100, 8100), *range(9000, 14000)]
    expected = dict.fromkeys(exists, 0)
    for _ in range(data.draw(st.integers(1, 8))):
        paddr = data.draw(st.integers(0, 14500))
        content = data.draw(st.binary(max_size=3000))
        if all(paddr + index in expected for index in range(len(content))):
            memory.write(paddr, content)
            expected.update(enumerate(content, paddr))
        else:
            with pytest.raises(OutOfRange):
                memory.write(paddr, content)
    check_against_model(memory, expected, [])


genuine = st.sampled_from(
    [
        lime_range(0x1000, b"a" * 100) + lime_range(0x2000, b"b" * 50),
        elf_core([Segment(0, note(b"QEMU", 0, qemu_cpu_state()), 0, PT_NOTE), Segment(0x1000, b"c" * 64, 0x1000)]),
        elf_core([Segment(0x1000, b"d" * 64), Segment(0x2000, b"e" * 64)], bits=32),
    ]
)
changes = st.lists(st.tuples(st.integers(0, 400), st.binary(min_size=1, max_size=8)), max_size=4)


@settings(max_examples=300, deadline=None)
@given(genuine, changes, st.integers(0, 700))
def test_damaged_images_open_or_are_refused(content: bytes, changes: list[tuple[int, bytes]], length: int) -> None:
    damaged = bytearray(content)
    for offset, new in changes:
        damaged[offset : offset + len(new)] = new
    with tempfile.NamedTemporaryFile() as file:
        file.write(damaged[:length])
        file.flush()
        try:
            memory = GuestMemory.open(file.name)
        except VmError as error:
            assert file.name in str(error) or "bytes" in str(error)  # noqa: PT017
            return
        for region in memory.regions:
            memory.read(region.base, 1)
            memory.read(region.last, 1)
