"""ELF cores that QEMU writes (dump-guest-memory), compared with the same machine's memory saved raw (pmemsave)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from mem.oracles.harness.qemu import Qemu, QemuError, missing
from vm_core import NotSupported
from vm_mem import GuestMemory

MIB = 1 << 20


@dataclass(frozen=True)
class Machine:
    """How to start one, and where its memory is."""

    program: str
    arguments: Sequence[str]
    ram_at: int = 0
    size: int = 64 * MIB


X86 = Machine("qemu-system-x86_64", ["-machine", "pc,memory-backend=ram", "-cpu", "max", "-smp", "2"])
AARCH64 = Machine("qemu-system-aarch64", ["-machine", "virt,memory-backend=ram", "-cpu", "max"], 0x40000000)
RISCV = Machine("qemu-system-riscv64", ["-machine", "virt,memory-backend=ram", "-bios", "none"], 0x80000000)


def start(
    machine: Machine, folder: Path, *, gdb: bool = False
) -> tuple[Qemu, np.ndarray[tuple[int], np.dtype[np.uint8]]]:
    """A stopped machine whose memory is a file with random pages; and that memory."""
    reason = missing(machine.program)
    if reason:
        pytest.skip(reason)
    path = folder / "ram"
    path.touch()
    with path.open("r+b") as file:
        file.truncate(machine.size)
    ram = np.memmap(path, dtype="u1", mode="r+", shape=(machine.size,))
    random = np.random.default_rng(5)
    for page in random.integers(0x100, machine.size >> 12, 64):  # not where PC firmware and video memory are
        ram[page << 12 : (page + 1) << 12] = random.integers(1, 256, 4096, dtype="u1")
    backend = f"memory-backend-file,id=ram,size={machine.size},mem-path={path},share=on"
    memory = ["-object", backend, "-m", f"{machine.size >> 20}M"]
    return Qemu(machine.program, [*machine.arguments, *memory, "-S"], gdb=gdb), ram


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """A place for files of many MiB that do not stay after the test."""
    yield tmp_path
    for path in tmp_path.iterdir():
        path.unlink()


def dump(qemu: Qemu, path: Path, **options: object) -> None:
    qemu.command("dump-guest-memory", **{"paging": False, "protocol": f"file:{path}", **options})


def assert_same_memory(memory: GuestMemory, qemu: Qemu, folder: Path) -> None:
    """Every region of the dump against the raw file that QEMU makes of the same addresses."""
    for region in memory.regions:
        raw = folder / "raw"
        qemu.command("pmemsave", val=region.base, size=region.size, filename=str(raw))
        assert np.array_equal(memory.view(region.base, region.size), np.fromfile(raw, "u1")), hex(region.base)


@pytest.mark.parametrize("machine", [X86, AARCH64, RISCV], ids=lambda machine: machine.program)
def test_a_dump_holds_what_qemu_says(machine: Machine, folder: Path) -> None:
    qemu, ram = start(machine, folder)
    with qemu:
        dump(qemu, folder / "core")
        with GuestMemory.open(folder / "core") as memory:
            assert memory.format == "elf"
            assert_same_memory(memory, qemu, folder)
            # Above the legacy area all RAM is one region at the place where the machine has it.
            start_of_ram = machine.ram_at + MIB
            size = machine.size - MIB
            assert np.array_equal(memory.view(start_of_ram, size), ram[MIB:])
            assert len(memory.cpu_states) == (2 if machine is X86 else 1)


def test_control_registers_of_a_long_mode_guest(folder: Path) -> None:
    qemu, _ = start(X86, folder, gdb=True)
    with qemu:
        numbers = qemu.gdb.describe("i386")
        qemu.gdb.set("cr4", 0x20)
        qemu.gdb.set("cr3", 0x123000)
        qemu.gdb.set("efer", 0x900)
        qemu.gdb.set("cr0", 0x80010011)
        assert {"cr0", "cr3", "cr4", "efer"} <= numbers.keys()
        # The stub cuts these to 32 bits while CS is not a 64-bit segment.
        qemu.gdb.set("rsp", 0x12340)
        qemu.gdb.set("rip", 0x81000000)
        told = qemu.monitor("info registers")
        dump(qemu, folder / "core")
    with GuestMemory.open(folder / "core") as memory:
        state = memory.cpu_states[0]
        assert state.architecture == "x86_64"
        assert (state.cr3, state.cr4, state.efer) == (0x123000, 0x20, None)
        assert (state.rip, state.rsp) == (0x81000000, 0x12340)
        assert state.cr0 is not None
        for line in (f"CR0={state.cr0:08x}", f"CR3={state.cr3:016x}", f"CR4={state.cr4:08x}", f"EIP={state.rip:08x}"):
            assert line in told


@pytest.mark.parametrize(("machine", "architecture"), [(AARCH64, "aarch64"), (RISCV, "riscv64")])
def test_registers_of_other_architectures(machine: Machine, architecture: str, folder: Path) -> None:
    qemu, _ = start(machine, folder, gdb=True)
    with qemu:
        qemu.gdb.describe(architecture)
        qemu.gdb.set("pc", machine.ram_at + 0x1234)
        qemu.gdb.set("sp", machine.ram_at + 0x5670)
        dump(qemu, folder / "core")
    with GuestMemory.open(folder / "core") as memory:
        (state,) = memory.cpu_states
        assert (state.architecture, state.pc, state.sp) == (
            architecture,
            machine.ram_at + 0x1234,
            machine.ram_at + 0x5670,
        )


def test_a_dump_by_virtual_mappings_repeats_pages(folder: Path) -> None:
    """With paging=true QEMU writes one segment for each virtual mapping, so that physical pages come up repeatedly."""
    qemu, ram = start(X86, folder, gdb=True)
    tables = ram.view("<u8")
    pml4, pdpt, directory, table = (base >> 3 for base in (0x200000, 0x201000, 0x202000, 0x203000))
    tables[pml4 : pml4 + 512 * 4] = 0
    tables[pml4] = 0x201003
    tables[pml4 + 256] = 0x201003
    tables[pdpt] = 0x202003
    tables[directory] = 0x203003
    for index in range(64):  # pages 0x300 to 0x31f, each twice
        tables[table + index] = (0x300000 + (index % 32 << 12)) | 3
    with qemu:
        qemu.gdb.describe("i386")
        for name, value in (("cr4", 0x20), ("cr3", 0x200000), ("efer", 0x900), ("cr0", 0x80010011)):
            qemu.gdb.set(name, value)
        dump(qemu, folder / "core", paging=True)
        with GuestMemory.open(folder / "core") as memory:
            assert_same_memory(memory, qemu, folder)
            assert np.array_equal(memory.view(0x300000, 32 << 12), ram[0x300000 : 0x300000 + (32 << 12)])


def test_a_dump_of_a_part(folder: Path) -> None:
    qemu, ram = start(RISCV, folder)
    with qemu:
        dump(qemu, folder / "core", begin=RISCV.ram_at + 8 * MIB, length=4 * MIB)
        with GuestMemory.open(folder / "core") as memory:
            assert np.array_equal(memory.view(RISCV.ram_at + 8 * MIB, 4 * MIB), ram[8 * MIB : 12 * MIB])


def test_compressed_dumps_are_refused_by_name(folder: Path) -> None:
    qemu, _ = start(X86, folder)
    with qemu:
        try:
            dump(qemu, folder / "core", format="kdump-zlib")
        except QemuError as error:
            pytest.skip(str(error))
    with pytest.raises(NotSupported, match=r"flattened kdump.*dump-guest-memory without -z"):
        GuestMemory.open(folder / "core")
