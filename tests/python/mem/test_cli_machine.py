"""Which tables vm-mem walks: options first, registers for what they leave out, never a guess in silence."""

from __future__ import annotations

from pathlib import Path

import pytest
from mem.cli_support import CR0, CR4, ROOT, make_memory, save_core
from vm_core import InvalidConfig
from vm_core.command import CliError
from vm_mem import GuestMemory
from vm_mem.cli.machine import ARCHITECTURES, MachineOptions, command_options, select
from vm_mem.cli.options import ArchName
from vm_mem.paging import X86, AArch64, RiscV

SMEP = 1 << 20
PKE = 1 << 22
EPD0, EPD1 = 1 << 7, 1 << 23


@pytest.fixture
def core(tmp_path: Path) -> GuestMemory:
    """Two CPUs."""
    return GuestMemory.open(save_core(tmp_path, ((CR0, ROOT, CR4), (CR0, 0x5000, CR4 | SMEP | PKE))))


def chosen(memory: GuestMemory, **options: object) -> X86 | RiscV | AArch64:
    return select(memory, MachineOptions(**options))[0]  # type: ignore[arg-type]


def test_the_command_line_knows_every_format() -> None:
    assert tuple(name.value for name in ArchName) == ARCHITECTURES


def test_registers_alone(core: GuestMemory) -> None:
    config, remark = select(core, MachineOptions())
    assert config == X86(4, ROOT)
    assert remark is not None
    assert "--efer 0xd00" in remark


def test_another_cpu(core: GuestMemory) -> None:
    assert chosen(core, cpu=1, efer=0xD00) == X86(4, 0x5000, smep=True, protection_keys=True)
    with pytest.raises(CliError, match="CPU 0, 1"):
        chosen(core, cpu=2)
    with pytest.raises(CliError, match="no CPU"):
        chosen(make_memory(), cpu=0)


def test_another_root_with_the_rest_from_the_registers(core: GuestMemory) -> None:
    assert chosen(core, cpu=1, root=0x9000) == X86(4, 0x9000, smep=True, protection_keys=True)


def test_another_format_with_the_rest_from_the_registers(core: GuestMemory) -> None:
    assert chosen(core, cpu=1, arch="x86_64_la57") == X86(5, 0x5000, smep=True, protection_keys=True)
    assert chosen(core, cpu=1, arch="x86_pae") == X86(3, 0x5000, smep=True)


def test_everything_given_needs_no_registers(core: GuestMemory) -> None:
    for memory in (core, make_memory()):
        config, remark = select(memory, MachineOptions(arch="x86_64", root=0x7000))
        assert config == X86(4, 0x7000)
        assert remark is None
    assert chosen(core, arch="x86_64", root=0x7000, efer=0x500) == X86(4, 0x7000, no_execute=False)


def test_registers_that_cannot_be(tmp_path: Path) -> None:
    memory = GuestMemory.open(save_core(tmp_path, ((CR0, ROOT, 0),)))
    with pytest.raises(InvalidConfig, match="without PAE"):
        chosen(memory)


def test_smap_is_lifted_by_ac(tmp_path: Path) -> None:
    cpu = (CR0, ROOT, CR4 | 1 << 21)
    assert chosen(GuestMemory.open(save_core(tmp_path, (cpu,)))) == X86(4, ROOT, smap=True)
    lifted = GuestMemory.open(save_core(tmp_path, (cpu,), rflags=1 << 18 | 2))
    assert chosen(lifted) == X86(4, ROOT, smap=True, ac=True)


@pytest.mark.parametrize("mode", ["sv32", "sv39", "sv48", "sv57"])
def test_riscv_by_name(mode: str) -> None:
    assert chosen(make_memory(), arch=mode, root=0x1000) == RiscV(mode, 0x1000)  # type: ignore[arg-type]


def test_aarch64_walks_only_the_halves_that_have_a_root() -> None:
    memory = make_memory()
    tcr = AArch64().tcr
    assert chosen(memory, arch="aarch64", root=0x1000) == AArch64(ttbr1=0x1000, tcr=tcr | EPD0)
    assert chosen(memory, ttbr1=0x1000) == AArch64(ttbr1=0x1000, tcr=tcr | EPD0)
    assert chosen(memory, ttbr0=0x1000) == AArch64(ttbr0=0x1000, tcr=tcr | EPD1)
    assert chosen(memory, ttbr0=0, ttbr1=0x2000) == AArch64(ttbr1=0x2000, tcr=tcr)
    assert chosen(memory, ttbr1=0x4000, granule=16384) == AArch64(16384, ttbr1=0x4000, tcr=AArch64(16384).tcr | EPD0)


def test_aarch64_options_elsewhere_are_refused() -> None:
    memory = make_memory()
    with pytest.raises(CliError, match="for aarch64"):
        chosen(memory, arch="x86_64", root=0, tcr=0)
    with pytest.raises(CliError, match="one of them"):
        chosen(memory, arch="aarch64", root=0, ttbr1=0)
    with pytest.raises(CliError, match="--ttbr0"):
        chosen(memory, arch="aarch64")


@pytest.mark.parametrize(
    "config",
    [
        X86(2, 0x1000),
        X86(3, 0x1020),
        X86(4, 0x1000),
        X86(5, 0x1000),
        RiscV("sv48", 0x2000),
        AArch64(ttbr1=0x1000, tcr=AArch64().tcr | EPD0),
        AArch64(ttbr0=0x1000, ttbr1=0x2000),
        AArch64(16384, ttbr0=0x4000, tcr=AArch64(16384).tcr | EPD1),
        AArch64(ttbr1=0x1000, tcr=0x5_8019_0019 | EPD0),
    ],
)
def test_the_options_of_a_configuration_name_it(config: X86 | RiscV | AArch64) -> None:
    words = iter(command_options(config).split())
    given = {name.removeprefix("--"): value for name, value in zip(words, words, strict=True)}
    options = {name: value if name == "arch" else int(value, 0) for name, value in given.items()}
    assert chosen(make_memory(), **options) == config
