"""The commands behind gdb's ``monitor``: what a hypervisor knows and gdb does not ask for."""

from __future__ import annotations

from collections.abc import Callable

from vm_core import Access, InvalidConfig

from .._accel import Debugger, Vcpu
from .registers import cpu_mode

__all__ = ["run_command"]


def _registers(debugger: Debugger, vcpu: Vcpu, arguments: list[str]) -> str:
    """all registers of this vCPU"""
    regs, sregs = vcpu.regs, vcpu.sregs
    names = "rax rbx rcx rdx rsi rdi rbp rsp r8 r9 r10 r11 r12 r13 r14 r15 rip rflags".split()
    lines = [f"vCPU {vcpu.id}, {cpu_mode(sregs)} mode"]
    lines += [
        "  ".join(f"{name:6} {getattr(regs, name):016x}" for name in names[at : at + 4]) for at in range(0, len(names), 4)
    ]
    for name in "cs ss ds es fs gs tr ldt".split():
        segment = getattr(sregs, name)
        lines.append(f"{name:3} {segment.selector:04x} base {segment.base:016x} limit {segment.limit:08x}")
    lines += [f"{name} base {getattr(sregs, name).base:016x} limit {getattr(sregs, name).limit:04x}" for name in ("gdt", "idt")]
    lines.append("  ".join(f"{name} {getattr(sregs, name):x}" for name in "cr0 cr2 cr3 cr4 cr8 efer".split()))
    return "\n".join(lines)


def _translate(debugger: Debugger, vcpu: Vcpu, arguments: list[str]) -> str:
    """ADDRESS: where a linear address leads to"""
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
    """how often each vCPU came back, by reason"""
    lines = []
    for each in debugger.vm.vcpus:
        counts = ", ".join(f"{name} {count}" for name, count in each.exit_counts.items())
        lines.append(f"vCPU {each.id}: {counts or 'none'}")
    return "\n".join(lines)


def _support(debugger: Debugger, vcpu: Vcpu, arguments: list[str]) -> str:
    """what stops guest code on this machine"""
    support = debugger.support
    return "\n".join(f"{place}: {getattr(support, place)!r}" for place in ("real", "kernel", "user"))


def _points(debugger: Debugger, vcpu: Vcpu, arguments: list[str]) -> str:
    """breakpoints and watchpoints with their hits"""
    return "\n".join(repr(point) for point in (*debugger.breakpoints, *debugger.watchpoints)) or "none"


_COMMANDS: dict[str, Callable[[Debugger, Vcpu, list[str]], str]] = {
    "registers": _registers,
    "translate": _translate,
    "exits": _exits,
    "support": _support,
    "points": _points,
}


def run_command(debugger: Debugger, vcpu: Vcpu, line: str) -> str:
    """The text that answers one command. Raises VmError."""
    words = line.split()
    if not words or words[0] not in _COMMANDS:
        return "\n".join(f"monitor {name}: {command.__doc__}" for name, command in _COMMANDS.items())
    return _COMMANDS[words[0]](debugger, vcpu, words[1:])
