"""Which page tables to walk: from the command line, and what it leaves out from the registers in the image."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

from vm_core import InvalidConfig
from vm_core.command import CliError

from .. import CpuState, GuestMemory
from ..paging import X86, AArch64, RiscV

Config = X86 | RiscV | AArch64

X86_LEVELS = {"x86": 2, "x86_pae": 3, "x86_64": 4, "x86_64_la57": 5}
RISCV_MODES: tuple[Literal["sv32", "sv39", "sv48", "sv57"], ...] = ("sv32", "sv39", "sv48", "sv57")
ARCHITECTURES = (*X86_LEVELS, *RISCV_MODES, "aarch64")

_LONG_MODE = 0x500
"""EFER.LME and LMA."""
_NO_EXECUTE = 0x800
"""EFER.NXE."""
_EPD0, _EPD1 = 1 << 7, 1 << 23
"""TCR_EL1: no walks for the lower half, for the upper half."""


@dataclass(frozen=True)
class MachineOptions:
    """What the command line says; None is what it leaves out."""

    arch: str | None = None
    root: int | None = None
    cpu: int | None = None
    efer: int | None = None
    granule: int | None = None
    ttbr0: int | None = None
    ttbr1: int | None = None
    tcr: int | None = None


@dataclass(frozen=True)
class Efer:
    """EFER of a CPU, and whether somebody knows its NXE bit or it is assumed."""

    value: int
    assumed: bool


def architecture_of(config: Config) -> str:
    """The name that ``--arch`` takes for this configuration."""
    if isinstance(config, X86):
        return next(name for name, levels in X86_LEVELS.items() if levels == config.levels)
    return config.mode if isinstance(config, RiscV) else "aarch64"


def command_options(config: Config) -> str:
    """The options that name this configuration on the command line."""
    arch = architecture_of(config)
    if not isinstance(config, AArch64):
        return f"--arch {arch} --root {config.root:#x}"
    given = [f"--arch {arch}"]
    given += [f"--ttbr{half} {value:#x}" for half, value in enumerate((config.ttbr0, config.ttbr1)) if value]
    usual = AArch64(config.granule).tcr
    if (config.tcr ^ usual) & ~(_EPD0 | _EPD1):
        given.append(f"--tcr {config.tcr:#x}")
    elif config.granule != 4096:
        given.append(f"--granule {config.granule}")
    return " ".join(given)


def registers_of(memory: GuestMemory) -> Iterator[tuple[int, CpuState]]:
    """The CPUs whose page-table registers the image holds, with their numbers."""
    return ((number, state) for number, state in enumerate(memory.cpu_states) if state.cr3 is not None)


def efer_of(state: CpuState, given: int | None = None) -> Efer:
    """EFER of an x86 CPU.

    QEMU's notes leave it out. Long mode is known all the same: QEMU writes e_machine EM_X86_64 only for a guest that is
    in it. NXE is not; practically every kernel of today that can set it does.
    """
    if given is not None:
        return Efer(given, assumed=False)
    if state.efer is not None:
        return Efer(state.efer, assumed=False)
    if state.architecture == "x86_64":
        return Efer(_LONG_MODE | _NO_EXECUTE, assumed=True)
    pae = bool((state.cr4 or 0) & 1 << 5)
    return Efer(_NO_EXECUTE if pae else 0, assumed=pae)  # 32-bit paging has no such bit


def config_of(state: CpuState, efer: int) -> X86:
    """What an x86 CPU's registers select; raises InvalidConfig when that is no paging."""
    flags = state.registers.get("rflags", state.registers.get("eflags", 0))
    return X86.from_registers(
        cr0=state.cr0 or 0, cr3=state.cr3 or 0, cr4=state.cr4 or 0, efer=efer, ac=bool(flags & 1 << 18)
    )


def _changed(config: X86, **changes: Any) -> X86:
    names = ["levels", "root", "write_protect", "no_execute", "smep", "smap", "ac", "pse", "gigabyte_pages", "pkru"]
    names += ["protection_keys", "supervisor_keys", "pkrs", "physical_bits", "global_pages"]
    return X86(**{name: getattr(config, name) for name in names} | changes)


