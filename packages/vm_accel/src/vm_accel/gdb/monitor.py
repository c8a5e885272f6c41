"""The commands behind gdb's ``monitor``: what a hypervisor knows and gdb does not ask for."""

from __future__ import annotations

from collections.abc import Callable

from vm_core import Access, InvalidConfig

from .._accel import Debugger, Vcpu
from .registers import LONG_GENERAL, SEGMENTS, SYSTEM, cpu_mode

__all__ = ["run_command"]


def _registers(debugger: Debugger, vcpu: Vcpu, arguments: list[str]) -> str:
    regs, sregs = vcpu.regs, vcpu.sregs
    names = (*LONG_GENERAL, "rip", "rflags")
    lines = [f"vCPU {vcpu.id}, {cpu_mode(sregs)} mode"]
    lines += [
        "  ".join(f"{name:6} {getattr(regs, name):016x}" for name in names[at : at + 4])
        for at in range(0, len(names), 4)
    ]
    for name in (*SEGMENTS, "tr", "ldt"):
        segment = getattr(sregs, name)
        lines.append(f"{name:3} {segment.selector:04x} base {segment.base:016x} limit {segment.limit:08x}")
    lines += [
        f"{name} base {getattr(sregs, name).base:016x} limit {getattr(sregs, name).limit:04x}"
        for name in ("gdt", "idt")
    ]
    lines.append("  ".join(f"{name} {getattr(sregs, name):x}" for name in SYSTEM))
    return "\n".join(lines)


def _translate(debugger: Debugger, vcpu: Vcpu, arguments: list[str]) -> str:
    try:
        vaddr = int(arguments[0], 0)
    except (IndexError, ValueError):
        raise InvalidConfig("usage: monitor translate ADDRESS (0x... or decimal)") from None
    try:
        space = debugger.vm.address_space(vcpu)
    except InvalidConfig:
        return f"{vaddr:#x} is physical: paging is off"
    found = space.translate(vaddr, access=Access.NONE)
    return f"{vaddr:#x} -> {found.paddr:#x} ({found.page_size >> 10} KiB page, {space.config})"


def _exits(debugger: Debugger, vcpu: Vcpu, arguments: list[str]) -> str:
    lines = []
    for each in debugger.vm.vcpus:
        counts = ", ".join(f"{name} {count}" for name, count in each.exit_counts.items())
        lines.append(f"vCPU {each.id}: {counts or 'none'}")
    return "\n".join(lines)


def _support(debugger: Debugger, vcpu: Vcpu, arguments: list[str]) -> str:
    support = debugger.support
    return "\n".join(f"{place}: {getattr(support, place)!r}" for place in ("real", "kernel", "user"))


def _points(debugger: Debugger, vcpu: Vcpu, arguments: list[str]) -> str:
    return "\n".join(repr(point) for point in (*debugger.breakpoints, *debugger.watchpoints)) or "none"


# With what help says of each.
_COMMANDS: dict[str, tuple[Callable[[Debugger, Vcpu, list[str]], str], str]] = {
    "registers": (_registers, "all registers of this vCPU"),
    "translate": (_translate, "ADDRESS: where a linear address leads to"),
    "exits": (_exits, "how often each vCPU came back, by reason"),
    "support": (_support, "what stops guest code on this machine"),
    "points": (_points, "breakpoints and watchpoints with their hits"),
}


def run_command(debugger: Debugger, vcpu: Vcpu, line: str) -> str:
    """The text that answers one command. Raises VmError."""
    words = line.split()
    if not words or words[0] not in _COMMANDS:
        return "\n".join(f"monitor {name}: {text}" for name, (_, text) in _COMMANDS.items())
    return _COMMANDS[words[0]][0](debugger, vcpu, words[1:])