def _aarch64(options: MachineOptions) -> AArch64:
    if options.root is not None and options.ttbr1 is not None:
        raise CliError("--root is --ttbr1 for aarch64; give one of them")
    ttbr1 = options.root if options.ttbr1 is None else options.ttbr1
    if options.ttbr0 is None and ttbr1 is None:
        raise CliError("aarch64 needs --ttbr0, --ttbr1 or both: dumps carry no page-table registers of AArch64")
    tcr = AArch64(options.granule).tcr if options.tcr is None else options.tcr
    # A half whose root nobody gave is not walked from address 0.
    tcr |= (_EPD0 if options.ttbr0 is None else 0) | (_EPD1 if ttbr1 is None else 0)
    return AArch64(options.granule, ttbr0=options.ttbr0 or 0, ttbr1=ttbr1 or 0, tcr=tcr)


def _state(memory: GuestMemory, cpu: int | None) -> tuple[int, CpuState] | None:
    states = dict(registers_of(memory))
    if cpu is None:
        return next(iter(states.items()), None)
    if cpu not in states:
        known = f"CPU {', '.join(map(str, states))}" if states else "no CPU"
        raise CliError(f"--cpu is {cpu}, but the image holds page-table registers of {known}")
    return cpu, states[cpu]


def _x86(memory: GuestMemory, options: MachineOptions) -> tuple[X86, str | None]:
    levels = None if options.arch is None else X86_LEVELS[options.arch]
    if levels is not None and options.root is not None and options.cpu is None:
        no_execute = options.efer is None or bool(options.efer & _NO_EXECUTE)
        return X86(levels, options.root, no_execute=no_execute), None
    found = _state(memory, options.cpu)
    if found is None:
        missing = "--arch and --root" if options.arch is None else "--root"
        raise CliError(f"the image holds no page-table registers; give {missing} (`vm-mem roots` finds candidates)")
    cpu, state = found
    efer = efer_of(state, options.efer)
    config = config_of(state, efer.value)
    if levels is not None and levels != config.levels:
        keys = {} if levels > 3 else {"protection_keys": False, "supervisor_keys": False}
        config = _changed(config, levels=levels, root=(state.cr3 or 0) & ~0xFFF, **keys)
    if options.root is not None:
        config = _changed(config, root=options.root)
    confirm = f"confirm with --efer {efer.value:#x}"
    remark = f"CPU {cpu}'s registers lack EFER; its NXE bit is assumed to be set ({confirm})"
    return config, remark if efer.assumed else None


def select(memory: GuestMemory, options: MachineOptions) -> tuple[Config, str | None]:
    """The configuration to walk with, and a remark when something in it is assumed.

    Raises CliError when neither the options nor the image say enough, InvalidConfig when they make no sense.
    """
    of_aarch64 = (options.granule, options.ttbr0, options.ttbr1, options.tcr)
    if options.arch == "aarch64" or (options.arch is None and any(value is not None for value in of_aarch64)):
        return _aarch64(options), None
    if any(value is not None for value in of_aarch64):
        raise CliError(f"--granule, --ttbr0, --ttbr1 and --tcr are for aarch64, not for {options.arch}")
    for mode in RISCV_MODES:
        if options.arch == mode:
            if options.root is None:
                raise CliError(f"{mode} needs --root: dumps carry no satp (`vm-mem roots` finds candidates)")
            return RiscV(mode, options.root), None
    return _x86(memory, options)


def paging_of(state: CpuState) -> tuple[X86 | None, Efer | None, str | None]:
    """The paging that a CPU's registers select, EFER as far as it is known, or why there is none."""
    if state.cr3 is None:
        return None, None, "its notes hold no page-table registers"
    efer = efer_of(state)
    try:
        return config_of(state, efer.value), efer, None
    except InvalidConfig as error:
        return None, efer, str(error)
